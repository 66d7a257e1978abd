// What a tunnel port is: the options of OVS's tunnel interfaces (lib/netdev-vport.c, set_tunnel_config), their text, and what OVS
// takes when one is not given.

import { RangeViolation } from "ebpf-assembler";
import { parseIpv4, parseIpv6 } from "../../openflow/parse/values.js";
import { ipv4Text, ipv6Text } from "../../openflow/print/values.js";

/** Kinds of tunnels, by the OVS name, with the UDP port they go to (0: they are not over UDP). */
export const TUNNEL_TYPES = { vxlan: 4789, geneve: 6081, gre: 0 } as const;
export type TunnelType = keyof typeof TUNNEL_TYPES;

/** TTL of the outer header unless told otherwise, and of packets that have none to inherit (OVS DEFAULT_TTL). */
export const DEFAULT_TTL = 64;
/** Bits of the TOS byte that can be set: ECN is always inherited. */
const DSCP_BITS = 0xfc;

export interface TunnelConfig {
  readonly type: TunnelType;
  /** Where packets go and come from, 4 or 16 bytes in network order; `flow`: what tun_dst says, and from anywhere. */
  readonly remote: Uint8Array | "flow";
  /** Where packets go out from and come to; absent: the host's choice, and to any of its addresses. */
  readonly local: Uint8Array | "flow" | undefined;
  /** Keys of packets that come and go; `flow`: any, and what tun_id says. Absent: 0, and none. */
  readonly inKey: bigint | "flow" | undefined;
  readonly outKey: bigint | "flow" | undefined;
  /** UDP port that packets go to and come to; 0 for tunnels that are not over UDP. */
  readonly dstPort: number;
  /** Of the outer header; the ECN bits are those of the packet inside. */
  readonly tos: number | "inherit";
  readonly ttl: number | "inherit";
  readonly dontFragment: boolean;
  /** Packets have a checksum over all that is inside. */
  readonly csum: boolean;
  /** GRE packets are numbered. */
  readonly seq: boolean;
  /** VXLAN packets carry a group policy. */
  readonly gbp: boolean;
}

type Options = ReadonlyMap<string, string>;

const bad = (what: string, value: string, want: string): RangeViolation =>
  new RangeViolation(`Bad tunnel ${what} ${JSON.stringify(value)}: want ${want}`);

const number = (options: Options, name: string, max: number): number | undefined => {
  const text = options.get(name);
  if (text === undefined) return undefined;
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw bad(name, text, `a number from 0 to ${max}`);
  return value;
};

const flag = (options: Options, name: string, otherwise: boolean): boolean => {
  const text = options.get(name);
  if (text === undefined) return otherwise;
  if (text !== "true" && text !== "false") throw bad(name, text, "true or false");
  return text === "true";
};

const inheritable = (options: Options, name: string, max: number): number | "inherit" | undefined =>
  options.get(name) === "inherit" ? "inherit" : number(options, name, max);

const address = (options: Options, name: string): Uint8Array | "flow" | undefined => {
  const text = options.get(name);
  if (text === undefined || text === "flow") return text;
  const bytes = parseIpv4(text) ?? parseIpv6(text);
  if (bytes === undefined) throw bad(name, text, "an address or flow");
  return bytes;
};

const MAX_KEY: Readonly<Record<TunnelType, bigint>> = { vxlan: 0xffffffn, geneve: 0xffffffn, gre: 0xffffffffn };

const key = (options: Options, name: string, type: TunnelType): bigint | "flow" | undefined => {
  const text = options.get(name) ?? options.get("key");
  if (text === undefined || text === "flow") return text;
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? BigInt(text) : -1n;
  if (value < 0n || value > MAX_KEY[type]) throw bad(name, text, `flow or a number from 0 to ${MAX_KEY[type]}`);
  return value;
};

/** Options that each kind has. */
const COMMON = [
  "type",
  "remote_ip",
  "local_ip",
  "key",
  "in_key",
  "out_key",
  "tos",
  "ttl",
  "df_default",
  "csum",
] as const;
const OPTIONS: Readonly<Record<TunnelType, ReadonlySet<string>>> = {
  vxlan: new Set([...COMMON, "dst_port", "exts"]),
  geneve: new Set([...COMMON, "dst_port"]),
  gre: new Set([...COMMON, "seq"]),
};

const isTunnelType = (text: string): text is TunnelType => text in TUNNEL_TYPES;

/**
 * Parses `type=vxlan,remote_ip=192.0.2.1,key=flow`: options of an OVS interface, with or without `options:` before them.
 * @throws {@link RangeViolation} that names the option
 */
export const parseTunnelConfig = (text: string): TunnelConfig => {
  const options = new Map<string, string>();
  for (const part of text.split(",")) {
    const [, name, value] = /^(?:options:)?([a-z_]+)=(.*)$/.exec(part) ?? [];
    if (name === undefined || value === undefined) throw bad("option", part, "NAME=VALUE");
    if (options.has(name)) throw new RangeViolation(`Bad tunnel ${JSON.stringify(text)}: ${name} is given twice`);
    options.set(name, value);
  }
  const type = options.get("type") ?? "";
  if (!isTunnelType(type)) throw bad("type", type, Object.keys(TUNNEL_TYPES).join(", "));
  for (const name of options.keys())
    if (!OPTIONS[type].has(name))
      throw new RangeViolation(`Bad tunnel option ${name}: want one of ${[...OPTIONS[type]].join(", ")} for ${type}`);
  const [remote, local] = [address(options, "remote_ip"), address(options, "local_ip")];
  if (remote === undefined) throw new RangeViolation(`Bad tunnel ${JSON.stringify(text)}: want remote_ip`);
  if (local === "flow" && remote !== "flow")
    throw new RangeViolation(`Bad tunnel ${JSON.stringify(text)}: local_ip=flow wants remote_ip=flow`);
  if (typeof remote === "object" && typeof local === "object" && remote.length !== local.length)
    throw new RangeViolation(`Bad tunnel ${JSON.stringify(text)}: want remote_ip and local_ip of one family`);
  const tos = inheritable(options, "tos", 255) ?? 0;
  if (typeof tos === "number" && (tos & ~DSCP_BITS) !== 0) throw bad("tos", String(tos), "no ECN bits");
  const exts = options.get("exts");
  if (exts !== undefined && exts !== "gbp") throw bad("exts", exts, "gbp");
  const ttl = inheritable(options, "ttl", 255);
  return {
    type,
    remote,
    local,
    inKey: key(options, "in_key", type),
    outKey: key(options, "out_key", type),
    dstPort: number(options, "dst_port", 0xffff) ?? TUNNEL_TYPES[type],
    tos,
    ttl: ttl === undefined || ttl === 0 ? DEFAULT_TTL : ttl,
    dontFragment: flag(options, "df_default", true),
    csum: flag(options, "csum", false),
    seq: flag(options, "seq", false),
    gbp: exts === "gbp",
  };
};

/** An address of either family. */
export const addressText = (bytes: Uint8Array): string => (bytes.length === 4 ? ipv4Text(bytes) : ipv6Text(bytes));

/** What tunnels' packets come to together, whatever port of the switch they are for: OVS's datapath port of tunnels. */
export interface Vport {
  /** Of the switch's, from 0 on; never another's later. */
  readonly number: number;
  readonly type: TunnelType;
  /** 0 when there is none. */
  readonly dstPort: number;
}

/** Identity of a {@link Vport}. */
export const vportKey = ({ type, dstPort }: Pick<TunnelConfig, "type" | "dstPort">): string => `${type}:${dstPort}`;
