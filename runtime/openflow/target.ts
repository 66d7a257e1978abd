// Where OpenFlow peers are, in the words of ovs-vsctl and ovs-ofctl (ovs-vswitchd.conf.db(5), `target`): `tcp:HOST[:PORT]`,
// `ssl:HOST[:PORT]`, `unix:FILE` to connect to, `ptcp:[PORT][:HOST]`, `pssl:[PORT][:HOST]`, `punix:FILE` to listen at.

import { RangeViolation } from "ebpf-assembler";

/** The port that IANA gave OpenFlow. */
export const OPENFLOW_PORT = 6653;

/** One end of a connection. */
export type Target = {
  /** Whether to wait for peers instead of connecting to one. */
  readonly isPassive: boolean;
  /** As given: the name of the target everywhere. */
  readonly text: string;
} & (
  | { readonly transport: "unix"; readonly path: string }
  | {
      readonly transport: "tcp" | "ssl";
      /** Undefined for a passive target: any address. */
      readonly host: string | undefined;
      readonly port: number;
    }
);

/** Name of a method: transport, and whether it waits. */
const METHODS: ReadonlyMap<string, readonly [transport: Target["transport"], isPassive: boolean]> = new Map([
  ["tcp", ["tcp", false]],
  ["ssl", ["ssl", false]],
  ["unix", ["unix", false]],
  ["ptcp", ["tcp", true]],
  ["pssl", ["ssl", true]],
  ["punix", ["unix", true]],
]);

/** An address, or an IPv6 address in brackets. */
const HOST = String.raw`\[[0-9A-Fa-f:.%\w]+\]|[^:[\]]+`;
const ACTIVE = new RegExp(`^(${HOST})(?::(\\d+))?$`);
const PASSIVE = new RegExp(`^(\\d*)(?::(${HOST}))?$`);

/** @throws {@link RangeViolation} that says which forms there are */
export const parseTarget = (text: string): Target => {
  const colon = text.indexOf(":");
  const method = METHODS.get(text.slice(0, Math.max(0, colon)));
  if (method === undefined)
    throw new RangeViolation(
      `Bad target ${JSON.stringify(text)}: want tcp:HOST[:PORT], ssl:HOST[:PORT], unix:FILE, ptcp:[PORT][:HOST], ` +
        "pssl:[PORT][:HOST] or punix:FILE",
    );
  const [transport, isPassive] = method;
  const rest = text.slice(colon + 1);
  if (transport === "unix") {
    if (rest === "") throw new RangeViolation(`Bad target ${JSON.stringify(text)}: want a file name after the colon`);
    return { text, isPassive, transport, path: rest };
  }
  const found = (isPassive ? PASSIVE : ACTIVE).exec(rest);
  if (found === null)
    throw new RangeViolation(
      `Bad target ${JSON.stringify(text)}: want ${isPassive ? "[PORT][:HOST]" : "HOST[:PORT]"} after the colon, ` +
        "an IPv6 address in brackets",
    );
  const [host, port] = isPassive ? [found[2], found[1]] : [found[1], found[2]];
  const number = port === undefined || port === "" ? OPENFLOW_PORT : Number(port);
  if (number > 0xffff) throw new RangeViolation(`Bad target ${JSON.stringify(text)}: want a port up to 65535`);
  return { text, isPassive, transport, host: host?.replace(/^\[|\]$/g, ""), port: number };
};
