// The match of OpenFlow 1.0 as OVS prints it from the wire: every part, also what is wildcarded.

import { ETH_TYPE, IP_PROTO } from "../../packet/headers.js";
import { read16, read32 } from "../../packet/words.js";
import { portToText } from "../ports.js";
import { ipv4Text, macText } from "./values.js";

const TYPE_WORDS: ReadonlyMap<number, string> = new Map<number, string>([
  [ETH_TYPE.IPV4, "ip"],
  [ETH_TYPE.ARP, "arp"],
  [ETH_TYPE.RARP, "rarp"],
  [ETH_TYPE.MPLS, "mpls"],
  [ETH_TYPE.MPLS_MCAST, "mplsm"],
]);

const PROTO_WORDS: ReadonlyMap<number, string> = new Map<number, string>([
  [IP_PROTO.ICMP, "icmp"],
  [IP_PROTO.TCP, "tcp"],
  [IP_PROTO.UDP, "udp"],
  [IP_PROTO.SCTP, "sctp"],
]);

/** Bits of `wildcards` (OFPFW10_*). */
const WILD = {
  ...{ IN_PORT: 0x01, VLAN: 0x02, SRC: 0x04, DST: 0x08, TYPE: 0x10, PROTO: 0x20, TP_SRC: 0x40, TP_DST: 0x80 },
  ...{ VLAN_PCP: 0x100000, TOS: 0x200000 },
} as const;

/**
 * A match of OpenFlow 1.0 part by part.
 *
 * @param b - 40 bytes
 * @param verbosity - from 2 on, `*` stands for what is not matched
 */
export const formatMatch10 = (b: Uint8Array, verbosity: number): string => {
  const wild = read32(b, 0);
  const part = (name: string, bit: number, text: () => string): string[] => {
    const isWild = (wild & bit) !== 0;
    return isWild && verbosity < 2 ? [] : [`${name}=${isWild ? "*" : text()}`];
  };
  const address = (name: string, shift: number, at: number): string[] => {
    const bits = (wild >>> shift) & 0x3f;
    if (bits >= 32) return verbosity < 2 ? [] : [`${name}=*`];
    return [`${name}=${ipv4Text(b.subarray(at, at + 4))}${bits === 0 ? "" : `/${32 - bits}`}`];
  };
  const number = (at: number) => () => String(read16(b, at));
  const type = read16(b, 22);
  const proto = b[25]!;
  const typeWord = (wild & WILD.TYPE) === 0 ? TYPE_WORDS.get(type) : undefined;
  const matchesProto = (wild & WILD.PROTO) === 0;
  const protoWord = typeWord === "ip" && matchesProto ? PROTO_WORDS.get(proto) : undefined;
  const port = read16(b, 4);
  const isArp = type === ETH_TYPE.ARP || type === ETH_TYPE.RARP;
  const isIcmp = proto === IP_PROTO.ICMP;
  return [
    ...(typeWord === undefined ? [] : [protoWord ?? typeWord]),
    ...part("in_port", WILD.IN_PORT, () => portToText(port < 0xff00 ? port : port + 0xffff0000)),
    ...part("dl_vlan", WILD.VLAN, number(18)),
    ...part("dl_vlan_pcp", WILD.VLAN_PCP, () => String(b[20]!)),
    ...part("dl_src", WILD.SRC, () => macText(b.subarray(6, 12))),
    ...part("dl_dst", WILD.DST, () => macText(b.subarray(12, 18))),
    ...(typeWord === undefined ? part("dl_type", WILD.TYPE, () => `0x${type.toString(16).padStart(4, "0")}`) : []),
    ...address("nw_src", 8, 28),
    ...address("nw_dst", 14, 32),
    ...(protoWord === undefined ? part(isArp ? "arp_op" : "nw_proto", WILD.PROTO, () => String(proto)) : []),
    ...part("nw_tos", WILD.TOS, () => String(b[24]!)),
    ...part(isIcmp ? "icmp_type" : "tp_src", WILD.TP_SRC, number(36)),
    ...part(isIcmp ? "icmp_code" : "tp_dst", WILD.TP_DST, number(38)),
  ].join(",");
};
