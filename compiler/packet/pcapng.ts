// Capture files in the pcapng format (draft-ietf-opsawg-pcapng), as Wireshark writes them: sections of both byte
// orders, any number of Ethernet interfaces with their time resolutions, enhanced and simple packet blocks. Blocks of
// other types are passed over.

import { CodecError } from "ebpf-assembler";
import type { PcapRecord } from "./pcap.js";

const BLOCK = { SECTION: 0x0a0d0d0a, INTERFACE: 1, SIMPLE_PACKET: 3, ENHANCED_PACKET: 6 } as const;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPTION = { END: 0, TS_RESOLUTION: 9, TS_OFFSET: 14 } as const;
const LINKTYPE_ETHERNET = 1;
/** Type and total size in front of a block's body, total size again behind it. */
const HEAD = 8;
const TAIL = 4;
const NS_PER_S = 1_000_000_000n;

interface Interface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Units of time stamps in a second. */
  readonly unitsPerSecond: bigint;
  readonly offsetNs: bigint;
}

/** One section's byte order and what its interface blocks have said so far. */
interface Section {
  readonly littleEndian: boolean;
  readonly interfaces: Interface[];
}

const fail = (at: number, problem: string): never => {
  throw new CodecError("decode pcapng", at, problem);
};

const need = (at: number, end: number, size: number, what: string): void => {
  if (end - at < size) fail(at, `want ${what} of ${size} bytes, got ${end - at}`);
};

/** An option's byte: a power of ten, or of two with the upper bit set. */
const resolution = (value: number): bigint => (value < 0x80 ? 10n ** BigInt(value) : 2n ** BigInt(value & 0x7f));

const readInterface = (view: DataView, at: number, end: number, littleEndian: boolean): Interface => {
  need(at, end, 8, "an interface description");
  let unitsPerSecond = 1_000_000n;
  let offsetNs = 0n;
  for (let option = at + 8; end - option >= 4;) {
    const code = view.getUint16(option, littleEndian);
    const size = view.getUint16(option + 2, littleEndian);
    if (code === OPTION.END) break;
    need(option + 4, end, size, "an option");
    if (code === OPTION.TS_RESOLUTION && size === 1) unitsPerSecond = resolution(view.getUint8(option + 4));
    if (code === OPTION.TS_OFFSET && size === 8) offsetNs = view.getBigInt64(option + 4, littleEndian) * NS_PER_S;
    option += 4 + ((size + 3) & ~3);
  }
  return {
    linkType: view.getUint16(at, littleEndian),
    snapLength: view.getUint32(at + 4, littleEndian),
    unitsPerSecond,
    offsetNs,
  };
};

const interfaceOf = (section: Section, id: number, at: number): Interface => {
  const found = section.interfaces[id];
  if (found === undefined) return fail(at, `want an interface described before, got number ${id}`);
  if (found.linkType !== LINKTYPE_ETHERNET) fail(at, `want link type 1 (Ethernet), got ${found.linkType}`);
  return found;
};

const readEnhanced = (file: Uint8Array, view: DataView, at: number, end: number, section: Section): PcapRecord => {
  const { littleEndian } = section;
  need(at, end, 20, "an enhanced packet");
  const { unitsPerSecond, offsetNs } = interfaceOf(section, view.getUint32(at, littleEndian), at);
  const units = (BigInt(view.getUint32(at + 4, littleEndian)) << 32n) | BigInt(view.getUint32(at + 8, littleEndian));
  const size = view.getUint32(at + 12, littleEndian);
  need(at + 20, end, size, "a packet");
  return {
    timeNs: (units * NS_PER_S) / unitsPerSecond + offsetNs,
    packet: file.subarray(at + 20, at + 20 + size),
    wireBytes: view.getUint32(at + 16, littleEndian),
  };
};

/** It has no time, and its captured size follows from the interface's limit. */
const readSimple = (file: Uint8Array, view: DataView, at: number, end: number, section: Section): PcapRecord => {
  need(at, end, 4, "a simple packet");
  const { snapLength } = interfaceOf(section, 0, at);
  const wireBytes = view.getUint32(at, section.littleEndian);
  const size = snapLength === 0 ? wireBytes : Math.min(wireBytes, snapLength);
  need(at + 4, end, size, "a packet");
  return { timeNs: 0n, packet: file.subarray(at + 4, at + 4 + size), wireBytes };
};

const readSection = (view: DataView, at: number, end: number): Section => {
  need(at + HEAD, end, 4, "a byte-order magic number");
  const magic = view.getUint32(at + HEAD, true);
  const littleEndian = magic === BYTE_ORDER_MAGIC;
  if (!littleEndian && view.getUint32(at + HEAD) !== BYTE_ORDER_MAGIC)
    fail(at + HEAD, `want a byte-order magic number, got 0x${magic.toString(16).padStart(8, "0")}`);
  return { littleEndian, interfaces: [] };
};

/**
 * The frames of a pcapng file in order.
 *
 * @throws {@link CodecError} with the offset
 */
export const readPcapng = (file: Uint8Array): PcapRecord[] => {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const records: PcapRecord[] = [];
  let section: Section | undefined;
  for (let at = 0; at < file.length;) {
    need(at, file.length, HEAD + TAIL, "a block");
    // A section's type reads the same in both byte orders; it tells the order of its own size.
    if (view.getUint32(at) === BLOCK.SECTION) section = readSection(view, at, file.length);
    if (section === undefined) return fail(at, "want a section header block first");
    const type = view.getUint32(at, section.littleEndian);
    const size = view.getUint32(at + 4, section.littleEndian);
    if (size < HEAD + TAIL || size % 4 !== 0) fail(at + 4, `want a block size of 12 or more in fours, got ${size}`);
    need(at, file.length, size, "a block");
    const body = at + HEAD;
    const end = at + size - TAIL;
    if (type === BLOCK.INTERFACE) section.interfaces.push(readInterface(view, body, end, section.littleEndian));
    else if (type === BLOCK.ENHANCED_PACKET) records.push(readEnhanced(file, view, body, end, section));
    else if (type === BLOCK.SIMPLE_PACKET) records.push(readSimple(file, view, body, end, section));
    at += size;
  }
  return records;
};
