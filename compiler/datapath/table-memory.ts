// User space's side of a megaflow table (table.ts): inserts, removes and reads entries by plain loads and stores in the
// memory that it shares with programs.
//
// One writer. An entry is written while its tag says "empty" and published by storing the tag with release semantics, so
// a program that sees the tag sees all of it. An entry that is unpublished stays as it is until it is released: whoever
// has found it may still read its arguments and add to its counters, so wait until no packet can be in a program that
// has before releasing it. Counters of 64 bits are read whole although a store between two loads could tear them.

import { RangeViolation } from "ebpf-assembler";
import { VALUE } from "./abi.js";
import { argsAt, filterAt, FILTER_SHIFT, HOPS, REACH, SLOT, TableHash, tableSize, type TableLayout } from "./table.js";

/** Offsets in u32 words. */
const WORD = {
  tag: SLOT.tag / 4,
  packets: (SLOT.value + VALUE.packets) / 4,
  bytes: (SLOT.value + VALUE.bytes) / 4,
  shape: (SLOT.value + VALUE.shape) / 4,
  key: SLOT.key / 4,
} as const;

const TWO_32 = 2 ** 32;

/** The memory of one table. Slots are numbered from 0. */
export class TableMemory {
  /** Slots that are taken, those waiting for their release included. */
  nTaken = 0;
  readonly nSlots: number;
  private readonly words: Uint32Array;
  private readonly shared: Int32Array;
  /** The same memory as u16: `first` and `next` of slots. */
  private readonly links: Uint16Array;
  private readonly filter: Uint8Array;
  private readonly taken: Uint8Array;
  private readonly hash: TableHash;
  /** Log2 of the u32 words of a slot. */
  private readonly shift: number;
  private readonly argsWord: number;
  private readonly argsWords: number;
  private readonly homeShift: number;

  /**
   * @param memory - all zero, and nobody else's to write
   * @throws {@link RangeViolation} when it is too small
   */
  constructor(
    readonly layout: TableLayout,
    memory: ArrayBuffer,
  ) {
    const size = tableSize(layout);
    if (memory.byteLength < size)
      throw new RangeViolation(`Cannot hold a table of ${size} bytes in ${memory.byteLength}`);
    this.words = new Uint32Array(memory, 0, size / 4);
    this.shared = new Int32Array(memory, 0, size / 4);
    this.links = new Uint16Array(memory, 0, size / 2);
    this.filter = new Uint8Array(memory, filterAt(layout), size - filterAt(layout));
    this.nSlots = 2 ** layout.bits;
    this.taken = new Uint8Array(this.nSlots);
    this.hash = new TableHash(layout);
    this.shift = layout.shift - 2;
    this.argsWord = argsAt(layout) / 4;
    this.argsWords = layout.argsSize / 4;
    this.homeShift = 32 - layout.bits;
  }

  /** Slot of the entry with this key in subtable `number`; -1 when there is none. Keys as {@link TableHash.of} takes them. */
  find(number: number, key: Uint32Array): number {
    const { words, hash, shift } = this;
    hash.of(number, key);
    const tag = (hash.low & 0xffff_0000) | number;
    const home = hash.high >>> this.homeShift;
    let slot = home;
    for (let distance = 1; distance !== 0; slot = this.behind(slot, distance)) {
      const at = slot << shift;
      if ((words[at + WORD.tag]! | 0) === tag && words[at + WORD.tag + 1] === hash.high && this.hasKey(at, key))
        return slot;
      distance = slot === home ? this.links[this.first(slot)]! : this.links[this.next(slot)]!;
    }
    return -1;
  }

  private hasKey(at: number, key: Uint32Array): boolean {
    for (let i = 0; i < key.length; i++) if (this.words[at + WORD.key + i] !== key[i]) return false;
    return true;
  }

  /**
   * Puts an entry in, with counters of zero. One with the same key must not be there, or be unpublished at once.
   * @param value - a megaflow value (VALUE) as u32 words; its shape and arguments count
   * @returns its slot; -1 when its home's chain is full, or no slot near it is free
   */
  insert(number: number, key: Uint32Array, value: Uint32Array): number {
    const { words, hash } = this;
    hash.of(number, key);
    const home = hash.high >>> this.homeShift;
    const slot = this.take(home);
    if (slot < 0) return -1;
    const at = slot << this.shift;
    words[at + WORD.shape] = value[VALUE.shape / 4]!;
    for (let i = 0; i < key.length; i++) words[at + WORD.key + i] = key[i]!;
    const n = Math.min(this.argsWords, value.length - VALUE.args / 4);
    for (let i = 0; i < n; i++) words[at + this.argsWord + i] = value[VALUE.args / 4 + i]!;
    this.publish(slot, home, (hash.low & 0xffff_0000) | number, hash.high);
    return slot;
  }

  /**
   * Puts a copy of another table's entry in, with counters of zero.
   * @param other - with the same layout but for its number of slots
   * @returns its slot; -1 as {@link insert}
   */
  copy(other: TableMemory, from: number): number {
    const { words } = this;
    const source = from << other.shift;
    const high = other.words[source + WORD.tag + 1]!;
    const home = high >>> this.homeShift;
    const slot = this.take(home);
    if (slot < 0) return -1;
    const at = slot << this.shift;
    words[at + WORD.shape] = other.words[source + WORD.shape]!;
    for (let i = WORD.key; i < 1 << this.shift; i++) words[at + i] = other.words[source + i]!;
    this.publish(slot, home, other.words[source + WORD.tag]! | 0, high);
    return slot;
  }

  /** Index of a slot's `first` in {@link links}. */
  private first(slot: number): number {
    return (slot << (this.shift + 1)) + SLOT.first / 2;
  }

  /** Index of a slot's `next` in {@link links}. */
  private next(slot: number): number {
    return (slot << (this.shift + 1)) + SLOT.next / 2;
  }

  private behind(slot: number, distance: number): number {
    return (slot + distance) & (this.nSlots - 1);
  }

  private distance(from: number, to: number): number {
    return (to - from) & (this.nSlots - 1);
  }

  /** The link that ends the chain of a home, as an index; -1 when the chain is as long as it may be. */
  private endOfChain(home: number): number {
    let link = this.first(home);
    let slot = home;
    for (let i = 0; i < HOPS; i++) {
      const distance = this.links[link]!;
      if (distance === 0) return link;
      slot = this.behind(slot, distance);
      link = this.next(slot);
    }
    return -1;
  }

  /** Takes a free slot for an entry of `home`, its counters set to zero; -1 when there is none. */
  private take(home: number): number {
    const { taken, words } = this;
    let slot = home;
    if (taken[home] !== 0) {
      if (this.endOfChain(home) < 0) return -1;
      const reach = Math.min(REACH, this.nSlots - 1);
      for (let i = 0; taken[slot] !== 0; i++) {
        if (i === reach) return -1;
        slot = this.behind(slot, 1);
      }
    }
    taken[slot] = 1;
    this.nTaken++;
    const at = slot << this.shift;
    words.fill(0, at + WORD.packets, at + WORD.shape);
    return slot;
  }

  private publish(slot: number, home: number, tagLow: number, tagHigh: number): void {
    const { words, shared, links } = this;
    const at = slot << this.shift;
    words[at + WORD.tag + 1] = tagHigh;
    if (slot !== home) links[this.next(slot)] = 0;
    const bit = this.filterBit(tagHigh);
    this.filter[bit >>> 3]! |= 1 << (bit & 7);
    Atomics.store(shared, at + WORD.tag, tagLow);
    if (slot === home) return;
    const end = this.endOfChain(home);
    // The slot that ends the chain is where its link is.
    links[end] = this.distance(end >>> (this.shift + 1), slot);
  }

  /** Makes packets miss an entry from now on. Its counters may still rise until no packet that found it is left. */
  unpublish(slot: number): void {
    const { words, shared } = this;
    const at = slot << this.shift;
    Atomics.store(shared, at + WORD.tag, 0);
    const high = words[at + WORD.tag + 1]!;
    const home = high >>> this.homeShift;
    if (slot !== home) this.unlink(slot, home);
    const bit = this.filterBit(high);
    if (!this.isInUse(home, bit)) this.filter[bit >>> 3]! &= ~(1 << (bit & 7));
  }

  /** Number of the filter's bit for the upper half of a hash. */
  private filterBit(high: number): number {
    return high >>> (this.homeShift - FILTER_SHIFT);
  }

  /** Whether an entry of a home has this bit of the filter. */
  private isInUse(home: number, bit: number): boolean {
    let slot = home;
    for (let distance = 1; distance !== 0; slot = this.behind(slot, distance)) {
      const at = (slot << this.shift) + WORD.tag;
      // A slot may be another home's, whose bits are others.
      if (this.words[at] !== 0 && this.filterBit(this.words[at + 1]!) === bit) return true;
      distance = this.links[slot === home ? this.first(slot) : this.next(slot)]!;
    }
    return false;
  }

  /** Takes an entry out of its home's chain. */
  private unlink(slot: number, home: number): void {
    const { links } = this;
    let from = home;
    let link = this.first(home);
    for (let to = this.behind(from, links[link]!); to !== slot; to = this.behind(from, links[link]!)) {
      from = to;
      link = this.next(from);
    }
    // A packet that stands on this slot still finds what comes after it.
    const after = links[this.next(slot)]!;
    links[link] = after === 0 ? 0 : this.distance(from, this.behind(slot, after));
  }

  /** The key of an entry, published or not. @param into - as long as the key */
  readKey(slot: number, into: Uint32Array): void {
    const at = (slot << this.shift) + WORD.key;
    for (let i = 0; i < into.length; i++) into[i] = this.words[at + i]!;
  }

  /** Lets the slot of an unpublished entry be used again. */
  release(slot: number): void {
    this.taken[slot] = 0;
    this.nTaken--;
  }

  /** Bits of an entry's key that tell it from most others that its slot may hold at another time. */
  tag(slot: number): number {
    return this.words[(slot << this.shift) + WORD.tag + 1]!;
  }

  /** Exact below 2^53. */
  packets(slot: number): number {
    return this.counter((slot << this.shift) + WORD.packets);
  }

  /** Exact below 2^53. */
  bytes(slot: number): number {
    return this.counter((slot << this.shift) + WORD.bytes);
  }

  /** A little-endian u64 that others add to: its halves belong together when the upper one stays the same. */
  private counter(at: number): number {
    const { words, shared } = this;
    for (let high = words[at + 1]!; ;) {
      const low = Atomics.load(shared, at) >>> 0;
      const again = Atomics.load(shared, at + 1) >>> 0;
      if (again === high) return high * TWO_32 + low;
      high = again;
    }
  }
}

/** An entry as somebody finds it in a table that another process has written. */
export interface FoundEntry {
  readonly slot: number;
  /** Of its subtable. */
  readonly number: number;
}

/** The published entries of a table whose writer is gone: an entry that it was just writing is none. */
export function* publishedEntries(layout: TableLayout, memory: ArrayBuffer): Generator<FoundEntry> {
  const words = new Uint32Array(memory, 0, tableSize(layout) / 4);
  for (let slot = 0; slot < 2 ** layout.bits; slot++) {
    const tag = words[(slot << (layout.shift - 2)) + WORD.tag]!;
    if (tag !== 0) yield { slot, number: tag & 0xffff };
  }
}
