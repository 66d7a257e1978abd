// What tables can do, as OpenFlow 1.3 and later have it: properties that list instructions, actions and fields. All tables of
// ours can do the same, but that only those before the last have one to go to.

import { fieldSpec } from "../field-access.js";
import { FIELD_NAMES, type FieldName, type MinorVersion } from "../fields.js";
import { ByteWriter, putProperty } from "./bytes.js";
import { encodeFieldHeader } from "./field-header.js";

/** Types of properties; those for packets that no flow matches are one more, where there are two. */
const PROPERTY = {
  instructions: 0,
  nextTables: 2,
  writeActions: 4,
  applyActions: 6,
  match: 8,
  wildcards: 10,
  writeSetField: 12,
  applySetField: 14,
} as const;

const GOTO_TABLE = 1;
/** Goto, write metadata, write, apply and clear actions; a meter is one up to OpenFlow 1.4. */
const INSTRUCTIONS: readonly number[] = [1, 2, 3, 4, 5];
const METER = 6;

/** Types of the actions that OpenFlow 1.3 and later have: output, those of TTLs, tags and labels, queue, group, set field. */
const ACTIONS: readonly number[] = [0, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];

/** Types that have no more to them are four bytes each. */
const putTypes =
  (types: readonly number[]) =>
  (writer: ByteWriter): void => {
    for (const type of types) writer.u16(type).u16(4);
  };

const CODED = FIELD_NAMES.filter((field) => fieldSpec(field).codes.length > 0);
const WRITABLE = CODED.filter((field) => fieldSpec(field).writable);

const putFields =
  (fields: readonly FieldName[], minor: MinorVersion, isMasked: (field: FieldName) => boolean) =>
  (writer: ByteWriter): void => {
    for (const field of fields) writer.put(encodeFieldHeader(field, minor, isMasked(field)));
  };

const never = (): boolean => false;

export interface TableFeatures {
  readonly table: number;
  readonly maxEntries: number;
  /** Numbers of the tables that flows of this one can go to. */
  readonly next: readonly number[];
}

const ALL_64 = 0xffffffffffffffffn;
const NAME_BYTES = 32;

/** One table as an element of a reply. */
export const encodeTableFeatures = ({ table, maxEntries, next }: TableFeatures, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter(1 << 13);
  writer.u16(0).u8(table).zeros(5).text("", NAME_BYTES).u64(ALL_64).u64(ALL_64).u32(0).u32(maxEntries);
  const instructions = INSTRUCTIONS.filter((type) => type !== GOTO_TABLE || next.length > 0);
  for (const miss of [0, 1]) {
    putProperty(writer, PROPERTY.instructions + miss, putTypes(minor < 5 ? [...instructions, METER] : instructions));
    putProperty(writer, PROPERTY.nextTables + miss, (to) => to.put(next));
    putProperty(writer, PROPERTY.writeActions + miss, putTypes(ACTIONS));
    putProperty(writer, PROPERTY.writeSetField + miss, putFields(WRITABLE, minor, never));
    putProperty(writer, PROPERTY.applyActions + miss, putTypes(ACTIONS));
    putProperty(writer, PROPERTY.applySetField + miss, putFields(WRITABLE, minor, never));
  }
  putProperty(
    writer,
    PROPERTY.match,
    putFields(CODED, minor, (field) => fieldSpec(field).mask === "any"),
  );
  putProperty(writer, PROPERTY.wildcards, putFields(CODED, minor, never));
  return writer.set16(0, writer.length).finish();
};
