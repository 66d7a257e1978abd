// The packet under the program: bytes with room before and behind, as in an XDP frame or an skb. Moving an end makes
// every packet pointer taken before stale, which the generation in the pointer's slot tells.

import { Fault } from "./errors.js";
import { highWord, ORIGIN, type Segment, SEGMENT_SLOTS, SEGMENTS } from "./memory.js";

export class Packet implements Segment {
  bytes = new Uint8Array(4096);
  view = new DataView(this.bytes.buffer);
  /** Indexes into {@link Packet.bytes}: metadata, first byte, end of the part that programs see, end. */
  metaStart = 0;
  start = 0;
  linearEnd = 0;
  end = 0;
  private generation = 0;

  /**
   * Takes a copy of a packet.
   * @param capacity - bytes that the buffer has at least
   * @param linear - bytes that pointers reach; the rest is paged, as in an skb with fragments
   */
  load(packet: Uint8Array, headroom: number, capacity: number, linear: number): void {
    const want = Math.max(capacity, headroom + packet.length);
    if (this.bytes.length < want) this.allocate(want);
    this.bytes.fill(0, 0, headroom);
    this.bytes.set(packet, headroom);
    this.metaStart = this.start = headroom;
    this.end = headroom + packet.length;
    this.linearEnd = headroom + Math.min(linear, packet.length);
    this.invalidate();
  }

  get length(): number {
    return this.end - this.start;
  }

  /** Makes all pointers into the packet stale. */
  invalidate(): void {
    this.generation = (this.generation + 1) & (SEGMENT_SLOTS - 1);
  }

  /** Writes a pointer to byte `at` of {@link Packet.bytes} to a register. */
  pointer(R: Int32Array, register: number, at: number): void {
    R[register] = ORIGIN + at;
    R[register + 1] = highWord(SEGMENTS.packet, this.generation);
  }

  /** The packet as it is now, copied. */
  copy(): Uint8Array {
    return this.bytes.slice(this.start, this.end);
  }

  /** The packet's bytes, not a copy. */
  data(): Uint8Array {
    return this.bytes.subarray(this.start, this.end);
  }

  /** Lets pointers reach the first `length` bytes; false when the packet is shorter. */
  pull(length: number): boolean {
    if (length > this.length) return false;
    this.linearEnd = Math.max(this.linearEnd, this.start + length);
    return true;
  }

  /** Inserts `n` zero bytes in front of byte `at`, moving what is before it towards the head. */
  insert(at: number, n: number): void {
    if (this.metaStart < n) this.growHead(n);
    // A packet shorter than `at` has zero bytes there (the kernel: whatever the buffer holds).
    if (at > this.length) this.bytes.fill(0, this.end, this.start + at);
    this.start -= n;
    this.metaStart = this.start;
    this.bytes.copyWithin(this.start, this.start + n, this.start + n + at);
    this.bytes.fill(0, this.start + at, this.start + at + n);
  }

  /** Removes `n` bytes at byte `at`, moving what is before it towards the tail. */
  remove(at: number, n: number): void {
    this.bytes.copyWithin(this.start + n, this.start, this.start + at);
    this.start += n;
    this.metaStart = this.start;
    this.linearEnd = Math.max(this.linearEnd, this.start);
  }

  /** Cuts the packet or extends it by zero bytes. */
  resize(length: number): void {
    const end = this.start + length;
    if (end > this.bytes.length) {
      const { bytes } = this;
      this.allocate(end + 256);
      this.bytes.set(bytes);
    }
    const wasLinear = this.linearEnd === this.end;
    if (end > this.end) this.bytes.fill(0, this.end, end);
    this.end = end;
    this.linearEnd = wasLinear ? end : Math.min(this.linearEnd, end);
  }

  locate(slot: number, offset: number, size: number, write: boolean): number {
    if (slot !== this.generation)
      throw new Fault(
        `${write ? "write" : "read"} of ${size} bytes through a stale packet pointer: the packet was changed after it was taken`,
      );
    if (offset < this.metaStart || offset + size > this.linearEnd)
      throw new Fault(
        `${write ? "write" : "read"} of ${size} bytes at packet offset ${offset - this.start}: ` +
          `data_end is at ${this.linearEnd - this.start}`,
      );
    return offset;
  }

  private growHead(n: number): void {
    const { bytes } = this;
    const by = n + 256;
    this.allocate(bytes.length + by);
    this.bytes.set(bytes, by);
    this.metaStart += by;
    this.start += by;
    this.linearEnd += by;
    this.end += by;
  }

  private allocate(size: number): void {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }
}
