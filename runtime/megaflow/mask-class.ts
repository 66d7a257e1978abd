// All megaflows with one mask, found by a packet's flow: a hash table with linear probing whose entries are the ukeys
// themselves, and a dense list of them to walk. Finding allocates nothing, adding one rarely.

import { randomBytes } from "node:crypto";
import {
  inTable,
  keyMask,
  newFlow,
  INPUT_MEMBERS,
  subtable,
  unwildcard,
  type FlowWords,
  type KeyLayout,
  type Subtable,
} from "#compiler";
import { keptWord } from "./flow-arena.js";
import type { Ukey } from "./ukey.js";

/** Every bit that a packet can have a value in. */
const INPUT_BITS: FlowWords = newFlow();
for (const member of INPUT_MEMBERS) unwildcard(INPUT_BITS, member);

/** Who does not know it cannot aim at one place of the tables. */
const SEED = randomBytes(4).readInt32LE();
/** An odd constant of MurmurHash3. */
const MIX = 0xcc9e2d51;
const FIRST_SLOTS = 16;

export class MaskClass {
  /** In no order. */
  private readonly list: Ukey[] = [];
  /** Twice as many as there are ukeys, or more; a power of two. */
  private slots: (Ukey | undefined)[] = newSlots(FIRST_SLOTS);
  private hashes = new Int32Array(FIRST_SLOTS);
  /** Words of a flow in which the mask has bits, where they are in a kept flow, and the bits. */
  private readonly words: readonly number[];
  private readonly kept: readonly number[];
  private readonly bits: Int32Array;

  /**
   * @param mask - bits of packet members only
   * @param table - its subtable, if it gets one; another when the key's layout changes
   * @param isExact - stands for "every bit of the layout"
   */
  constructor(
    readonly mask: FlowWords,
    public table: Subtable,
    readonly isExact: boolean,
  ) {
    this.words = [...mask.keys()].filter((word) => mask[word] !== 0);
    this.kept = this.words.map(keptWord);
    this.bits = Int32Array.from(this.words, (word) => mask[word]!);
  }

  get size(): number {
    return this.list.length;
  }

  /** Deleting any while walking is allowed: each that stays is given at least once. New ones may be left out. */
  *[Symbol.iterator](): Generator<Ukey> {
    for (let i = this.list.length; ;) {
      i = Math.min(i, this.list.length) - 1;
      if (i < 0) return;
      yield this.list[i]!;
    }
  }

  private hashOf(flow: FlowWords, ifindex: number): number {
    const { words, bits } = this;
    let hash = SEED ^ ifindex;
    for (let i = 0; i < words.length; i++) {
      hash = Math.imul(hash ^ (flow[words[i]!]! & bits[i]!), MIX);
      hash ^= hash >>> 15;
    }
    return hash;
  }

  /** Whether a packet with this flow is of a megaflow of this class. */
  covers(ukey: Ukey, flow: FlowWords, ifindex: number): boolean {
    const { words, kept, bits } = this;
    const { chunk, at } = ukey;
    if (ukey.ifindex !== ifindex) return false;
    for (let i = 0; i < words.length; i++)
      if (((flow[words[i]!]! ^ chunk[at + kept[i]!]!) & bits[i]!) !== 0) return false;
    return true;
  }

  /** The megaflow that a packet with this flow is of. */
  find(flow: FlowWords, ifindex: number): Ukey | undefined {
    const { slots, hashes } = this;
    const hash = this.hashOf(flow, ifindex);
    const last = slots.length - 1;
    for (let slot = hash & last; ; slot = (slot + 1) & last) {
      const ukey = slots[slot];
      if (ukey === undefined) return undefined;
      if (hashes[slot] === hash && this.covers(ukey, flow, ifindex)) return ukey;
    }
  }

  /** Adds a megaflow that {@link find} does not give for its flow. @param flow - its flow */
  add(ukey: Ukey, flow: FlowWords): void {
    ukey.hash = this.hashOf(flow, ukey.ifindex);
    ukey.position = this.list.length;
    this.list.push(ukey);
    if (2 * this.list.length > this.slots.length) this.resize(2 * this.slots.length);
    else this.insert(ukey, ukey.hash);
  }

  private insert(ukey: Ukey, hash: number): void {
    const { slots, hashes } = this;
    const last = slots.length - 1;
    let slot = hash & last;
    while (slots[slot] !== undefined) slot = (slot + 1) & last;
    slots[slot] = ukey;
    hashes[slot] = hash;
  }

  private resize(size: number): void {
    this.slots = newSlots(size);
    this.hashes = new Int32Array(size);
    for (const ukey of this.list) this.insert(ukey, ukey.hash);
  }

  /** Takes a megaflow out that is in. */
  delete(ukey: Ukey): void {
    const { list } = this;
    const moved = list.pop()!;
    if (moved !== ukey) {
      moved.position = ukey.position;
      list[ukey.position] = moved;
    }
    this.free(ukey);
    if (this.slots.length > FIRST_SLOTS && 16 * list.length < this.slots.length) this.resize(this.slots.length / 4);
  }

  /** Empties its slot, and moves those behind it up that would not be found any more. */
  private free(ukey: Ukey): void {
    const { slots, hashes } = this;
    const last = slots.length - 1;
    let gap = ukey.hash & last;
    while (slots[gap] !== ukey) gap = (gap + 1) & last;
    for (let slot = (gap + 1) & last; slots[slot] !== undefined; slot = (slot + 1) & last) {
      const home = hashes[slot]! & last;
      // Whether the gap lies between its home and where it is.
      if (((slot - home) & last) < ((slot - gap) & last)) continue;
      slots[gap] = slots[slot];
      hashes[gap] = hashes[slot]!;
      gap = slot;
    }
    slots[gap] = undefined;
  }

  /** Number of 1-bits of the mask in the key. */
  get weight(): number {
    let bits = 0;
    for (const byte of this.table.mask) for (let rest = byte; rest !== 0; rest &= rest - 1) bits++;
    return bits;
  }

  /** Whether every 1-bit of `bytes`, in full-key bytes, is one here, too: a megaflow of that mask may lie here. */
  isWithin(bytes: Uint8Array): boolean {
    for (let i = 0; i < bytes.length; i++) if ((bytes[i]! & ~this.table.mask[i]!) !== 0) return false;
    return true;
  }
}

/** Filled, so that the engine keeps them as a plain array. */
const newSlots = (size: number): (Ukey | undefined)[] => new Array<Ukey | undefined>(size).fill(undefined);

/**
 * The subtable of a mask.
 * @param map - name of its map if it gets one of its own
 * @param number - its number if it lies in a megaflow table
 */
export const subtableOf = (layout: KeyLayout, mask: FlowWords, map: string, number: number | undefined): Subtable => {
  const table = subtable(map, keyMask(layout, mask));
  return number === undefined ? table : inTable(table, number);
};

/** Every bit of every member of a layout, as flow words. */
export const wholeMask = (layout: KeyLayout): FlowWords => {
  const mask = newFlow();
  for (const { member } of layout.fields) unwildcard(mask, member);
  return mask;
};

/** The bits of `mask` that a packet can have, with in_port, which is always matched. */
export const packetMask = (mask: FlowWords): FlowWords => {
  const out = newFlow();
  for (let word = 0; word < mask.length; word++) out[word] = mask[word]! & INPUT_BITS[word]!;
  unwildcard(out, "in_port");
  return out;
};

/** Whether `narrow` has a bit that `wide` has not. */
export const hasExtraBits = (narrow: FlowWords, wide: FlowWords): boolean => {
  for (let word = 0; word < narrow.length; word++) {
    if ((narrow[word]! & INPUT_BITS[word]! & ~wide[word]!) !== 0) return true;
  }
  return false;
};
