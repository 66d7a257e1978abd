// Packet headers as data. A header is written once, as the list of its fields in RFC order with their widths in bits;
// offsets, sizes, masks and shifts are computed here. The parser of the slow path, the emitter of the BPF parser, the
// packet builder of the tests and the manual all read the result, so none of them has an offset of its own.
//
// After one check that `minBytes` bytes are there, no accessor of a field can fail.

import { RangeViolation } from "ebpf-assembler";

/** Place of a field in its header. Bit 0 is the most significant bit of the first byte, as RFCs count. */
export interface HeaderField {
  /** First bit. */
  readonly at: number;
  readonly bits: number;
  /** First byte that holds a bit of the field. */
  readonly byteOffset: number;
  /** Bytes that hold a bit of the field. */
  readonly byteSize: number;
  /** Whether the field begins and ends at byte boundaries: a load of `byteSize` bytes is the value. */
  readonly aligned: boolean;
  /** The value is `(big-endian load of byteSize bytes at byteOffset >>> shift)`, of it the low `bits` bits. */
  readonly shift: number;
}

/** How long a header is when its own bytes say so: `value * unit + base` bytes. */
export interface LengthRule<Name extends string = string> {
  readonly field: Name;
  readonly unit: number;
  readonly base: number;
}

/** Which header follows: the field that says it, and what its values mean. */
export interface NextRule<Name extends string = string> {
  readonly field: Name;
  readonly map: Readonly<Record<number, string>>;
}

export interface Header<Name extends string = string> {
  readonly name: string;
  readonly fields: Readonly<Record<Name, HeaderField>>;
  /** Size of the fixed part. */
  readonly minBytes: number;
  readonly length?: LengthRule<Name>;
  readonly next?: NextRule<Name>;
  /** Where the layout is defined. */
  readonly source: string;
}

/** `Name` of a header's fields. */
export type FieldOf<H> = H extends Header<infer Name> ? Name : never;

type FieldList = readonly (readonly [name: string, bits: number])[];

/**
 * Makes a header from its fields in order.
 *
 * @throws {@link RangeViolation} when the layout is not whole bytes or a name occurs twice
 */
export const header = <const L extends FieldList>(
  name: string,
  source: string,
  list: L,
  rules: {
    readonly length?: { readonly field: L[number][0]; readonly unit: number; readonly base?: number };
    readonly next?: NextRule<L[number][0]>;
  } = {},
): Header<L[number][0]> => {
  const fields: Record<string, HeaderField> = {};
  let at = 0;
  for (const [field, bits] of list) {
    if (field in fields) throw new RangeViolation(`Header ${name} has field ${field} twice`);
    const byteOffset = at >>> 3;
    const byteSize = ((at + bits + 7) >>> 3) - byteOffset;
    const shift = (byteOffset + byteSize) * 8 - (at + bits);
    fields[field] = Object.freeze({
      at,
      bits,
      byteOffset,
      byteSize,
      aligned: at % 8 === 0 && bits % 8 === 0,
      shift,
    });
    at += bits;
  }
  if (at % 8 !== 0) throw new RangeViolation(`Header ${name} has ${at} bits, want whole bytes`);
  const { length, next } = rules;
  return Object.freeze({
    name,
    source,
    fields: Object.freeze(fields) as Readonly<Record<L[number][0], HeaderField>>,
    minBytes: at / 8,
    ...(length && { length: { field: length.field, unit: length.unit, base: length.base ?? 0 } }),
    ...(next && { next }),
  });
};

/** The value of a field of at most 32 bits in a header that begins at `base`. */
export const readHeaderField = (bytes: Uint8Array, base: number, field: HeaderField): number => {
  let value = 0;
  for (let i = 0; i < field.byteSize; i++) value = value * 256 + bytes[base + field.byteOffset + i]!;
  return Math.floor(value / 2 ** field.shift) % 2 ** field.bits;
};

/** Stores the low bits of `value` in a field of at most 32 bits; its neighbours in shared bytes keep theirs. */
export const writeHeaderField = (bytes: Uint8Array, base: number, field: HeaderField, value: number): void => {
  for (let bit = field.at + field.bits - 1, left = value; bit >= field.at; bit--, left = Math.floor(left / 2)) {
    const mask = 0x80 >>> (bit & 7);
    const byte = base + (bit >>> 3);
    bytes[byte] = left % 2 === 1 ? bytes[byte]! | mask : bytes[byte]! & ~mask;
  }
};

/** The bytes of an aligned field of any width: a view, not a copy. */
export const headerFieldBytes = (bytes: Uint8Array, base: number, field: HeaderField): Uint8Array =>
  bytes.subarray(base + field.byteOffset, base + field.byteOffset + field.byteSize);

/** The header as a table in Markdown, for the manual: one row per field. */
export const headerTable = (h: Header): string =>
  [
    `### ${h.name} (${h.source})`,
    "",
    "| byte | bits | field |",
    "| --- | --- | --- |",
    ...Object.entries(h.fields).map(
      ([name, f]) => `| ${f.byteOffset}${f.at % 8 === 0 ? "" : `.${f.at % 8}`} | ${f.bits} | ${name} |`,
    ),
  ].join("\n");
