// Matches in text, to the character as OVS's match_format() prints them: flows and megaflows alike.

import { etherType } from "../field-access.js";
import { N_TUN_METADATA, type TunMetadataName } from "../fields/tun-metadata.js";
import { FLOW, get, getBytes, PACKET_WORDS_AT, type Member } from "../flow.js";
import { VLAN_PRESENT } from "../numbers.js";
import { ETH_TYPE, IP_PROTO, NW_FRAG } from "../../packet/headers.js";
import { portToText, type PortNames } from "../ports.js";
import { CT_STATE_FLAGS, TCP_FLAGS, TUN_FLAGS } from "../flag-names.js";
import { DEFAULT_PRIORITY, type Match } from "../types.js";
import { fromBytes } from "../big-endian.js";
import {
  flagsText,
  hex,
  hexPadded,
  ipv4Masked,
  ipv6Masked,
  macMasked,
  packetTypeText,
  tcpFlagsText,
} from "./values.js";

export interface MatchFormat {
  readonly ports?: PortNames;
  /** Printed first unless it is the default of flows. */
  readonly priority?: number;
}

const bytes = (words: Match["value"], member: Member): Uint8Array => {
  const place = FLOW[member];
  return getBytes(words, place.at, place.bits);
};

type Words = readonly string[];

/** `name=value` or nothing, of a member that is printed in one way whatever else is matched. */
const hexNumber = (match: Match, name: string, member: Member): Words => {
  const mask = fromBytes(bytes(match.mask, member));
  if (mask === 0n) return [];
  const value = hex(fromBytes(bytes(match.value, member)));
  return [mask === (1n << BigInt(FLOW[member].bits)) - 1n ? `${name}=${value}` : `${name}=${value}/${hex(mask)}`];
};

const decimal = (match: Match, name: string, member: Member, whole: number, digits = 1): Words => {
  const mask = get(match.mask, member);
  const value = get(match.value, member);
  if (mask === 0) return [];
  if ((mask & whole) >>> 0 === whole) return [`${name}=${value}`];
  return [`${name}=${hexPadded(value, digits)}/${hexPadded(mask, digits)}`];
};

const hexAlways = (value: number | bigint): string => hexPadded(value, 1);

/** A small number that OVS prints without its mask. */
const plain = (match: Match, name: string, member: Member, text: (value: number) => string = String): Words =>
  get(match.mask, member) === 0 ? [] : [`${name}=${text(get(match.value, member))}`];

type Masked = (value: Uint8Array, mask: Uint8Array) => string;

const address = (match: Match, name: string, member: Member, text: Masked): Words => {
  const mask = bytes(match.mask, member);
  return mask.every((byte) => byte === 0) ? [] : [`${name}=${text(bytes(match.value, member), mask)}`];
};

const port = (match: Match, name: Member & ("in_port" | "actset_output"), ports: PortNames | undefined): Words =>
  get(match.mask, name) === 0 ? [] : [`${name}=${portToText(get(match.value, name), ports)}`];

/** Words for an IP protocol, by Ethernet type. */
const IPV4_WORDS: ReadonlyMap<number, string> = new Map([
  [IP_PROTO.ICMP, "icmp"],
  [IP_PROTO.TCP, "tcp"],
  [IP_PROTO.UDP, "udp"],
  [IP_PROTO.SCTP, "sctp"],
]);
const IPV6_WORDS: ReadonlyMap<number, string> = new Map([
  [IP_PROTO.ICMPV6, "icmp6"],
  [IP_PROTO.TCP, "tcp6"],
  [IP_PROTO.UDP, "udp6"],
  [IP_PROTO.SCTP, "sctp6"],
]);

/** Ethernet types that have a word of their own. */
const TYPE_WORDS: ReadonlyMap<number, readonly [word: string, protocols: ReadonlyMap<number, string>]> = new Map([
  [ETH_TYPE.IPV4, ["ip", IPV4_WORDS]],
  [ETH_TYPE.IPV6, ["ipv6", IPV6_WORDS]],
  [ETH_TYPE.ARP, ["arp", new Map<number, string>()]],
  [ETH_TYPE.RARP, ["rarp", new Map<number, string>()]],
  [ETH_TYPE.MPLS, ["mpls", new Map<number, string>()]],
  [ETH_TYPE.MPLS_MCAST, ["mplsm", new Map<number, string>()]],
]);

const vlan = (match: Match, member: "vlan0_tci" | "vlan1_tci", suffix: string): Words => {
  const mask = get(match.mask, member);
  const tci = get(match.value, member);
  const vid = mask & 0xfff;
  const pcp = mask & 0xe000;
  const whole = (vid === 0 || vid === 0xfff) && (pcp === 0 || pcp === 0xe000) && (vid | pcp) !== 0;
  if (mask & tci & VLAN_PRESENT && whole) {
    return [
      ...(vid ? [`dl_vlan${suffix}=${tci & 0xfff}`] : []),
      ...(pcp ? [`dl_vlan_pcp${suffix}=${tci >>> 13}`] : []),
    ];
  }
  const value = `vlan_tci${suffix}=${hexPadded(tci, 4)}`;
  return [mask === 0xffff ? value : `${value}/${hexPadded(mask, 4)}`];
};

/** The inner tag counts only behind an outer one. */
const vlans = (match: Match): Words => {
  if (get(match.mask, "vlan0_tci") === 0) return [];
  const inner = get(match.mask, "vlan1_tci") === 0 ? [] : vlan(match, "vlan1_tci", "1");
  return [...vlan(match, "vlan0_tci", ""), ...inner];
};

const label = (match: Match): Words => {
  const mask = get(match.mask, "ipv6_label");
  if (mask === 0) return [];
  const value = `ipv6_label=${hexPadded(get(match.value, "ipv6_label"), 5)}`;
  return [(mask & 0xfffff) === 0xfffff ? value : `${value}/${hexPadded(mask, 5)}`];
};

/** By the bits that are matched, then by their value. */
const FRAGMENTS: readonly (readonly string[])[] = [
  [],
  ["no", "yes"],
  ["not_later", "", "later"],
  ["no", "first", "<error>", "later"],
];

const fragment = (match: Match): Words => {
  const mask = get(match.mask, "nw_frag") & (NW_FRAG.ANY | NW_FRAG.LATER);
  return mask === 0 ? [] : [`nw_frag=${FRAGMENTS[mask]![get(match.value, "nw_frag") & mask]!}`];
};

const tos = (match: Match): Words => {
  const mask = get(match.mask, "nw_tos");
  const value = get(match.value, "nw_tos");
  return [...(mask & 0xfc ? [`nw_tos=${value & 0xfc}`] : []), ...(mask & 3 ? [`nw_ecn=${value & 3}`] : [])];
};

/** What lies behind the IP header, by the protocol. */
const upper = (match: Match, type: number, proto: number): Words => {
  const isIcmp = type === ETH_TYPE.IPV4 && proto === IP_PROTO.ICMP;
  const isIcmp6 = type === ETH_TYPE.IPV6 && proto === IP_PROTO.ICMPV6;
  const icmp = [...decimal(match, "icmp_type", "tp_src", 0xff), ...decimal(match, "icmp_code", "tp_dst", 0xff)];
  if (isIcmp) return icmp;
  if (isIcmp6) {
    return [
      ...icmp,
      ...address(match, "nd_target", "nd_target", ipv6Masked),
      ...address(match, "nd_sll", "arp_sha", macMasked),
      ...address(match, "nd_tll", "arp_tha", macMasked),
      ...decimal(match, "nd_reserved", "nd_reserved", 0xffffffff, 8),
      ...decimal(match, "nd_options_type", "nd_options_type", 0xff),
    ];
  }
  return [...decimal(match, "tp_src", "tp_src", 0xffff), ...decimal(match, "tp_dst", "tp_dst", 0xffff)];
};

const tcpFlags = (match: Match, type: number, proto: number): Words => {
  const mask = get(match.mask, "tcp_flags") & TCP_FLAGS.allowed;
  const isIp = type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;
  if (mask === 0 || !isIp || proto !== IP_PROTO.TCP) return [];
  return [`tcp_flags=${tcpFlagsText(get(match.value, "tcp_flags"), mask)}`];
};

const REGISTERS = Array.from({ length: 16 }, (_, i) => `reg${i}` as Member);

const connection = (match: Match): Words => {
  const state = get(match.mask, "ct_state");
  return [
    ...(state === 0 ? [] : [`ct_state=${flagsText(get(match.value, "ct_state"), state, CT_STATE_FLAGS)}`]),
    ...decimal(match, "ct_zone", "ct_zone", 0xffff),
    ...hexNumber(match, "ct_mark", "ct_mark"),
    ...hexNumber(match, "ct_label", "ct_label"),
    ...address(match, "ct_nw_src", "ct_nw_src", ipv4Masked),
    ...address(match, "ct_ipv6_src", "ct_ipv6_src", ipv6Masked),
    ...address(match, "ct_nw_dst", "ct_nw_dst", ipv4Masked),
    ...address(match, "ct_ipv6_dst", "ct_ipv6_dst", ipv6Masked),
    ...(get(match.mask, "ct_nw_proto") === 0
      ? []
      : [
          ...plain(match, "ct_nw_proto", "ct_nw_proto"),
          ...decimal(match, "ct_tp_src", "ct_tp_src", 0xffff),
          ...decimal(match, "ct_tp_dst", "ct_tp_dst", 0xffff),
        ]),
  ];
};

const tunMetadata = ({ tunMetadata: demands }: Match): Words =>
  demands === undefined
    ? []
    : Array.from({ length: N_TUN_METADATA }, (_, i) => `tun_metadata${i}` as TunMetadataName).flatMap((name) => {
        const demand = demands.get(name);
        if (demand === undefined) return [];
        const { value, mask } = demand;
        if (mask?.every((byte) => byte === 0) === true) return [name];
        const masked = mask === undefined || mask.every((byte) => byte === 0xff) ? "" : `/${hex(fromBytes(mask))}`;
        return [`${name}=${hex(fromBytes(value))}${masked}`];
      });

const tunnel = (match: Match): Words => {
  const version = get(match.value, "tun_erspan_ver");
  const flags = get(match.mask, "tun_flags");
  return [
    ...hexNumber(match, "tun_id", "tun_id"),
    ...address(match, "tun_src", "tun_src", ipv4Masked),
    ...address(match, "tun_dst", "tun_dst", ipv4Masked),
    ...address(match, "tun_ipv6_src", "tun_ipv6_src", ipv6Masked),
    ...address(match, "tun_ipv6_dst", "tun_ipv6_dst", ipv6Masked),
    ...decimal(match, "tun_gbp_id", "tun_gbp_id", 0xffff),
    ...plain(match, "tun_gbp_flags", "tun_gbp_flags", hex),
    ...plain(match, "tun_tos", "tun_tos", (value) => value.toString(16)),
    ...plain(match, "tun_ttl", "tun_ttl"),
    ...plain(match, "tun_erspan_ver", "tun_erspan_ver"),
    ...(version === 1 ? plain(match, "tun_erspan_idx", "tun_erspan_idx", hex) : []),
    ...(version === 2 ? plain(match, "tun_erspan_dir", "tun_erspan_dir") : []),
    ...(version === 2 ? plain(match, "tun_erspan_hwid", "tun_erspan_hwid", hex) : []),
    ...plain(match, "gtpu_flags", "tun_gtpu_flags", hex),
    ...plain(match, "gtpu_msgtype", "tun_gtpu_msgtype"),
    // OVS never takes a match on these flags for exact: there are more flags than users can match.
    ...(flags === 0 ? [] : [`tun_flags=${flagsText(get(match.value, "tun_flags"), flags, TUN_FLAGS, 0xf)}`]),
    ...tunMetadata(match),
  ];
};

const NSH_TYPE_1 = 1;

const nsh = (match: Match): Words => {
  const byte = (name: string, value: number, mask: number): Words =>
    mask === 0 ? [] : [mask === 0xff ? `${name}=${value}` : `${name}=${hexPadded(value, 2)}/${hexPadded(mask, 2)}`];
  const member = (name: Member): Words => byte(name, get(match.value, name), get(match.mask, name));
  const path = get(match.value, "nsh_path");
  const pathMask = get(match.mask, "nsh_path");
  const context = (name: Member): Words => {
    const mask = get(match.mask, name);
    const value = hexAlways(get(match.value, name));
    return mask === 0 ? [] : [mask === 0xffffffff ? `${name}=${value}` : `${name}=${value}/${hexAlways(mask)}`];
  };
  const isType1 = get(match.mask, "nsh_mdtype") === 0xff && get(match.value, "nsh_mdtype") === NSH_TYPE_1;
  return [
    ...(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np"] as const).flatMap(member),
    ...(pathMask >>> 8 === 0 ? [] : [`nsh_spi=${hexAlways(path >>> 8)}`]),
    ...byte("nsh_si", path & 0xff, pathMask & 0xff),
    ...(isType1 ? (["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const).flatMap(context) : []),
  ];
};

/** Parts of the outermost MPLS header, in the order in which OVS prints them. */
const MPLS_PARTS = [
  ["mpls_label", 12, 0xfffff],
  ["mpls_tc", 9, 7],
  ["mpls_ttl", 0, 0xff],
  ["mpls_bos", 8, 1],
] as const;

const mpls = (match: Match): Words => {
  const mask = get(match.mask, "mpls_lse0");
  const value = get(match.value, "mpls_lse0");
  return [
    ...MPLS_PARTS.flatMap(([name, shift, bits]) =>
      (mask >>> shift) & bits ? [`${name}=${(value >>> shift) & bits}`] : [],
    ),
    ...decimal(match, "mpls_lse1", "mpls_lse1", 0xffffffff, 8),
    ...decimal(match, "mpls_lse2", "mpls_lse2", 0xffffffff, 8),
  ];
};

const addresses = (match: Match, type: number): Words => {
  switch (type) {
    case ETH_TYPE.IPV6:
      return [
        ...address(match, "ipv6_src", "ipv6_src", ipv6Masked),
        ...address(match, "ipv6_dst", "ipv6_dst", ipv6Masked),
        ...label(match),
      ];
    case ETH_TYPE.NSH:
      return nsh(match);
    default: {
      const isArp = type === ETH_TYPE.ARP || type === ETH_TYPE.RARP;
      return [
        ...address(match, isArp ? "arp_spa" : "nw_src", "nw_src", ipv4Masked),
        ...address(match, isArp ? "arp_tpa" : "nw_dst", "nw_dst", ipv4Masked),
      ];
    }
  }
};

/** OVS takes a match on recirc_id for a megaflow, and says of those that they are Ethernet. */
const megaflowWord = ({ mask }: Match): Words => {
  const isEthernet = get(mask, "packet_type") !== 0 || mask.some((word, i) => i >= PACKET_WORDS_AT && word !== 0);
  return get(mask, "recirc_id") !== 0 && isEthernet ? ["eth"] : [];
};

/**
 * A match in OVS's text: `tcp,in_port=1,nw_src=10.0.0.0/8,tp_dst=80`; empty if it matches everything.
 */
export const formatMatch = (match: Match, { ports, priority = DEFAULT_PRIORITY }: MatchFormat = {}): string => {
  const type = etherType(match.value);
  const proto = get(match.value, "nw_proto");
  const matchesType = get(match.mask, "dl_type") !== 0;
  const matchesProto = get(match.mask, "nw_proto") !== 0;
  const [word, protocols] = (matchesType ? TYPE_WORDS.get(type) : undefined) ?? [];
  const protoWord = matchesProto ? protocols?.get(proto) : undefined;
  const isArp = type === ETH_TYPE.ARP || type === ETH_TYPE.RARP;
  const packetType = get(match.value, "packet_type");
  return [
    ...(priority === DEFAULT_PRIORITY ? [] : [`priority=${priority}`]),
    ...hexNumber(match, "pkt_mark", "pkt_mark"),
    ...hexNumber(match, "recirc_id", "recirc_id"),
    ...hexNumber(match, "dp_hash", "dp_hash"),
    ...plain(match, "conj_id", "conj_id"),
    ...plain(match, "skb_priority", "skb_priority", hex),
    ...port(match, "actset_output", ports),
    ...connection(match),
    ...(packetType === 0 ? megaflowWord(match) : [`packet_type=${packetTypeText(packetType)}`]),
    ...(word === undefined ? [] : [protoWord ?? word]),
    ...REGISTERS.flatMap((register) => hexNumber(match, register, register)),
    ...tunnel(match),
    ...hexNumber(match, "metadata", "metadata"),
    ...port(match, "in_port", ports),
    ...vlans(match),
    ...address(match, "dl_src", "dl_src", macMasked),
    ...address(match, "dl_dst", "dl_dst", macMasked),
    ...(matchesType && word === undefined ? [`dl_type=${hexPadded(type, 4)}`] : []),
    ...addresses(match, type),
    ...(matchesProto && protoWord === undefined ? [`${isArp ? "arp_op" : "nw_proto"}=${proto}`] : []),
    ...(isArp ? address(match, "arp_sha", "arp_sha", macMasked) : []),
    ...(isArp ? address(match, "arp_tha", "arp_tha", macMasked) : []),
    ...tos(match),
    ...plain(match, "nw_ttl", "nw_ttl"),
    ...mpls(match),
    ...fragment(match),
    ...upper(match, type, proto),
    ...tcpFlags(match, type, proto),
  ].join(",");
};
