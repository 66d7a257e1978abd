// Reads a BPF ring buffer (BPF_MAP_TYPE_RINGBUF) by shared memory: no system call per record, no copy.
//
// Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer position and is ours to write; page 1 holds the producer
// position; from page 2 on come the data, mapped twice in a row, so that every record is contiguous. A record is a header
// of 8 bytes (u32 length with two flag bits, u32 page offset) and its data, padded to 8 bytes. Positions only grow.
//
// Waking user space costs the datapath about 9 us a record. A program can save it: it reads the "awake" word after it
// reserved a record and submits with BPF_RB_NO_WAKEUP while the word is 1. The reader sets the word while it drains, clears
// it when the ring is empty, and looks once more, so that no record is left lying.

import { MAP_TYPES, RangeViolation } from "ebpf-assembler";
import { ClosedError } from "../sys/errors.js";
import { mapShared, PAGE_SIZE } from "../sys/mmap.js";
import type { BpfMap } from "./map.js";

/** Flags of bpf_ringbuf_submit() and bpf_ringbuf_output() (uapi/linux/bpf.h). */
export const RING_FLAGS = { NO_WAKEUP: 1 << 0, FORCE_WAKEUP: 1 << 1 } as const;

const BUSY = 0x80000000;
const DISCARD = 0x40000000;
const LENGTH_MASK = 0x3fffffff;
const HEADER_SIZE = 8;

/** Records between two updates of the consumer position, so that the producer gets room back during a long drain. */
const RELEASE_EVERY = 64;
/** Records per turn of the event loop. */
const DRAIN_DEFAULT = 4096;

/** The memory of the ring, to parse records in place. */
export interface RingMemory {
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

/**
 * Gets one record: `size` bytes at `at` of the ring's memory, at an address that is a multiple of 8. Both are valid only
 * during the call; what is to stay must be copied.
 */
export type OnRecord = (ring: RingMemory, at: number, size: number) => void;

/** How to follow a ring buffer from the event loop. */
export interface FollowOptions {
  /** Called after each drain that delivered records, with their number: the place to flush what was gathered. */
  readonly onDrained?: (count: number) => void;
  /** Records per turn of the event loop; default 4096. */
  readonly limit?: number;
  /** No turn goes on for longer, in milliseconds; default as long as it takes. */
  readonly limitMs?: number;
  /** Word 0 is set to 1 while records are being drained; see the head of this file. */
  readonly awake?: Int32Array;
  /** Do not keep the process alive. */
  readonly background?: boolean;
}

/** Reader of one ring buffer; there can be only one at a time. Borrows the map, which must outlive it. */
export class RingBuffer implements Disposable {
  /** Capacity in bytes. */
  readonly size: number;
  private readonly mask: number;
  private readonly consumer: BigUint64Array;
  private readonly producer: BigUint64Array;
  private readonly headers: Uint32Array;
  private readonly memory: RingMemory;
  /** Consumer position; below 2^53 for 28 years at 10 MB/s, 100 days at 1 GB/s. */
  private position: number;
  private watching: Disposable | undefined;
  private closed = false;

  private constructor(private readonly map: BpfMap) {
    const what = `ring buffer "${map.name}"`;
    this.size = map.maxEntries;
    this.mask = this.size - 1;
    const { sys, fdNumber } = map;
    const own = mapShared(sys, fdNumber, { offset: 0, size: PAGE_SIZE, writable: true, what });
    const theirs = mapShared(sys, fdNumber, {
      offset: PAGE_SIZE,
      size: PAGE_SIZE + 2 * this.size,
      writable: false,
      what,
    });
    this.consumer = new BigUint64Array(own, 0, 1);
    this.producer = new BigUint64Array(theirs, 0, 1);
    this.headers = new Uint32Array(theirs, PAGE_SIZE);
    this.memory = { view: new DataView(theirs, PAGE_SIZE), bytes: new Uint8Array(theirs, PAGE_SIZE) };
    this.position = Number(Atomics.load(this.consumer, 0));
  }

  /**
   * Maps the memory of a ring buffer map.
   * @throws {@link RangeViolation} for another type of map, {@link SyscallError}
   */
  static open(map: BpfMap): RingBuffer {
    if (map.type !== MAP_TYPES.ringbuf) throw new RangeViolation(`Cannot read map "${map.name}": want a ringbuf`);
    return new RingBuffer(map);
  }

  /** Bytes that producers reserved and that are not consumed yet, headers included. */
  get pendingBytes(): number {
    this.checkOpen();
    return Number(Atomics.load(this.producer, 0)) - this.position;
  }

  /**
   * Delivers the records that are there, oldest first, at most `limit` and for about `limitMs`. Stops at a record whose producer is not done with
   * it. A record whose callback throws counts as consumed.
   * @returns how many were delivered
   */
  drain(onRecord: OnRecord, limit = DRAIN_DEFAULT, limitMs = Infinity): number {
    this.checkOpen();
    const { headers, mask, memory } = this;
    const end = Number(Atomics.load(this.producer, 0));
    let position = this.position;
    let count = 0;
    const endMs = limitMs === Infinity ? Infinity : performance.now() + limitMs;
    try {
      while (position < end && count < limit) {
        const at = position & mask;
        const header = Atomics.load(headers, at >>> 2);
        if ((header & BUSY) !== 0) break;
        const size = header & LENGTH_MASK;
        position += (size + HEADER_SIZE + 7) & ~7;
        if ((header & DISCARD) !== 0) continue;
        count++;
        onRecord(memory, at + HEADER_SIZE, size);
        if (count % RELEASE_EVERY !== 0) continue;
        Atomics.store(this.consumer, 0, BigInt(position));
        if (performance.now() >= endMs) break;
      }
    } finally {
      if (position !== this.position) {
        this.position = position;
        Atomics.store(this.consumer, 0, BigInt(position));
      }
    }
    return count;
  }

  /**
   * Drains from the event loop whenever there are records, until disposed. An exception of `onRecord` is an uncaught
   * exception of the process.
   */
  follow(onRecord: OnRecord, options: FollowOptions = {}): Disposable {
    this.checkOpen();
    if (this.watching !== undefined)
      throw new RangeViolation(`Ring buffer "${this.map.name}" is being followed already`);
    const { awake, limit = DRAIN_DEFAULT, limitMs, onDrained } = options;
    const turn = (): void => {
      if (this.closed) return;
      if (awake !== undefined) Atomics.store(awake, 0, 1);
      try {
        const count = this.drain(onRecord, limit, limitMs);
        if (count > 0) onDrained?.(count);
      } catch (error) {
        if (awake !== undefined) Atomics.store(awake, 0, 0); // the process may survive it: let it be woken
        throw error;
      }
      if (awake === undefined || this.closed || this.pendingBytes > 0) return; // level-triggered: comes again at once
      Atomics.store(awake, 0, 0);
      // A producer may have read the word before it was cleared and reserved after the ring was seen empty.
      if (this.pendingBytes > 0) setImmediate(turn);
    };
    const watch = this.map.sys.watch(this.map.fdNumber, turn, { background: options.background ?? false });
    this.watching = {
      [Symbol.dispose]: () => {
        watch[Symbol.dispose]();
        if (awake !== undefined) Atomics.store(awake, 0, 0);
        this.watching = undefined;
      },
    };
    return this.watching;
  }

  private checkOpen(): void {
    if (this.closed) throw new ClosedError(`ring buffer "${this.map.name}"`);
  }

  /** Stops following. The records that are not consumed stay in the map. */
  [Symbol.dispose](): void {
    this.watching?.[Symbol.dispose]();
    this.closed = true;
  }
}
