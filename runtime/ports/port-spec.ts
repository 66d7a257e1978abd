// How a port is named on the command line: `[N=]IF[:hook]`, for example `2=eth1:native` or `3=vport1:internal`.

import { RangeViolation } from "ebpf-assembler";

/**
 * What a user can ask for. `auto` takes TC for veth, tap and other virtual devices, XDP native elsewhere. `peer` is TC on a veth
 * whose other end lies in another network namespace: what comes in at TC and goes out there is handed to that end at once.
 */
export const PORT_HOOKS = ["auto", "native", "generic", "tc", "peer"] as const;
export type PortHook = (typeof PORT_HOOKS)[number];
/** In place of a hook: the interface is made, one end of it for the host. */
export const INTERNAL = "internal";
/** What a port can have. */
export type AttachedHook = Exclude<PortHook, "auto" | "peer">;

export interface PortSpec {
  /** OpenFlow port number; undefined: the next free one. */
  readonly number: number | undefined;
  readonly name: string;
  readonly hook: PortHook;
  /** An interface of the host's own stack, made for the purpose. */
  readonly internal?: true;
}

/** Largest number of a port that is a device (OpenFlow 1.0 16-bit numbers, as OVS keeps to). */
export const MAX_PORT = 0xfeff;

/** @throws {@link RangeViolation} */
export const parsePortSpec = (text: string): PortSpec => {
  const match = /^(?:([0-9]+)=)?([^\s/:=]{1,15})(?::([a-z]+))?$/.exec(text);
  if (match === null) throw new RangeViolation(`Bad port ${JSON.stringify(text)}: want [N=]INTERFACE[:HOOK]`);
  const [, digits, name = "", hook = "auto"] = match;
  const number = digits === undefined ? undefined : Number(digits);
  if (number !== undefined && (number < 1 || number > MAX_PORT))
    throw new RangeViolation(`Bad port number ${number} in ${JSON.stringify(text)}: want 1 to ${MAX_PORT}`);
  if (hook === INTERNAL) return { number, name, hook: "auto", internal: true };
  if (!(PORT_HOOKS as readonly string[]).includes(hook))
    throw new RangeViolation(
      `Bad hook ${JSON.stringify(hook)} in ${JSON.stringify(text)}: want one of ${[...PORT_HOOKS, INTERNAL].join(", ")}`,
    );
  return { number, name, hook: hook as PortHook };
};
