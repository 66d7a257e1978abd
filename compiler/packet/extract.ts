// Parses a packet into a flow: the one definition of what a packet's fields are. The reference translator uses it as it
// is, the BPF parser is emitted after it, and both must give the same flow for the same bytes. The rules are those of
// OVS 3.1 (lib/flow.c), also where they are odd:
//
//   1. A frame of less than 14 bytes has no fields but in_port. (OVS's datapaths drop it before any look-up.)
//   2. Up to two tags (TPID 0x8100 or 0x88a8) are taken off, each only if 6 bytes are left from its TPID on: tag and
//      next type. A third tag, or a tag cut off, leaves its TPID as dl_type. CFI is forced to 1: "present".
//   3. A type below 0x600 is an 802.3 length: with 8 bytes of LLC/SNAP (aa aa 03 00 00 00) and a type of at least 0x600
//      in it, that is the dl_type; else dl_type is 0x05ff. The length itself is not checked.
//   4. IPv4 needs 20 bytes, IHL >= 5, the header within the frame, header <= total length <= frame. Otherwise nothing
//      from L3 on is set. The version is not looked at. Bytes after the total length are padding, never parsed.
//   5. IPv6 needs 40 bytes and its payload within the frame, else nothing from L3 on is set.
//   6. IPv6 extension headers (hop-by-hop, routing, destination, AH, fragment; any order, any number) are walked. If
//      one is cut off, only the addresses stay set: no label, protocol, TOS, TTL or fragment bits. This is the only
//      rule that needs a loop besides the ND options; a BPF parser that unrolls it hands longer chains to user space,
//      `nExtHeaders` tells how long they are.
//   7. A fragment has NW_FRAG.ANY; with an offset other than 0 also NW_FRAG.LATER and no L4 fields. IPv6: any bit of
//      the 16 that hold offset, reserved and M makes it a fragment; a later one has nw_proto 44 and its chain is not
//      followed.
//   8. L4 fields need the whole fixed header, within the IP length: TCP 20 bytes and a data offset of at least 20 within
//      the segment, UDP 8, SCTP 12, ICMP 8, IGMP 8, ICMPv6 8. Otherwise all L4 fields are 0. The protocol number alone
//      decides: ICMPv6 in IPv4 and ICMP in IPv6 are parsed alike.
//   9. Neighbour solicitation and advertisement (code 0): nd_reserved always; target if 16 more bytes are there; then
//      options of 8-byte units until one has length 0 or runs over the end. Only options of length 8 count. A second
//      option of one kind, after a first with a MAC other than 0, clears target and both MACs, but not
//      nd_options_type and nd_reserved. nd_options_type is the kind of the first option seen.
//  10. ARP and RARP need 28 bytes, Ethernet, IPv4, sizes 6 and 4, else nothing is set. An opcode above 255 leaves
//      nw_proto 0, the rest is set.
//  11. MPLS (both Ethernet types): up to three label stack entries, the last at the first with its bottom bit or at the
//      end of the frame. Nothing behind them is parsed.
//  12. NSH needs 8 bytes, version 0 and its whole length within the frame; with metadata type 1 the length must be 24 and
//      the context words are set. Type 2 needs a length of at least 8, other types none. Nothing behind is parsed.
//  13. All else: dl_type only.

import { RangeViolation } from "ebpf-assembler";
import { PACKET_TYPE } from "../openflow/action.js";
import { FLOW, setBits, type FlowWords } from "../openflow/flow.js";
import { fillHashes } from "./dp-hash.js";
import {
  arp,
  ah,
  ETH_TYPE,
  ethernet,
  icmpv6,
  igmp,
  IP_PROTO,
  ipv4,
  ipv6,
  ipv6Ext,
  ipv6Frag,
  llcSnap,
  MAX_MPLS_LABELS,
  MAX_VLANS,
  mpls,
  ND,
  nd,
  ndOption,
  nsh,
  NSH_TYPE_1,
  NW_FRAG,
  sctp,
  tcp,
  udp,
  vlan,
  VLAN_CFI,
} from "./headers.js";
import { read16, read32 } from "./words.js";

/** Why the parser stopped before the innermost header it knows. */
export type Fault =
  | "none"
  /** Less than an Ethernet header. */
  | "runt"
  /** Rule 4 or 5. */
  | "ip"
  /** Rule 6. */
  | "ipv6_ext"
  /** Rule 8. */
  | "l4"
  /** Rule 10. */
  | "arp";

/** Where the layers of a packet begin, in bytes from its start; -1 for a layer that is not there. Reusable. */
export interface Layers {
  /** Tags in the flow, 0..2. */
  nVlans: number;
  /** dl_type of the flow. */
  dlType: number;
  /** First byte after the Ethernet type; -1 only for a runt. */
  l3: number;
  /** First byte after the IP header and its extension headers, of later fragments too; -1 without a valid IP header. */
  l4: number;
  /** End of the IP packet: what follows is padding. The end of the frame when `l4` is -1. */
  end: number;
  /** nw_proto of the flow. */
  proto: number;
  /** nw_frag of the flow. */
  frag: number;
  /** The L4 (or ARP) fields of the flow were filled in. */
  complete: boolean;
  /** IPv6 extension headers walked. */
  nExtHeaders: number;
  /** A routing header with segments left: the destination in the IPv6 header is not the one that L4 checksums cover. */
  routing: boolean;
  fault: Fault;
}

export const newLayers = (): Layers => ({
  nVlans: 0,
  dlType: 0,
  l3: -1,
  l4: -1,
  end: 0,
  proto: 0,
  frag: 0,
  complete: false,
  nExtHeaders: 0,
  routing: false,
  fault: "none",
});

/** Member offsets, constant for the JIT. */
const AT = {
  inPort: FLOW.in_port.at >>> 5,
  packetType: FLOW.packet_type.at >>> 5,
  macs: FLOW.dl_dst.at >>> 5,
  vlans: [
    { tpid: FLOW.vlan0_tpid.at, tci: FLOW.vlan0_tci.at },
    { tpid: FLOW.vlan1_tpid.at, tci: FLOW.vlan1_tci.at },
  ],
  dlType: FLOW.dl_type.at,
  nwFrag: FLOW.nw_frag.at,
  nwProto: FLOW.nw_proto.at,
  nwTos: FLOW.nw_tos.at,
  nwTtl: FLOW.nw_ttl.at,
  tpSrc: FLOW.tp_src.at,
  tpDst: FLOW.tp_dst.at,
  tcpFlags: FLOW.tcp_flags.at,
  nwSrc: FLOW.nw_src.at >>> 5,
  nwDst: FLOW.nw_dst.at >>> 5,
  ipv6Src: FLOW.ipv6_src.at >>> 5,
  ipv6Dst: FLOW.ipv6_dst.at >>> 5,
  ipv6Label: FLOW.ipv6_label.at >>> 5,
  ndTarget: FLOW.nd_target.at >>> 5,
  arpSha: FLOW.arp_sha.at,
  arpTha: FLOW.arp_tha.at,
  ndReserved: FLOW.nd_reserved.at >>> 5,
  mplsLse: FLOW.mpls_lse0.at >>> 5,
  nshFlags: FLOW.nsh_flags.at,
  nshTtl: FLOW.nsh_ttl.at,
  nshMdtype: FLOW.nsh_mdtype.at,
  nshNp: FLOW.nsh_np.at,
  nshPath: FLOW.nsh_path.at >>> 5,
  ndOptionsType: FLOW.nd_options_type.at,
} as const;

if (FLOW.nsh_c4.at !== FLOW.nsh_path.at + 128 || FLOW.mpls_lse2.at !== FLOW.mpls_lse0.at + 64)
  throw new RangeViolation("The flow must hold label stack entries and the words of NSH one after the other");

if (FLOW.dl_dst.at % 32 !== 0 || FLOW.dl_src.at !== FLOW.dl_dst.at + 48)
  throw new RangeViolation("The flow must begin its Ethernet addresses at a word, destination first, as a frame does");

const putMac = (flow: FlowWords, at: number, b: Uint8Array, from: number): void => {
  setBits(flow, at, 16, read16(b, from));
  setBits(flow, at + 16, 16, read16(b, from + 2));
  setBits(flow, at + 32, 16, read16(b, from + 4));
};

const putAddress6 = (flow: FlowWords, word: number, b: Uint8Array, from: number): void => {
  for (let i = 0; i < 4; i++) flow[word + i] = read32(b, from + 4 * i);
};

const isZeroMac = (b: Uint8Array, at: number): boolean => read32(b, at) === 0 && read16(b, at + 4) === 0;

const NSH_TYPE_2 = 2;

const ALL_ZERO_MAC = -1;

const isVlan = (type: number): boolean => type === ETH_TYPE.VLAN || type === ETH_TYPE.QINQ;

/** Rule 9. `at` is just after the 8 bytes that ICMPv6 messages share. */
const extractNd = (b: Uint8Array, start: number, end: number, flow: FlowWords): void => {
  flow[AT.ndReserved] = read32(b, start + nd.fields.reserved.byteOffset);
  let at = start + nd.minBytes;
  if (at > end) return;
  let sll = ALL_ZERO_MAC;
  let tll = ALL_ZERO_MAC;
  let kind = 0;
  let valid = true;
  while (end - at >= ndOption.minBytes) {
    const size = b[at + ndOption.fields.length.byteOffset]! * 8;
    if (size === 0 || size > end - at) break;
    const type = b[at]!;
    if (size === ndOption.minBytes && (type === ND.OPT_SLL || type === ND.OPT_TLL)) {
      const seen = type === ND.OPT_SLL ? sll : tll;
      const mac = at + ndOption.fields.mac.byteOffset;
      if (seen !== ALL_ZERO_MAC) {
        valid = false;
        break;
      }
      const keep = isZeroMac(b, mac) ? ALL_ZERO_MAC : mac;
      if (type === ND.OPT_SLL) sll = keep;
      else tll = keep;
      if (kind === 0) kind = type;
    }
    at += size;
  }
  setBits(flow, AT.ndOptionsType, 8, kind);
  if (!valid) return;
  putAddress6(flow, AT.ndTarget, b, start + nd.fields.target.byteOffset);
  if (sll !== ALL_ZERO_MAC) putMac(flow, AT.arpSha, b, sll);
  if (tll !== ALL_ZERO_MAC) putMac(flow, AT.arpTha, b, tll);
};

/** Rule 8. Returns whether the header is whole; sets nothing when it is not. */
const extractL4 = (b: Uint8Array, at: number, end: number, proto: number, flow: FlowWords): boolean => {
  const size = end - at;
  switch (proto) {
    case IP_PROTO.TCP: {
      if (size < tcp.minBytes) return false;
      const control = read16(b, at + tcp.fields.dataOffset.byteOffset);
      const headerSize = (control >>> 12) * 4;
      if (headerSize < tcp.minBytes || size < headerSize) return false;
      setBits(flow, AT.tcpFlags, 16, control & 0x0fff);
      break;
    }
    case IP_PROTO.UDP:
      if (size < udp.minBytes) return false;
      break;
    case IP_PROTO.SCTP:
      if (size < sctp.minBytes) return false;
      break;
    case IP_PROTO.ICMP:
    case IP_PROTO.IGMP:
    case IP_PROTO.ICMPV6: {
      if (size < igmp.minBytes) return false;
      const type = b[at]!;
      const code = b[at + icmpv6.fields.code.byteOffset]!;
      setBits(flow, AT.tpSrc, 16, type);
      setBits(flow, AT.tpDst, 16, code);
      const isNd = proto === IP_PROTO.ICMPV6 && code === 0 && (type === ND.SOLICIT || type === ND.ADVERT);
      if (isNd) extractNd(b, at, end, flow);
      return true;
    }
    default:
      return true;
  }
  // TCP, UDP and SCTP begin with the two ports.
  setBits(flow, AT.tpSrc, 16, read16(b, at));
  setBits(flow, AT.tpDst, 16, read16(b, at + 2));
  return true;
};

const extractIpv4 = (b: Uint8Array, at: number, length: number, flow: FlowWords, layers: Layers): boolean => {
  const size = length - at;
  if (size < ipv4.minBytes) return false;
  const headerSize = (b[at]! & 0x0f) * 4;
  const total = read16(b, at + ipv4.fields.totalLength.byteOffset);
  if (headerSize < ipv4.minBytes || headerSize > total || total > size || size - total > 0xffff) return false;
  flow[AT.nwSrc] = read32(b, at + ipv4.fields.src.byteOffset);
  flow[AT.nwDst] = read32(b, at + ipv4.fields.dst.byteOffset);
  setBits(flow, AT.nwTos, 8, b[at + ipv4.fields.dscp.byteOffset]!);
  setBits(flow, AT.nwTtl, 8, b[at + ipv4.fields.ttl.byteOffset]!);
  const fragment = read16(b, at + ipv4.fields.reserved.byteOffset);
  layers.proto = b[at + ipv4.fields.proto.byteOffset]!;
  layers.frag = (fragment & 0x3fff) === 0 ? 0 : (fragment & 0x1fff) === 0 ? NW_FRAG.ANY : NW_FRAG.ANY | NW_FRAG.LATER;
  layers.l4 = at + headerSize;
  layers.end = at + total;
  return true;
};

const extractIpv6 = (b: Uint8Array, at: number, length: number, flow: FlowWords, layers: Layers): boolean => {
  const size = length - at;
  if (size < ipv6.minBytes) return false;
  const total = read16(b, at + ipv6.fields.payloadLength.byteOffset) + ipv6.minBytes;
  if (total > size || size - total > 0xffff) return false;
  putAddress6(flow, AT.ipv6Src, b, at + ipv6.fields.src.byteOffset);
  putAddress6(flow, AT.ipv6Dst, b, at + ipv6.fields.dst.byteOffset);
  const end = at + total;
  let proto = b[at + ipv6.fields.nextHeader.byteOffset]!;
  let frag = 0;
  let next = at + ipv6.minBytes;
  // Rule 6 and 7: ends at the first header that is not an extension header, or at a later fragment.
  walk: for (; ; layers.nExtHeaders++) {
    let extSize: number;
    switch (proto) {
      case IP_PROTO.HOPOPTS:
      case IP_PROTO.ROUTING:
      case IP_PROTO.DSTOPTS:
        if (end - next < 8) break walk;
        extSize = (b[next + ipv6Ext.fields.length.byteOffset]! + 1) * 8;
        if (proto === IP_PROTO.ROUTING && b[next + ipv6Ext.fields.segmentsLeft.byteOffset]! > 0) layers.routing = true;
        break;
      case IP_PROTO.AH:
        if (end - next < 8) break walk;
        extSize = (b[next + ah.fields.length.byteOffset]! + 2) * 4;
        break;
      case IP_PROTO.FRAGMENT: {
        if (end - next < 8) break walk;
        extSize = ipv6Frag.minBytes;
        const offset = read16(b, next + ipv6Frag.fields.fragOffset.byteOffset);
        if (offset !== 0) frag = NW_FRAG.ANY;
        if ((offset & 0xfff8) !== 0) {
          frag |= NW_FRAG.LATER;
          layers.nExtHeaders++;
          next += extSize;
          layers.l4 = next;
          break walk;
        }
        break;
      }
      default:
        layers.l4 = next;
        break walk;
    }
    if (extSize > end - next) break;
    proto = b[next]!;
    next += extSize;
  }
  if (layers.l4 < 0) {
    layers.fault = "ipv6_ext";
    return true;
  }
  layers.proto = proto;
  layers.frag = frag;
  layers.end = end;
  const first = read32(b, at);
  flow[AT.ipv6Label] = first & 0xfffff;
  setBits(flow, AT.nwTos, 8, (first >>> 20) & 0xff);
  setBits(flow, AT.nwTtl, 8, b[at + ipv6.fields.hopLimit.byteOffset]!);
  return true;
};

/** Rule 10. */
const extractArp = (b: Uint8Array, at: number, length: number, flow: FlowWords, layers: Layers): boolean => {
  if (length - at < arp.minBytes) return false;
  const ethernetIpv4 =
    read16(b, at) === 1 &&
    read16(b, at + arp.fields.protocol.byteOffset) === ETH_TYPE.IPV4 &&
    read16(b, at + arp.fields.hardwareSize.byteOffset) === 0x0604;
  if (!ethernetIpv4) return false;
  const op = read16(b, at + arp.fields.op.byteOffset);
  if (op <= 0xff) {
    layers.proto = op;
    setBits(flow, AT.nwProto, 8, op);
  }
  flow[AT.nwSrc] = read32(b, at + arp.fields.spa.byteOffset);
  flow[AT.nwDst] = read32(b, at + arp.fields.tpa.byteOffset);
  putMac(flow, AT.arpSha, b, at + arp.fields.sha.byteOffset);
  putMac(flow, AT.arpTha, b, at + arp.fields.tha.byteOffset);
  return true;
};

/** Rules 2 and 3: tags and type. Sets dlType, nVlans and l3. */
const extractL2 = (b: Uint8Array, length: number, flow: FlowWords, layers: Layers): void => {
  // Both addresses lie in the flow as in the frame: three words.
  flow[AT.macs] = read32(b, 0);
  flow[AT.macs + 1] = read32(b, 4);
  flow[AT.macs + 2] = read32(b, 8);
  let at = ethernet.fields.type.byteOffset;
  let type = read16(b, at);
  while (isVlan(type) && layers.nVlans < MAX_VLANS && length - at >= 2 + vlan.minBytes) {
    const place = AT.vlans[layers.nVlans]!;
    setBits(flow, place.tpid, 16, type);
    setBits(flow, place.tci, 16, read16(b, at + 2) | VLAN_CFI);
    layers.nVlans++;
    at += vlan.minBytes;
    type = read16(b, at);
  }
  at += 2;
  if (type < ETH_TYPE.MIN) {
    type = ETH_TYPE.NONE;
    const snap = length - at >= llcSnap.minBytes && read32(b, at) === 0xaaaa0300 && read16(b, at + 4) === 0;
    if (snap) {
      const inner = read16(b, at + llcSnap.fields.type.byteOffset);
      if (inner >= ETH_TYPE.MIN) type = inner;
      at += llcSnap.minBytes;
    }
  }
  layers.dlType = type;
  layers.l3 = at;
  setBits(flow, AT.dlType, 16, type);
};

/** Rule 11. */
const extractMpls = (b: Uint8Array, l3: number, length: number, flow: FlowWords): void => {
  for (let i = 0, at = l3; i < MAX_MPLS_LABELS && length - at >= mpls.minBytes; i++, at += mpls.minBytes) {
    flow[AT.mplsLse + i] = read32(b, at);
    if ((b[at + mpls.fields.bos.byteOffset]! & 1) !== 0) return;
  }
};

/** Rule 12. */
const extractNsh = (b: Uint8Array, at: number, length: number, flow: FlowWords): void => {
  const left = length - at;
  if (left < nsh.minBytes) return;
  const first = read16(b, at);
  const size = (first & 0x3f) * nsh.length!.unit;
  const mdtype = b[at + nsh.fields.mdtype.byteOffset]!;
  const isType1 = mdtype === NSH_TYPE_1.MDTYPE;
  if (first >>> 14 !== 0 || size > left) return;
  if (isType1 ? size !== NSH_TYPE_1.BYTES : mdtype === NSH_TYPE_2 && size < nsh.minBytes) return;
  setBits(flow, AT.nshFlags, 8, (first >>> 12) & 3);
  setBits(flow, AT.nshTtl, 8, (first >>> 6) & 0x3f);
  setBits(flow, AT.nshMdtype, 8, mdtype);
  setBits(flow, AT.nshNp, 8, b[at + nsh.fields.np.byteOffset]!);
  const words = isType1 ? 1 + NSH_TYPE_1.CONTEXTS : 1;
  for (let i = 0; i < words; i++) flow[AT.nshPath + i] = read32(b, at + nsh.fields.path.byteOffset + 4 * i);
};

/** Makes `to` equal to `from`; several times faster than Object.assign(). */
export const copyLayers = (to: Layers, from: Layers): void => {
  to.nVlans = from.nVlans;
  to.dlType = from.dlType;
  to.l3 = from.l3;
  to.l4 = from.l4;
  to.end = from.end;
  to.proto = from.proto;
  to.frag = from.frag;
  to.complete = from.complete;
  to.nExtHeaders = from.nExtHeaders;
  to.routing = from.routing;
  to.fault = from.fault;
};

const clear = (layers: Layers): void => {
  layers.nVlans = 0;
  layers.dlType = 0;
  layers.l3 = -1;
  layers.l4 = -1;
  layers.proto = 0;
  layers.frag = 0;
  layers.complete = false;
  layers.nExtHeaders = 0;
  layers.routing = false;
  layers.fault = "none";
};

const ownLayers = newLayers();

/**
 * Parses the first `length` bytes of `packet`. Metadata, registers and actset_output of the flow become 0; they are no
 * part of the packet. Allocates nothing.
 *
 * @param packet - frame from its Ethernet header on
 * @param inPort - OpenFlow port
 * @param flow - filled in, all of it
 * @param packetType - what the packet begins with: an Ethernet header, or what would be behind one of this type
 * @param layers - filled in; when absent the result is one object shared by all such calls, good until the next
 */
export const extract = (
  packet: Uint8Array,
  length: number,
  inPort: number,
  flow: FlowWords,
  layers: Layers = ownLayers,
  packetType: number = PACKET_TYPE.ETHERNET,
): Layers => {
  flow.fill(0);
  clear(layers);
  flow[AT.inPort] = inPort;
  layers.end = length;
  if (packetType !== PACKET_TYPE.ETHERNET) {
    flow[AT.packetType] = packetType;
    setBits(flow, AT.dlType, 16, packetType);
    layers.dlType = packetType & 0xffff;
    layers.l3 = 0;
  } else if (length < ethernet.minBytes) {
    layers.fault = "runt";
    return layers;
  } else extractL2(packet, length, flow, layers);
  const { l3 } = layers;
  switch (layers.dlType) {
    case ETH_TYPE.IPV4:
      if (!extractIpv4(packet, l3, length, flow, layers)) layers.fault = "ip";
      break;
    case ETH_TYPE.IPV6:
      if (!extractIpv6(packet, l3, length, flow, layers)) layers.fault = "ip";
      break;
    case ETH_TYPE.MPLS:
    case ETH_TYPE.MPLS_MCAST:
      extractMpls(packet, l3, length, flow);
      return layers;
    case ETH_TYPE.NSH:
      extractNsh(packet, l3, length, flow);
      return layers;
    case ETH_TYPE.ARP:
    case ETH_TYPE.RARP:
      layers.complete = extractArp(packet, l3, length, flow, layers);
      if (!layers.complete) layers.fault = "arp";
      return layers;
    default:
      return layers;
  }
  if (layers.l4 >= 0) {
    setBits(flow, AT.nwFrag, 8, layers.frag);
    setBits(flow, AT.nwProto, 8, layers.proto);
    if ((layers.frag & NW_FRAG.LATER) === 0) {
      layers.complete = extractL4(packet, layers.l4, layers.end, layers.proto, flow);
      if (!layers.complete) layers.fault = "l4";
    }
  }
  fillHashes(flow);
  return layers;
};
