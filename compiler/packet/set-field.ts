// Rewrites one field of a packet, with the checksums that cover it updated incrementally: a checksum that was right
// stays right, one that was wrong stays wrong. A field that the packet does not have is left alone.
//
// The results are those of OVS 3.1's user-space datapath (lib/odp-execute.c, lib/packets.c) except where that one
// damages packets:
//
//   - Addresses of a later IPv4 fragment: OVS 3.1 updates a "checksum" inside the payload. Here the payload stays.
//   - Source address of an IPv6 packet with an active routing header, and both addresses of an atomic fragment (a
//     fragment header with offset 0 and no more fragments): OVS 3.1 leaves the L4 checksum stale. Here it is updated.
//   - nd_reserved and nd_options_type: OVS 3.1 computes the whole checksum anew, of a first fragment or after extension
//     headers a wrong one. Here it is updated. With no option in the packet OVS writes the type behind its end; here
//     nothing is written.
//   - ICMP type and code of a later fragment: OVS 3.1 writes into the payload. Here it stays.
//   - ARP fields of a packet too short for them: OVS 3.1 writes behind its end. Here nothing is written.
//   - Link-layer options behind options of another size: OVS 3.1 loses count of the bytes left. Here they are found.

import type { SetTarget } from "../pipeline/dp-action.js";
import { avoidZeroUdpChecksum, crc32c, pseudoHeaderChecksumAt, updateChecksum, updateChecksumAt } from "./checksum.js";
import type { Layers } from "./extract.js";
import { ETH_TYPE, HEADERS, IP_PROTO, ND, NW_FRAG } from "./headers.js";
import { read16, write16 } from "./words.js";

type Setter = (packet: Uint8Array, layers: Layers, value: Uint8Array) => void;

const { arp, ethernet, icmp, ipv4, ipv6, nd, ndOption, sctp, tcp, udp } = HEADERS;

const IPV4_CHECKSUM = ipv4.fields.checksum.byteOffset;

const differs = (packet: Uint8Array, at: number, value: Uint8Array): boolean => {
  for (let i = 0; i < value.length; i++) if (packet[at + i] !== value[i]) return true;
  return false;
};

const isIpv4 = (layers: Layers): boolean => layers.dlType === ETH_TYPE.IPV4 && layers.l4 >= 0;
const isIpv6 = (layers: Layers): boolean => layers.dlType === ETH_TYPE.IPV6 && layers.l4 >= 0;

/** The L4 header is in this packet and whole. */
const hasL4 = (layers: Layers): boolean => layers.l4 >= 0 && layers.complete && (layers.frag & NW_FRAG.LATER) === 0;

/** A field that no checksum covers. */
const setPlain =
  (at: number): Setter =>
  (packet, _, value) =>
    packet.set(value, at);

const setArp =
  (at: number): Setter =>
  (packet, layers, value) => {
    const isArp = layers.dlType === ETH_TYPE.ARP || layers.dlType === ETH_TYPE.RARP;
    if (isArp && layers.complete) packet.set(value, layers.l3 + at);
  };

/** An address in the pseudo-header changes: `value` is to replace what is at `at`. */
const updatePseudoHeader = (packet: Uint8Array, layers: Layers, at: number, value: Uint8Array): void => {
  const checksumAt = pseudoHeaderChecksumAt(packet, layers);
  if (checksumAt < 0) return;
  updateChecksumAt(packet, checksumAt, at, value);
  avoidZeroUdpChecksum(packet, checksumAt, layers.proto);
};

const setIpv4Address =
  (offset: number): Setter =>
  (packet, layers, value) => {
    const at = layers.l3 + offset;
    if (!isIpv4(layers) || !differs(packet, at, value)) return;
    updatePseudoHeader(packet, layers, at, value);
    updateChecksumAt(packet, layers.l3 + IPV4_CHECKSUM, at, value);
    packet.set(value, at);
  };

const setIpv6Address =
  (offset: number, coveredBehindRouting: boolean): Setter =>
  (packet, layers, value) => {
    const at = layers.l3 + offset;
    if (!isIpv6(layers) || !differs(packet, at, value)) return;
    if (coveredBehindRouting || !layers.routing) updatePseudoHeader(packet, layers, at, value);
    packet.set(value, at);
  };

/** One byte of an IPv4 header: the upper or the lower half of a checksummed word. */
const setIpv4Byte = (packet: Uint8Array, layers: Layers, offset: number, value: number): void => {
  const at = layers.l3 + offset;
  if (packet[at] === value) return;
  const word = at - (offset & 1);
  const checksumAt = layers.l3 + IPV4_CHECKSUM;
  const before = read16(packet, word);
  packet[at] = value;
  write16(packet, checksumAt, updateChecksum(read16(packet, checksumAt), before, read16(packet, word)));
};

const setTos: Setter = (packet, layers, value) => {
  const tos = value[0]!;
  if (isIpv4(layers)) setIpv4Byte(packet, layers, ipv4.fields.dscp.byteOffset, tos);
  else if (isIpv6(layers)) write16(packet, layers.l3, (read16(packet, layers.l3) & 0xf00f) | (tos << 4));
};

const setTtl: Setter = (packet, layers, value) => {
  const ttl = value[0]!;
  if (isIpv4(layers)) setIpv4Byte(packet, layers, ipv4.fields.ttl.byteOffset, ttl);
  else if (isIpv6(layers)) packet[layers.l3 + ipv6.fields.hopLimit.byteOffset] = ttl;
};

/** The low 20 bits of four bytes. */
const setLabel: Setter = (packet, layers, value) => {
  if (!isIpv6(layers)) return;
  const at = layers.l3 + ipv6.fields.flowLabel.byteOffset;
  packet[at] = (packet[at]! & 0xf0) | (value[1]! & 0x0f);
  packet.set(value.subarray(2), at + 1);
};

/** CRC32c is linear: the old sum, right or wrong, changes by the difference of the sums before and after. */
const setSctpPort = (packet: Uint8Array, layers: Layers, at: number, value: Uint8Array): void => {
  const { l4, end } = layers;
  const checksumAt = l4 + sctp.fields.checksum.byteOffset;
  const view = new DataView(packet.buffer, packet.byteOffset + checksumAt, 4);
  const old = view.getUint32(0, true);
  view.setUint32(0, 0);
  const before = crc32c(packet, l4, end);
  packet.set(value, at);
  view.setUint32(0, (old ^ before ^ crc32c(packet, l4, end)) >>> 0, true);
};

const PORT_CHECKSUM: Readonly<Record<number, number>> = {
  [IP_PROTO.TCP]: tcp.fields.checksum.byteOffset,
  [IP_PROTO.UDP]: udp.fields.checksum.byteOffset,
};

/** TCP, UDP and SCTP have their ports at the same place. */
const setPort =
  (offset: number): Setter =>
  (packet, layers, value) => {
    const { l4, proto } = layers;
    const at = l4 + offset;
    if (!hasL4(layers)) return;
    if (proto === IP_PROTO.SCTP) {
      setSctpPort(packet, layers, at, value);
      return;
    }
    const checksum = PORT_CHECKSUM[proto];
    if (checksum === undefined || !differs(packet, at, value)) return;
    const checksumAt = l4 + checksum;
    if (proto === IP_PROTO.TCP || read16(packet, checksumAt) !== 0) {
      updateChecksumAt(packet, checksumAt, at, value);
      avoidZeroUdpChecksum(packet, checksumAt, proto);
    }
    packet.set(value, at);
  };

const setIcmpByte =
  (offset: number): Setter =>
  (packet, layers, value) => {
    const { l4, proto } = layers;
    const isIcmp = proto === IP_PROTO.ICMP || proto === IP_PROTO.ICMPV6;
    if (!hasL4(layers) || !isIcmp || packet[l4 + offset] === value[0]) return;
    const before = read16(packet, l4);
    packet[l4 + offset] = value[0]!;
    const checksumAt = l4 + icmp.fields.checksum.byteOffset;
    write16(packet, checksumAt, updateChecksum(read16(packet, checksumAt), before, read16(packet, l4)));
  };

const isNd = (layers: Layers): boolean =>
  hasL4(layers) &&
  layers.dlType === ETH_TYPE.IPV6 &&
  layers.proto === IP_PROTO.ICMPV6 &&
  layers.end - layers.l4 >= nd.minBytes;

const ND_CHECKSUM = nd.fields.checksum.byteOffset;

const setNdField =
  (offset: number): Setter =>
  (packet, layers, value) => {
    const at = layers.l4 + offset;
    if (!isNd(layers) || !differs(packet, at, value)) return;
    updateChecksumAt(packet, layers.l4 + ND_CHECKSUM, at, value);
    packet.set(value, at);
  };

/** The kind of the first option, whatever it is. */
const setNdOptionsType: Setter = (packet, layers, value) => {
  const at = layers.l4 + nd.minBytes;
  if (!isNd(layers) || at >= layers.end || packet[at] === value[0]) return;
  const checksumAt = layers.l4 + ND_CHECKSUM;
  // The last byte of an odd-sized message is summed up with a 0.
  const second = at + 1 < layers.end ? packet[at + 1]! : 0;
  const checksum = read16(packet, checksumAt);
  write16(packet, checksumAt, updateChecksum(checksum, (packet[at]! << 8) | second, (value[0]! << 8) | second));
  packet[at] = value[0]!;
};

/** Sets the address of the packet's first link-layer address option, if that is of the kind wanted. */
const setNdAddress =
  (kind: number): Setter =>
  (packet, layers, value) => {
    if (!isNd(layers)) return;
    let at = layers.l4 + nd.minBytes;
    while (layers.end - at >= ndOption.minBytes) {
      const units = packet[at + ndOption.fields.length.byteOffset]!;
      const type = packet[at]!;
      if (units === 0) return;
      if (units === 1 && (type === ND.OPT_SLL || type === ND.OPT_TLL)) {
        const mac = at + ndOption.fields.mac.byteOffset;
        if (type !== kind || !differs(packet, mac, value)) return;
        updateChecksumAt(packet, layers.l4 + ND_CHECKSUM, mac, value);
        packet.set(value, mac);
        return;
      }
      at += units * 8;
    }
  };

/** The tag's CFI bit becomes 0, as when OVS takes a tag off and puts one on. */
const setVlanTci: Setter = (packet, _, value) => {
  const at = ethernet.minBytes;
  const tpid = read16(packet, ethernet.fields.type.byteOffset);
  if (packet.length < at + 4 || (tpid !== ETH_TYPE.VLAN && tpid !== ETH_TYPE.QINQ)) return;
  packet[at] = value[0]! & 0xef;
  packet[at + 1] = value[1]!;
};

/** What lies in front of L3, where the layers do not say. */
export type ShimTarget = Extract<SetTarget, `mpls_${string}` | `nsh_${string}`>;

export const isShimTarget = (target: SetTarget): target is ShimTarget =>
  target.startsWith("mpls_") || target.startsWith("nsh_");

/** `value` has the size that {@link SetTarget} states, in network order. */
export const SETTERS: Readonly<Record<Exclude<SetTarget, ShimTarget | "skb_priority">, Setter>> = {
  eth_dst: setPlain(ethernet.fields.dst.byteOffset),
  eth_src: setPlain(ethernet.fields.src.byteOffset),
  vlan_tci: setVlanTci,
  arp_op: setArp(arp.fields.op.byteOffset),
  arp_spa: setArp(arp.fields.spa.byteOffset),
  arp_tpa: setArp(arp.fields.tpa.byteOffset),
  arp_sha: setArp(arp.fields.sha.byteOffset),
  arp_tha: setArp(arp.fields.tha.byteOffset),
  nw_src: setIpv4Address(ipv4.fields.src.byteOffset),
  nw_dst: setIpv4Address(ipv4.fields.dst.byteOffset),
  nw_tos: setTos,
  nw_ttl: setTtl,
  ipv6_src: setIpv6Address(ipv6.fields.src.byteOffset, true),
  ipv6_dst: setIpv6Address(ipv6.fields.dst.byteOffset, false),
  ipv6_label: setLabel,
  tp_src: setPort(tcp.fields.src.byteOffset),
  tp_dst: setPort(tcp.fields.dst.byteOffset),
  icmp_type: setIcmpByte(icmp.fields.type.byteOffset),
  icmp_code: setIcmpByte(icmp.fields.code.byteOffset),
  nd_target: setNdField(nd.fields.target.byteOffset),
  nd_sll: setNdAddress(ND.OPT_SLL),
  nd_tll: setNdAddress(ND.OPT_TLL),
  nd_reserved: setNdField(nd.fields.reserved.byteOffset),
  nd_options_type: setNdOptionsType,
};
