// A perfect hash made at compile time (hash and displace): keys of 8-byte words fall into buckets by the low half of a
// 64-bit hash; each bucket has a displacement that sends its keys to slots of their own by the high half. A look-up is one
// load of the displacement and one slot, whatever the number of keys. emit-hash.ts computes the same.

import { RangeViolation } from "ebpf-assembler";

/** Multiplier of the word hash (2^64 divided by the golden ratio, odd). */
export const WORD_MULTIPLIER = 0x9e3779b97f4a7c15n;
/** Multiplier that spreads a displaced half over the slots. */
export const SLOT_MULTIPLIER = 0x85ebca6b | 0;
/** Value of an empty slot. */
export const NO_RANK = 0x7fffffff;

export interface PerfectHash {
  /** 8-byte words of a key. */
  readonly words: number;
  /** Start of the hash. */
  readonly seed: number;
  readonly slotBits: number;
  readonly bucketBits: number;
  /** Slots, each the words of its key and its value as u64; then a u16 of displacement per bucket. Host order. */
  readonly bytes: Uint8Array;
  /** Where displacements begin. */
  readonly displacementsAt: number;
}

const MASK64 = (1n << 64n) - 1n;

/** Keys per bucket on average: more make building slow, fewer the table of displacements large. */
const BUCKET_LOAD = 3;
const MAX_DISPLACEMENT = 0xffff;
const SEEDS = 16;

const bitsFor = (n: number): number => Math.max(1, Math.ceil(Math.log2(n)));

/** Slot of a key by the high half of its hash. */
const slotOf = (high: number, displacement: number, slotBits: number): number =>
  Math.imul(high ^ displacement, SLOT_MULTIPLIER) >>> (32 - slotBits);

/** Hashes all keys: low and high halves alternate. */
const hashAll = (keys: readonly BigUint64Array[], seed: number): Uint32Array => {
  const out = new Uint32Array(2 * keys.length);
  keys.forEach((key, i) => {
    let h = BigInt(seed);
    for (const word of key) {
      h = ((h ^ word) * WORD_MULTIPLIER) & MASK64;
      h ^= h >> 32n;
    }
    // Keys that differ in the high bits of the last word only have not reached the low bits yet.
    h = (h * WORD_MULTIPLIER) & MASK64;
    h ^= h >> 32n;
    out[2 * i] = Number(h & 0xffffffffn);
    out[2 * i + 1] = Number(h >> 32n);
  });
  return out;
};

/** Slot per key and displacement per bucket, or nothing when this seed does not work. */
const place = (
  hashes: Uint32Array,
  slotBits: number,
  bucketBits: number,
): { slots: Uint32Array; displacements: Uint16Array } | undefined => {
  const n = hashes.length / 2;
  const nBuckets = 2 ** bucketBits;
  const buckets: number[][] = Array.from({ length: nBuckets }, () => []);
  for (let i = 0; i < n; i++) buckets[hashes[2 * i]! & (nBuckets - 1)]!.push(i);
  const order = [...buckets.keys()]
    .filter((b) => buckets[b]!.length > 0)
    .sort((a, b) => buckets[b]!.length - buckets[a]!.length);
  const used = new Uint8Array(2 ** slotBits);
  const slots = new Uint32Array(n);
  const displacements = new Uint16Array(nBuckets);
  for (const bucket of order) {
    const keys = buckets[bucket]!;
    let d = 0;
    for (; d <= MAX_DISPLACEMENT; d++) {
      let done = 0;
      for (; done < keys.length; done++) {
        const slot = slotOf(hashes[2 * keys[done]! + 1]!, d, slotBits);
        if (used[slot] === 1) break;
        used[slot] = 1;
        slots[keys[done]!] = slot;
      }
      if (done === keys.length) break;
      while (--done >= 0) used[slots[keys[done]!]!] = 0;
    }
    if (d > MAX_DISPLACEMENT) return undefined;
    displacements[bucket] = d;
  }
  return { slots, displacements };
};

/**
 * Builds the table of `keys`, all of one length and different, with the value of each (below 2^31).
 *
 * @throws {@link RangeViolation} for keys that no seed parts
 */
export const perfectHash = (keys: readonly BigUint64Array[], values: readonly number[]): PerfectHash => {
  const words = keys[0]?.length ?? 0;
  const slotBits = bitsFor(keys.length * 1.25);
  const bucketBits = bitsFor(keys.length / BUCKET_LOAD);
  for (let seed = 1; seed <= SEEDS; seed++) {
    const placed = place(hashAll(keys, seed), slotBits, bucketBits);
    if (placed === undefined) continue;
    const stride = 8 * (words + 1);
    const displacementsAt = stride * 2 ** slotBits;
    const bytes = new Uint8Array(displacementsAt + Math.max(8, 2 * 2 ** bucketBits));
    const view = new DataView(bytes.buffer);
    for (let slot = 0; slot < 2 ** slotBits; slot++) view.setUint32(slot * stride + 8 * words, NO_RANK, true);
    keys.forEach((key, i) => {
      const at = placed.slots[i]! * stride;
      key.forEach((word, w) => view.setBigUint64(at + 8 * w, word, true));
      view.setUint32(at + 8 * words, values[i]!, true);
    });
    placed.displacements.forEach((d, i) => view.setUint16(displacementsAt + 2 * i, d, true));
    return { words, seed, slotBits, bucketBits, bytes, displacementsAt };
  }
  throw new RangeViolation(`Cannot hash ${keys.length} keys perfectly: ${SEEDS} seeds failed, want different keys`);
};
