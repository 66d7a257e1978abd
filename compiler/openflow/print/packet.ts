// A packet in OVS's words: its headers as a match that has all of them, and its checksum.

import { extract, newLayers } from "../../packet/extract.js";
import { ETH_TYPE, HEADERS, IP_PROTO, isMplsType, NSH_TYPE_1, NW_FRAG } from "../../packet/headers.js";
import { read16, read32 } from "../../packet/words.js";
import { etherType } from "../field-access.js";
import { FLOW, get, newFlow, set, setOnes, type FlowWords, type Member } from "../flow.js";
import { DEFAULT_PRIORITY, PACKET_TYPE } from "../types.js";
import { formatMatch } from "./match.js";

const L4_PROTOS: readonly number[] = [
  IP_PROTO.ICMP,
  IP_PROTO.ICMPV6,
  IP_PROTO.TCP,
  IP_PROTO.UDP,
  IP_PROTO.SCTP,
  2, // IGMP
];

/** Label stack entries up to the last of the stack. */
const shownLabels = (flow: FlowWords): readonly Member[] => {
  const labels = ["mpls_lse0", "mpls_lse1", "mpls_lse2"] as const;
  const last = labels.findIndex((member) => (get(flow, member) & 0x100) !== 0);
  return last < 0 ? labels : labels.slice(0, last + 1);
};

const shownNsh = (flow: FlowWords): readonly Member[] => [
  ...(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np", "nsh_path"] as const),
  ...(get(flow, "nsh_mdtype") === NSH_TYPE_1.MDTYPE ? (["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const) : []),
];

/** The members that mean something for a packet; metadata and registers only when they are not 0 (OVS flow_format). */
const shownMembers = (flow: FlowWords): Member[] => {
  const isFramed = get(flow, "packet_type") === PACKET_TYPE.ETHERNET;
  const members: Member[] = [
    ...(get(flow, "in_port") === 0 ? [] : (["in_port"] as const)),
    "packet_type",
    ...(get(flow, "skb_priority") === 0 ? [] : (["skb_priority"] as const)),
    ...(isFramed ? (["dl_dst", "dl_src", "dl_type", "vlan0_tpid", "vlan0_tci"] as const) : []),
  ];
  for (const member of Object.keys(FLOW) as Member[]) {
    if (/^reg\d/.test(member) && get(flow, member) !== 0) members.push(member);
  }
  const { at } = FLOW.metadata;
  if (flow[at >>> 5] !== 0 || flow[(at >>> 5) + 1] !== 0) members.push("metadata");
  if (isFramed && get(flow, "vlan0_tci") !== 0) members.push("vlan1_tpid", "vlan1_tci");
  const type = etherType(flow);
  if (type === ETH_TYPE.ARP || type === ETH_TYPE.RARP) {
    return [...members, "nw_src", "nw_dst", "nw_proto", "arp_sha", "arp_tha"];
  }
  if (isMplsType(type)) return [...members, ...shownLabels(flow)];
  if (type === ETH_TYPE.IPV4) members.push("nw_src", "nw_dst");
  else if (type === ETH_TYPE.IPV6) members.push("ipv6_src", "ipv6_dst", "ipv6_label");
  else if (type === ETH_TYPE.NSH) members.push(...shownNsh(flow));
  else return members;
  members.push("nw_proto", "nw_tos", "nw_ttl", "nw_frag");
  const proto = get(flow, "nw_proto");
  if ((get(flow, "nw_frag") & NW_FRAG.LATER) === 0 && L4_PROTOS.includes(proto)) {
    members.push("tp_src", "tp_dst");
    if (proto === IP_PROTO.TCP) members.push("tcp_flags");
    const icmpType = get(flow, "tp_src");
    if (type === ETH_TYPE.IPV6 && proto === IP_PROTO.ICMPV6 && (icmpType === 135 || icmpType === 136)) {
      if (get(flow, "tp_dst") === 0) members.push("nd_target", "arp_sha", "arp_tha");
    }
  }
  return members;
};

/** A packet's flow in OVS's words: `tcp,in_port=1,vlan_tci=0x0000,dl_src=…`. */
export const formatFlowWords = (flow: FlowWords): string => {
  const mask = newFlow();
  for (const member of shownMembers(flow)) setOnes(mask, FLOW[member].at, FLOW[member].bits);
  set(mask, "nw_frag", get(mask, "nw_frag") & 3);
  return formatMatch({ value: flow.map((word, i) => word & mask[i]!), mask }, { priority: DEFAULT_PRIORITY });
};

/** Where the checksum of an L4 header is, its bytes, and what OVS calls it. */
const CHECKSUMS: ReadonlyMap<number, readonly [name: string, at: number, bytes: 2 | 4, headerBytes: number]> = new Map([
  [IP_PROTO.TCP, ["tcp_csum", 16, 2, HEADERS.tcp.minBytes]],
  [IP_PROTO.UDP, ["udp_csum", 6, 2, HEADERS.udp.minBytes]],
  [IP_PROTO.SCTP, ["sctp_csum", 8, 4, 12]],
  [IP_PROTO.ICMP, ["icmp_csum", 2, 2, 8]],
  [IP_PROTO.ICMPV6, ["icmp6_csum", 2, 2, 4]],
]);

/** A packet that begins with an Ethernet header, in a line. */
export const formatPacket = (packet: Uint8Array): string => {
  const flow = newFlow();
  const layers = newLayers();
  extract(packet, packet.length, 0, flow, layers);
  const found = CHECKSUMS.get(get(flow, "nw_proto"));
  const text = formatFlowWords(flow);
  if (found === undefined || layers.l4 < 0) return `${text}\n`;
  const [name, at, bytes, headerBytes] = found;
  if (layers.end - layers.l4 < headerBytes) return `${text}\n`;
  const sum = bytes === 2 ? read16(packet, layers.l4 + at) : read32(packet, layers.l4 + at);
  return `${text} ${name}:${sum.toString(16)}\n`;
};
