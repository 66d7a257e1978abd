// The checksums of IP, TCP, UDP, ICMP (RFC 1071) and SCTP (CRC32c), whole and incremental, over byte strings.

import type { Layers } from "./extract.js";
import { ETH_TYPE, HEADERS, IP_PROTO, NW_FRAG } from "./headers.js";
import { read16, write16 } from "./words.js";

/** The sum of the 16-bit words of `bytes[from..to)`, an odd last byte filled up with 0, added to `sum`; not folded. */
export const sumWords = (bytes: Uint8Array, from: number, to: number, sum = 0): number => {
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  return at < to ? sum + (bytes[at]! << 8) : sum;
};

/** A sum brought into 16 bits, carries added back. */
export const foldSum = (sum: number): number => {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
};

/** The checksum after a 16-bit word that it covers changed (RFC 1624, equation 3). */
export const updateChecksum = (checksum: number, before: number, after: number): number =>
  ~foldSum((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;

/**
 * Updates the checksum stored at `checksumAt` for the change of the bytes at `at`, which begins at a 16-bit word of the
 * checksummed data and is of even size, to `value`. Does not store `value`.
 */
export const updateChecksumAt = (bytes: Uint8Array, checksumAt: number, at: number, value: Uint8Array): void => {
  let checksum = read16(bytes, checksumAt);
  for (let i = 0; i < value.length; i += 2)
    checksum = updateChecksum(checksum, read16(bytes, at + i), read16(value, i));
  write16(bytes, checksumAt, checksum);
};

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC32c of `bytes[from..to)` (RFC 9260 appendix A); SCTP stores it with its least significant byte first. */
export const crc32c = (bytes: Uint8Array, from: number, to: number): number => {
  let crc = 0xffffffff;
  for (let at = from; at < to; at++) crc = CRC32C[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
};

/** Where the checksum lies in the headers of L4 protocols that cover a pseudo-header, and how much must be there. */
const TRANSPORT: Readonly<Record<number, { readonly checksumAt: number; readonly minBytes: number }>> = {
  [IP_PROTO.TCP]: { checksumAt: HEADERS.tcp.fields.checksum.byteOffset, minBytes: HEADERS.tcp.minBytes },
  [IP_PROTO.UDP]: { checksumAt: HEADERS.udp.fields.checksum.byteOffset, minBytes: HEADERS.udp.minBytes },
  // OVS asks for the first four bytes only (struct icmp6_header).
  [IP_PROTO.ICMPV6]: { checksumAt: HEADERS.icmpv6.fields.checksum.byteOffset, minBytes: 4 },
};

/**
 * Offset of the checksum that covers the IP addresses of a packet; -1 when there is none: another protocol, a later
 * fragment, a header cut off, or UDP sent without checksum.
 */
export const pseudoHeaderChecksumAt = (packet: Uint8Array, layers: Layers): number => {
  const { l4, end, proto, frag, dlType } = layers;
  if (l4 < 0 || (frag & NW_FRAG.LATER) !== 0) return -1;
  // ICMPv6 has a pseudo-header in IPv6 only.
  if (proto === IP_PROTO.ICMPV6 && dlType !== ETH_TYPE.IPV6) return -1;
  const rule = TRANSPORT[proto];
  if (rule === undefined || end - l4 < rule.minBytes) return -1;
  const at = l4 + rule.checksumAt;
  return proto === IP_PROTO.UDP && read16(packet, at) === 0 ? -1 : at;
};

/** Folded sum of the pseudo-header of a packet with a valid IP header. */
export const pseudoHeaderSum = (packet: Uint8Array, layers: Layers): number => {
  const { l3, l4, end, proto, dlType } = layers;
  const ip = dlType === ETH_TYPE.IPV4 ? HEADERS.ipv4 : HEADERS.ipv6;
  const src = l3 + ip.fields.src.byteOffset;
  // Source and destination follow each other in both headers.
  return foldSum(sumWords(packet, src, src + 2 * ip.fields.src.byteSize, proto + end - l4));
};

/** 0 means "no checksum" in UDP, the other zero of one's complement stands for it (RFC 768). */
export const avoidZeroUdpChecksum = (packet: Uint8Array, at: number, proto: number): void => {
  if (proto === IP_PROTO.UDP && read16(packet, at) === 0) write16(packet, at, 0xffff);
};

/**
 * Completes the checksum of a packet whose sender left it to a network card that the packet never met
 * (CHECKSUM_PARTIAL): the field then holds the folded pseudo-header sum. A packet with a complete checksum that happens
 * to be equal (1 in 65,536) gets the same checksum again, if it was right. Unfragmented TCP and UDP only; with an active
 * routing header the pseudo-header is not known here, and nothing is done.
 *
 * @param packet - changed in place
 * @param layers - of this packet
 * @returns whether the checksum was partial
 */
export const completeChecksum = (packet: Uint8Array, layers: Layers): boolean => {
  const { l4, end, proto, frag, routing, complete } = layers;
  if (!complete || frag !== 0 || routing || (proto !== IP_PROTO.TCP && proto !== IP_PROTO.UDP)) return false;
  const at = pseudoHeaderChecksumAt(packet, layers);
  if (at < 0 || read16(packet, at) !== pseudoHeaderSum(packet, layers)) return false;
  write16(packet, at, ~foldSum(sumWords(packet, l4, end)) & 0xffff);
  avoidZeroUdpChecksum(packet, at, proto);
  return true;
};
