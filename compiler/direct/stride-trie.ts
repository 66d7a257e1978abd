// A trie of prefixes, made at compile time: a root of 2^rootBits entries, then nodes of 16, so that each further step reads
// one cache line. Prefixes are pushed down to the leaves, where the best rank of all that cover them stands: the longest
// prefix need not be the best rule.

import { NO_RANK } from "./perfect-hash.js";

const NODE_BITS = 4;
const NODE_SIZE = 1 << NODE_BITS;
/** An entry with this bit is a leaf, the rest of it a rank; without, it is the index of the first entry of a node. */
export const LEAF = 0x80000000;

export interface StrideTrie {
  readonly rootBits: (typeof ROOTS)[number]["bits"];
  /** Nodes below the root on the longest way. */
  readonly depth: number;
  /** u32 in host order: the root's, then the nodes'. */
  readonly entries: Uint32Array;
}

export interface Prefix {
  readonly bytes: Uint8Array;
  /** In bits, at least 1. */
  readonly length: number;
  readonly rank: number;
}

/** Bits of the root, by the number of prefixes from which on they are worth their memory: 1 KiB, 256 KiB, 4 MiB. */
const ROOTS = [
  { from: 50_000, bits: 20 },
  { from: 2000, bits: 16 },
  { from: 0, bits: 8 },
] as const;

/** `bits` bits (at most 20) of big-endian bytes from bit `at`. */
const bitsAt = (bytes: Uint8Array, at: number, bits: number): number => {
  let value = 0;
  for (let i = at; i < at + bits; i++) value = (value << 1) | (((bytes[i >>> 3] ?? 0) >>> (7 - (i & 7))) & 1);
  return value;
};

/** Builds the trie. */
export const strideTrie = (prefixes: readonly Prefix[]): StrideTrie => {
  const rootBits = ROOTS.find(({ from }) => prefixes.length >= from)?.bits ?? 8;
  let entries = new Uint32Array(Math.max(1024, 2 ** rootBits * 2)).fill(LEAF | NO_RANK);
  let used = 2 ** rootBits;
  let depth = 0;
  const node = (inherited: number): number => {
    if (used + NODE_SIZE > entries.length) {
      const larger = new Uint32Array(entries.length * 2);
      larger.set(entries);
      entries = larger;
    }
    entries.fill(inherited, used, used + NODE_SIZE);
    used += NODE_SIZE;
    return used - NODE_SIZE;
  };
  // Shorter ones first: a leaf that a longer prefix splits hands its rank down.
  for (const { bytes, length, rank } of [...prefixes].sort((a, b) => a.length - b.length)) {
    let base = 0;
    let at = 0;
    let bits: number = rootBits;
    let level = 0;
    while (length > at + bits) {
      const i = base + bitsAt(bytes, at, bits);
      if (entries[i]! >= LEAF) {
        const made = node(entries[i]!);
        entries[i] = made;
      }
      base = entries[i]!;
      at += bits;
      bits = NODE_BITS;
      level++;
    }
    depth = Math.max(depth, level);
    const span = 1 << (at + bits - length);
    const first = base + bitsAt(bytes, at, bits);
    const leaf = (LEAF | rank) >>> 0;
    // Nodes cannot stand here yet: they would belong to longer prefixes.
    for (let i = first; i < first + span; i++) if (leaf < entries[i]!) entries[i] = leaf;
  }
  return { rootBits, depth, entries: entries.slice(0, used) };
};
