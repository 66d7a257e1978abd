// The one packet of the datapath bench: UDP over IPv4 in 64 bytes, and the few fields that cases vary.

import { RangeViolation } from "ebpf-assembler";

/** Byte offsets in {@link udpPacket}. */
export const AT = { dlDst: 0, dlSrc: 6, ttl: 22, nwSrc: 26, nwDst: 30, tpSrc: 34, tpDst: 36 } as const;

const TEMPLATE = Uint8Array.from([
  ...[0x02, 0x00, 0x00, 0x00, 0x00, 0x00], // dl_dst
  ...[0x02, 0x00, 0xff, 0x00, 0x00, 0x01], // dl_src
  ...[0x08, 0x00],
  ...[0x45, 0x00, 0x00, 0x32, 0x00, 0x00, 0x00, 0x00, 0x40, 0x11, 0x00, 0x00], // IPv4, 50 bytes, TTL 64, UDP
  ...[0x0a, 0x00, 0x00, 0x00], // nw_src
  ...[0xc0, 0xa8, 0x00, 0x01], // nw_dst
  ...[0x04, 0xd2, 0x00, 0x35, 0x00, 0x1e, 0x00, 0x00], // 1234 > 53, 30 bytes, no checksum
]);
const PACKET_BYTES = 64;

/** A word of 32 bits that tells flows apart: big-endian at byte `at`, `base + flow`. */
export interface Vary {
  readonly at: number;
  readonly base: number;
}

/** The packet of flow `i`. Its IPv4 checksum is left 0: neither side looks at it, both update it. */
export const udpPacket = (vary: Vary, flow: number): Uint8Array => {
  if (flow < 0 || flow >= 1 << 24) throw new RangeViolation(`Bad flow number ${flow}: want less than 2^24`);
  const out = new Uint8Array(PACKET_BYTES);
  out.set(TEMPLATE);
  new DataView(out.buffer).setUint32(vary.at, (vary.base + flow) >>> 0);
  return out;
};

const hex = (byte: number): string => byte.toString(16).padStart(2, "0");

export const macText = (packet: Uint8Array, at: number): string => [...packet.subarray(at, at + 6)].map(hex).join(":");

export const ipText = (packet: Uint8Array, at: number): string => packet.subarray(at, at + 4).join(".");

/** A MAC address of the packet as a number of 48 bits. */
export const macNumber = (packet: Uint8Array, at: number): number =>
  packet.subarray(at, at + 6).reduce((sum, byte) => sum * 256 + byte, 0);
