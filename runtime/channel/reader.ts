// Reads upcall records in place, at the constant offsets that the datapath writes them with: no allocation, no copy. It
// agrees with the codec in messages.ts on every record of that layout (tested), and refuses any other.

import {
  ATTR_GSO,
  ATTR_TIME,
  NLA_F_NESTED,
  OVS_KEY_ATTR_IN_PORT,
  OVS_PACKET_ATTR,
  PACKET_FAMILY,
  UPCALL,
} from "#compiler";

/** A `struct nlattr` as one little-endian word: length | type << 16. */
const attrWord = (length: number, type: number): number => (length | (type << 16)) >>> 0;

/** Headers that must stand at constant offsets for the other offsets to hold: offset, word, offset, word... */
const LAYOUT: readonly number[] = [
  ...[UPCALL.key, attrWord(12, OVS_PACKET_ATTR.KEY | NLA_F_NESTED)],
  ...[UPCALL.inPort - 4, attrWord(8, OVS_KEY_ATTR_IN_PORT)],
  ...[UPCALL.len - 4, attrWord(8, OVS_PACKET_ATTR.LEN)],
  ...[UPCALL.gso - 4, attrWord(8, ATTR_GSO)],
  ...[UPCALL.time - 4, attrWord(12, ATTR_TIME)],
];

/** The fields of one record; {@link read} overwrites them. */
export class UpcallReader {
  /** OVS_PACKET_CMD_MISS or ACTION. */
  cmd = 0;
  /** Interface index. */
  inPort = 0;
  /** Length of the whole packet, bytes. */
  len = 0;
  /** Payload bytes of a segment of a GSO packet; 0 for an ordinary packet. */
  gsoSize = 0;
  gsoSegments = 0;
  /** CLOCK_MONOTONIC nanoseconds; exact up to 104 days of uptime, to 2 ns after that. */
  timeNs = 0;
  /** Where the packet's bytes begin in the view. */
  packetAt = 0;
  /** How many of them there are: `len`, unless the record held fewer. */
  packetSize = 0;

  /**
   * Reads the record of `size` bytes at `at`.
   * @returns false when it is not an upcall record of the constant layout; the fields are undefined then
   */
  read(view: DataView, at: number, size: number): boolean {
    if (size < UPCALL.packet || view.getUint16(at + UPCALL.nlType, true) !== PACKET_FAMILY) return false;
    const length = view.getUint32(at + UPCALL.nlLen, true);
    if (length < UPCALL.packet || length > size) return false;
    for (let i = 0; i < LAYOUT.length; i += 2)
      if (view.getUint32(at + LAYOUT[i]!, true) !== LAYOUT[i + 1]) return false;
    if (view.getUint16(at + UPCALL.packetAttr + 2, true) !== OVS_PACKET_ATTR.PACKET) return false;
    this.cmd = view.getUint8(at + UPCALL.cmd);
    this.inPort = view.getUint32(at + UPCALL.inPort, true);
    this.len = view.getUint32(at + UPCALL.len, true);
    const gso = view.getUint32(at + UPCALL.gso, true);
    this.gsoSize = gso & 0xffff;
    this.gsoSegments = gso >>> 16;
    this.timeNs = view.getUint32(at + UPCALL.time + 4, true) * 2 ** 32 + view.getUint32(at + UPCALL.time, true);
    this.packetAt = at + UPCALL.packet;
    // Not the attribute's u16 length, which a GSO packet of 64 KiB overflows.
    this.packetSize = Math.min(this.len, length - UPCALL.packet);
    return true;
  }
}
