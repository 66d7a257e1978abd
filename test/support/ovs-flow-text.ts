// The text in which OVS prints the flow of a packet (flow_print), written from our flow: every field that OVS shows, in
// its order, so that equal texts mean equal flows. IPv6 addresses are 32 hex digits on both sides, see expandIpv6().

import { ETH_TYPE, FLOW, type FlowWords, get, getBytes, IP_PROTO, type Member, NW_FRAG } from "#compiler";
import { toHex } from "ebpf-assembler";

const mac = (flow: FlowWords, member: Member): string =>
  [...getBytes(flow, FLOW[member].at, 48)].map((x) => x.toString(16).padStart(2, "0")).join(":");

const address4 = (flow: FlowWords, member: Member): string => [...getBytes(flow, FLOW[member].at, 32)].join(".");

const address6 = (flow: FlowWords, member: Member): string => toHex(getBytes(flow, FLOW[member].at, 128));

const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;

const TCP_FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];

const tcpFlags = (flags: number): string =>
  flags === 0 ? "0" : TCP_FLAGS.filter((_, i) => (flags >> i) & 1).join("|");

const PROTO_NAMES: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  [ETH_TYPE.IPV4]: { [IP_PROTO.ICMP]: "icmp", [IP_PROTO.TCP]: "tcp", [IP_PROTO.UDP]: "udp", [IP_PROTO.SCTP]: "sctp" },
  [ETH_TYPE.IPV6]: {
    [IP_PROTO.ICMPV6]: "icmp6",
    [IP_PROTO.TCP]: "tcp6",
    [IP_PROTO.UDP]: "udp6",
    [IP_PROTO.SCTP]: "sctp6",
  },
};

const TYPE_NAMES: Readonly<Record<number, string>> = {
  [ETH_TYPE.IPV4]: "ip",
  [ETH_TYPE.IPV6]: "ipv6",
  [ETH_TYPE.ARP]: "arp",
  [ETH_TYPE.RARP]: "rarp",
  [ETH_TYPE.MPLS]: "mpls",
  [ETH_TYPE.MPLS_MCAST]: "mplsm",
};

const vlanText = (flow: FlowWords): string[] => {
  const out: string[] = [];
  for (const [i, member] of (["vlan0_tci", "vlan1_tci"] as const).entries()) {
    const tci = get(flow, member);
    const suffix = i === 0 ? "" : String(i);
    if (tci === 0) {
      out.push(`vlan_tci${suffix}=0x0000`);
      break;
    }
    out.push(`dl_vlan${suffix}=${tci & 0xfff}`, `dl_vlan_pcp${suffix}=${tci >> 13}`);
  }
  return out;
};

const L4_PROTOS: readonly number[] = [
  IP_PROTO.ICMP,
  IP_PROTO.ICMPV6,
  IP_PROTO.TCP,
  IP_PROTO.UDP,
  IP_PROTO.SCTP,
  IP_PROTO.IGMP,
];

const l4Text = (flow: FlowWords, type: number, proto: number): string[] => {
  if ((get(flow, "nw_frag") & NW_FRAG.LATER) !== 0 || !L4_PROTOS.includes(proto)) return [];
  const [src, dst] = [get(flow, "tp_src"), get(flow, "tp_dst")];
  const icmp = proto === (type === ETH_TYPE.IPV4 ? IP_PROTO.ICMP : IP_PROTO.ICMPV6);
  const out = icmp ? [`icmp_type=${src}`, `icmp_code=${dst}`] : [`tp_src=${src}`, `tp_dst=${dst}`];
  const nd = type === ETH_TYPE.IPV6 && proto === IP_PROTO.ICMPV6 && (src === 135 || src === 136) && dst === 0;
  if (nd)
    out.push(
      `nd_target=${address6(flow, "nd_target")}`,
      `nd_sll=${mac(flow, "arp_sha")}`,
      `nd_tll=${mac(flow, "arp_tha")}`,
    );
  if (proto === IP_PROTO.TCP) out.push(`tcp_flags=${tcpFlags(get(flow, "tcp_flags"))}`);
  return out;
};

const BOTTOM = 0x100;

/** OVS prints entries up to the first that is the last of its stack. */
const mplsText = (flow: FlowWords): string[] => {
  const first = get(flow, "mpls_lse0");
  const out = [
    `mpls_label=${first >>> 12}`,
    `mpls_tc=${(first >>> 9) & 7}`,
    `mpls_ttl=${first & 0xff}`,
    `mpls_bos=${(first >>> 8) & 1}`,
  ];
  for (let i = 1, above = first; i < 3 && (above & BOTTOM) === 0; i++) {
    above = get(flow, `mpls_lse${i}` as Member);
    out.push(`mpls_lse${i}=${above}`);
  }
  return out;
};

/** OVS prints IP fields of NSH packets too, which are always 0. */
const nshText = (flow: FlowWords): string[] => {
  const path = get(flow, "nsh_path");
  const isType1 = get(flow, "nsh_mdtype") === 1;
  return [
    ...(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np"] as const).map((member) => `${member}=${get(flow, member)}`),
    `nsh_spi=0x${(path >>> 8).toString(16)}`,
    `nsh_si=${path & 0xff}`,
    ...(isType1 ? [1, 2, 3, 4].map((i) => `nsh_c${i}=0x${get(flow, `nsh_c${i}` as Member).toString(16)}`) : []),
    "nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no",
  ];
};

/** What `ovs-ofctl parse-pcap` prints for `flow`, in_port left out, IPv6 addresses expanded. */
export const ovsFlowText = (flow: FlowWords): string => {
  const type = get(flow, "dl_type");
  const proto = get(flow, "nw_proto");
  const protoName = PROTO_NAMES[type]?.[proto];
  const typeName = protoName ?? TYPE_NAMES[type];
  const out: string[] = typeName === undefined ? [] : [typeName];
  out.push(...vlanText(flow), `dl_src=${mac(flow, "dl_src")}`, `dl_dst=${mac(flow, "dl_dst")}`);
  if (typeName === undefined) out.push(`dl_type=${hex(type, 4)}`);
  const isArp = type === ETH_TYPE.ARP || type === ETH_TYPE.RARP;
  const isIp = type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;
  if (isArp)
    out.push(
      `arp_spa=${address4(flow, "nw_src")}`,
      `arp_tpa=${address4(flow, "nw_dst")}`,
      `arp_op=${proto}`,
      `arp_sha=${mac(flow, "arp_sha")}`,
      `arp_tha=${mac(flow, "arp_tha")}`,
    );
  if (type === ETH_TYPE.IPV4) out.push(`nw_src=${address4(flow, "nw_src")}`, `nw_dst=${address4(flow, "nw_dst")}`);
  if (type === ETH_TYPE.IPV6)
    out.push(
      `ipv6_src=${address6(flow, "ipv6_src")}`,
      `ipv6_dst=${address6(flow, "ipv6_dst")}`,
      `ipv6_label=${hex(get(flow, "ipv6_label"), 5)}`,
    );
  if (type === ETH_TYPE.MPLS || type === ETH_TYPE.MPLS_MCAST) out.push(...mplsText(flow));
  if (type === ETH_TYPE.NSH) out.push(...nshText(flow));
  if (!isIp) return out.join(",");
  if (protoName === undefined) out.push(`nw_proto=${proto}`);
  const tos = get(flow, "nw_tos");
  const frag = get(flow, "nw_frag");
  out.push(`nw_tos=${tos & 0xfc}`, `nw_ecn=${tos & 3}`, `nw_ttl=${get(flow, "nw_ttl")}`);
  out.push(`nw_frag=${frag === 0 ? "no" : frag === NW_FRAG.ANY ? "first" : "later"}`);
  out.push(...l4Text(flow, type, proto));
  return out.join(",");
};

/** 32 hex digits of an IPv6 address as inet_ntop() writes it, with its tail in dotted decimal where it does. */
const expand = (text: string): string => {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const plain = dotted
    ? `${dotted[1]!}${((+dotted[2]! << 8) | +dotted[3]!).toString(16)}:${((+dotted[4]! << 8) | +dotted[5]!).toString(16)}`
    : text;
  const [head = "", tail] = plain.split("::");
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const [left, right] = [groups(head), groups(tail ?? "")];
  const middle = new Array<string>(8 - left.length - right.length).fill("0");
  return [...left, ...middle, ...right].map((g) => g.padStart(4, "0")).join("");
};

/** OVS's text without in_port, its IPv6 addresses expanded. */
export const expandIpv6 = (text: string): string =>
  text
    .replace(/in_port=[^,]*,/, "")
    .replace(/(ipv6_src|ipv6_dst|nd_target)=([^,]*)/g, (_, key: string, value: string) => `${key}=${expand(value)}`);
