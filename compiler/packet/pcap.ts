// Capture files in the classic pcap format (draft-ietf-opsawg-pcap), both byte orders, microseconds and nanoseconds,
// Ethernet only; pcapng is read as well. Works over bytes; reading and writing files is the caller's.

import { CodecError } from "ebpf-assembler";
import { readPcapng } from "./pcapng.js";

/** One captured frame. */
export interface PcapRecord {
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  /** What was captured; a view into the file when read. */
  readonly packet: Uint8Array;
  /** Size on the wire; more than `packet.length` when the capture was cut off. */
  readonly wireBytes: number;
}

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const LINKTYPE_ETHERNET = 1;
const SNAPLEN = 262144;

/** Magic number as read little-endian, to what the file is. */
const MAGIC: ReadonlyMap<number, { readonly littleEndian: boolean; readonly unitNs: bigint }> = new Map([
  [0xa1b2c3d4, { littleEndian: true, unitNs: 1000n }],
  [0xd4c3b2a1, { littleEndian: false, unitNs: 1000n }],
  [0xa1b23c4d, { littleEndian: true, unitNs: 1n }],
  [0x4d3cb2a1, { littleEndian: false, unitNs: 1n }],
]);

/** The type of a pcapng file's first block. */
const PCAPNG = 0x0a0d0d0a;

const fail = (at: number, problem: string): never => {
  throw new CodecError("decode pcap", at, problem);
};

/**
 * The frames of a capture file, classic or pcapng, in order.
 *
 * @throws {@link CodecError} with the offset: no capture file, a link type other than Ethernet, a record cut off
 */
export const readPcap = (file: Uint8Array): PcapRecord[] => {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < FILE_HEADER) fail(0, `want a file header of ${FILE_HEADER} bytes, got ${file.length}`);
  const magic = view.getUint32(0, true);
  const format = MAGIC.get(magic);
  if (magic === PCAPNG) return readPcapng(file);
  if (format === undefined) return fail(0, `want a pcap magic number, got 0x${magic.toString(16).padStart(8, "0")}`);
  const { littleEndian, unitNs } = format;
  const major = view.getUint16(4, littleEndian);
  if (major !== 2) fail(4, `want format version 2, got ${major}`);
  // The upper bits may hold the size of a frame check sequence.
  const linkType = view.getUint32(20, littleEndian) & 0xffff;
  if (linkType !== LINKTYPE_ETHERNET) fail(20, `want link type 1 (Ethernet), got ${linkType}`);
  const records: PcapRecord[] = [];
  for (let at = FILE_HEADER; at < file.length;) {
    if (file.length - at < RECORD_HEADER) fail(at, `want a record header of 16 bytes, got ${file.length - at}`);
    const size = view.getUint32(at + 8, littleEndian);
    const start = at + RECORD_HEADER;
    if (size > file.length - start) fail(at + 8, `want a packet of ${size} bytes, got ${file.length - start}`);
    const seconds = BigInt(view.getUint32(at, littleEndian));
    const fraction = BigInt(view.getUint32(at + 4, littleEndian));
    records.push({
      timeNs: seconds * 1_000_000_000n + fraction * unitNs,
      packet: file.subarray(start, start + size),
      wireBytes: view.getUint32(at + 12, littleEndian),
    });
    at = start + size;
  }
  return records;
};

/** A little-endian capture file with times in nanoseconds, or in microseconds for readers that know no other. */
export const writePcap = (
  records: readonly (Pick<PcapRecord, "packet"> & Partial<PcapRecord>)[],
  resolution: "ns" | "us" = "ns",
): Uint8Array => {
  const file = new Uint8Array(records.reduce((n, r) => n + RECORD_HEADER + r.packet.length, FILE_HEADER));
  const view = new DataView(file.buffer);
  const unitNs = resolution === "ns" ? 1n : 1000n;
  view.setUint32(0, resolution === "ns" ? 0xa1b23c4d : 0xa1b2c3d4, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, SNAPLEN, true);
  view.setUint32(20, LINKTYPE_ETHERNET, true);
  let at = FILE_HEADER;
  for (const { packet, timeNs = 0n, wireBytes = packet.length } of records) {
    view.setUint32(at, Number(timeNs / 1_000_000_000n), true);
    view.setUint32(at + 4, Number((timeNs % 1_000_000_000n) / unitNs), true);
    view.setUint32(at + 8, packet.length, true);
    view.setUint32(at + 12, wireBytes, true);
    file.set(packet, at + RECORD_HEADER);
    at += RECORD_HEADER + packet.length;
  }
  return file;
};
