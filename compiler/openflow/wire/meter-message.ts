// Messages about meters, OpenFlow 1.3 and later: changes, configuration, statistics, what meters can do.

import { ByteReader, ByteWriter } from "./bytes.js";
import { METER_FLAGS, type MeterCommand, type MeterMod } from "../parse/meters.js";
import type { Meter, MeterBand, MeterBandType, MeterFlag } from "../types.js";
import { OpenFlowError } from "./errors.js";
import type { Message } from "./message.js";

const COMMANDS: readonly MeterCommand[] = ["add", "modify", "delete"];

/** Band types from 1 on. */
const BAND_TYPES: readonly MeterBandType[] = ["drop", "dscp_remark"];
const BAND_BYTES = 16;

const flagsOf = (bits: number): MeterFlag[] => METER_FLAGS.filter((_, i) => (bits & (1 << i)) !== 0);
const flagBits = (flags: readonly MeterFlag[]): number =>
  METER_FLAGS.reduce((bits, flag, i) => (flags.includes(flag) ? bits | (1 << i) : bits), 0);

const badLength = (what: string, length: number): never => {
  throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read ${what}: it says that it has ${length} bytes`);
};

const readBands = (reader: ByteReader): MeterBand[] => {
  const bands: MeterBand[] = [];
  while (reader.left >= BAND_BYTES) {
    const number = reader.u16();
    const length = reader.u16();
    if (length !== BAND_BYTES) badLength("a meter band", length);
    const type = BAND_TYPES[number - 1];
    if (type === undefined)
      throw new OpenFlowError("OFPMMFC_BAD_BAND", `Cannot meter: there is no band type ${number}`);
    const band = { type, rate: reader.u32(), burstSize: reader.u32(), precLevel: reader.u8() };
    reader.skip(3);
    bands.push(type === "dscp_remark" ? band : { ...band, precLevel: 0 });
  }
  if (reader.left > 0) badLength("a meter band", reader.left);
  return bands;
};

const putBands = (writer: ByteWriter, bands: readonly MeterBand[]): void => {
  for (const { type, rate, burstSize, precLevel } of bands)
    writer
      .u16(BAND_TYPES.indexOf(type) + 1)
      .u16(BAND_BYTES)
      .u32(rate)
      .u32(burstSize)
      .u8(precLevel)
      .zeros(3);
};

/** A meter as a message has it. */
export interface WireMeter extends Meter {
  /** Bits of flags that nobody knows. */
  readonly otherFlags: number;
}

const otherFlags = (bits: number): number => (bits >>> METER_FLAGS.length) << METER_FLAGS.length;

/** Reads a change of meters. @throws {@link OpenFlowError} */
export const decodeMeterMod = ({ body }: Message): MeterMod & { readonly meter: WireMeter } => {
  const reader = new ByteReader(body);
  const number = reader.u16();
  const command = COMMANDS[number];
  if (command === undefined)
    throw new OpenFlowError("OFPMMFC_BAD_COMMAND", `Cannot do meter command ${number}: want 0 to 2`);
  const bits = reader.u16();
  const id = reader.u32();
  if (command === "delete") return { command, meter: { id, flags: [], bands: [], otherFlags: 0 } };
  const flags = flagsOf(bits);
  if (flags.includes("kbps") && flags.includes("pktps"))
    throw new OpenFlowError("OFPMMFC_BAD_FLAGS", `Cannot meter with flags 0x${bits.toString(16)}`);
  return { command, meter: { id, flags, bands: readBands(reader), otherFlags: otherFlags(bits) } };
};

/** Which meter a request is about. */
export const decodeMeterRequest = ({ body }: Message): number => new ByteReader(body).u32();

/** A meter as an element of a configuration reply. */
export const encodeMeterConfig = ({ id, flags, bands }: Meter): Uint8Array => {
  const writer = new ByteWriter();
  putBands(writer.u16(0).u16(flagBits(flags)).u32(id), bands);
  return writer.set16(0, writer.length).finish();
};

/** @throws {@link OpenFlowError} */
export function* decodeMeterConfigs({ body }: Message): Generator<WireMeter> {
  const reader = new ByteReader(body);
  while (reader.left > 0) {
    const length = reader.u16();
    if (length < 8 || length - 2 > reader.left) badLength("a meter", length);
    const part = reader.part(length - 2);
    const bits = part.u16();
    yield { id: part.u32(), flags: flagsOf(bits), bands: readBands(part), otherFlags: otherFlags(bits) };
  }
}

export interface WireMeterStats {
  readonly meter: number;
  readonly flows: number;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly durationS: number;
  readonly durationNs: number;
  readonly bands: readonly { readonly packets: bigint; readonly bytes: bigint }[];
}

export const encodeMeterStats = (stats: WireMeterStats): Uint8Array => {
  const writer = new ByteWriter();
  writer.u32(stats.meter).u16(0).zeros(6).u32(stats.flows).u64(stats.packets).u64(stats.bytes);
  writer.u32(stats.durationS).u32(stats.durationNs);
  for (const { packets, bytes } of stats.bands) writer.u64(packets).u64(bytes);
  return writer.set16(4, writer.length).finish();
};

const STATS_BYTES = 40;

/** @throws {@link OpenFlowError} */
export function* decodeMeterStats({ body }: Message): Generator<WireMeterStats> {
  const reader = new ByteReader(body);
  while (reader.left > 0) {
    const meter = reader.u32();
    const length = reader.u16();
    if (length < STATS_BYTES || (length - STATS_BYTES) % 16 !== 0 || length - 6 > reader.left)
      badLength("statistics of a meter", length);
    const part = reader.part(length - 6);
    const base = { meter, flows: part.skip(6).u32(), packets: part.u64(), bytes: part.u64() };
    const duration = { durationS: part.u32(), durationNs: part.u32() };
    const bands: { packets: bigint; bytes: bigint }[] = [];
    while (part.left > 0) bands.push({ packets: part.u64(), bytes: part.u64() });
    yield { ...base, ...duration, bands };
  }
}

/** What meters can do; band types and flags are bits by number. */
export interface WireMeterFeatures {
  readonly maxMeters: number;
  readonly bandTypes: number;
  readonly capabilities: number;
  readonly maxBands: number;
  readonly maxColor: number;
}

export const putMeterFeatures = (writer: ByteWriter, features: WireMeterFeatures): void => {
  writer.u32(features.maxMeters).u32(features.bandTypes).u32(features.capabilities);
  writer.u8(features.maxBands).u8(features.maxColor).zeros(2);
};

export const decodeMeterFeatures = ({ body }: Message): WireMeterFeatures => {
  const reader = new ByteReader(body);
  return {
    maxMeters: reader.u32(),
    bandTypes: reader.u32(),
    capabilities: reader.u32(),
    maxBands: reader.u8(),
    maxColor: reader.u8(),
  };
};
