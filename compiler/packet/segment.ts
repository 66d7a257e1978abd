// Cuts a TCP super-packet into segments, as the kernel does behind a device that cannot (GSO): for packets that leave by user space
// in a way that the kernel offers no segmentation for.

import { foldSum, pseudoHeaderSum, sumWords } from "./checksum.js";
import { newFlow } from "../openflow/flow.js";
import { extract, type Layers } from "./extract.js";
import { ETH_TYPE, ipv4, ipv6, IP_PROTO, isMplsType, mpls, tcp } from "./headers.js";
import { read16, read32, write16, write32 } from "./words.js";

const [FIN, PSH, CWR] = [0x01, 0x08, 0x80];
const FLAGS_AT = tcp.fields.dataOffset.byteOffset + 1;

/**
 * The segments of a packet, with whole checksums.
 * @param layers - of the packet
 * @param size - payload bytes of a segment
 * @returns undefined for a packet that is no unfragmented TCP
 */
export const segmentTcp = (packet: Uint8Array, layers: Layers, size: number): Uint8Array[] | undefined => {
  const { l3, l4, end, proto, frag, dlType } = layers;
  if (proto !== IP_PROTO.TCP || frag !== 0 || l4 < 0 || end - l4 < tcp.minBytes || size <= 0) return undefined;
  const payloadAt = l4 + (packet[l4 + tcp.fields.dataOffset.byteOffset]! >>> 4) * 4;
  if (payloadAt > end) return undefined;
  const first = read32(packet, l4 + tcp.fields.seq.byteOffset);
  const flags = packet[l4 + FLAGS_AT]!;
  const segments: Uint8Array[] = [];
  for (let at = payloadAt; at < end || at === payloadAt; at += size) {
    const payload = packet.subarray(at, Math.min(at + size, end));
    const segment = new Uint8Array(payloadAt + payload.length);
    segment.set(packet.subarray(0, payloadAt));
    segment.set(payload, payloadAt);
    const isLast = at + size >= end;
    write32(segment, l4 + tcp.fields.seq.byteOffset, (first + (at - payloadAt)) >>> 0);
    let own = flags;
    if (!isLast) own &= ~(FIN | PSH);
    if (segments.length > 0) own &= ~CWR;
    segment[l4 + FLAGS_AT] = own;
    if (dlType === ETH_TYPE.IPV4) {
      const id = l3 + ipv4.fields.id.byteOffset;
      write16(segment, l3 + ipv4.fields.totalLength.byteOffset, segment.length - l3);
      write16(segment, id, read16(packet, id) + segments.length);
      const checksum = l3 + ipv4.fields.checksum.byteOffset;
      write16(segment, checksum, 0);
      write16(segment, checksum, ~foldSum(sumWords(segment, l3, l3 + (segment[l3]! & 0x0f) * 4)) & 0xffff);
    } else write16(segment, l3 + ipv6.fields.payloadLength.byteOffset, segment.length - l3 - ipv6.minBytes);
    const checksum = l4 + tcp.fields.checksum.byteOffset;
    write16(segment, checksum, 0);
    const pseudo = pseudoHeaderSum(segment, { ...layers, end: segment.length });
    write16(segment, checksum, ~foldSum(sumWords(segment, l4, segment.length, pseudo)) & 0xffff);
    segments.push(segment);
  }
  return segments;
};

const IP_TYPES: ReadonlyMap<number, number> = new Map([
  [4, ETH_TYPE.IPV4],
  [6, ETH_TYPE.IPV6],
]);

/** Namespace of Ethernet types in a packet type. */
const ETHERTYPE_NAMESPACE = 1 << 16;

const scratch = newFlow();

/**
 * Turns the layers of a packet with labels into those of the IP packet behind them: by its version, as routers tell it, for no
 * label says what it carries.
 *
 * @param layers - of the packet; changed
 * @returns whether there is an IP packet; the layers are good for nothing if not
 */
export const findUnderLabels = (packet: Uint8Array, layers: Layers): boolean => {
  if (!isMplsType(layers.dlType)) return false;
  let at = layers.l3;
  for (let isLast = false; !isLast; at += mpls.minBytes) {
    if (at + mpls.minBytes > packet.length) return false;
    isLast = (packet[at + mpls.fields.bos.byteOffset]! & 1) !== 0;
  }
  const type = at < packet.length ? IP_TYPES.get(packet[at]! >>> 4) : undefined;
  if (type === undefined) return false;
  const inner = packet.subarray(at);
  extract(inner, inner.length, 0, scratch, layers, ETHERTYPE_NAMESPACE | type);
  layers.l3 += at;
  layers.end += at;
  if (layers.l4 < 0) return false;
  layers.l4 += at;
  return true;
};
