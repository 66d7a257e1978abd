// Statistics of flows: each by itself, and summed up. OpenFlow 1.5 has counters as fields of their own, like a match.

import { rowOf } from "../actions/table.js";
import { carryActions } from "../carry.js";
import type { MinorVersion } from "../fields.js";
import type { Action, FlowFlag, Match } from "../types.js";
import { PROTOCOLS, type Protocol } from "../versions.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { decodeInstructions } from "./decode-actions.js";
import { decodeNxm } from "./decode-match.js";
import { encodeInstructions } from "./encode-actions.js";
import { encodeNxm, putOxm } from "./encode-match.js";
import { OpenFlowError } from "./errors.js";
import { decodeFlowFlags, flowFlagBits, pullMatch } from "./flow-message.js";
import { decodeMatch10, encodeMatch10, encodeMatch11, MATCH_10_BYTES } from "./fixed-match.js";
import { minorOf, type Message } from "./message.js";
import { putOxs, readOxs } from "./oxs.js";

/** What a reply says of one flow. */
export interface WireFlowStats {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  readonly cookie: bigint;
  readonly durationS: number;
  readonly durationNs: number;
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly importance: number;
  readonly flags: readonly FlowFlag[];
  /** Seconds since the last packet, and since the flow was changed; absent where nothing says so. */
  readonly idleAge?: number;
  readonly hardAge?: number;
  /** Absent = not counted. A number is exact up to 2^53. */
  readonly packets?: bigint | number;
  readonly bytes?: bigint | number;
  readonly actions: readonly Action[];
}

/** How a peer that speaks OpenFlow 1.0 wants matches: as 1.0 has them, or extended. */
export type FlowFormat10 = "openflow10" | "nxm";

/** The dialect in which flows travel. */
export const flowProtocol = (minor: MinorVersion, format: FlowFormat10 = "nxm"): Protocol =>
  minor > 0 ? PROTOCOLS[3 + minor]! : format === "nxm" ? "NXM+table_id" : "OpenFlow10+table_id";

const UNKNOWN = 0xffffffffffffffffn;

/** An age in seconds with one added, so that 0 stands for none. */
const age16 = (age: number | undefined): number => (age === undefined ? 0 : Math.min(age + 1, 0xffff));

const putCookieAndCounts = (writer: ByteWriter, stats: WireFlowStats, unknown: bigint): ByteWriter =>
  writer
    .u64(stats.cookie)
    .u64(stats.packets ?? unknown)
    .u64(stats.bytes ?? unknown);

const putMatch = (writer: ByteWriter, match: Match, minor: MinorVersion): void => {
  if (minor === 1) writer.put(encodeMatch11(match));
  else putOxm(writer, match, minor);
};

/** Lists of actions whose bytes are the same for every flow, by version: those that are said in the same words everywhere. */
const plain = new WeakMap<readonly Action[], Map<MinorVersion, Uint8Array>>();

const instructionsOf = ({ actions, match }: WireFlowStats, minor: MinorVersion, format: FlowFormat10): Uint8Array => {
  const known = plain.get(actions)?.get(minor);
  if (known !== undefined) return known;
  const carried = carryActions(actions, match, flowProtocol(minor, format)) ?? actions;
  const bytes = encodeInstructions(carried, minor);
  if (actions.every((action) => rowOf(action).carry === undefined))
    plain.set(actions, (plain.get(actions) ?? new Map<MinorVersion, Uint8Array>()).set(minor, bytes));
  return bytes;
};

/** Writes one flow of a table as an element of a reply. The mask of its match must not change any more. */
export const putFlowStats = (
  writer: ByteWriter,
  stats: WireFlowStats,
  minor: MinorVersion,
  format: FlowFormat10 = "nxm",
): void => {
  const { match, table, priority, idleTimeout, hardTimeout, durationS, durationNs, idleAge, hardAge } = stats;
  const instructions = instructionsOf(stats, minor, format);
  const start = writer.length;
  writer.u16(0);
  if (minor === 5) {
    writer.zeros(2).u8(table).u8(0).u16(priority).u16(idleTimeout).u16(hardTimeout);
    writer.u16(flowFlagBits(stats.flags, minor)).u16(stats.importance).u64(stats.cookie);
    putMatch(writer, match, minor);
    putOxs(writer, stats);
  } else if (minor > 0) {
    writer.u8(table).u8(0).u32(durationS).u32(durationNs).u16(priority).u16(idleTimeout).u16(hardTimeout);
    writer
      .u16(minor >= 3 ? flowFlagBits(stats.flags, minor) : 0)
      .u16(minor >= 4 ? stats.importance : 0)
      .zeros(2);
    putCookieAndCounts(writer, stats, 0n);
    putMatch(writer, match, minor);
  } else if (format === "nxm") {
    const nxm = encodeNxm(match);
    writer.u8(table).u8(0).u32(durationS).u32(durationNs).u16(priority).u16(idleTimeout).u16(hardTimeout);
    writer.u16(nxm.length).u16(age16(idleAge)).u16(age16(hardAge));
    putCookieAndCounts(writer, stats, UNKNOWN).put(nxm.bytes);
  } else {
    writer.u8(table).u8(0).put(encodeMatch10(match)).u32(durationS).u32(durationNs);
    writer.u16(priority).u16(idleTimeout).u16(hardTimeout).zeros(6);
    putCookieAndCounts(writer, stats, 0n);
  }
  writer.put(instructions);
  writer.set16(start, writer.length - start);
};

const known = (count: bigint): bigint | undefined => (count === UNKNOWN ? undefined : count);

const counts = (reader: ByteReader): Pick<WireFlowStats, "packets" | "bytes"> => {
  const packets = known(reader.u64());
  const bytes = known(reader.u64());
  return { ...(packets === undefined ? {} : { packets }), ...(bytes === undefined ? {} : { bytes }) };
};

/** The match at the reader, of OpenFlow 1.1 or later. @throws {@link OpenFlowError} */
export const readMatch = (reader: ByteReader): Match => {
  const bytes = reader.bytes.subarray(reader.at);
  const { match, rest } = pullMatch(bytes);
  reader.skip(bytes.length - rest.length);
  return match;
};

/** What OVS takes for the duration of flows that give none. */
const NO_DURATION = { durationS: 0xffffffff, durationNs: 0xffffffff };

/** @param isCut - the flow says that it goes on behind the message */
const actionsOf = (reader: ByteReader, minor: MinorVersion, isCut: boolean): readonly Action[] => {
  if (isCut)
    throw new OpenFlowError(
      minor === 0 ? "OFPBRC_BAD_LEN" : "OFPBIC_BAD_LEN",
      "Cannot read a flow: it says that it is longer than its message",
    );
  return decodeInstructions(reader.rest(), minor);
};

const read15 = (reader: ByteReader, isCut: boolean): WireFlowStats => {
  const table = reader.skip(2).u8();
  const head = { table, priority: reader.skip(1).u16(), idleTimeout: reader.u16(), hardTimeout: reader.u16() };
  const flags = decodeFlowFlags(reader.u16(), 5);
  const rest = { importance: reader.u16(), cookie: reader.u64(), match: readMatch(reader) };
  const { flows, ...counters } = readOxs(reader);
  void flows;
  return { ...head, flags, ...rest, ...NO_DURATION, ...counters, actions: actionsOf(reader, 5, isCut) };
};

const read11 = (reader: ByteReader, minor: MinorVersion, isCut: boolean): WireFlowStats => {
  const table = reader.u8();
  const duration = { durationS: reader.skip(1).u32(), durationNs: reader.u32() };
  const head = { table, priority: reader.u16(), idleTimeout: reader.u16(), hardTimeout: reader.u16() };
  const bits = reader.u16();
  const flags = minor >= 3 ? decodeFlowFlags(bits, minor) : [];
  const importance = reader.u16();
  const cookie = reader.skip(2).u64();
  const counters = counts(reader);
  const match = readMatch(reader);
  const own = { ...head, ...duration, flags, importance: minor >= 4 ? importance : 0, cookie, ...counters, match };
  return { ...own, actions: actionsOf(reader, minor, isCut) };
};

const readNx = (reader: ByteReader, isCut: boolean): WireFlowStats => {
  const table = reader.u8();
  const duration = { durationS: reader.skip(1).u32(), durationNs: reader.u32() };
  const head = { table, priority: reader.u16(), idleTimeout: reader.u16(), hardTimeout: reader.u16() };
  const matchBytes = reader.u16();
  const [idle, hard] = [reader.u16(), reader.u16()];
  const ages = { ...(idle === 0 ? {} : { idleAge: idle - 1 }), ...(hard === 0 ? {} : { hardAge: hard - 1 }) };
  const cookie = reader.u64();
  const counters = counts(reader);
  const whole = (matchBytes + 7) & ~7;
  if (whole > reader.left)
    throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a flow: its match has ${matchBytes} bytes`);
  const { match } = decodeNxm(reader.take(whole), 0, matchBytes);
  const own = { ...head, ...duration, ...ages, flags: [], importance: 0, cookie, ...counters, match };
  return { ...own, actions: actionsOf(reader, 0, isCut) };
};

const read10 = (reader: ByteReader, isCut: boolean): WireFlowStats => {
  const table = reader.u8();
  const match = decodeMatch10(reader.skip(1).take(MATCH_10_BYTES));
  const duration = { durationS: reader.u32(), durationNs: reader.u32() };
  const head = { table, match, priority: reader.u16(), idleTimeout: reader.u16(), hardTimeout: reader.u16() };
  const cookie = reader.skip(6).u64();
  const own = { ...head, ...duration, flags: [], importance: 0, cookie, ...counts(reader) };
  return { ...own, actions: actionsOf(reader, 0, isCut) };
};

/** @throws {@link OpenFlowError} */
export function* decodeFlowStats(message: Message): Generator<WireFlowStats> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  while (reader.left > 0) {
    const length = reader.u16();
    if (length < 2)
      throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a flow: it says that it has ${length} bytes`);
    const isCut = length - 2 > reader.left;
    const part = reader.part(isCut ? reader.left : length - 2);
    if (minor === 5) yield read15(part, isCut);
    else if (minor > 0) yield read11(part, minor, isCut);
    else yield message.header.vendor === undefined ? read10(part, isCut) : readNx(part, isCut);
  }
}

/** Statistics of several flows, summed up. */
export interface WireAggregate {
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly flows: number;
}

export const putAggregate = (writer: ByteWriter, aggregate: WireAggregate, minor: MinorVersion): void => {
  const { packets, bytes, flows } = aggregate;
  if (minor === 5) putOxs(writer, { packets, bytes, flows });
  else writer.u64(packets).u64(bytes).u32(flows).zeros(4);
};

/** @throws {@link OpenFlowError} */
export const decodeAggregate = (message: Message): WireAggregate => {
  const reader = new ByteReader(message.body);
  if (minorOf(message) < 5) return { packets: reader.u64(), bytes: reader.u64(), flows: reader.u32() };
  const { packets = UNKNOWN, bytes = UNKNOWN, flows = 0xffffffff } = readOxs(reader);
  return { packets, bytes, flows };
};
