// Turns the difference between the packet as the datapath has it and as the pipeline sees it into `set` actions, just
// before something is sent, in OVS's order (lib/odp-util.h commit_odp_actions): Ethernet, L3, ND, ports, ICMP, MPLS, VLAN, priority.
// A value is written whole, merged with what the packet had: so committing a field marks all of it, and where the set
// depends on what the packet is, the bits that say so.

import {
  copyMember,
  FLOW,
  get,
  getBytes,
  isEqualMember,
  PACKET_WORDS_AT,
  type FlowWords,
  type Member,
} from "../../openflow/flow.js";
import { ETH_TYPE, IP_PROTO, isMplsType, NSH_TYPE_1 } from "../../packet/headers.js";
import type { DpAction, SetTarget } from "../dp-action.js";
import type { Context } from "./context.js";
import { commitEncapDecap } from "./commit-encap.js";
import { commitMpls } from "./mpls-stack.js";
import { commitVlans } from "./vlan.js";

type Family = Extract<DpAction, { kind: "set" }>["family"];

/** One value that a `set` writes. */
interface Row {
  readonly member: Member;
  readonly target: SetTarget;
  /** Bytes in the packet. */
  readonly bytes: number;
  /** The write depends on the L4 protocol: a checksum covers the value, or it lies in the L4 header. */
  readonly proto?: true;
}

const ETHERNET: readonly Row[] = [
  { member: "dl_src", target: "eth_src", bytes: 6 },
  { member: "dl_dst", target: "eth_dst", bytes: 6 },
];

const NSH_BASE: readonly Row[] = [
  { member: "nsh_flags", target: "nsh_flags", bytes: 1 },
  { member: "nsh_ttl", target: "nsh_ttl", bytes: 1 },
];

const NSH_CONTEXTS: readonly Row[] = [
  { member: "nsh_c1", target: "nsh_c1", bytes: 4 },
  { member: "nsh_c2", target: "nsh_c2", bytes: 4 },
  { member: "nsh_c3", target: "nsh_c3", bytes: 4 },
  { member: "nsh_c4", target: "nsh_c4", bytes: 4 },
];

const IPV4: readonly Row[] = [
  { member: "nw_src", target: "nw_src", bytes: 4, proto: true },
  { member: "nw_dst", target: "nw_dst", bytes: 4, proto: true },
  { member: "nw_tos", target: "nw_tos", bytes: 1 },
  { member: "nw_ttl", target: "nw_ttl", bytes: 1 },
];

const IPV6: readonly Row[] = [
  { member: "ipv6_src", target: "ipv6_src", bytes: 16, proto: true },
  { member: "ipv6_dst", target: "ipv6_dst", bytes: 16, proto: true },
  { member: "ipv6_label", target: "ipv6_label", bytes: 4 },
  { member: "nw_tos", target: "nw_tos", bytes: 1 },
  { member: "nw_ttl", target: "nw_ttl", bytes: 1 },
];

const ARP: readonly Row[] = [
  { member: "nw_src", target: "arp_spa", bytes: 4 },
  { member: "nw_dst", target: "arp_tpa", bytes: 4 },
  { member: "nw_proto", target: "arp_op", bytes: 2 },
  { member: "arp_sha", target: "arp_sha", bytes: 6 },
  { member: "arp_tha", target: "arp_tha", bytes: 6 },
];

/** The extensions before the rest, so that the options are of the type that the other sets look for. */
const ND: readonly Row[] = [
  { member: "nd_reserved", target: "nd_reserved", bytes: 4, proto: true },
  { member: "nd_options_type", target: "nd_options_type", bytes: 1, proto: true },
  { member: "nd_target", target: "nd_target", bytes: 16, proto: true },
  { member: "arp_sha", target: "nd_sll", bytes: 6, proto: true },
  { member: "arp_tha", target: "nd_tll", bytes: 6, proto: true },
];

const PORTS: readonly Row[] = [
  { member: "tp_src", target: "tp_src", bytes: 2, proto: true },
  { member: "tp_dst", target: "tp_dst", bytes: 2, proto: true },
];

const ICMP: readonly Row[] = [
  { member: "tp_src", target: "icmp_type", bytes: 1, proto: true },
  { member: "tp_dst", target: "icmp_code", bytes: 1, proto: true },
];

const NONE: readonly Row[] = [];

const PRIORITY_WORD = FLOW.skb_priority.at >>> 5;
const PACKET_TYPE_WORD = FLOW.packet_type.at >>> 5;

/** What lies above L3, by protocol, and the families in which it does. */
const L4_ROWS: ReadonlyMap<number, { readonly rows: readonly Row[]; readonly families: readonly Family[] }> = new Map([
  [IP_PROTO.TCP, { rows: PORTS, families: ["ipv4", "ipv6"] }],
  [IP_PROTO.UDP, { rows: PORTS, families: ["ipv4", "ipv6"] }],
  [IP_PROTO.SCTP, { rows: PORTS, families: ["ipv4", "ipv6"] }],
  [IP_PROTO.ICMP, { rows: ICMP, families: ["ipv4"] }],
  [IP_PROTO.ICMPV6, { rows: ICMP, families: ["ipv6"] }],
]);

const FAMILIES: ReadonlyMap<number, { readonly family: Family; readonly rows: readonly Row[] }> = new Map([
  [ETH_TYPE.IPV4, { family: "ipv4", rows: IPV4 }],
  [ETH_TYPE.IPV6, { family: "ipv6", rows: IPV6 }],
  [ETH_TYPE.ARP, { family: "arp", rows: ARP }],
]);

/** `bytes` bytes of a member, right-aligned. */
const valueOf = (flow: FlowWords, member: Member, bytes: number): Uint8Array => {
  const { at, bits } = FLOW[member];
  const value = getBytes(flow, at, bits);
  if (value.length === bytes) return value;
  const resized = new Uint8Array(bytes);
  resized.set(value.subarray(Math.max(0, value.length - bytes)), Math.max(0, bytes - value.length));
  return resized;
};

const commitRows = (ctx: Context, rows: readonly Row[], family: Family): void => {
  const { flow, base } = ctx;
  for (const { member, target, bytes, proto } of rows) {
    if (isEqualMember(flow, base, member)) continue;
    ctx.markAll(member);
    const nwProto = proto === undefined ? 0 : ctx.look("nw_proto");
    ctx.actions.push({ kind: "set", target, bytes: valueOf(flow, member, bytes), family, proto: nwProto });
    copyMember(base, flow, member);
  }
};

const differ = (ctx: Context, rows: readonly Row[]): boolean =>
  rows.some(({ member }) => !isEqualMember(ctx.flow, ctx.base, member));

/**
 * Whether the packet has an L3 header at all, which OVS takes from its protocol being not 0. Marks one bit that says so,
 * one that is marked anyway if there is one.
 */
const hasL3 = (ctx: Context): boolean => {
  const proto = get(ctx.flow, "nw_proto");
  if (proto === 0) {
    ctx.markAll("nw_proto");
    return false;
  }
  if ((proto & get(ctx.mask, "nw_proto")) === 0) ctx.mark("nw_proto", proto & -proto);
  return true;
};

const commitNetwork = (ctx: Context): void => {
  const found = FAMILIES.get(get(ctx.base, "dl_type"));
  if (found === undefined) return;
  const { family, rows } = found;
  const proto = get(ctx.base, "nw_proto");
  const l4 = L4_ROWS.get(proto);
  const nd = family === "ipv6" && proto === IP_PROTO.ICMPV6 ? ND : NONE;
  const upper = l4?.families.includes(family) === true ? l4.rows : NONE;
  if (!differ(ctx, rows) && !differ(ctx, nd) && !differ(ctx, upper)) return;
  if (!hasL3(ctx)) return;
  commitRows(ctx, rows, family);
  commitRows(ctx, nd, family);
  commitRows(ctx, upper, family);
};

/** Service path ID and service index are one member. */
const commitNsh = (ctx: Context): void => {
  const { flow, base } = ctx;
  commitRows(ctx, NSH_BASE, "other");
  const path = valueOf(flow, "nsh_path", 4);
  const [spi, si] = [path.subarray(0, 3), path.subarray(3)];
  const changed = get(flow, "nsh_path") ^ get(base, "nsh_path");
  if (changed !== 0) ctx.markAll("nsh_path");
  if (changed >>> 8 !== 0) ctx.actions.push({ kind: "set", target: "nsh_spi", bytes: spi, family: "other", proto: 0 });
  if ((changed & 0xff) !== 0) ctx.actions.push({ kind: "set", target: "nsh_si", bytes: si, family: "other", proto: 0 });
  copyMember(base, flow, "nsh_path");
  // A header that was not understood has no contexts, whatever its bytes say.
  if (differ(ctx, NSH_CONTEXTS) && ctx.look("nsh_mdtype") === NSH_TYPE_1.MDTYPE) commitRows(ctx, NSH_CONTEXTS, "other");
};

/** Brings the packet of the datapath to what the flow says. */
export const commit = (ctx: Context): void => {
  const { flow, base } = ctx;
  if (ctx.pending !== undefined || flow[PACKET_TYPE_WORD] !== base[PACKET_TYPE_WORD]) commitEncapDecap(ctx);
  let word = PACKET_WORDS_AT;
  while (word < flow.length && flow[word] === base[word]) word++;
  if (word < flow.length) {
    const isFramed = get(flow, "packet_type") === 0 && get(base, "packet_type") === 0;
    if (isFramed) commitRows(ctx, ETHERNET, "other");
    // What is behind MPLS can be rewritten only once the labels are gone.
    if (isMplsType(get(base, "dl_type")) && !isMplsType(ctx.dlType)) commitMpls(ctx);
    if (ctx.dlType === ETH_TYPE.NSH) commitNsh(ctx);
    else if (!isMplsType(ctx.dlType)) commitNetwork(ctx);
    commitMpls(ctx);
  }
  commitVlans(ctx);
  if (flow[PRIORITY_WORD] !== base[PRIORITY_WORD]) {
    const bytes = valueOf(flow, "skb_priority", 4);
    ctx.actions.push({ kind: "set", target: "skb_priority", bytes, family: "other", proto: 0 });
    base[PRIORITY_WORD] = flow[PRIORITY_WORD]!;
  }
};
