// Where the megaflows of one subtable lie, and what user space remembers of each: what every way of storing them offers, and
// the kernel hash map as one such way; table-store.ts has the other.
//
// Statistics of the hash map are exact: an entry's counters are read for the last time by the same system call that takes it out. A
// packet that is inside the program on another CPU at that moment (less than a microsecond) can still add to the
// entry; the kernel gives no way to see that.

import { VALUE, putCompactKey, type Subtable } from "#compiler";
import { walk, WalkBuffers, type BpfMap } from "libbpf-ts";
import { Placement, type Fill, type OnTraffic } from "./placement.js";

/** Entries read per system call: bounded so that one step of a sweep takes a quarter of a millisecond. */
const SWEEP_BATCH = 512;

/** The same for entries that are read one by one. */
const SWEEP_LOOKUPS = 128;
/**
 * Walking a hash map goes through all its buckets, which are as many as entries have room: it pays when at least one in so
 * many is taken. A look-up costs about 1 us, a bucket some nanoseconds.
 */
const WALK_PAYS = 128;

/** A little-endian u64 as a number; exact below 2^53. */
const readU64 = (view: DataView, at: number): number =>
  view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);

/** The entries of one subtable, however they are stored. Disposing frees them; nobody may look into it any more. */
export interface SubtableStore<Owner> extends Disposable, Iterable<Placement<Owner>> {
  readonly table: Subtable;
  readonly size: number;
  /** Bytes that the entries take at most, for memory reports. */
  readonly memoryBytes: number;

  /** The entry that a packet with this full key would hit here. */
  find(fullKey: Uint8Array): Placement<Owner> | undefined;

  /**
   * Puts an entry in, with counters of zero. An entry with the same key must have been taken out before.
   * @returns the placement, or the errno of what prevented it
   */
  put(fullKey: Uint8Array, owner: Owner, fill: Fill<Owner>): Placement<Owner> | number;

  /**
   * Gives an entry another value: reports what it counted under the old one and starts from zero.
   * @param onTraffic - told of packets that the old value still handles, also later
   * @returns 0, or the errno of what prevented it: the entry is gone then
   */
  rewrite(placement: Placement<Owner>, fill: Fill<Owner>, onTraffic: OnTraffic<Owner>): number;

  /**
   * Takes an entry out and reports what it counted since it was read last.
   * @param onTraffic - told of packets that it still handles, also later
   * @returns false when there was no such entry
   */
  take(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean;

  /** Reads one entry's counters now. @returns false when there is no such entry */
  read(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean;

  /**
   * Reads all counters, many entries a step; between two steps anything may happen to the store. Yields how many
   * entries a step read.
   */
  sweep(onTraffic: OnTraffic<Owner>): Generator<number>;
}

/** A subtable in a kernel hash map. */
export class HashStore<Owner> implements SubtableStore<Owner> {
  private readonly placements = new Map<string, Placement<Owner>>();
  private readonly byNumber: (Placement<Owner> | undefined)[] = [];
  private readonly freeNumbers: number[] = [];
  private readonly keyBuffer: Buffer;
  private readonly value: DataView;
  /** Packets that hit this subtable, as far as counters were read. */

  /** @param map - owned from now on */
  constructor(
    readonly table: Subtable,
    private readonly map: BpfMap,
  ) {
    const { key, value } = map;
    this.keyBuffer = Buffer.from(key.buffer, key.byteOffset, key.length);
    this.value = new DataView(value.buffer, value.byteOffset, value.length);
  }

  get size(): number {
    return this.placements.size;
  }

  /** Bytes that the entries take at most, for memory reports: keys and values. */
  get memoryBytes(): number {
    return this.placements.size * (this.map.keySize + this.map.valueSize);
  }

  [Symbol.iterator](): Iterator<Placement<Owner>> {
    return this.placements.values();
  }

  find(fullKey: Uint8Array): Placement<Owner> | undefined {
    return this.placements.get(this.keyOf(fullKey));
  }

  /** The compact key of a full key, as text; leaves its bytes in the map's key buffer. */
  private keyOf(fullKey: Uint8Array): string {
    putCompactKey(this.table, fullKey, this.map.key);
    return this.keyBuffer.toString("latin1");
  }

  put(fullKey: Uint8Array, owner: Owner, fill: Fill<Owner>): Placement<Owner> | number {
    const key = this.keyOf(fullKey);
    const placement = new Placement<Owner>(owner, this, this.freeNumbers.pop() ?? this.byNumber.length, key);
    return this.write(placement, fill) || placement;
  }

  /** Writes the entry whose key is in the map's key buffer. @returns 0, or the errno when the kernel refused */
  private write(placement: Placement<Owner>, fill: Fill<Owner>): number {
    const { map, value } = this;
    map.value.fill(0);
    fill(placement.owner, value);
    value.setUint32(VALUE.entry, placement.number, true);
    const errno = map.tryUpdate(map.key, map.value);
    this.byNumber[placement.number] = errno === 0 ? placement : undefined;
    if (errno === 0) this.placements.set(placement.key, placement);
    else this.freeNumbers.push(placement.number);
    return errno;
  }

  /**
   * Gives an entry another value: reports what it counted under the old one and starts from zero. Packets that come in
   * between miss.
   * @returns 0, or the errno when the kernel refused: the entry is gone then
   */
  rewrite(placement: Placement<Owner>, fill: Fill<Owner>, onTraffic: OnTraffic<Owner>): number {
    this.take(placement, onTraffic);
    placement.packets = 0;
    placement.bytes = 0;
    this.keyBuffer.write(placement.key, "latin1");
    placement.number = this.freeNumbers.pop() ?? this.byNumber.length;
    return this.write(placement, fill);
  }

  /**
   * Takes an entry out and reports what it counted since it was read last.
   * @returns false when the kernel had no such entry
   */
  take(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    if (this.placements.get(placement.key) === placement) {
      this.placements.delete(placement.key);
      this.byNumber[placement.number] = undefined;
      this.freeNumbers.push(placement.number);
    }
    this.keyBuffer.write(placement.key, "latin1");
    if (!this.map.take(this.map.key)) return false;
    this.report(placement, this.value, 0, onTraffic);
    return true;
  }

  /** Reads one entry's counters now. @returns false when the kernel has no such entry */
  read(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    this.keyBuffer.write(placement.key, "latin1");
    if (!this.map.lookup(this.map.key)) return false;
    this.report(placement, this.value, 0, onTraffic);
    return true;
  }

  private report(placement: Placement<Owner>, view: DataView, at: number, onTraffic: OnTraffic<Owner>): void {
    const packets = readU64(view, at + VALUE.packets);
    const bytes = readU64(view, at + VALUE.bytes);
    if (packets === placement.packets && bytes === placement.bytes) return;
    const newPackets = packets - placement.packets;
    const newBytes = bytes - placement.bytes;
    placement.packets = packets;
    placement.bytes = bytes;
    onTraffic(placement, newPackets, newBytes);
  }

  /**
   * Reads all counters, many entries a step; between two steps anything may happen to the store. Yields how many
   * entries a step read.
   */
  *sweep(onTraffic: OnTraffic<Owner>): Generator<number> {
    if (this.placements.size === 0) return;
    if (this.placements.size * WALK_PAYS < this.map.maxEntries) {
      yield* this.sweepOneByOne(onTraffic);
      return;
    }
    const { keySize, valueSize } = this.map;
    const buffers = new WalkBuffers(keySize, valueSize, Math.min(SWEEP_BATCH, Math.max(64, this.placements.size)));
    for (const { count, values } of walk(this.map, buffers)) {
      const view = new DataView(values.buffer, values.byteOffset, values.length);
      for (let i = 0; i < count; i++) {
        const placement = this.byNumber[view.getUint32(i * valueSize + VALUE.entry, true)];
        if (placement !== undefined) this.report(placement, view, i * valueSize, onTraffic);
      }
      yield count;
    }
  }

  private *sweepOneByOne(onTraffic: OnTraffic<Owner>): Generator<number> {
    let count = 0;
    for (const placement of this.placements.values()) {
      this.read(placement, onTraffic);
      if (++count < SWEEP_LOOKUPS) continue;
      yield count;
      count = 0;
    }
    if (count > 0) yield count;
  }

  /** Closes the map; entries vanish with the last program that uses it. */
  [Symbol.dispose](): void {
    this.placements.clear();
    this.byNumber.length = 0;
    this.map[Symbol.dispose]();
  }
}
