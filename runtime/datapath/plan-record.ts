// What a later process must know of a plan to read the megaflows of its maps: kept in a map of its own, so that it lives and
// dies with them.

import { fromHex, RangeViolation, toHex, type MapSpec } from "ebpf-assembler";
import {
  FLOW,
  inTable,
  subtable,
  type DatapathPlan,
  type KeyField,
  type KeyLayout,
  type Member,
  type Subtable,
  type TableLayout,
} from "#compiler";

/** Rises when records of before cannot be read any more. */
const FORMAT = 1;

/** The part of a plan that says where megaflows lie and what they match. */
export type PlanRecord = Pick<DatapathPlan, "key" | "subtables" | "exact" | "table" | "valueSize">;

interface Written {
  readonly format: number;
  readonly fields: readonly KeyField[];
  readonly keySize: number;
  readonly subtables: readonly { readonly map: string; readonly mask: string; readonly number?: number }[];
  readonly exact: { readonly map: string; readonly mask: string };
  readonly table?: Omit<TableLayout, "seed"> & { readonly seed: string };
  readonly valueSize: number;
}

/** A plan as bytes. */
export const encodePlan = (plan: PlanRecord): Uint8Array => {
  const { key, subtables, exact, table, valueSize } = plan;
  const written: Written = {
    format: FORMAT,
    fields: key.fields,
    keySize: key.size,
    subtables: subtables.map(({ map, mask, number }) => ({
      map,
      mask: toHex(mask),
      ...(number === undefined ? {} : { number }),
    })),
    exact: { map: exact.map, mask: toHex(exact.mask) },
    ...(table === undefined ? {} : { table: { ...table, seed: table.seed.toString() } }),
    valueSize,
  };
  return new TextEncoder().encode(JSON.stringify(written));
};

/** @throws {@link RangeViolation} for a record that this version does not understand */
export const decodePlan = (bytes: Uint8Array): PlanRecord => {
  let written: Written;
  try {
    written = JSON.parse(new TextDecoder().decode(bytes)) as Written;
  } catch (error) {
    throw new RangeViolation("Cannot read the record of a datapath plan: it is no JSON", error);
  }
  const unknown = written.format === FORMAT ? written.fields.find(({ member }) => !isMember(member)) : undefined;
  if (written.format !== FORMAT || unknown !== undefined)
    throw new RangeViolation(
      `Cannot read the record of a datapath plan: want format ${FORMAT}, got ${written.format}` +
        (unknown === undefined ? "" : ` with the unknown member ${unknown.member}`),
    );
  const key: KeyLayout = { fields: written.fields, size: written.keySize };
  const tableOf = ({ map, mask, number }: Written["subtables"][number]): Subtable => {
    const own = subtable(map, fromHex(mask));
    return number === undefined ? own : inTable(own, number);
  };
  const { table } = written;
  return {
    key,
    subtables: written.subtables.map(tableOf),
    exact: tableOf(written.exact),
    ...(table === undefined ? {} : { table: { ...table, seed: BigInt(table.seed) } }),
    valueSize: written.valueSize,
  };
};

const isMember = (name: string): name is Member => name in FLOW;

/** The map that holds a record. */
export const recordSpec = (bytes: Uint8Array): MapSpec => ({
  name: "plan",
  type: "array",
  keySize: 4,
  valueSize: Math.ceil((bytes.length + 4) / 8) * 8,
  maxEntries: 1,
  flags: 0,
  entries: [[new Uint8Array(4), withLength(bytes)]],
});

/** A record behind its length, u32 in host order, padded. */
const withLength = (bytes: Uint8Array): Uint8Array => {
  const value = new Uint8Array(Math.ceil((bytes.length + 4) / 8) * 8);
  new DataView(value.buffer).setUint32(0, bytes.length, true);
  value.set(bytes, 4);
  return value;
};

/** The record in the value of its map. */
export const recordIn = (value: Uint8Array): Uint8Array =>
  value.subarray(4, 4 + new DataView(value.buffer, value.byteOffset).getUint32(0, true));
