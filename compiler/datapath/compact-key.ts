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

/** Word `i` of the compact key in a register of its own. */
export const keyWord = (e: Emit, table: Subtable, i: number): VReg => {
  const w = table.words[i]!;
  const word = e.b.load("u64", e.key, 8 * w, `word${w}`);
  return isWhole(e, table, w) ? word : e.b.alu("and", word, operand(wordOf(table.mask, w)), `masked${w}`);
};
