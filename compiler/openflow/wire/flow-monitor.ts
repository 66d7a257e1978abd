// Flow monitors: what a controller wants to hear of flows that change, and what it then hears. Nicira's form (OpenFlow 1.0 to
// 1.2), ONF's extension of 1.3 and the one of OpenFlow 1.4 and later; flags and events are numbered as in the last.

import { carryActions } from "../carry.js";
import type { MinorVersion } from "../fields.js";
import { PORT, type Action, type Match } from "../types.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { decodeActions, decodeInstructions } from "./decode-actions.js";
import { decodeNxm } from "./decode-match.js";
import { encodeActions, encodeInstructions } from "./encode-actions.js";
import { encodeNxm, encodeOxm } from "./encode-match.js";
import { OpenFlowError } from "./errors.js";
import { ANY_GROUP } from "./flow-message.js";
import { flowProtocol, readMatch } from "./flow-stats.js";
import { minorOf, type Message } from "./message.js";
import type { MessageName } from "./messages.js";
import { readPort } from "./port-number.js";

/** What is reported, and how (ofp14_flow_monitor_flags). */
export const MONITOR_FLAG = { initial: 1, add: 2, delete: 4, modify: 8, actions: 16, noAbbrev: 32, own: 64 } as const;

/** Nicira and ONF have this bit where 1.4 has {@link MONITOR_FLAG.noAbbrev}. */
const NX_OWN = 32;
const CHANGES = MONITOR_FLAG.add | MONITOR_FLAG.delete | MONITOR_FLAG.modify;
const NX_FLAGS = 0x3f;
const FLAGS_14 = 0x5f;

const MONITOR_COMMANDS = ["add", "modify", "delete"] as const;

/** One request. */
export interface WireFlowMonitor {
  readonly id: number;
  /** Absent = one that nobody knows. */
  readonly command?: (typeof MONITOR_COMMANDS)[number];
  /** Bits of {@link MONITOR_FLAG}. */
  readonly flags: number;
  readonly table: number;
  readonly match: Match;
  readonly outPort: number;
  readonly outGroup: number;
}

const EVENTS_NX = ["added", "removed", "modified", "abbrev"] as const;
const EVENTS_14 = ["initial", "added", "removed", "modified", "abbrev", "paused", "resumed"] as const;

/** What became of a flow. */
export interface WireFlowChange {
  readonly event: "initial" | "added" | "removed" | "modified";
  /** ofp_flow_removed_reason. */
  readonly reason: number;
  readonly table: number;
  readonly priority: number;
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly cookie: bigint;
  readonly match: Match;
  readonly actions: readonly Action[];
}

/** One report. `abbrev`: the peer itself did it, with its message `xid`. */
export type WireFlowUpdate =
  WireFlowChange | { readonly event: "abbrev"; readonly xid: number } | { readonly event: "paused" | "resumed" };

const HEADER_BYTES = 4;
const SHORT_BYTES = 8;
const FULL_BYTES = 24;

/** @throws {@link OpenFlowError} */
const checkFlags = (flags: number, known: number): void => {
  if ((flags & CHANGES) !== 0 && (flags & ~known) === 0) return;
  throw new OpenFlowError("OFPMOFC_BAD_FLAGS", `Cannot monitor flows with flags 0x${flags.toString(16)}`);
};

/** @throws {@link OpenFlowError} */
const checkZeros = (bytes: Uint8Array): void => {
  if (bytes.some((byte) => byte !== 0))
    throw new OpenFlowError("NXBRC_MUST_BE_ZERO", "Cannot monitor flows: bytes that must be 0 are not");
};

/** A match in Nicira's form, filled up to whole words. @throws {@link OpenFlowError} */
const readNxMatch = (reader: ByteReader, bytes: number): Match => {
  const whole = (bytes + 7) & ~7;
  if (whole > reader.left)
    throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read a match of ${bytes} bytes: there are ${reader.left}`);
  return decodeNxm(reader.take(whole), 0, bytes).match;
};

/** Forms before OpenFlow 1.4. */
const readMonitor10 = (reader: ByteReader, minor: MinorVersion): WireFlowMonitor => {
  const isOnf = minor === 3;
  const [id, bits] = [reader.u32(), reader.u16()];
  const lengthOnf = isOnf ? reader.u16() : 0;
  const at = reader.part(isOnf ? 4 : 2);
  const length = isOnf ? lengthOnf : reader.u16();
  const table = reader.u8();
  const zeros = reader.take(isOnf ? 3 : 5);
  checkFlags(bits, NX_FLAGS);
  checkZeros(zeros);
  const flags = (bits & ~NX_OWN) | ((bits & NX_OWN) === 0 ? 0 : MONITOR_FLAG.own);
  const outPort = readPort(at, isOnf ? 3 : 0);
  const match = isOnf ? readMatch(reader) : readNxMatch(reader, length);
  return { id, command: "add", flags, table, match, outPort, outGroup: ANY_GROUP };
};

const readMonitor14 = (reader: ByteReader): WireFlowMonitor => {
  const id = reader.u32();
  const port = reader.part(4);
  const [outGroup, flags, table, number] = [reader.u32(), reader.u16(), reader.u8(), reader.u8()];
  const command = MONITOR_COMMANDS[number];
  if (command !== "delete") checkFlags(flags, FLAGS_14);
  const outPort = command === "delete" ? PORT.NONE : readPort(port, 4);
  const match = readMatch(reader);
  return { id, ...(command === undefined ? {} : { command }), flags, table, match, outPort, outGroup };
};

/** The requests in a message. @throws {@link OpenFlowError} */
export function* decodeFlowMonitors(message: Message): Generator<WireFlowMonitor> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  while (reader.left > 0) yield minor < 4 ? readMonitor10(reader, minor) : readMonitor14(reader);
}

/** Which monitor is to end. @throws {@link OpenFlowError} */
export const decodeMonitorCancel = ({ body }: Message): number => new ByteReader(body).u32();

/** What reports, and the end of all of them for a while, are called in a version. */
export const flowUpdateName = (minor: MinorVersion): MessageName =>
  minor >= 4 ? "OFPST_FLOW_MONITOR reply" : minor === 3 ? "ONFST_FLOW_MONITOR reply" : "NXST_FLOW_MONITOR reply";

/** Before OpenFlow 1.4, messages of their own say that there will be no reports for a while, and that there are again. */
export const monitorPauseName = (event: "paused" | "resumed", minor: MinorVersion): MessageName | undefined => {
  if (minor >= 4) return undefined;
  if (minor === 3) return event === "paused" ? "ONFT_FLOW_MONITOR_PAUSED" : "ONFT_FLOW_MONITOR_RESUMED";
  return event === "paused" ? "NXT_FLOW_MONITOR_PAUSED" : "NXT_FLOW_MONITOR_RESUMED";
};

const isChange = (update: WireFlowUpdate): update is WireFlowChange => "match" in update;

const eventNumber = ({ event }: WireFlowUpdate, minor: MinorVersion): number => {
  if (minor >= 4) return EVENTS_14.indexOf(event);
  return (EVENTS_NX as readonly string[]).indexOf(event === "initial" ? "added" : event);
};

const putChange = (writer: ByteWriter, change: WireFlowChange, minor: MinorVersion): void => {
  const { reason, table, priority, idleTimeout, hardTimeout, cookie, match } = change;
  const actions = carryActions(change.actions, match, flowProtocol(minor)) ?? change.actions;
  if (minor >= 4) {
    writer.u8(table).u8(reason).u16(idleTimeout).u16(hardTimeout).u16(priority).zeros(4).u64(cookie);
    writer.put(encodeOxm(match, minor)).put(encodeInstructions(actions, minor));
    return;
  }
  const oxm = minor === 3 ? encodeOxm(match, minor) : undefined;
  const nxm = oxm === undefined ? encodeNxm(match) : undefined;
  // An OXM match says its own length, without what fills it up.
  const length = nxm?.length ?? (oxm![2]! << 8) | oxm![3]!;
  writer.u16(reason).u16(priority).u16(idleTimeout).u16(hardTimeout).u16(length).u8(table).u8(0).u64(cookie);
  writer.put(oxm ?? nxm!.bytes);
  writer.put(minor === 3 ? encodeInstructions(actions, minor) : encodeActions(actions, minor));
};

/** One report, as an element of a message. */
export const encodeFlowUpdate = (update: WireFlowUpdate, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter().u16(0).u16(eventNumber(update, minor));
  if (isChange(update)) putChange(writer, update, minor);
  else writer.u32(update.event === "abbrev" ? update.xid : 0);
  return writer.set16(0, writer.length).finish();
};

const refuseLength = (length: number): never => {
  throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a report on flows: it has ${length} bytes`);
};

const readChange14 = (reader: ByteReader, event: WireFlowChange["event"], minor: MinorVersion): WireFlowChange => {
  const [table, reason] = [reader.u8(), reader.u8()];
  const [idleTimeout, hardTimeout, priority] = [reader.u16(), reader.u16(), reader.u16()];
  const cookie = reader.skip(4).u64();
  const head = { event, reason, table, priority, idleTimeout, hardTimeout, cookie };
  return { ...head, match: readMatch(reader), actions: decodeInstructions(reader.rest(), minor) };
};

const readChange10 = (reader: ByteReader, event: WireFlowChange["event"], minor: MinorVersion): WireFlowChange => {
  const [reason, priority, idleTimeout] = [reader.u16(), reader.u16(), reader.u16()];
  const [hardTimeout, length, table] = [reader.u16(), reader.u16(), reader.u8()];
  const cookie = reader.skip(1).u64();
  const head = { event, reason, table, priority, idleTimeout, hardTimeout, cookie };
  if (length > reader.left) refuseLength(length + FULL_BYTES);
  if (minor === 3) return { ...head, match: readMatch(reader), actions: decodeInstructions(reader.rest(), minor) };
  return { ...head, match: readNxMatch(reader, length), actions: decodeActions(reader.rest(), minor) };
};

/** The reports in a message. @throws {@link OpenFlowError} */
export function* decodeFlowUpdates(message: Message): Generator<WireFlowUpdate> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  while (reader.left > 0) {
    const length = reader.u16();
    if (length < HEADER_BYTES || length % 8 !== 0 || length - 2 > reader.left) refuseLength(length);
    const part = reader.part(length - 2);
    const number = part.u16();
    const event = (minor >= 4 ? EVENTS_14 : EVENTS_NX)[number];
    if (event === undefined)
      throw new OpenFlowError("NXBRC_FM_BAD_EVENT", `Cannot read a report on flows: event ${number} is unknown`);
    const isShort = event === "abbrev" || event === "paused" || event === "resumed";
    if (isShort ? length !== SHORT_BYTES : length < FULL_BYTES) refuseLength(length);
    if (event === "abbrev") yield { event, xid: part.u32() };
    else if (event === "paused" || event === "resumed") yield { event };
    else yield minor < 4 ? readChange10(part, event, minor) : readChange14(part, event, minor);
  }
}
