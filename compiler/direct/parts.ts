// How a table is looked up, decided from its rules alone. A table is cut into parts, each of which finds the best of
// its own rules: prefixes of one member (a trie), rules of one mask (a hash), and what is left, as code. Rules are known by
// their rank, 0 the best: the first of them that a packet matches is the answer, so the answer of a table is the least
// rank that a part gives.

import type { Member } from "../openflow/flow.js";
import type { KeyField, KeyLayout } from "../datapath/key.js";
import type { Want } from "./state.js";

/** Rules as compare code, at most so many in one part: beyond, a hash is faster. */
export const MAX_CODE_RULES = 40;
/** Rules of one mask from which on they are worth a hash. */
const MIN_HASH_RULES = 12;
/** Rules that differ in the length of one prefix from which on they are worth a trie. */
const MIN_TRIE_RULES = 64;
/** Different lengths from which on a trie is worth its memory. */
const MIN_TRIE_LENGTHS = 3;
/** Members that are matched by prefix. */
const PREFIX_MEMBERS: readonly Member[] = ["nw_dst", "nw_src", "ipv6_dst", "ipv6_src"];

export interface CodePart {
  readonly kind: "code";
  /** Ascending. */
  readonly ranks: readonly number[];
}

export interface HashPart {
  readonly kind: "hash";
  readonly mask: Uint8Array;
  /** Best rank of each key. */
  readonly ranks: readonly number[];
}

export interface TriePart {
  readonly kind: "trie";
  readonly field: KeyField;
  /** What all of them demand besides the prefix. */
  readonly rest: Want;
  readonly prefixes: readonly { readonly rank: number; readonly bytes: Uint8Array; readonly length: number }[];
}

export type Part = CodePart | HashPart | TriePart;

/** The best rank that a part can give. */
export const bestRank = (part: Part): number =>
  part.kind === "trie" ? part.prefixes.reduce((least, { rank }) => Math.min(least, rank), Infinity) : part.ranks[0]!;

/** Bytes as a key for maps. */
const hex = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

const maskNames = new WeakMap<Uint8Array, string>();

/** {@link hex} of a mask, which many rules share. */
const nameOf = (mask: Uint8Array): string => {
  let name = maskNames.get(mask);
  if (name === undefined) maskNames.set(mask, (name = hex(mask)));
  return name;
};

/** Length of the prefix that `mask` is, or -1 when it is none. */
const prefixLength = (mask: Uint8Array): number => {
  let length = 0;
  let ended = false;
  for (const byte of mask) {
    if (ended ? byte !== 0 : ((byte | (byte - 1)) & 0xff) !== 0xff && byte !== 0) return -1;
    if (ended) continue;
    const ones = Math.clz32(~(byte << 24));
    length += Math.min(8, ones);
    ended = ones < 8;
  }
  return length;
};

interface Candidate {
  readonly rank: number;
  readonly length: number;
}

/** Rules with a prefix of `field` and the same of everything else, in groups that are worth a trie. */
const triesOf = (field: KeyField, wants: readonly Want[], free: ReadonlySet<number>): TriePart[] => {
  const groups = new Map<string, Candidate[]>();
  const end = field.off + field.size;
  const without = (bytes: Uint8Array): string => hex(bytes.subarray(0, field.off)) + hex(bytes.subarray(end));
  const known = new Map<Uint8Array, { length: number; rest: string }>();
  for (const rank of free) {
    const { value, mask } = wants[rank]!;
    let facts = known.get(mask);
    if (facts === undefined)
      known.set(mask, (facts = { length: prefixLength(mask.subarray(field.off, end)), rest: without(mask) }));
    const { length } = facts;
    if (length < 1) continue;
    const key = `${facts.rest}/${without(value)}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [{ rank, length }]);
    else group.push({ rank, length });
  }
  const parts: TriePart[] = [];
  for (const group of groups.values()) {
    const lengths = new Set(group.map(({ length }) => length));
    if (group.length < MIN_TRIE_RULES || lengths.size < MIN_TRIE_LENGTHS) continue;
    const first = wants[group[0]!.rank]!;
    const rest = { value: first.value.slice(), mask: first.mask.slice() };
    rest.value.fill(0, field.off, end);
    rest.mask.fill(0, field.off, end);
    const prefixes = group.map(({ rank, length }) => ({
      rank,
      length,
      bytes: wants[rank]!.value.slice(field.off, end),
    }));
    parts.push({ kind: "trie", field, rest, prefixes });
  }
  return parts;
};

/** Rules of one mask; of equal keys only the best counts. */
const hashesOf = (wants: readonly Want[], free: ReadonlySet<number>, least: number): HashPart[] => {
  const groups = new Map<string, { mask: Uint8Array; ranks: number[]; keys: Set<string> }>();
  for (const rank of free) {
    const { value, mask } = wants[rank]!;
    const id = nameOf(mask);
    let group = groups.get(id);
    if (group === undefined) groups.set(id, (group = { mask, ranks: [], keys: new Set() }));
    const key = hex(value);
    if (group.keys.has(key)) continue;
    group.keys.add(key);
    group.ranks.push(rank);
  }
  return [...groups.values()]
    .filter(({ ranks, mask }) => ranks.length >= least && mask.some((byte) => byte !== 0))
    .map(({ mask, ranks }): HashPart => ({ kind: "hash", mask, ranks }));
};

/**
 * Cuts a table into parts.
 *
 * @param wants - of each rule, by rank
 * @returns the parts, the one that can give the best rank first
 */
export const cut = (layout: KeyLayout, wants: readonly Want[]): readonly Part[] => {
  const free = new Set(wants.keys());
  const parts: Part[] = [];
  const take = (part: Part, ranks: Iterable<number>): void => {
    parts.push(part);
    for (const rank of ranks) free.delete(rank);
  };
  if (free.size > MAX_CODE_RULES) {
    for (const field of layout.fields.filter(({ member }) => PREFIX_MEMBERS.includes(member))) {
      for (const part of triesOf(field, wants, free))
        take(
          part,
          part.prefixes.map(({ rank }) => rank),
        );
    }
    const hashed = (part: HashPart): number[] => {
      const id = nameOf(part.mask);
      return [...free].filter((rank) => nameOf(wants[rank]!.mask) === id);
    };
    for (const part of hashesOf(wants, free, MIN_HASH_RULES)) take(part, hashed(part));
    // Few rules under each of many masks: a hash of one rule is still cheaper than its place in a long list.
    if (free.size > MAX_CODE_RULES) for (const part of hashesOf(wants, free, 2)) take(part, hashed(part));
  }
  const left = [...free];
  for (let at = 0; at < left.length; at += MAX_CODE_RULES)
    parts.push({ kind: "code", ranks: left.slice(at, at + MAX_CODE_RULES) });
  return parts.sort((a, b) => bestRank(a) - bestRank(b));
};
