// Emits the look-up of the megaflow cache: one subtable after the other, its mask and word indices as constants, each
// with its own compact key; the first that has the packet's key wins (megaflows never overlap with different actions).

import { roundUp } from "ebpf-assembler";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { VALUE } from "./abi.js";
import type { Emit } from "./emit.js";
import type { Subtable } from "./key.js";

const wordOf = (bytes: Uint8Array, word: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getBigUint64(8 * word, true);

/** A 64-bit pattern as an operand: a plain number when it is one as a sign-extended 32-bit immediate. */
const operand = (pattern: bigint): number | bigint => {
  const signed = BigInt.asIntN(64, pattern);
  return BigInt.asIntN(32, signed) === signed ? Number(signed) : pattern;
};

/** Whether the compact key is a run of the full key as it stands: the words adjoin and masking changes nothing. */
const isRunOfKey = (e: Emit, table: Subtable): boolean => {
  const whole = wholeMask(e);
  return table.words.every(
    (w, i) => w === table.words[0]! + i && (wordOf(table.mask, w) & wordOf(whole, w)) === wordOf(whole, w),
  );
};

/** Every bit that the full key can have: 1 in members, 0 in padding. */
const wholeMask = (e: Emit): Uint8Array => e.plan.exact.mask;

const lookUp = (e: Emit, table: Subtable, compact: Slot): VReg => {
  const { b } = e;
  if (isRunOfKey(e, table)) {
    const key = { at: e.key, off: 8 * table.words[0]! };
    return b.call("map_lookup_elem", [{ map: table.map }, key], "map_value");
  }
  const whole = wholeMask(e);
  table.words.forEach((w, i) => {
    const word = b.load("u64", e.key, 8 * w, `word${w}`);
    const mask = wordOf(table.mask, w);
    const kept =
      (mask & wordOf(whole, w)) === wordOf(whole, w) ? word : b.alu("and", word, operand(mask), `masked${w}`);
    b.store("u64", compact, 8 * i, kept);
  });
  return b.call("map_lookup_elem", [{ map: table.map }, { at: compact, off: 0 }], "map_value");
};

/** What a hit leaves: the number of the action shape, and the arguments on the stack. */
export interface Hit {
  readonly shape: VReg;
  readonly args: Slot;
}

/**
 * Emits all look-ups; goes on in the current block with a hit, its packet counted. The arguments are copied to the stack:
 * the verifier keeps pointers into different maps apart, and would walk all shapes once for every subtable.
 */
export const emitLookup = (e: Emit, bytes: VReg, miss: BlockId): Hit => {
  const { b, plan } = e;
  // One piece of stack for both: the key is of no use any more when the arguments are copied.
  const argsSize = Math.max(0, ...plan.shapes.map((s) => s.argsSize));
  const args = b.slot("key_then_args", Math.max(plan.key.size, roundUp(argsSize, 8)));
  const value = b.reg("megaflow", "map_value");
  const hit = b.block("hit");
  for (const table of [...plan.subtables, plan.exact]) {
    b.origin = table.from ?? { text: `look-up of ${table.map}` };
    b.mov(value, lookUp(e, table, args));
    b.unless("ne", value, 0, hit);
  }
  b.jump(miss);
  b.place(hit);
  b.origin = { text: "statistics and arguments of the megaflow" };
  b.atomicAdd("u64", value, VALUE.packets, b.value("one", 1));
  b.atomicAdd("u64", value, VALUE.bytes, bytes);
  const shape = b.load("u32", value, VALUE.shape, "shape");
  for (let at = 0; at < argsSize; at += 8) b.store("u64", args, at, b.load("u64", value, VALUE.args + at, "args"));
  return { shape, args };
};
