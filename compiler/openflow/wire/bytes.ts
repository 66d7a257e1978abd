// Bytes of messages in the making and being read, big-endian. A writer grows as it is written to; a reader never reads
// beyond its end: what is too short is refused with an OpenFlow error.

import { fromBytes } from "../big-endian.js";
import { OpenFlowError, type OpenFlowErrorName } from "./errors.js";

const FIRST_BYTES = 256;

/** Bytes in the making. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #size = 0;

  /** @param room - bytes that there is room for at first */
  constructor(room = FIRST_BYTES) {
    this.#bytes = new Uint8Array(room);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#size;
  }

  /** Room for `n` more bytes; returns where they begin. */
  #grow(n: number): number {
    const at = this.#size;
    this.#size += n;
    if (this.#size > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(this.#size, 2 * this.#bytes.length));
      bytes.set(this.#bytes.subarray(0, at));
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    return at;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#grow(2);
    this.#view.setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
    return this;
  }

  /** A number is exact up to 2^53. */
  u64(value: bigint | number): this {
    if (typeof value === "number") return this.u32(Math.floor(value / 2 ** 32)).u32(value >>> 0);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value);
    return this;
  }

  put(bytes: ArrayLike<number>): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  zeros(n: number): this {
    const at = this.#grow(n);
    this.#bytes.fill(0, at, at + n);
    return this;
  }

  /** Text in a field of `size` bytes, of which the last is 0. */
  text(text: string, size: number): this {
    const bytes = Buffer.from(text, "utf8").subarray(0, size - 1);
    return this.put(bytes).zeros(size - bytes.length);
  }

  /** Zeros until a multiple of 8 bytes follows `from`. */
  pad8(from = 0): this {
    return this.zeros(-(this.#size - from) & 7);
  }

  /** Puts a number of 1, 2 or 4 bytes in that was not known before. */
  set(at: number, value: number, bytes: 1 | 2 | 4): void {
    if (bytes === 4) this.#view.setUint32(at, value);
    else if (bytes === 2) this.#view.setUint16(at, value);
    else this.#bytes[at] = value;
  }

  /** Takes out what was written from `at` on, in memory of its own. */
  cut(at: number): Uint8Array {
    const rest = this.#bytes.slice(at, this.#size);
    this.#size = at;
    return rest;
  }

  /** Puts a number in that was not known before. */
  set16(at: number, value: number): this {
    this.#view.setUint16(at, value);
    return this;
  }

  /** What was written, in memory of its own: the writer's, if it is nearly full. Nothing may be written any more. */
  finish(): Uint8Array {
    const isFull = this.#size > this.#bytes.length - (this.#bytes.length >>> 4);
    return isFull ? this.#bytes.subarray(0, this.#size) : this.#bytes.slice(0, this.#size);
  }
}

/** Bytes being read, from their beginning on. */
export class ByteReader {
  #at = 0;
  readonly #view: DataView;

  /** @param error - what is answered when there are too few bytes */
  constructor(
    readonly bytes: Uint8Array,
    private readonly error: OpenFlowErrorName = "OFPBRC_BAD_LEN",
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.bytes.length - this.#at;
  }

  /** Where the next `n` bytes begin. @throws {@link OpenFlowError} when there are fewer */
  #take(n: number): number {
    if (n > this.left)
      throw new OpenFlowError(this.error, `Cannot read a message: want ${n} more bytes, got ${this.left}`);
    const at = this.#at;
    this.#at += n;
    return at;
  }

  u8(): number {
    return this.bytes[this.#take(1)]!;
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  take(n: number): Uint8Array {
    const at = this.#take(n);
    return this.bytes.subarray(at, at + n);
  }

  skip(n: number): this {
    this.#take(n);
    return this;
  }

  rest(): Uint8Array {
    return this.take(this.left);
  }

  /** Text in a field of `size` bytes, up to the first 0. */
  text(size: number): string {
    const bytes = this.take(size);
    const end = bytes.indexOf(0);
    return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString("latin1");
  }

  /** A reader of the next `n` bytes alone. */
  part(n: number, error = this.error): ByteReader {
    return new ByteReader(this.take(n), error);
  }
}

/** A number of any size. */
export const numberAt = (bytes: Uint8Array, at: number, size: number): bigint =>
  fromBytes(bytes.subarray(at, at + size));

/** Bytes in a row. */
export const joinBytes = (parts: readonly Uint8Array[]): Uint8Array => {
  const all = new Uint8Array(parts.reduce((size, { length }) => size + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** A property: type(16) | length(16), of an experimenter type 0xffff with its ID and type behind. */
export interface Property {
  readonly type: number;
  readonly experimenter?: number;
  readonly expType?: number;
  readonly body: ByteReader;
}

const EXPERIMENTER = 0xffff;

/** The properties that are left. @throws {@link OpenFlowError} OFPBPC_BAD_LEN */
export function* properties(reader: ByteReader, padding = 8): Generator<Property> {
  while (reader.left > 0) {
    const start = reader.at;
    const header = new ByteReader(reader.bytes.subarray(start), "OFPBPC_BAD_LEN");
    const type = header.u16();
    const length = header.u16();
    const isExperimenter = type === EXPERIMENTER;
    const least = isExperimenter ? 12 : 4;
    const whole = Math.ceil(length / padding) * padding;
    if (length < least || whole > reader.left)
      throw new OpenFlowError("OFPBPC_BAD_LEN", `Cannot read a property: it says that it has ${length} bytes`);
    reader.skip(whole);
    const body = new ByteReader(header.bytes.subarray(least, length), "OFPBPC_BAD_LEN");
    yield isExperimenter ? { type, experimenter: header.u32(), expType: header.u32(), body } : { type, body };
  }
}

/** @throws {@link OpenFlowError} for a property that nobody knows */
export const refuseProperty = ({ type, experimenter }: Property): never => {
  if (experimenter === undefined) throw new OpenFlowError("OFPBPC_BAD_TYPE", `Cannot use a property of type ${type}`);
  throw new OpenFlowError("OFPBPC_BAD_EXP_TYPE", `Cannot use this property of experimenter ${experimenter}`);
};

/** Writes a property, padded to 8 bytes. */
export const putProperty = (writer: ByteWriter, type: number, put: (writer: ByteWriter) => void): void => {
  const start = writer.length;
  writer.u16(type).u16(0);
  put(writer);
  writer.set16(start + 2, writer.length - start).pad8(start);
};
