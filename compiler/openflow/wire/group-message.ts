// Messages about groups: changes, descriptions, statistics, what groups can do. OpenFlow 1.5 and the extension of 1.0 have
// numbers of buckets and properties, the versions between have not.

import { ByteReader, ByteWriter, properties, refuseProperty } from "./bytes.js";
import { FIELD_BYTES, FIELD_LIMIT } from "../field-access.js";
import { toBytes } from "../big-endian.js";
import type { FieldName, MinorVersion } from "../fields.js";
import { ALL_GROUPS, type BucketPlace, type GroupCommand, type GroupMod } from "../parse/groups.js";
import { newFlow } from "../flow.js";
import { carryActions } from "../carry.js";
import { PORT, type Bucket, type Group, type GroupType, type Match } from "../types.js";
import { CARRIED_BY, PROTOCOLS, type Protocol } from "../versions.js";
import { ActionWriter } from "./action-bytes.js";
import { decodeEntry } from "./decode-match.js";
import { codedField, fromWireValue } from "./field-header.js";
import { decodeActions } from "./decode-actions.js";
import { encodeActions } from "./encode-actions.js";
import { OpenFlowError } from "./errors.js";
import { minorOf, type Message } from "./message.js";

const COMMANDS: ReadonlyMap<number, GroupCommand> = new Map([
  [0, "add"],
  [1, "modify"],
  [2, "delete"],
  [3, "insert_bucket"],
  [5, "remove_bucket"],
  [0x8000, "add_or_mod"],
]);

const TYPES: readonly GroupType[] = ["all", "select", "indirect", "ff"];

/** Numbers of buckets, and those that stand for others (OFPG15_BUCKET_*). */
const MAX_BUCKET = 0xffffff00;
const PLACES: ReadonlyMap<number, BucketPlace> = new Map([
  [0xfffffffd, "first"],
  [0xfffffffe, "last"],
  [0xffffffff, "all"],
]);

const ANY_GROUP = 0xffffffff;
const WEIGHT = 0;
const WATCH_PORT = 1;
const WATCH_GROUP = 2;

/** The vendor that defined selection methods, the ID that it used before, and the type of the property. */
const NTR = 0x0000154d;
const NTR_OLD = 0x0000e2f5;
const SELECTION_METHOD = 1;
const METHOD_BYTES = 16;

const hasProperties = (minor: MinorVersion): boolean => minor === 0 || minor === 5;

const bad = (reason: string, error: "OFPGMFC_BAD_BUCKET" | "OFPGMFC_BAD_WATCH" = "OFPGMFC_BAD_BUCKET"): never => {
  throw new OpenFlowError(error, `Cannot read a bucket: ${reason}`);
};

/** @throws {@link OpenFlowError} OFPGMFC_BAD_WATCH */
const watchPort = (port: number): { watchPort?: number } => {
  if (port === PORT.NONE) return {};
  if (port >= 0xff00 && port < 0xffffff00) bad(`there is no port ${port} to watch`, "OFPGMFC_BAD_WATCH");
  return { watchPort: port };
};

const watchGroup = (group: number): { watchGroup?: number } => (group === ANY_GROUP ? {} : { watchGroup: group });

const readBucket11 = (part: ByteReader, id: number, minor: MinorVersion): Bucket => {
  const weight = part.u16();
  const port = part.u32();
  const group = part.u32();
  const actions = decodeActions(part.skip(4).rest(), minor);
  return { id, weight, ...watchPort(port), ...watchGroup(group), actions };
};

const readBucket15 = (part: ByteReader, type: GroupType | undefined, minor: MinorVersion): Bucket => {
  const actionBytes = part.u16();
  const id = part.u32();
  if (actionBytes > part.left) bad(`its actions have ${actionBytes} bytes`);
  const actions = decodeActions(part.take(actionBytes), minor);
  let weight = type === "select" ? 1 : 0;
  let port: number = PORT.NONE;
  let group = ANY_GROUP;
  for (const property of properties(part)) {
    const { type: kind, body } = property;
    if (kind === WEIGHT) weight = body.u16();
    else if (kind === WATCH_PORT) port = body.u32();
    else if (kind === WATCH_GROUP) group = body.u32();
    else refuseProperty(property);
  }
  const watches = { ...watchPort(port), ...watchGroup(group) };
  if (id > MAX_BUCKET) bad(`its number ${id} is too large`);
  return { id, weight, ...watches, actions };
};

const readBuckets = (reader: ByteReader, type: GroupType | undefined, minor: MinorVersion): Bucket[] => {
  const buckets: Bucket[] = [];
  const least = hasProperties(minor) ? 8 : 16;
  while (reader.left > 0) {
    if (reader.left < least) bad(`${reader.left} bytes are left over`);
    const length = reader.u16();
    if (length < least || length - 2 > reader.left) bad(`it says that it has ${length} bytes`);
    const part = reader.part(length - 2);
    buckets.push(hasProperties(minor) ? readBucket15(part, type, minor) : readBucket11(part, buckets.length, minor));
  }
  if (new Set(buckets.map(({ id }) => id)).size < buckets.length) bad("two have one number");
  return buckets;
};

const NO_LIMIT = (field: FieldName): Uint8Array => toBytes(FIELD_LIMIT[field], FIELD_BYTES[field]);

const isWhole = (field: FieldName, mask: Uint8Array): boolean => {
  const whole = NO_LIMIT(field);
  return mask.every((byte, i) => byte === whole[i]);
};

const badProperty = (reason: string): never => {
  throw new OpenFlowError("OFPBPC_BAD_VALUE", `Cannot use a selection method: ${reason}`);
};

const readSelection = (body: ByteReader, type: GroupType): NonNullable<Group["selection"]> => {
  if (type !== "select") badProperty("want a group of type select");
  const name = body.skip(4).take(METHOD_BYTES);
  if (!name.includes(0)) badProperty("its name does not end");
  const method = new ByteReader(name).text(METHOD_BYTES);
  if (method !== "hash" && method !== "dp_hash") return badProperty(`want hash or dp_hash, got ${method}`);
  const param = body.u64();
  const fields: FieldName[] = [];
  const masks: Partial<Record<FieldName, Uint8Array>> = {};
  if (body.left > 0 && method !== "hash") badProperty(`${method} has no fields`);
  const bytes = body.rest();
  for (let at = 0; at < bytes.length;) {
    const entry = decodeEntry(bytes, at);
    at += entry.size;
    const field = codedField(entry.header)?.field;
    if (field === undefined) throw new OpenFlowError("OFPBMC_BAD_FIELD", "Cannot hash a field: there is no such field");
    const value = fromWireValue(field, entry.value);
    fields.push(field);
    if (!isWhole(field, value)) masks[field] = value;
  }
  return { method, param, fields, ...(Object.keys(masks).length === 0 ? {} : { masks }) };
};

const readSelections = (reader: ByteReader, type: GroupType): Pick<Group, "selection"> => {
  let selection: Group["selection"];
  for (const property of properties(reader)) {
    const { experimenter, expType, body } = property;
    const isMethod = (experimenter === NTR || experimenter === NTR_OLD) && expType === SELECTION_METHOD;
    if (!isMethod) refuseProperty(property);
    selection = readSelection(body, type);
  }
  return selection === undefined ? {} : { selection };
};

const hasLiveness = ({ watchPort: port, watchGroup: group }: Bucket): boolean =>
  port !== undefined || group !== undefined;

const refuseGroup = (
  error: "OFPGMFC_INVALID_GROUP" | "OFPGMFC_BAD_TYPE" | "OFPGMFC_WATCH_UNSUPPORTED" | "OFPGMFC_BAD_COMMAND",
  reason: string,
): never => {
  throw new OpenFlowError(error, `Cannot change a group: ${reason}`);
};

const check = (command: GroupCommand | undefined, type: GroupType | undefined, buckets: readonly Bucket[]): void => {
  if (type === "indirect" && command !== "delete" && buckets.length !== 1)
    refuseGroup("OFPGMFC_INVALID_GROUP", "want one bucket in an indirect group");
  if (type === undefined) refuseGroup("OFPGMFC_BAD_TYPE", "there is no such type");
  if (command === undefined) refuseGroup("OFPGMFC_BAD_COMMAND", "there is no such command");
  if (command === "remove_bucket" && buckets.length > 0) bad("want none where one is removed");
  for (const bucket of buckets) {
    if (bucket.weight !== 0 && type !== "select" && command !== "insert_bucket")
      refuseGroup("OFPGMFC_INVALID_GROUP", `buckets of type ${type} have no weight`);
    if ((type === "all" || type === "indirect") && hasLiveness(bucket))
      refuseGroup("OFPGMFC_WATCH_UNSUPPORTED", `buckets of type ${type} watch nothing`);
    if (type === "ff" && !hasLiveness(bucket))
      refuseGroup("OFPGMFC_INVALID_GROUP", "want a port or a group to watch in each bucket");
  }
};

/** Whether a command can say so of a bucket. */
const hasPlace = (command: GroupCommand | undefined, place: BucketPlace): boolean => {
  if (command === "remove_bucket") return true;
  return (command === "insert_bucket") === (place !== "all");
};

/** Reads a change of groups. @throws {@link OpenFlowError} */
export const decodeGroupMod = (message: Message): GroupMod => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const command = COMMANDS.get(reader.u16());
  const type = TYPES[reader.u8()];
  const id = reader.skip(1).u32();
  let place: BucketPlace = "all";
  let buckets: Bucket[];
  let rest: Pick<Group, "selection"> = {};
  if (hasProperties(minor)) {
    const bucketBytes = reader.u16();
    const number = reader.skip(2).u32();
    place = PLACES.get(number) ?? number;
    if ((typeof place === "number" && place > MAX_BUCKET) || !hasPlace(command, place)) bad(`it cannot be at ${place}`);
    if (bucketBytes > reader.left)
      throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read buckets: they say that they have ${bucketBytes} bytes`);
    buckets = readBuckets(reader.part(bucketBytes), type, minor);
    rest = readSelections(reader, type ?? "all");
  } else {
    buckets = readBuckets(reader, type, minor);
    if (minor >= 3 && command === "delete" && buckets.length > 0)
      refuseGroup("OFPGMFC_INVALID_GROUP", "a delete has no buckets");
  }
  check(command, type, buckets);
  return { command: command!, group: { id, type: type!, buckets, ...rest }, place, protocols: CARRIED_BY.any };
};

const ANY_MATCH: Match = { value: newFlow(), mask: newFlow() };

const protocolOf = (minor: MinorVersion): Protocol => (minor === 0 ? "NXM+table_id" : PROTOCOLS[3 + minor]!);

const putBucket = (writer: ByteWriter, bucket: Bucket, type: GroupType, minor: MinorVersion): void => {
  const start = writer.length;
  const actions = encodeActions(carryActions(bucket.actions, ANY_MATCH, protocolOf(minor)) ?? bucket.actions, minor);
  const { watchPort: port = PORT.NONE, watchGroup: group = ANY_GROUP, weight } = bucket;
  writer.u16(0);
  if (hasProperties(minor)) {
    writer.u16(actions.length).u32(bucket.id).put(actions);
    if (type === "select" || weight !== 0) writer.u16(WEIGHT).u16(8).u16(weight).zeros(2);
    if (port !== PORT.NONE) writer.u16(WATCH_PORT).u16(8).u32(port);
    if (group !== ANY_GROUP) writer.u16(WATCH_GROUP).u16(8).u32(group);
  } else writer.u16(weight).u32(port).u32(group).zeros(4).put(actions);
  writer.set16(start, writer.length - start);
};

const putSelection = (
  writer: ByteWriter,
  { method, param, fields, masks }: NonNullable<Group["selection"]>,
  minor: MinorVersion,
): void => {
  const start = writer.length;
  writer.u16(0xffff).u16(0).u32(NTR).u32(SELECTION_METHOD).zeros(4).text(method, METHOD_BYTES).u64(param);
  for (const field of fields)
    writer.put(new ActionWriter().entry(field, minor, masks?.[field] ?? NO_LIMIT(field)).finishRaw());
  writer.set16(start + 2, writer.length - start).pad8(start);
};

/** A group as an element of a description reply. */
export const encodeGroupDesc = (group: Group, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter();
  writer.u16(0).u8(TYPES.indexOf(group.type)).zeros(1).u32(group.id);
  if (hasProperties(minor)) writer.u16(0).zeros(6);
  const from = writer.length;
  for (const bucket of group.buckets) putBucket(writer, bucket, group.type, minor);
  if (hasProperties(minor)) {
    writer.set16(8, writer.length - from);
    if (group.selection !== undefined) putSelection(writer, group.selection, minor);
  }
  return writer.set16(0, writer.length).finish();
};

/** @throws {@link OpenFlowError} */
export function* decodeGroupDescs(message: Message): Generator<Group> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const least = hasProperties(minor) ? 16 : 8;
  while (reader.left > 0) {
    const length = reader.u16();
    if (length < least || length - 2 > reader.left)
      throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a group: it says that it has ${length} bytes`);
    const part = reader.part(length - 2);
    const type = TYPES[part.u8()];
    if (type === undefined) return refuseGroup("OFPGMFC_BAD_TYPE", "there is no such type");
    const id = part.skip(1).u32();
    if (hasProperties(minor)) {
      const bucketBytes = part.u16();
      const buckets = readBuckets(part.skip(6).part(bucketBytes), type, minor);
      yield { id, type, buckets, ...readSelections(part, type) };
    } else yield { id, type, buckets: readBuckets(part, type, minor) };
  }
}

/** Which group a request is about; {@link ALL_GROUPS} for all. */
export const decodeGroupRequest = ({ body }: Message): number =>
  body.length === 0 ? ALL_GROUPS : new ByteReader(body).u32();

export interface WireGroupStats {
  readonly group: number;
  readonly references: number;
  readonly packets: bigint;
  readonly bytes: bigint;
  /** Absent in OpenFlow 1.1 and 1.2. */
  readonly durationS?: number;
  readonly durationNs?: number;
  readonly buckets: readonly { readonly packets: bigint; readonly bytes: bigint }[];
}

const hasDuration = (minor: MinorVersion): boolean => minor === 0 || minor >= 3;

export const encodeGroupStats = (stats: WireGroupStats, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter();
  writer.u16(0).zeros(2).u32(stats.group).u32(stats.references).zeros(4).u64(stats.packets).u64(stats.bytes);
  if (hasDuration(minor)) writer.u32(stats.durationS ?? 0).u32(stats.durationNs ?? 0);
  for (const { packets, bytes } of stats.buckets) writer.u64(packets).u64(bytes);
  return writer.set16(0, writer.length).finish();
};

/** @throws {@link OpenFlowError} */
export function* decodeGroupStats(message: Message): Generator<WireGroupStats> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const least = hasDuration(minor) ? 40 : 32;
  while (reader.left > 0) {
    const length = reader.u16();
    const group = reader.skip(2).u32();
    const base = { group, references: reader.u32(), packets: reader.skip(4).u64(), bytes: reader.u64() };
    const time = hasDuration(minor) ? { durationS: reader.u32(), durationNs: reader.u32() } : {};
    // Of what is beyond, whole counters count.
    const nBuckets = Math.floor((length - least) / 16);
    if (nBuckets < 0 || nBuckets * 16 > reader.left)
      throw new OpenFlowError(
        "OFPBRC_BAD_LEN",
        `Cannot read statistics of a group: they say that they have ${length} bytes`,
      );
    const buckets = Array.from({ length: nBuckets }, () => ({ packets: reader.u64(), bytes: reader.u64() }));
    yield { ...base, ...time, buckets };
  }
}

/** What groups can do, by type: how many there can be, and which actions, in bits of the version. */
export interface WireGroupFeatures {
  readonly types: number;
  readonly capabilities: number;
  readonly maxGroups: readonly number[];
  readonly actions: readonly number[];
}

export const putGroupFeatures = (writer: ByteWriter, features: WireGroupFeatures): void => {
  writer.u32(features.types).u32(features.capabilities);
  for (const max of features.maxGroups) writer.u32(max);
  for (const actions of features.actions) writer.u32(actions);
};

export const decodeGroupFeatures = ({ body }: Message): WireGroupFeatures => {
  const reader = new ByteReader(body);
  const four = (): number[] => TYPES.map(() => reader.u32());
  return { types: reader.u32(), capabilities: reader.u32(), maxGroups: four(), actions: four() };
};
