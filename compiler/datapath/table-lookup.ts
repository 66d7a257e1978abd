// Emits the look-up in a megaflow table (table.ts): hash, one look at the home slot, and only if an entry of this home lies
// elsewhere a walk over those. No helper is called.
//
// The order of loads matters: the tag is read before key, shape and arguments, which user space wrote before it published
// the tag. x86 keeps loads in order; elsewhere this storage must not be used.

import { RangeViolation } from "ebpf-assembler";
import type { BlockId, VReg } from "../ir/types.js";
import { keyWord, type KeyWords } from "./compact-key.js";
import type { Emit } from "./emit.js";
import type { Subtable } from "./key.js";
import { filterAt, FILTER_SHIFT, hashKey, HOPS, SLOT, type TableLayout } from "./table.js";

/** Bits of the tag below the hash's. */
const NUMBER_BITS = 16;

const asImmediate = (u32: number): number => u32 | 0;

/**
 * The whole hash of the packet's key in this subtable. Each register is written once, so that subtables share what they
 * have in common: the terms of words that they mask alike.
 */
const emitHash = (e: Emit, words: KeyWords, table: Subtable, number: number, layout: TableLayout): VReg => {
  const { b } = e;
  const { low, high, step, factor } = hashKey(layout);
  const terms = table.words.map((_, i) => {
    const word = keyWord(e, table, i, words);
    const a = b.alu("add", word, asImmediate(low[i]!), "low", 32);
    const upper = b.alu("rsh", word, 32, "upper");
    return b.alu("mul", a, b.alu("add", upper, asImmediate(high[i]!), "high", 32), "term");
  });
  const sum = terms.reduce((before, term) => b.alu("add", before, term, "sum"));
  return b.alu("mul", b.alu("add", sum, Math.imul(number, step), "sum"), factor, "hash");
};

/** Goes to `otherwise` when the filter says that nothing has a hash with this upper half. */
const askFilter = (e: Emit, upper: VReg, layout: TableLayout, otherwise: BlockId): void => {
  const { b } = e;
  const bit = b.alu("rsh", upper, 32 - layout.bits - FILTER_SHIFT, "bit");
  const place = b.alu("add", b.mapValue(layout.map, filterAt(layout)), b.alu("rsh", bit, 3), "place");
  const bits = b.alu("rsh", b.load("u8", place, 0, "bits"), b.alu("and", bit, 7), "bits");
  b.unless("eq", b.alu("and", bits, 1), 0, otherwise);
};

/** Goes to `otherwise` unless the slot holds this packet's key. */
const compareKeys = (e: Emit, words: KeyWords, table: Subtable, slot: VReg, otherwise: BlockId): void => {
  const { b } = e;
  const differences = b.reg("differences");
  // One word after the other: registers are few.
  table.words.forEach((_, i) => {
    const difference = b.alu(
      "xor",
      keyWord(e, table, i, words),
      b.load("u64", slot, SLOT.key + 8 * i, "theirs"),
      "difference",
    );
    if (i === 0) b.mov(differences, difference);
    else b.aluTo("or", differences, difference);
  });
  b.unless("ne", differences, 0, otherwise);
};

/**
 * Emits one subtable's look-up. Goes on in the current block when the packet's key is not there.
 * @param isFiltered - ask the filter before the home
 * @param words - all that the subtable takes
 * @param hit - where to go with `slot`: address of the entry's slot, whose offset the verifier knows nothing of
 * @param collision - where to go when another key has the same tag: about 27 bits beyond the home's agree by chance, which
 *   is never; so user space may see such packets
 * @throws {@link RangeViolation} for a subtable without a number, or whose key the table has no room for
 */
export const emitTableLookup = (
  e: Emit,
  words: KeyWords,
  table: Subtable,
  layout: TableLayout,
  isFiltered: boolean,
  slot: VReg,
  hit: BlockId,
  collision: BlockId,
): void => {
  const { b } = e;
  const { number } = table;
  if (number === undefined || table.words.length > layout.words)
    throw new RangeViolation(`Cannot look up ${table.map} in a table for keys of ${layout.words} words`);
  const { bits, shift } = layout;
  const offsets = ((1 << bits) - 1) << shift;
  const hash = emitHash(e, words, table, number, layout);
  const next = b.block("next_subtable");
  const found = b.block("found");
  // Without forgetting, every path through the parser would be verified on its own from here on.
  const upper = b.forgotten(b.alu("rsh", hash, 32, "upper"), "upper");
  if (isFiltered) askFilter(e, upper, layout, next);
  const want = b.alu("and", hash, -(1 << NUMBER_BITS), "want");
  b.aluTo("or", want, number);
  const off = b.value("off", upper);
  b.aluTo("rsh", off, 32 - bits);
  b.aluTo("lsh", off, shift);
  // Round 0 looks at the home, the others along its chain.
  for (let hop = 0; ; hop++) {
    b.mov(slot, b.alu("add", b.mapValue(layout.map, 0), off, "slot"));
    const tag = b.load("u64", slot, SLOT.tag, "tag");
    if (hop === HOPS) {
      b.branch("eq", tag, want, found, next);
      break;
    }
    const elsewhere = b.block("elsewhere");
    b.branch("eq", tag, want, found, elsewhere, hop === 0 ? "then" : undefined);
    b.place(elsewhere);
    const distance = b.load("u16", slot, hop === 0 ? SLOT.first : SLOT.next, "distance");
    b.unless("eq", distance, 0, next);
    b.aluTo("lsh", distance, shift);
    b.aluTo("add", off, distance);
    b.aluTo("and", off, offsets);
  }
  b.place(found);
  compareKeys(e, words, table, slot, collision);
  b.jump(hit);
  b.place(next);
};
