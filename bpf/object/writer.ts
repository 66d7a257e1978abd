// A growing little-endian byte string.

/** Appends numbers and bytes, little endian. */
export class ByteWriter {
  private buffer = new Uint8Array(256);
  private view = new DataView(this.buffer.buffer);
  private at = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.at;
  }

  /** What was written, as a copy. */
  bytes(): Uint8Array {
    return this.buffer.slice(0, this.at);
  }

  u8(value: number): this {
    const at = this.reserve(1);
    this.view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.reserve(2);
    this.view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.reserve(4);
    this.view.setUint32(at, value, true);
    return this;
  }

  /** 64 bits of a non-negative safe integer. */
  u64(value: number): this {
    const at = this.reserve(8);
    this.view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  append(bytes: Uint8Array): this {
    const at = this.reserve(bytes.length);
    this.buffer.set(bytes, at);
    return this;
  }

  /** Zeros up to the next multiple of `to` bytes. */
  align(to: number): this {
    this.reserve((to - (this.at % to)) % to);
    return this;
  }

  /** Overwrites bytes from `at` on. */
  patch(at: number, bytes: ArrayLike<number>): void {
    this.buffer.set(bytes, at);
  }

  /** Overwrites 32 bits at `at`. */
  patchU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  private reserve(n: number): number {
    const at = this.at;
    this.at += n;
    if (this.at > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.at, 2 * this.buffer.length));
      larger.set(this.buffer);
      this.buffer = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** A table of NUL-terminated strings, each stored once; offset 0 is the empty string. */
export class StringTable {
  private readonly writer = new ByteWriter().u8(0);
  private readonly offsets = new Map<string, number>([["", 0]]);

  /** Offset of `text`, added if it is new. What follows a NUL is dropped. */
  add(text: string): number {
    const clean = text.split("\0", 1)[0]!;
    const known = this.offsets.get(clean);
    if (known !== undefined) return known;
    const offset = this.writer.length;
    this.writer.append(new TextEncoder().encode(clean)).u8(0);
    this.offsets.set(clean, offset);
    return offset;
  }

  bytes(): Uint8Array {
    return this.writer.bytes();
  }
}
