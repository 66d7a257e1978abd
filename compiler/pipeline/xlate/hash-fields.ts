// What `bundle` and `multipath` hash, bit for bit as OVS does it (lib/flow.h, flow_hash_fields), and the bits that decide.

import { FLOW, get, getBytes, type FlowWords, type Member } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import type { HashFields } from "../../openflow/types.js";
import { ETH_TYPE, IP_PROTO } from "../../packet/headers.js";
import { jhashBytes, symmetricL3L4, symmetricL4 } from "../ovs-hash.js";
import type { Context } from "./context.js";

interface Hash {
  /** Notes what `of` looks at. */
  readonly mark: (ctx: Context) => void;
  readonly of: (flow: FlowWords, basis: number) => number;
}

const bytesOf = (flow: FlowWords, member: Member): Uint8Array => getBytes(flow, FLOW[member].at, FLOW[member].bits);

/** The member for IPv4 or for IPv6, whichever the packet is. */
const addressMember = (flow: FlowWords, end: "src" | "dst"): Member | undefined => {
  const type = get(flow, "dl_type");
  return type === ETH_TYPE.IPV4 ? `nw_${end}` : type === ETH_TYPE.IPV6 ? `ipv6_${end}` : undefined;
};

const markAddress = (ctx: Context, end: "src" | "dst"): void => {
  const member = addressMember(ctx.flow, end);
  if (member !== undefined) ctx.markAll(member);
};

const markAddresses = (ctx: Context): void => {
  markAddress(ctx, "src");
  markAddress(ctx, "dst");
};

const markPorts = (ctx: Context): void => {
  ctx.markAll("tp_src");
  ctx.markAll("tp_dst");
};

const markL2 = (ctx: Context): void => {
  ctx.markAll("dl_src");
  ctx.markAll("dl_dst");
  ctx.mark("vlan0_tci", 0x0fff | VLAN_PRESENT);
  ctx.mark("vlan1_tci", 0x0fff | VLAN_PRESENT);
};

const ofAddress = (end: "src" | "dst"): Hash => ({
  mark: (ctx) => markAddress(ctx, end),
  of: (flow, basis) => {
    const member = addressMember(flow, end);
    return member === undefined ? basis : jhashBytes(bytesOf(flow, member), basis);
  },
});

const symmetricL3 = (flow: FlowWords, basis: number): number => {
  // union { ipv4; ipv6 }, eth_type, padded to words.
  const bytes = new Uint8Array(20);
  const [src, dst] = [addressMember(flow, "src"), addressMember(flow, "dst")];
  if (src !== undefined && dst !== undefined) {
    const other = bytesOf(flow, dst);
    bytes.set(bytesOf(flow, src).map((byte, i) => byte ^ other[i]!));
  }
  bytes.set(bytesOf(flow, "dl_type"), 16);
  return jhashBytes(bytes, basis);
};

const isTcpOrSctp = (proto: number): boolean => proto === IP_PROTO.TCP || proto === IP_PROTO.SCTP;

const l3l4 = (udp: boolean): Hash => ({
  mark: (ctx) => {
    // What is no IP is hashed by its L2 header; OVS forgets to note that.
    if (!ctx.isIp) return markL2(ctx);
    markAddresses(ctx);
    const proto = ctx.look("nw_proto");
    if (isTcpOrSctp(proto) || (udp && proto === IP_PROTO.UDP)) markPorts(ctx);
  },
  of: (flow, basis) => symmetricL3L4(flow, basis, udp),
});

export const HASHES: Readonly<Record<HashFields, Hash>> = {
  eth_src: {
    mark: (ctx) => ctx.markAll("dl_src"),
    of: (flow, basis) => jhashBytes(bytesOf(flow, "dl_src"), basis),
  },
  symmetric_l4: {
    mark: (ctx) => {
      markL2(ctx);
      markAddresses(ctx);
      if (ctx.isIp && isTcpOrSctp(ctx.look("nw_proto"))) markPorts(ctx);
    },
    of: symmetricL4,
  },
  symmetric_l3l4: l3l4(false),
  "symmetric_l3l4+udp": l3l4(true),
  nw_src: ofAddress("src"),
  nw_dst: ofAddress("dst"),
  symmetric_l3: { mark: markAddresses, of: symmetricL3 },
};
