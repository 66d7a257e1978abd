// Reads little-endian numbers from bytes that may be wrong: every access is checked, every failure says where.

import { CodecError } from "../base/errors.js";

/** A window on a file; offsets count from the start of the window, errors name offsets in the file. */
export class ByteReader {
  private readonly view: DataView;

  /**
   * @param action - what is being done, for errors: "read ELF object"
   * @param base - where the window starts in the file
   */
  constructor(
    readonly bytes: Uint8Array,
    readonly action: string,
    readonly base = 0,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get length(): number {
    return this.bytes.length;
  }

  u8(at: number): number {
    return this.view.getUint8(this.check(at, 1));
  }

  u16(at: number): number {
    return this.view.getUint16(this.check(at, 2), true);
  }

  u32(at: number): number {
    return this.view.getUint32(this.check(at, 4), true);
  }

  i32(at: number): number {
    return this.view.getInt32(this.check(at, 4), true);
  }

  /** A 64-bit offset or size. @throws {@link CodecError} also from 2^53 on, where nothing in a file can be */
  u64(at: number): number {
    const value = this.view.getBigUint64(this.check(at, 8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.error(at, `want an offset or size, got ${value}`);
    return Number(value);
  }

  /** The window `at..at + length`. */
  window(at: number, length: number): ByteReader {
    this.check(at, length);
    return new ByteReader(this.bytes.subarray(at, at + length), this.action, this.base + at);
  }

  /** The text from `at` to the next NUL. */
  string(at: number): string {
    this.check(at, 1);
    const end = this.bytes.indexOf(0, at);
    if (end < 0) throw this.error(at, "want a string that ends with NUL");
    return new TextDecoder().decode(this.bytes.subarray(at, end));
  }

  error(at: number, problem: string): CodecError {
    return new CodecError(this.action, this.base + at, problem);
  }

  private check(at: number, length: number): number {
    if (at >= 0 && length >= 0 && at + length <= this.bytes.length) return at;
    throw this.error(at, `want ${length} bytes, got ${Math.max(0, this.bytes.length - at)}`);
  }
}
