// Emits the words of a compact key: words of the full key on the stack, under the mask of a subtable.

import type { VReg } from "../ir/types.js";
import type { Emit } from "./emit.js";
import type { Subtable } from "./key.js";

const wordOf = (bytes: Uint8Array, word: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getBigUint64(8 * word, true);

/** A 64-bit pattern as an operand: a plain number when it is one as a sign-extended 32-bit immediate. */
const operand = (pattern: bigint): number | bigint => {
  const signed = BigInt.asIntN(64, pattern);
  return BigInt.asIntN(32, signed) === signed ? Number(signed) : pattern;
};

/** Whether masking changes nothing in word `w` of the full key: padding is zero anyway. */
const isWhole = (e: Emit, table: Subtable, w: number): boolean => {
  const whole = wordOf(e.plan.exact.mask, w);
  return (wordOf(table.mask, w) & whole) === whole;
};

/** Whether the compact key is a run of the full key as it stands: the words adjoin and masking changes nothing. */
export const isRunOfKey = (e: Emit, table: Subtable): boolean =>
  table.words.every((w, i) => w === table.words[0]! + i && isWhole(e, table, w));

/** Words of the full key in registers, by their index. */
export type KeyWords = ReadonlyMap<number, VReg>;

/**
 * What tables share is mostly kept on the stack. There is always room for so many words, and for so many under masks besides
 * one that is each table's own.
 */
const MAX_SHARED = { words: 6, masked: 8 } as const;

/**
 * Loads the words of the full key that tables take, so that what they make of them alike is computed once; none when that
 * is too much to be kept.
 */
export const loadKeyWords = (e: Emit, tables: readonly Subtable[]): KeyWords => {
  const words = new Set(tables.flatMap((table) => table.words));
  const masked = new Set(tables.flatMap((table) => table.words.map((w) => `${w} ${wordOf(table.mask, w)}`)));
  const differing = masked.size - words.size;
  if (words.size > MAX_SHARED.words || differing > MAX_SHARED.masked + tables.length) return new Map();
  return new Map([...words].sort((a, b) => a - b).map((w) => [w, loadKeyWord(e, w)] as const));
};

const loadKeyWord = (e: Emit, w: number): VReg => e.b.load("u64", e.key, 8 * w, `word${w}`);

/** Word `i` of the compact key in a register. @param words - those of the full key, if they are in registers */
export const keyWord = (e: Emit, table: Subtable, i: number, words?: KeyWords): VReg => {
  const w = table.words[i]!;
  const word = words?.get(w) ?? loadKeyWord(e, w);
  return isWhole(e, table, w) ? word : e.b.alu("and", word, operand(wordOf(table.mask, w)), `masked${w}`);
};
