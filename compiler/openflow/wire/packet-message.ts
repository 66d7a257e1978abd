// Packets that go to a controller (packet-in) and that come from one (packet-out). Messages of ours do not buffer packets.

import { matchField } from "../field-access.js";
import type { MinorVersion } from "../fields.js";
import { newFlow } from "../flow.js";
import { MAX_PORTS } from "../ports.js";
import { PORT, type Action, type Match } from "../types.js";
import { toBytes } from "../big-endian.js";
import { ByteReader, ByteWriter, properties, putProperty, refuseProperty } from "./bytes.js";
import { decodeActions } from "./decode-actions.js";
import { decodeFields, decodeNxm, decodeOxm } from "./decode-match.js";
import { encodeFields, encodeNxm, encodeOxm, putOxm } from "./encode-match.js";
import { OpenFlowError } from "./errors.js";
import { minorOf, type Message } from "./message.js";
import { port16, port32, putPort, readPort } from "./port-number.js";

const NO_BUFFER = 0xffffffff;

/** Why a packet came, by its number on the wire (ofp_packet_in_reason); the last two are how OVS tells misses apart. */
export const WIRE_REASONS = ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"] as const;
export type WireReason = (typeof WIRE_REASONS)[number];

/** A packet for a controller. */
export interface WirePacketIn {
  /** Bytes that go along: all of the packet or its beginning. */
  readonly packet: Uint8Array;
  /** Bytes of the whole packet. */
  readonly totalBytes: number;
  /** Reasons above {@link WIRE_REASONS} are numbers. */
  readonly reason: number;
  readonly table: number;
  /** Absent where nothing says so. */
  readonly cookie?: bigint;
  /** Pipeline fields, the port of entry among them. It does not change any more. */
  readonly metadata: Match;
  /** Absent = none. */
  readonly buffer?: number;
  /** NXT_PACKET_IN2: what the flow gave along. */
  readonly userdata?: Uint8Array;
  /** NXT_PACKET_IN2 and NXT_RESUME: what the packet needs to go on, if it waits. */
  readonly continuation?: Uint8Array;
}

const REASON_BY_NAME: ReadonlyMap<string, number> = new Map(WIRE_REASONS.map((name, i) => [name, i]));
const NO_MATCH = 0;
const ACTION = 1;
const LAST_OLD_REASON = 2;

/** The number of a reason of a translation, in a version that may not know it. */
export const packetInReason = (reason: string, minor: MinorVersion): number => {
  if (reason === "explicit_miss") return minor < 3 ? ACTION : NO_MATCH;
  if (reason === "implicit_miss") return NO_MATCH;
  const number = REASON_BY_NAME.get(reason) ?? ACTION;
  return number > LAST_OLD_REASON && minor < 4 ? ACTION : number;
};

export const PACKET_IN_FORMATS = ["standard", "nxt_packet_in", "nxt_packet_in2"] as const;
export type PacketInFormat = (typeof PACKET_IN_FORMATS)[number];

const inPortOf = ({ metadata }: Pick<WirePacketIn, "metadata">): number => metadata.value[IN_PORT_WORD]!;

/** Word of the port of entry. */
const IN_PORT_WORD = ((): number => {
  const probe = { value: newFlow(), mask: newFlow() };
  matchField(probe, "in_port_oxm", toBytes(1n, 4));
  return probe.mask.findIndex((word) => word !== 0);
})();

/** The body of a standard packet-in. */
export const putPacketIn = (writer: ByteWriter, pin: WirePacketIn, minor: MinorVersion): void => {
  const { packet, totalBytes, reason, table, cookie = 0xffffffffffffffffn, buffer = NO_BUFFER } = pin;
  const inPort = inPortOf(pin);
  writer.u32(buffer);
  if (minor === 0) {
    writer
      .u16(totalBytes)
      .u16(inPort & 0xffff)
      .u8(reason)
      .zeros(1)
      .put(packet);
    return;
  }
  if (minor === 1) writer.u32(inPort).u32(inPort);
  writer.u16(totalBytes).u8(reason).u8(table);
  if (minor >= 3) writer.u64(cookie);
  if (minor >= 2) {
    putOxm(writer, pin.metadata, minor);
    writer.zeros(2);
  }
  writer.put(packet);
};

/** The body of NXT_PACKET_IN. */
export const putPacketInNx = (writer: ByteWriter, pin: WirePacketIn): void => {
  const { packet, totalBytes, reason, table, cookie = 0xffffffffffffffffn, buffer = NO_BUFFER } = pin;
  const nxm = encodeNxm(pin.metadata);
  writer.u32(buffer).u16(totalBytes).u8(reason).u8(table).u64(cookie).u16(nxm.length).zeros(6);
  writer.put(nxm.bytes).zeros(2).put(packet);
};

/** Properties of NXT_PACKET_IN2 (NXPINT_*). */
const PROPERTY = {
  packet: 0,
  fullLength: 1,
  buffer: 2,
  table: 3,
  cookie: 4,
  reason: 5,
  metadata: 6,
  userdata: 7,
  continuation: 8,
} as const;

/** The body of NXT_PACKET_IN2. */
export const putPacketIn2 = (writer: ByteWriter, pin: WirePacketIn, minor: MinorVersion): void => {
  const { packet, totalBytes, reason, table, cookie, userdata, continuation } = pin;
  putProperty(writer, PROPERTY.packet, (to) => to.put(packet));
  if (packet.length !== totalBytes) putProperty(writer, PROPERTY.fullLength, (to) => to.u32(totalBytes));
  putProperty(writer, PROPERTY.table, (to) => to.u8(table));
  if (cookie !== undefined) putProperty(writer, PROPERTY.cookie, (to) => to.zeros(4).u64(cookie));
  putProperty(writer, PROPERTY.reason, (to) => to.u8(reason));
  putProperty(writer, PROPERTY.metadata, (to) => to.put(encodeFields(pin.metadata, minor)));
  if (userdata !== undefined && userdata.length > 0) putProperty(writer, PROPERTY.userdata, (to) => to.put(userdata));
  if (continuation !== undefined) putProperty(writer, PROPERTY.continuation, (to) => to.zeros(4).put(continuation));
};

const NO_COOKIE = 0xffffffffffffffffn;

const cookieOf = (cookie: bigint): { cookie?: bigint } => (cookie === NO_COOKIE ? {} : { cookie });
const bufferOf = (buffer: number): { buffer?: number } => (buffer === NO_BUFFER ? {} : { buffer });

const onlyInPort = (port: number): Match => {
  const match = { value: newFlow(), mask: newFlow() };
  matchField(match, "in_port_oxm", toBytes(BigInt(port), 4));
  return match;
};

/** A value that is all of its property. @throws {@link OpenFlowError} */
const exact = (body: ByteReader, bytes: number): ByteReader => {
  if (body.left === bytes) return body;
  throw new OpenFlowError("OFPBPC_BAD_LEN", `Cannot read a property: want ${bytes} bytes, got ${body.left}`);
};

/** A number of 8 bits may have more behind it. @throws {@link OpenFlowError} */
const atLeast = (body: ByteReader, bytes: number): ByteReader => (body.left >= bytes ? body : exact(body, bytes));

const LOOSE = { loose: true } as const;

const decode2 = (reader: ByteReader, isResumed: boolean): WirePacketIn => {
  let pin: WirePacketIn = {
    packet: new Uint8Array(0),
    totalBytes: 0,
    reason: 0,
    table: 0,
    metadata: { value: newFlow(), mask: newFlow() },
  };
  // Those that nobody knows do no harm.
  for (const property of properties(reader)) {
    const { type, body, experimenter } = property;
    if (experimenter !== undefined) {
      if (isResumed) refuseProperty(property);
      continue;
    }
    if (type === PROPERTY.packet) pin = { ...pin, packet: body.rest() };
    else if (type === PROPERTY.fullLength) pin = { ...pin, totalBytes: exact(body, 4).u32() };
    else if (type === PROPERTY.buffer) pin = { ...pin, ...bufferOf(exact(body, 4).u32()) };
    else if (type === PROPERTY.table) pin = { ...pin, table: atLeast(body, 1).u8() };
    else if (type === PROPERTY.cookie) pin = { ...pin, ...cookieOf(exact(body, 12).skip(4).u64()) };
    else if (type === PROPERTY.reason) pin = { ...pin, reason: atLeast(body, 1).u8() };
    else if (type === PROPERTY.metadata)
      pin = { ...pin, metadata: decodeFields(body.rest(), { loose: !isResumed }).match };
    else if (type === PROPERTY.userdata) pin = { ...pin, userdata: body.rest() };
    else if (type === PROPERTY.continuation) pin = { ...pin, continuation: body.skip(4).rest() };
    else if (isResumed) refuseProperty(property);
  }
  if (pin.packet.length === 0) throw new OpenFlowError("OFPBRC_BAD_LEN", "Cannot read a packet-in: it has no packet");
  if (pin.totalBytes === 0) return { ...pin, totalBytes: pin.packet.length };
  if (pin.totalBytes < pin.packet.length)
    throw new OpenFlowError("OFPBRC_BAD_LEN", "Cannot read a packet-in: its packet is longer than it says");
  return pin;
};

/**
 * Reads a packet-in of any form.
 * @param isResumed - a packet is to go on as it says: what nobody knows is refused, not left out
 * @throws {@link OpenFlowError}
 */
export const decodePacketIn = (message: Message, isResumed = false): WirePacketIn => {
  const reader = new ByteReader(message.body);
  const { kind } = message.row;
  if (kind === "packet_in2") return decode2(reader, isResumed);
  const minor = minorOf(message);
  const head = bufferOf(reader.u32());
  if (kind === "packet_in_nx") {
    const own = { totalBytes: reader.u16(), reason: reader.u8(), table: reader.u8(), ...cookieOf(reader.u64()) };
    const matchBytes = reader.u16();
    const at = reader.skip(6).at;
    const { match: metadata } = decodeNxm(reader.bytes, at, matchBytes, LOOSE);
    return { ...head, ...own, metadata, packet: reader.skip(((matchBytes + 7) & ~7) + 2).rest() };
  }
  if (minor === 0) {
    const totalBytes = reader.u16();
    const metadata = onlyInPort(port16(reader.u16()));
    return { ...head, totalBytes, metadata, table: 0, reason: reader.u8(), packet: reader.skip(1).rest() };
  }
  const port = minor === 1 ? port32(reader.u32()) : 0;
  if (minor === 1) reader.skip(4);
  const own = { totalBytes: reader.u16(), reason: reader.u8(), table: reader.u8() };
  if (minor === 1) return { ...head, ...own, metadata: onlyInPort(port), packet: reader.rest() };
  const cookie = minor >= 3 ? cookieOf(reader.u64()) : {};
  const { match: metadata, size } = decodeOxm(reader.bytes, reader.at, LOOSE);
  return { ...head, ...own, ...cookie, metadata, packet: reader.skip(size + 2).rest() };
};

/** A packet that a controller sends. */
export interface WirePacketOut {
  /** Absent = the packet goes along. */
  readonly buffer?: number;
  readonly inPort: number;
  /** Pipeline fields that the packet begins with. */
  readonly metadata: Match;
  readonly actions: readonly Action[];
  readonly packet: Uint8Array;
}

const SOURCES: readonly number[] = [PORT.LOCAL, PORT.NONE, PORT.CONTROLLER];

const badPort = (reason: string): never => {
  throw new OpenFlowError("OFPBRC_BAD_PORT", `Cannot send a packet: ${reason}`);
};

/** Reads a packet-out. @throws {@link OpenFlowError} */
export const decodePacketOut = (message: Message): WirePacketOut => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const buffer = bufferOf(reader.u32());
  let inPort: number;
  let metadata: Match;
  let actionBytes: number;
  if (minor === 5) {
    actionBytes = reader.u16();
    const at = reader.skip(2).at;
    const { match, size } = decodeOxm(reader.bytes, at, LOOSE);
    reader.skip(size);
    if (match.mask[IN_PORT_WORD] === 0) badPort("it does not say by which port it came");
    metadata = match;
    inPort = match.value[IN_PORT_WORD]!;
  } else {
    inPort = readPort(reader, minor);
    actionBytes = reader.u16();
    if (minor > 0) reader.skip(6);
    metadata = onlyInPort(inPort);
  }
  if (actionBytes > reader.left)
    throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read ${actionBytes} bytes of actions: got ${reader.left}`);
  const actions = decodeActions(reader.take(actionBytes), minor);
  if (inPort >= MAX_PORTS && !SOURCES.includes(inPort)) badPort(`it cannot come by port 0x${inPort.toString(16)}`);
  const packet = buffer.buffer === undefined ? reader.rest() : new Uint8Array(0);
  return { ...buffer, inPort, metadata, actions, packet };
};

/** The body of a packet-out. */
export const putPacketOut = (
  writer: ByteWriter,
  { buffer = NO_BUFFER, inPort, metadata, packet }: Omit<WirePacketOut, "actions">,
  actions: Uint8Array,
  minor: MinorVersion,
): void => {
  writer.u32(buffer);
  if (minor === 5) writer.u16(actions.length).zeros(2).put(encodeOxm(metadata, minor));
  else {
    putPort(writer, inPort, minor).u16(actions.length);
    if (minor > 0) writer.zeros(6);
  }
  writer.put(actions).put(packet);
};
