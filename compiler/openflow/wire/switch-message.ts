// Messages about a switch as a whole: its features, configuration, description and tables.

import type { MinorVersion } from "../fields.js";
import { ByteReader, ByteWriter, properties } from "./bytes.js";
import { OpenFlowError } from "./errors.js";
import { minorOf, type Message } from "./message.js";
import { putPortDesc, readPortDescs, type WirePort } from "./port-message.js";

/** What a switch can do, with the bits of OpenFlow (ofp_capabilities) and those of versions that have them. */
export const CAPABILITIES = [
  { name: "FLOW_STATS", bit: 0x001, versions: [0, 5] },
  { name: "TABLE_STATS", bit: 0x002, versions: [0, 5] },
  { name: "PORT_STATS", bit: 0x004, versions: [0, 5] },
  { name: "STP", bit: 0x008, versions: [0, 0] },
  { name: "GROUP_STATS", bit: 0x008, versions: [1, 5] },
  { name: "IP_REASM", bit: 0x020, versions: [0, 5] },
  { name: "QUEUE_STATS", bit: 0x040, versions: [0, 5] },
  { name: "ARP_MATCH_IP", bit: 0x080, versions: [0, 1] },
  { name: "PORT_BLOCKED", bit: 0x100, versions: [2, 5] },
  { name: "BUNDLES", bit: 0x200, versions: [4, 5] },
  { name: "FLOW_MONITORING", bit: 0x400, versions: [4, 5] },
] as const;

export type Capability = (typeof CAPABILITIES)[number]["name"];

export interface WireFeatures {
  readonly datapathId: bigint;
  readonly nBuffers: number;
  readonly nTables: number;
  readonly auxiliaryId: number;
  readonly capabilities: readonly Capability[];
  /** Bits of OpenFlow 1.0's actions; 0 later. */
  readonly actions: number;
  /** Up to OpenFlow 1.2. */
  readonly ports: Iterable<WirePort>;
}

const knownIn = (minor: number) => CAPABILITIES.filter(({ versions: [from, to] }) => from <= minor && minor <= to);

/** Bytes of a message, above which ports are left out of a features reply: they can be asked for otherwise. */
const MAX_FEATURES = 0xffff - 64;

export const putFeatures = (writer: ByteWriter, features: WireFeatures, minor: MinorVersion): void => {
  const known = knownIn(minor).filter(({ name }) => features.capabilities.includes(name));
  writer.u64(features.datapathId).u32(features.nBuffers).u8(features.nTables);
  writer.u8(minor < 3 ? 0 : features.auxiliaryId).zeros(2);
  writer.u32(known.reduce((bits, { bit }) => bits | bit, 0)).u32(minor === 0 ? features.actions : 0);
  if (minor >= 3) return;
  for (const port of features.ports) if (writer.length <= MAX_FEATURES) putPortDesc(writer, port, minor);
};

/** @throws {@link OpenFlowError} */
export const decodeFeatures = (message: Message): WireFeatures => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const datapathId = reader.u64();
  const nBuffers = reader.u32();
  const nTables = reader.u8();
  const auxiliaryId = minor < 3 ? reader.skip(1).at * 0 : reader.u8();
  const bits = reader.skip(2).u32();
  const capabilities = knownIn(minor)
    .filter(({ bit }) => (bits & bit) !== 0)
    .map(({ name }) => name);
  const actions = minor === 0 ? reader.u32() : reader.skip(4).at * 0;
  return { datapathId, nBuffers, nTables, auxiliaryId, capabilities, actions, ports: readPortDescs(reader, minor) };
};

export const FRAG_MODES = ["normal", "drop", "reassemble", "nx-match"] as const;
export type FragMode = (typeof FRAG_MODES)[number];

const INVALID_TTL = 4;

export interface WireConfig {
  readonly frag: FragMode;
  /** Up to OpenFlow 1.2. */
  readonly invalidTtlToController: boolean;
  readonly missSendLen: number;
}

export const putConfig = (writer: ByteWriter, config: WireConfig, minor: MinorVersion): void => {
  const ttl = config.invalidTtlToController && minor < 3 ? INVALID_TTL : 0;
  writer.u16(FRAG_MODES.indexOf(config.frag) | ttl).u16(config.missSendLen);
};

/** @throws {@link OpenFlowError} OFPSCFC_BAD_FLAGS in a message that changes it */
export const decodeConfig = (message: Message): WireConfig => {
  const reader = new ByteReader(message.body);
  const flags = reader.u16();
  const known = FRAG_MODES.length - 1 + (minorOf(message) < 3 ? INVALID_TTL : 0);
  if (message.row.name === "OFPT_SET_CONFIG" && (flags & ~known) !== 0)
    throw new OpenFlowError("OFPSCFC_BAD_FLAGS", `Cannot use flags 0x${flags.toString(16)}: some are unknown`);
  return {
    frag: FRAG_MODES[flags & 3]!,
    invalidTtlToController: (flags & known & INVALID_TTL) !== 0,
    missSendLen: reader.u16(),
  };
};

/** The five texts of a switch's description, and the bytes that they have. */
export const DESCRIPTION = [
  ["manufacturer", 256],
  ["hardware", 256],
  ["software", 256],
  ["serialNumber", 32],
  ["datapath", 256],
] as const;

export type WireDescription = Readonly<Record<(typeof DESCRIPTION)[number][0], string>>;

export const putDescription = (writer: ByteWriter, description: WireDescription): void => {
  for (const [name, size] of DESCRIPTION) writer.text(description[name], size);
};

export const decodeDescription = ({ body }: Message): WireDescription => {
  const reader = new ByteReader(body);
  return Object.fromEntries(DESCRIPTION.map(([name, size]) => [name, reader.text(size)])) as WireDescription;
};

/** What a table does with packets that no flow matches, by its number on the wire. */
export const TABLE_MISSES = ["controller", "continue", "drop"] as const;
export type TableMiss = (typeof TABLE_MISSES)[number] | "default";

/** A change of a table's configuration. */
export interface WireTableMod {
  /** 255 = all. */
  readonly table: number;
  readonly miss: TableMiss;
  /** OpenFlow 1.4 and later; absent = as it is. */
  readonly eviction?: boolean;
  readonly evictionFlags?: number;
  readonly vacancy?: { readonly down: number; readonly up: number } | "off";
}

const EVICTION = 4;
const VACANCY = 8;
/** Flags of a table that does not say by what it evicts. */
const ALL_EVICTION_FLAGS = 0xffffffff;
const PROPERTY_EVICTION = 2;
const PROPERTY_VACANCY = 3;

/** @throws {@link OpenFlowError} */
const missOf = (config: number, minor: number): TableMiss => {
  // OpenFlow 1.3 took the flags away.
  if (minor >= 3) return "default";
  const miss = TABLE_MISSES[config & 3];
  if (miss === undefined || config > 3)
    throw new OpenFlowError("OFPTMFC_BAD_CONFIG", `Cannot use table flags ${config}`);
  return miss;
};

/** @throws {@link OpenFlowError} */
export const decodeTableMod = (message: Message): WireTableMod => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const table = reader.u8();
  const config = reader.skip(3).u32();
  if (minor < 4) return { table, miss: missOf(config, minor) };
  let rest: Partial<WireTableMod> = {
    eviction: (config & EVICTION) !== 0,
    vacancy: (config & VACANCY) !== 0 ? { down: 0, up: 0 } : "off",
  };
  for (const { type, body } of properties(reader)) {
    if (body.left !== 4) throw new OpenFlowError("OFPBPC_BAD_LEN", "Cannot configure a table: want 8 bytes");
    if (type === PROPERTY_EVICTION) rest = { ...rest, evictionFlags: body.u32() };
    else if (type === PROPERTY_VACANCY) {
      const [down, up, now] = [body.u8(), body.u8(), body.u8()];
      if (down > up || up > 100 || now !== 0)
        throw new OpenFlowError("OFPBPC_BAD_VALUE", `Cannot use vacancy ${down} to ${up}: want 0 to 100 in order`);
      // The flags say whether it is on.
      if (rest.vacancy !== "off") rest = { ...rest, vacancy: { down, up } };
    } else throw new OpenFlowError("OFPBRC_BAD_TYPE", `Cannot use a property of type ${type} of a table`);
  }
  return { table, miss: "default", ...rest };
};

/** A table as OpenFlow 1.4 and later describe it. */
export interface WireTableDesc {
  readonly table: number;
  readonly eviction: boolean;
  readonly evictionFlags: number;
  readonly vacancy?: { readonly down: number; readonly up: number; readonly now: number };
}

export const encodeTableDesc = (desc: WireTableDesc): Uint8Array => {
  const writer = new ByteWriter();
  const { vacancy } = desc;
  writer.u16(0).u8(desc.table).zeros(1);
  writer.u32((desc.eviction ? EVICTION : 0) | (vacancy === undefined ? 0 : VACANCY));
  writer.u16(PROPERTY_EVICTION).u16(8).u32(desc.evictionFlags);
  if (vacancy !== undefined)
    writer.u16(PROPERTY_VACANCY).u16(8).u8(vacancy.down).u8(vacancy.up).u8(vacancy.now).zeros(1);
  return writer.set16(0, writer.length).finish();
};

/** @throws {@link OpenFlowError} */
export function* decodeTableDescs({ body }: Message): Generator<WireTableDesc> {
  const reader = new ByteReader(body, "OFPBRC_BAD_LEN");
  while (reader.left > 0) {
    const length = reader.u16();
    if (length < 8 || length - 2 > reader.left)
      throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a table: it says that it has ${length} bytes`);
    const part = reader.part(length - 2);
    const table = part.u8();
    const config = part.skip(1).u32();
    let desc: WireTableDesc = {
      ...{ table, eviction: (config & EVICTION) !== 0, evictionFlags: ALL_EVICTION_FLAGS },
      ...((config & VACANCY) === 0 ? {} : { vacancy: { down: 0, up: 0, now: 0 } }),
    };
    for (const { type, body: property } of properties(part)) {
      if (type === PROPERTY_EVICTION) desc = { ...desc, evictionFlags: property.u32() };
      else if (type === PROPERTY_VACANCY) {
        const vacancy = { down: property.u8(), up: property.u8(), now: property.u8() };
        // The flags say whether it is on.
        if (desc.vacancy !== undefined) desc = { ...desc, vacancy };
      }
    }
    yield desc;
  }
}

/** What a table can do and has done, as far as statistics of tables say. */
export interface WireTableStats {
  readonly table: number;
  readonly maxEntries: number;
  readonly active: number;
  readonly lookups: bigint;
  readonly matched: bigint;
  readonly miss: TableMiss;
}

const TABLE_NAME_BYTES = 32;
const ALL_64 = 0xffffffffffffffffn;

/** What every table can match, set and do, in the bits that OpenFlow 1.0 to 1.2 have for it: all that OVS can. */
const ABILITIES = {
  wildcards10: 0x3fffff,
  fields11: 0xfbff,
  actions11: 0x01ffe7ff,
  fields12: 0x101ffffffffdn,
  writable12: 0xffffffbddn,
  actions12: 0x03ff8001,
  instructions: 0x3e,
} as const;

const GOTO_TABLE = 0x2;

const missBits = (miss: TableMiss): number => (miss === "default" ? 0 : TABLE_MISSES.indexOf(miss));

/**
 * One table's statistics as an element of a reply.
 *
 * @param isLast - no table follows to go to
 */
export const encodeTableStats = (stats: WireTableStats, minor: MinorVersion, isLast: boolean): Uint8Array => {
  const writer = new ByteWriter();
  const { table, maxEntries, active, lookups, matched } = stats;
  const { fields11, actions11, fields12, writable12, actions12 } = ABILITIES;
  const instructions = ABILITIES.instructions & (isLast ? ~GOTO_TABLE : ~0);
  writer.u8(table).zeros(minor === 1 || minor === 2 ? 7 : 3);
  if (minor < 3) writer.text("", TABLE_NAME_BYTES);
  if (minor === 0) writer.u32(ABILITIES.wildcards10);
  if (minor === 1) writer.u32(fields11).u32(fields11).u32(instructions).u32(actions11).u32(actions11);
  if (minor === 2) {
    writer.u64(fields12).u64(fields12).u32(actions12).u32(actions12).u64(writable12).u64(writable12);
    writer.u64(ALL_64).u64(ALL_64).u32(instructions);
  }
  if (minor === 1 || minor === 2) writer.u32(missBits(stats.miss));
  if (minor < 3) writer.u32(maxEntries);
  return writer.u32(active).u64(lookups).u64(matched).finish();
};
