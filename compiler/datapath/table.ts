// The megaflow table: many subtables in one array of slots that programs and user space share as plain memory. Geometry and
// hash; table-lookup.ts has the program's side, table-memory.ts user space's.
//
// A slot is 64 bytes or a power of two more, so that a hit mostly takes one cache line:
//
//   0              u64 tag: 0 in its low half = empty; else hash bits 16..63, and the number of the subtable below them
//   8              the head of a megaflow value (VALUE): packets, bytes, shape, and in place of `entry` two u16, see below
//   32             compact key, `words` u64
//   32 + 8*words   arguments of the shape, `argsSize` bytes
//
// The hash of a key names its home slot. An entry lies there or, if that is taken, in a free slot near behind it (the last slot
// is followed by the first). What lies elsewhere is chained: `first` of a slot is the distance to the first entry that has
// its home here and lies elsewhere, `next` of such an entry the distance to the one after it; 0 ends the chain. A chain has at
// most HOPS entries. So a key that is not there mostly costs one look at its home, and one that is there never more than what
// shares its home.
//
// Behind the slots lies the filter: FILTER_BITS bits for each home, the next bits of the hash saying which of them. A bit is 1
// while an entry with that hash is there. With several subtables most looks are at subtables that have no such key; the filter
// is small enough for the nearest caches, where homes of many flows are not, and so saves them the look at the home.
//
// The hash is NH (Black, Halevi, Krawczyk, Krovetz, Rogaway, UMAC, CRYPTO 1999) with a random key, then one
// multiplication by a random odd number whose high bits are taken: who does not know the seed cannot aim at one home.

import { RangeViolation } from "ebpf-assembler";
import { VALUE } from "./abi.js";

/** Byte offsets in a slot. */
export const SLOT = {
  tag: 0,
  value: 8,
  first: 8 + VALUE.entry,
  next: 8 + VALUE.entry + 2,
  key: 8 + VALUE.args,
} as const;

/** Entries of one home that may lie elsewhere: programs look at no more. With half of the slots taken, one in 5,000 finds no place. */
export const HOPS = 3;

/** Slots behind its home that an entry may lie in. */
export const REACH = 256;

/** Subtable numbers are 1 to this. */
export const MAX_TABLE_NUMBER = 0xffff;

/** Log2 of the smallest and the largest slot: a program's offsets into one value stay below 2^29 (BPF_MAX_VAR_OFF). */
const MIN_SHIFT = 6;
const MAX_TABLE_SHIFT = 28;
const MIN_BITS = 6;

/** Where everything lies in a table of megaflows. */
export interface TableLayout {
  /** Name of the array map: one value, all slots and the filter. */
  readonly map: string;
  /** Log2 of the number of slots. */
  readonly bits: number;
  /** Log2 of the bytes of a slot. */
  readonly shift: number;
  /** Longest compact key, in 8-byte words. */
  readonly words: number;
  /** Room for arguments in bytes. */
  readonly argsSize: number;
  /** 64 random bits that the hash comes from. */
  readonly seed: bigint;
}

export interface TableOptions {
  readonly map: string;
  /** Entries that it should take: at most half of its slots. */
  readonly entries: number;
  /** Words of the longest compact key now, and of the longest that there can be: taken if it costs nothing. */
  readonly words: number;
  readonly maxWords: number;
  /** Bytes of arguments, at least. */
  readonly argsSize: number;
  readonly seed: bigint;
}

/** Most slots that a table with slots of 2^shift bytes can have, as a power of two. */
const maxBits = (shift: number): number => MAX_TABLE_SHIFT - shift;

/** Lays out a table; what is left of a slot goes to longer keys first, then to arguments. */
export const tableLayout = ({ map, entries, words, maxWords, argsSize, seed }: TableOptions): TableLayout => {
  const args = Math.ceil(argsSize / 8);
  const shift = Math.max(MIN_SHIFT, Math.ceil(Math.log2(SLOT.key + 8 * (words + args))));
  const room = ((1 << shift) - SLOT.key) / 8;
  const keyWords = Math.min(Math.max(words, maxWords), room - args);
  const bits = Math.max(MIN_BITS, Math.ceil(Math.log2(2 * Math.max(1, entries))));
  return { map, bits: Math.min(bits, maxBits(shift)), shift, words: keyWords, argsSize: 8 * (room - keyWords), seed };
};

/** Log2 of the filter's bits for a home, and the number of them. */
export const FILTER_SHIFT = 1;
export const FILTER_BITS = 1 << FILTER_SHIFT;

/** Byte offset of the filter: behind all slots. */
export const filterAt = ({ bits, shift }: TableLayout): number => 2 ** (bits + shift);

/** Bytes of slots and filter. */
export const tableSize = (layout: TableLayout): number => filterAt(layout) + (FILTER_BITS * 2 ** layout.bits) / 8;

/** Whether the table could have more slots. */
export const canGrow = ({ bits, shift }: TableLayout): boolean => bits < maxBits(shift);

/** Byte offset of the arguments in a slot. */
export const argsAt = ({ words }: TableLayout): number => SLOT.key + 8 * words;

const MASK64 = (1n << 64n) - 1n;

/** The splitmix64 generator. */
const splitmix = function* (seed: bigint): Generator<bigint, never> {
  for (let state = seed & MASK64; ;) {
    state = (state + 0x9e37_79b9_7f4a_7c15n) & MASK64;
    let z = ((state ^ (state >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK64;
    z = ((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK64;
    yield z ^ (z >> 31n);
  }
};

/**
 * What the hash of a key is made with: `((Σ (low_i + low[i])·(high_i + high[i])) + number·step)·factor`, sums of halves
 * modulo 2^32, all else modulo 2^64.
 */
export interface HashKey {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
  /** Odd; sets subtables apart. */
  readonly step: number;
  /** Odd. */
  readonly factor: bigint;
}

export const hashKey = ({ seed, words }: Pick<TableLayout, "seed" | "words">): HashKey => {
  const random = splitmix(seed);
  const factor = random.next().value | 1n;
  const step = Number(random.next().value & 0x7fffn) | 1;
  const low = new Uint32Array(words);
  const high = new Uint32Array(words);
  for (let i = 0; i < words; i++) {
    const bits = random.next().value;
    low[i] = Number(bits & 0xffff_ffffn);
    high[i] = Number(bits >> 32n);
  }
  return { low, high, step, factor };
};

/** High half of the product of two u32. */
const mulHigh = (a: number, b: number): number => {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const first = ah * bl + ((al * bl) >>> 16);
  const second = al * bh + (first & 0xffff);
  // Both are below 2^32, but not below 2^31: only `>>>` keeps them whole.
  return (ah * bh + (first >>> 16) + (second >>> 16)) >>> 0;
};

/** Hashes compact keys. The result stays in `low` and `high` until the next call. */
export class TableHash {
  low = 0;
  high = 0;
  private readonly key: HashKey;
  private readonly factorLow: number;
  private readonly factorHigh: number;

  constructor(layout: Pick<TableLayout, "seed" | "words">) {
    this.key = hashKey(layout);
    this.factorLow = Number(this.key.factor & 0xffff_ffffn);
    this.factorHigh = Number(this.key.factor >> 32n);
  }

  /**
   * @param number - of the subtable
   * @param words - the compact key as u32 words, low half of each 8-byte word first
   */
  of(number: number, words: Uint32Array): void {
    const { low: addLow, high: addHigh, step } = this.key;
    if (words.length > 2 * addLow.length)
      throw new RangeViolation(`Cannot hash a key of ${words.length / 2} words: the table takes ${addLow.length}`);
    let low = Math.imul(number, step) >>> 0;
    let high = 0;
    for (let i = 0; i < words.length; i += 2) {
      const a = (words[i]! + addLow[i >>> 1]!) >>> 0;
      const b = (words[i + 1]! + addHigh[i >>> 1]!) >>> 0;
      low += Math.imul(a, b) >>> 0;
      high = (high + mulHigh(a, b) + (low > 0xffff_ffff ? 1 : 0)) >>> 0;
      low >>>= 0;
    }
    const { factorLow, factorHigh } = this;
    this.low = Math.imul(low, factorLow) >>> 0;
    this.high = (mulHigh(low, factorLow) + Math.imul(low, factorHigh) + Math.imul(high, factorLow)) >>> 0;
  }
}
