// The hashes of a packet's addresses and ports by which select groups spread connections over buckets, as members of its flow.
// They follow from other members, so that a megaflow can match a few bits of a hash where it would have to match all that is
// hashed: sixteen megaflows carry all connections of a group. OVS has its datapath compute the hash and look the packet up
// once more (OVS_ACTION_ATTR_HASH, recirculation by dp_hash); here it is there at the first look-up.
//
// Only IP packets have them, and only for a basis of 0: for others select groups match what they hash.

import { FLOW, type FlowWords, getBits, type Member } from "../openflow/flow.js";
import { ETH_TYPE, IP_PROTO } from "./headers.js";
import { murmurAdd, murmurFinish } from "./murmur.js";

export const HASH_MEMBERS = ["hash_l4", "hash_sym_l4"] as const satisfies readonly Member[];

export type HashMember = (typeof HASH_MEMBERS)[number];

/** What each hash is called in OVS (OVS_HASH_ALG_*). */
export const HASH_NAMES: Readonly<Record<HashMember, "l4" | "sym_l4">> = { hash_l4: "l4", hash_sym_l4: "sym_l4" };

/** What the hashes follow from, of IP packets. */
export const HASH_SOURCES: readonly Member[] = [
  ...(["dl_type", "nw_src", "nw_dst", "ipv6_src", "ipv6_dst", "nw_proto", "nw_frag", "tp_src", "tp_dst"] as const),
];

/** Protocols whose ports, or type and code, the hash over five members covers. */
export const L4_HASH_PROTOS: readonly number[] = [
  IP_PROTO.TCP,
  IP_PROTO.UDP,
  IP_PROTO.SCTP,
  IP_PROTO.ICMP,
  IP_PROTO.ICMPV6,
];

/** Protocols whose ports the symmetric hash covers. */
export const SYM_L4_HASH_PROTOS: readonly number[] = [IP_PROTO.TCP, IP_PROTO.SCTP];

/** What finishing the hash over five members takes: OVS `flow_hash_5tuple`, then `hash_int` over it. */
export const L4_HASH_FINAL = { tuple: 42, int: 8 } as const;

const wordOf = (member: Member): number => FLOW[member].at >>> 5;

const AT = {
  nwSrc: wordOf("nw_src"),
  nwDst: wordOf("nw_dst"),
  ipv6Src: wordOf("ipv6_src"),
  ipv6Dst: wordOf("ipv6_dst"),
  hashL4: wordOf("hash_l4"),
  hashSymL4: wordOf("hash_sym_l4"),
} as const;

/** A word as OVS reads it from the packet. */
const swap32 = (x: number): number => (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24);

const swap16 = (x: number): number => ((x & 0xff) << 8) | (x >>> 8);

const small = (flow: FlowWords, member: Member): number => getBits(flow, FLOW[member].at, FLOW[member].bits);

/** Puts the hashes into the flow of a packet; of a packet that is no IP packet they are 0. */
export const fillHashes = (flow: FlowWords): void => {
  flow[AT.hashL4] = 0;
  flow[AT.hashSymL4] = 0;
  const type = small(flow, "dl_type");
  let tuple = 0;
  let both = 0;
  if (type === ETH_TYPE.IPV4) {
    const [src, dst] = [swap32(flow[AT.nwSrc]!), swap32(flow[AT.nwDst]!)];
    tuple = murmurAdd(murmurAdd(0, src), dst);
    both = murmurAdd(0, src ^ dst);
  } else if (type === ETH_TYPE.IPV6) {
    for (let i = 0; i < 4; i++) {
      const src = swap32(flow[AT.ipv6Src + i]!);
      tuple = murmurAdd(tuple, src);
      both = murmurAdd(both, src ^ swap32(flow[AT.ipv6Dst + i]!));
    }
    for (let i = 0; i < 4; i++) tuple = murmurAdd(tuple, swap32(flow[AT.ipv6Dst + i]!));
  } else return;
  const proto = small(flow, "nw_proto");
  const [src, dst] = [swap16(small(flow, "tp_src")), swap16(small(flow, "tp_dst"))];
  tuple = murmurAdd(tuple, proto);
  both = murmurAdd(both, proto);
  if (L4_HASH_PROTOS.includes(proto)) tuple = murmurAdd(tuple, src | (dst << 16));
  if (SYM_L4_HASH_PROTOS.includes(proto) && (small(flow, "nw_frag") & 3) === 0) both = murmurAdd(both, src ^ dst);
  tuple = murmurFinish(tuple, L4_HASH_FINAL.tuple);
  flow[AT.hashL4] = murmurFinish(murmurAdd(murmurAdd(tuple, 0), 0), L4_HASH_FINAL.int);
  flow[AT.hashSymL4] = murmurFinish(both, 0);
};
