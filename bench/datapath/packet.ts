// The packets of the datapath bench: UDP over IPv4 in 64 bytes, and what tells one flow's packets from another's.

import { RangeViolation } from "ebpf-assembler";

/** Byte offsets in an untagged packet; a tag shifts all from `type` on by 4. */
export const AT = {
  dlDst: 0,
  dlSrc: 6,
  type: 12,
  ttl: 22,
  nwCheck: 24,
  nwSrc: 26,
  nwDst: 30,
  tpSrc: 34,
  tpDst: 36,
  udpCheck: 40,
} as const;

const TEMPLATE = Uint8Array.from([
  ...[0x02, 0x00, 0x00, 0x00, 0x00, 0x00], // dl_dst
  ...[0x02, 0x00, 0xff, 0x00, 0x00, 0x01], // dl_src
  ...[0x08, 0x00],
  ...[0x45, 0x00, 0x00, 0x32, 0x00, 0x00, 0x00, 0x00, 0x40, 0x11, 0x00, 0x00], // IPv4, 50 bytes, TTL 64, UDP
  ...[0x0a, 0x00, 0x00, 0x00], // nw_src
  ...[0xc0, 0xa8, 0x00, 0x01], // nw_dst
  ...[0x04, 0xd2, 0x00, 0x35, 0x00, 0x1e, 0x12, 0x34], // 1234 > 53, 30 bytes, some checksum
]);
const PACKET_BYTES = 64;
const TAG_BYTES = 4;

/** One part of a word: `(flow / div) % mod * step`, by default the flow's number itself. */
export interface Part {
  readonly div?: number;
  readonly mod?: number;
  readonly step?: number;
}

/** A word of 32 bits that tells flows apart: big-endian at byte `at`, `base` and the sum of the parts, modulo 2^32. */
export interface Vary {
  readonly at: number;
  readonly base: number;
  readonly parts?: readonly Part[];
}

export const WHOLE_NUMBER: readonly Part[] = [{}];

/** What the packets of a case look like. */
export interface PacketSpec {
  readonly vary: readonly Vary[];
  /** VLAN that the packets are tagged with. */
  readonly vid?: number;
}

const template = (vid: number | undefined): Uint8Array => {
  const out = new Uint8Array(PACKET_BYTES + (vid === undefined ? 0 : TAG_BYTES));
  if (vid === undefined) {
    out.set(TEMPLATE);
    return out;
  }
  out.set(TEMPLATE.subarray(0, AT.type));
  out.set([0x81, 0x00, vid >>> 8, vid & 0xff], AT.type);
  out.set(TEMPLATE.subarray(AT.type), AT.type + TAG_BYTES);
  return out;
};

/** The word of flow `i`. */
export const wordOf = ({ base, parts = WHOLE_NUMBER }: Vary, i: number): number =>
  parts.reduce(
    (sum, { div = 1, mod = 2 ** 32, step = 1 }) => sum + Math.imul(Math.floor(i / div) % mod, step),
    base,
  ) >>> 0;

/** The packet of flow `i`. Its checksums are not right: nobody looks at them, all update them. */
export const udpPacket = ({ vary, vid }: PacketSpec, i: number): Uint8Array => {
  if (i < 0 || i >= 1 << 24) throw new RangeViolation(`Bad flow number ${i}: want less than 2^24`);
  const out = template(vid);
  const view = new DataView(out.buffer);
  for (const word of vary) view.setUint32(word.at, wordOf(word, i));
  return out;
};

const hex = (byte: number): string => byte.toString(16).padStart(2, "0");

export const macText = (packet: Uint8Array, at: number): string => [...packet.subarray(at, at + 6)].map(hex).join(":");

/** An IPv4 address as text. */
export const ipText = (address: number): string => [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");

/** The big-endian word at byte `at`. */
export const wordAt = (packet: Uint8Array, at: number): number =>
  new DataView(packet.buffer, packet.byteOffset, packet.length).getUint32(at);

/** A MAC address of the packet as a number of 48 bits. */
export const macNumber = (packet: Uint8Array, at: number): number =>
  packet.subarray(at, at + 6).reduce((sum, byte) => sum * 256 + byte, 0);
