// Reading and writing the bytes of one action, OpenFlow section 7.2.5: type(16) | length(16) and, of an extension,
// vendor(32) | subtype(16). All numbers are big-endian; an action is a multiple of 8 bytes long.

import { FIELD_BYTES, FIELD_WIDTH, fieldCode, fieldSpec } from "../field-access.js";
import { isTunMetadata } from "../fields/tun-metadata.js";
import type { FieldName, MinorVersion } from "../fields.js";
import type { Subfield } from "../types.js";
import { OpenFlowError, type OpenFlowErrorName } from "./errors.js";
import {
  codedField,
  decodeHeader,
  encodeFieldHeader,
  type FieldHeader,
  fromWireValue,
  toWireValue,
  valueBytesOf,
} from "./field-header.js";

/** Vendors of extensions. */
export const VENDOR = { NX: 0x00002320, ONF: 0x4f4e4600 } as const;

/** Type of an action that belongs to a vendor. */
export const VENDOR_TYPE = 0xffff;

/** Where the bytes that are not 0 begin; at the last one at the latest. */
const firstByte = (bytes: Uint8Array): number => {
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? bytes.length - 1 : first;
};

/** Whether a field has this code, but not this length. */
const hasOtherLength = (header: FieldHeader): boolean =>
  [1, 2, 4, 6, 8, 16].some((payloadBytes) => codedField({ ...header, masked: false, payloadBytes }) !== undefined);

/** Bytes in the making. */
export class ActionWriter {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  u8(value: number): this {
    this.#bytes.push(value & 0xff);
    return this;
  }

  u16(value: number): this {
    return this.u8(value >>> 8).u8(value);
  }

  u32(value: number): this {
    return this.u16(value >>> 16).u16(value);
  }

  u64(value: bigint): this {
    return this.u32(Number((value >> 32n) & 0xffffffffn)).u32(Number(value & 0xffffffffn));
  }

  put(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }

  zeros(n: number): this {
    for (let i = 0; i < n; i++) this.#bytes.push(0);
    return this;
  }

  /** Zeros up to a multiple of 8. */
  pad(): this {
    return this.zeros(-this.#bytes.length & 7);
  }

  /** Zeros up to `length` bytes. */
  padTo(length: number): this {
    return this.zeros(length - this.#bytes.length);
  }

  /** The header of a field, as the Nicira extensions write it. */
  field(field: FieldName, minor: MinorVersion = 0): this {
    return this.put(encodeFieldHeader(field, minor, false));
  }

  /** The four bytes that old actions have for a field. */
  shortField(field: FieldName): this {
    return this.put(encodeFieldHeader(field, 0, false).subarray(0, 4));
  }

  /** offset(10) | width - 1 (6) of a subfield. */
  range({ lsb, bits }: Subfield): this {
    return this.u16((lsb << 6) | (bits - 1));
  }

  /** Header, value and mask of a field. */
  entry(field: FieldName, minor: MinorVersion, value: Uint8Array, mask?: Uint8Array): this {
    const wire = toWireValue(field, value);
    const ones = mask === undefined ? undefined : toWireValue(field, mask);
    const from = isTunMetadata(field) ? firstByte(ones ?? wire) : 0;
    this.put(encodeFieldHeader(field, minor, ones !== undefined, wire.length - from)).put(wire.subarray(from));
    return ones === undefined ? this : this.put(ones.subarray(from));
  }

  /** The bytes as they are: a part of an action. */
  finishRaw(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** All bytes, the length of the action put in at offset 2. */
  finish(): Uint8Array {
    this.pad();
    const bytes = Uint8Array.from(this.#bytes);
    bytes[2] = bytes.length >>> 8;
    bytes[3] = bytes.length & 0xff;
    return bytes;
  }
}

/** @throws OpenFlowError always */
export const refuse = (error: OpenFlowErrorName, reason: string): never => {
  throw new OpenFlowError(error, reason);
};

/** Whether four bytes can name a field: not those of experimenters, nor tunnel options. */
export const hasShortCode = (field: FieldName): boolean =>
  fieldCode(field, 0)?.experimenter === undefined && !isTunMetadata(field);

/** @throws OpenFlowError OFPBAC_BAD_SET_LEN, or for one to be written OFPBAC_BAD_SET_ARGUMENT */
const checkSubfield = (subfield: Subfield, isWritten: boolean): Subfield => {
  const { field, lsb, bits } = subfield;
  if (bits === 0 || lsb + bits > FIELD_WIDTH[field]) {
    refuse(
      "OFPBAC_BAD_SET_LEN",
      `Cannot use bits ${lsb}..${lsb + bits - 1} of ${field}: it is ${FIELD_WIDTH[field]} bits wide`,
    );
  }
  if (isWritten && !fieldSpec(field).writable) {
    refuse("OFPBAC_BAD_SET_ARGUMENT", `Cannot write ${field}: it is read-only`);
  }
  return subfield;
};

/** The bytes of one action, read from its beginning on. */
export class ActionReader {
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.bytes.length - this.#at;
  }

  /** @throws OpenFlowError OFPBAC_BAD_LEN when `n` bytes are not there */
  take(n: number): Uint8Array {
    if (this.left < n) refuse("OFPBAC_BAD_LEN", `Cannot read an action: want ${n} more bytes, got ${this.left}`);
    this.#at += n;
    return this.bytes.subarray(this.#at - n, this.#at);
  }

  skip(n: number): this {
    this.take(n);
    return this;
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  u16(): number {
    const [a, b] = this.take(2);
    return (a! << 8) | b!;
  }

  u32(): number {
    return this.u16() * 0x10000 + this.u16();
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  rest(): Uint8Array {
    return this.take(this.left);
  }

  /** @throws OpenFlowError `error` when one of the next `n` bytes is not 0 */
  zeros(n: number, error: OpenFlowErrorName): this {
    if (this.take(n).some((byte) => byte !== 0)) refuse(error, "Cannot read an action: want zeros in its padding");
    return this;
  }

  /** A field header, without a mask. */
  field(): FieldName {
    const header = decodeHeader(this.bytes, this.#at);
    this.skip(header.size);
    const coded = codedField(header);
    if (coded === undefined) return refuse("OFPBMC_BAD_FIELD", `Cannot find field ${header.cls}:${header.number}`);
    if (header.masked) refuse("OFPBMC_BAD_MASK", `Cannot mask ${coded.field} here`);
    return coded.field;
  }

  /** offset(10) | width - 1 (6). */
  range(): { lsb: number; bits: number } {
    const range = this.u16();
    return { lsb: range >>> 6, bits: (range & 0x3f) + 1 };
  }

  source(subfield: Subfield): Subfield {
    return checkSubfield(subfield, false);
  }

  target(subfield: Subfield): Subfield {
    return checkSubfield(subfield, true);
  }

  /**
   * Header, value and mask of a field.
   *
   * @returns also whether the value has bits that the field has no place for
   */
  entry(): { field: FieldName; value: Uint8Array; mask?: Uint8Array; overflows: boolean } {
    const header = decodeHeader(this.bytes, this.#at);
    this.skip(header.size);
    const coded = codedField(header);
    if (coded === undefined) {
      const error = hasOtherLength(header) ? "OFPBAC_BAD_SET_LEN" : "OFPBAC_BAD_SET_TYPE";
      return refuse(error, `Cannot find field ${header.cls}:${header.number} of this length`);
    }
    if (this.left < header.payloadBytes) {
      refuse("OFPBMC_BAD_LEN", `Cannot read ${coded.field}: want ${header.payloadBytes} bytes, got ${this.left}`);
    }
    const size = valueBytesOf(header);
    const value = this.take(size);
    const { field } = coded;
    const beyond = Math.max(0, value.length - FIELD_BYTES[field]);
    const overflows = value.subarray(0, beyond).some((byte) => byte !== 0);
    if (!header.masked) return { field, value: fromWireValue(field, value), overflows };
    const mask = this.take(size);
    if (value.some((byte, i) => (byte & ~mask[i]!) !== 0)) {
      refuse("OFPBMC_BAD_WILDCARDS", `Cannot read ${field}: its value has bits that its mask has not`);
    }
    const isWhole = mask.every((byte) => byte === 0xff);
    const part = isWhole ? {} : { mask: fromWireValue(field, mask) };
    return { field, value: fromWireValue(field, value), ...part, overflows };
  }
}
