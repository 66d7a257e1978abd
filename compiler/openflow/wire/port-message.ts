// Messages about ports: their descriptions, in features replies, port status and port description, their statistics, and
// changes of their configuration.

import type { MinorVersion } from "../fields.js";
import { PORT } from "../types.js";
import { ByteReader, ByteWriter, properties, putProperty, refuseProperty } from "./bytes.js";
import { OpenFlowError } from "./errors.js";
import { minorOf, type Message } from "./message.js";
import { port16, port32, putPort, readPort } from "./port-number.js";

/** Bits of `config` (ofp_port_config), those of OpenFlow 1.0, of which 1.1 and later know some. */
export const PORT_CONFIG = {
  portDown: 0x01,
  noStp: 0x02,
  noReceive: 0x04,
  noReceiveStp: 0x08,
  noFlood: 0x10,
  noForward: 0x20,
  noPacketIn: 0x40,
} as const;

/** Bits of `state` (ofp_port_state). */
export const PORT_STATE = { linkDown: 1, blocked: 2, live: 4 } as const;

const CONFIG_10 = 0x7f;
const CONFIG_11 = PORT_CONFIG.portDown | PORT_CONFIG.noReceive | PORT_CONFIG.noForward | PORT_CONFIG.noPacketIn;
/** OpenFlow 1.0 has the link, and two bits of the state of a spanning tree. */
const STATE_10 = 0x301;
const STATE_11 = 0x7;

const NAME_BYTES = 16;

/** A port as descriptions have it. Speeds are in kbit/s, features in the bits of OpenFlow 1.1. */
export interface WirePort {
  readonly port: number;
  readonly mac: Uint8Array;
  readonly name: string;
  /** {@link PORT_CONFIG} bits. */
  readonly config: number;
  readonly state: number;
  readonly current: number;
  readonly advertised: number;
  readonly supported: number;
  readonly peer: number;
  readonly currentSpeed: number;
  readonly maxSpeed: number;
}

const features10 = (features: number): number => (features & 0x7f) | ((features & 0xf800) >>> 4);
const fromFeatures10 = (bits: number): number => (bits & 0x7f) | ((bits & 0xf80) << 4);

/** Bits per second of features, the highest; 0 for none. */
const SPEEDS: readonly (readonly [bits: number, mbps: number])[] = [
  [0x200, 1_000_000],
  [0x100, 100_000],
  [0x080, 40_000],
  [0x040, 10_000],
  [0x030, 1000],
  [0x00c, 100],
  [0x003, 10],
];

/** Speed that features stand for, in kbit/s. */
export const speedOf = (features: number): number =>
  1000 * (SPEEDS.find(([bits]) => (features & bits) !== 0)?.[1] ?? 0);

type Feature = "current" | "advertised" | "supported" | "peer";
const FEATURES: readonly Feature[] = ["current", "advertised", "supported", "peer"];

const ETHERNET = 0;
const PORT_14_BYTES = 40;

/** Writes a port as a version describes it. */
export const putPortDesc = (writer: ByteWriter, port: WirePort, minor: MinorVersion): void => {
  const start = writer.length;
  if (minor === 0) {
    writer
      .u16(port.port & 0xffff)
      .put(port.mac)
      .text(port.name, NAME_BYTES);
    writer.u32(port.config & CONFIG_10).u32(port.state & STATE_10);
    for (const feature of FEATURES) writer.u32(features10(port[feature]));
    return;
  }
  writer.u32(port.port).u16(0).zeros(2).put(port.mac).zeros(2).text(port.name, NAME_BYTES);
  writer.u32(port.config & CONFIG_11).u32(port.state & STATE_11);
  const putFeatures = (to: ByteWriter): void => {
    for (const feature of FEATURES) to.u32(port[feature]);
    to.u32(port.currentSpeed).u32(port.maxSpeed);
  };
  if (minor < 4) {
    putFeatures(writer);
    return;
  }
  putProperty(writer, ETHERNET, (property) => putFeatures(property.zeros(4)));
  writer.set16(start + 4, writer.length - start);
};

/** Reads a port of a description. @throws {@link OpenFlowError} */
export const readPortDesc = (reader: ByteReader, minor: MinorVersion): WirePort => {
  if (minor === 0) {
    const head = { port: port16(reader.u16()), mac: reader.take(6), name: reader.text(NAME_BYTES) };
    const bits = { config: reader.u32() & CONFIG_10, state: reader.u32() & STATE_10 };
    const [current, advertised, supported, peer] = FEATURES.map(() => fromFeatures10(reader.u32())) as number[] as [
      number,
      number,
      number,
      number,
    ];
    const speeds = { currentSpeed: speedOf(current), maxSpeed: speedOf(supported) };
    return { ...head, ...bits, current, advertised, supported, peer, ...speeds };
  }
  const start = reader.at;
  const port = port32(reader.u32());
  const length = reader.u16();
  const mac = reader.skip(2).take(6);
  const name = reader.skip(2).text(NAME_BYTES);
  const head = { port, mac, name, config: reader.u32() & CONFIG_11, state: reader.u32() & STATE_11 };
  if (minor < 4) return { ...head, ...readFeatures(reader) };
  const left = length - PORT_14_BYTES;
  if (left < 0 || left > reader.bytes.length - start - PORT_14_BYTES)
    throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a port: it says that it has ${length} bytes`);
  let features: ReturnType<typeof readFeatures> = NO_FEATURES;
  for (const property of properties(reader.part(left))) {
    if (property.type !== ETHERNET) continue;
    if (property.body.left !== 28) throw new OpenFlowError("OFPBPC_BAD_LEN", "Cannot read a port: want 32 bytes");
    features = readFeatures(property.body.skip(4));
  }
  return { ...head, ...features };
};

const NO_FEATURES = { current: 0, advertised: 0, supported: 0, peer: 0, currentSpeed: 0, maxSpeed: 0 };

const readFeatures = (reader: ByteReader) => ({
  current: reader.u32() & 0xffff,
  advertised: reader.u32() & 0xffff,
  supported: reader.u32() & 0xffff,
  peer: reader.u32() & 0xffff,
  currentSpeed: reader.u32(),
  maxSpeed: reader.u32(),
});

/** All ports that are left. @throws {@link OpenFlowError} */
export function* readPortDescs(reader: ByteReader, minor: MinorVersion): Generator<WirePort> {
  while (reader.left > 0) yield readPortDesc(reader, minor);
}

/** Reads a port description reply. @throws {@link OpenFlowError} */
export const decodePortDescs = (message: Message): Generator<WirePort> =>
  readPortDescs(new ByteReader(message.body), minorOf(message));

export const PORT_REASONS = ["add", "delete", "modify"] as const;
export type PortReason = (typeof PORT_REASONS)[number];

export interface WirePortStatus {
  readonly reason: PortReason;
  readonly port: WirePort;
}

export const putPortStatus = (writer: ByteWriter, { reason, port }: WirePortStatus, minor: MinorVersion): void =>
  putPortDesc(writer.u8(PORT_REASONS.indexOf(reason)).zeros(7), port, minor);

/** @throws {@link OpenFlowError} */
export const decodePortStatus = (message: Message): WirePortStatus => {
  const reader = new ByteReader(message.body);
  const number = reader.u8();
  const reason = PORT_REASONS[number];
  if (reason === undefined)
    throw new OpenFlowError("NXBRC_BAD_REASON", `Cannot read a port status: there is no reason ${number}`);
  return { reason, port: readPortDesc(reader.skip(7), minorOf(message)) };
};

/** A change of a port's configuration. */
export interface WirePortMod {
  readonly port: number;
  readonly mac: Uint8Array;
  /** {@link PORT_CONFIG} bits; those of the mask are set to those of `config`. */
  readonly config: number;
  readonly mask: number;
  /** 0 = as they are. */
  readonly advertise: number;
}

/**
 * @param loose - leaves out what is not known, as a reader of messages does, instead of refusing it
 * @throws {@link OpenFlowError}
 */
export const decodePortMod = (message: Message, loose = false): WirePortMod => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const port = readPort(reader, minor);
  if (minor === 0) {
    const mac = reader.take(6);
    const config = reader.u32();
    const mask = reader.u32() & CONFIG_10;
    return { port, mac, config: config & mask, mask, advertise: fromFeatures10(reader.u32()) };
  }
  const mac = reader.skip(4).take(6);
  const config = reader.skip(2).u32();
  const mask = reader.u32() & CONFIG_11;
  const mod = { port, mac, config: config & mask, mask };
  if (minor < 4) return { ...mod, advertise: reader.u32() & 0xffff };
  let advertise = 0;
  for (const property of properties(reader)) {
    if (property.type !== ETHERNET) {
      if (!loose) refuseProperty(property);
      continue;
    }
    if (property.body.left !== 4) throw new OpenFlowError("OFPBPC_BAD_LEN", "Cannot read a port mod: want 8 bytes");
    advertise = property.body.u32() & 0xffff;
  }
  return { ...mod, advertise };
};

/** Which port a request is about; PORT.NONE for all. @throws {@link OpenFlowError} */
export const decodePortRequest = (message: Message): number =>
  message.body.length === 0 ? PORT.NONE : readPort(new ByteReader(message.body), minorOf(message));

/** Counters of a port, in the order in which they stand on the wire. */
export const PORT_COUNTERS = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxDropped",
  "txDropped",
  "rxErrors",
  "txErrors",
] as const;

/** Counters that OpenFlow 1.4 and later tell apart as those of Ethernet. */
export const ETHERNET_COUNTERS = ["rxFrameErrors", "rxOverrunErrors", "rxCrcErrors", "collisions"] as const;

export type PortCounter = (typeof PORT_COUNTERS)[number] | (typeof ETHERNET_COUNTERS)[number];

export interface WirePortStats {
  readonly port: number;
  /** Absent = not known. */
  readonly counters: Readonly<Partial<Record<PortCounter, bigint>>>;
  /** Absent before OpenFlow 1.3. */
  readonly durationS?: number;
  readonly durationNs?: number;
}

const UNKNOWN = 0xffffffffffffffffn;
const UNKNOWN_DURATION = 0xffffffff;

const putCounters = (writer: ByteWriter, { counters }: WirePortStats, names: readonly PortCounter[]): void => {
  for (const name of names) writer.u64(counters[name] ?? UNKNOWN);
};

/** One port's statistics as an element of a reply. */
export const encodePortStats = (stats: WirePortStats, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter();
  const { port, durationS = UNKNOWN_DURATION, durationNs = UNKNOWN_DURATION } = stats;
  if (minor >= 4) {
    writer.u16(0).zeros(2).u32(port).u32(durationS).u32(durationNs);
    putCounters(writer, stats, PORT_COUNTERS);
    putProperty(writer, ETHERNET, (property) => putCounters(property.zeros(4), stats, ETHERNET_COUNTERS));
    return writer.set16(0, writer.length).finish();
  }
  putPort(writer, port, minor).zeros(minor === 0 ? 6 : 4);
  putCounters(writer, stats, PORT_COUNTERS);
  putCounters(writer, stats, ETHERNET_COUNTERS);
  if (minor === 3) writer.u32(durationS).u32(durationNs);
  return writer.finish();
};

const readCounters = (reader: ByteReader, names: readonly PortCounter[]): Partial<Record<PortCounter, bigint>> => {
  const counters: Partial<Record<PortCounter, bigint>> = {};
  for (const name of names) {
    const count = reader.u64();
    if (count !== UNKNOWN) counters[name] = count;
  }
  return counters;
};

const PORT_STATS_14_BYTES = 80;

const readStats14 = (reader: ByteReader): WirePortStats => {
  const length = reader.u16();
  if (length < PORT_STATS_14_BYTES || length - 2 > reader.left)
    throw new OpenFlowError(
      "OFPBRC_BAD_LEN",
      `Cannot read statistics of a port: they say that they have ${length} bytes`,
    );
  const part = reader.part(length - 2);
  const port = port32(part.skip(2).u32());
  const duration = { durationS: part.u32(), durationNs: part.u32() };
  let counters = readCounters(part, PORT_COUNTERS);
  for (const { type, body } of properties(part)) {
    if (type !== ETHERNET) continue;
    if (body.left !== 36) throw new OpenFlowError("OFPBPC_BAD_LEN", "Cannot read statistics of a port: want 40 bytes");
    counters = { ...counters, ...readCounters(body.skip(4), ETHERNET_COUNTERS) };
  }
  return { port, counters, ...duration };
};

/** @throws {@link OpenFlowError} */
export function* decodePortStats(message: Message): Generator<WirePortStats> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  while (reader.left > 0) {
    if (minor >= 4) {
      yield readStats14(reader);
      continue;
    }
    const port = readPort(reader, minor);
    const counters = readCounters(reader.skip(minor === 0 ? 6 : 4), [...PORT_COUNTERS, ...ETHERNET_COUNTERS]);
    yield minor < 3 ? { port, counters } : { port, counters, durationS: reader.u32(), durationNs: reader.u32() };
  }
}
