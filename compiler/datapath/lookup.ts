// Emits the look-up of the megaflow cache: one subtable after the other, its mask and word indices as constants, each
// with its own compact key; the first that has the packet's key wins (megaflows never overlap with different actions).
//
// A subtable lies in a kernel hash map of its own or, with others, in the plan's megaflow table.

import { roundUp } from "ebpf-assembler";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { VALUE } from "./abi.js";
import { isRunOfKey, keyWord, loadKeyWords } from "./compact-key.js";
import type { Emit } from "./emit.js";
import type { Subtable } from "./key.js";
import { isInTable } from "./plan.js";
import { argsAt, SLOT } from "./table.js";
import { emitTableLookup } from "./table-lookup.js";

/** Looks up in a kernel hash map. @param compact - where the compact key may be built */
const lookUpInHash = (e: Emit, table: Subtable, compact: Slot): VReg => {
  const { b } = e;
  if (isRunOfKey(e, table)) {
    const key = { at: e.key, off: 8 * table.words[0]! };
    return b.call("map_lookup_elem", [{ map: table.map }, key], "map_value");
  }
  table.words.forEach((_, i) => b.store("u64", compact, 8 * i, keyWord(e, table, i)));
  return b.call("map_lookup_elem", [{ map: table.map }, { at: compact, off: 0 }], "map_value");
};

/** Subtables in the megaflow table from which on its filter is asked: below, a packet seldom meets one without its key. */
const FILTERED_FROM = 3;

/** What a hit leaves: the number of the action shape, and the arguments on the stack. */
export interface Hit {
  readonly shape: VReg;
  readonly args: Slot;
}

/**
 * Emits all look-ups; goes on in the current block with a hit, its packet counted. The arguments are copied to the stack:
 * the verifier keeps pointers into different maps apart, and would walk all shapes once for every map.
 */
export const emitLookup = (e: Emit, bytes: VReg, miss: BlockId): Hit => {
  const { b, plan } = e;
  // One piece of stack for both: the key is of no use any more when the arguments are copied.
  const argsSize = Math.max(0, ...plan.shapes.map((s) => s.argsSize));
  const args = b.slot("key_then_args", Math.max(plan.key.size, roundUp(argsSize, 8)));
  const value = b.reg("megaflow", "map_value");
  const slot = b.reg("slot", "map_value");
  const shape = b.reg("shape");
  const tables = [...plan.subtables, plan.exact];
  const inTable = tables.filter((table) => isInTable(plan, table));
  const hit = inTable.length === tables.length ? undefined : b.block("hit");
  const tableHit = inTable.length > 0 ? b.block("table_hit") : undefined;
  const counted = b.block("counted");

  /** Counts the packet in the entry at `base` and takes over what it says. */
  const take = (base: VReg, at: number, argsOff: number): void => {
    b.origin = { text: "statistics and arguments of the megaflow" };
    b.atomicAdd("u64", base, at + VALUE.packets, b.value("one", 1));
    b.atomicAdd("u64", base, at + VALUE.bytes, bytes);
    b.loadTo(shape, "u32", base, at + VALUE.shape);
    for (let i = 0; i < argsSize; i += 8) b.store("u64", args, i, b.load("u64", base, argsOff + i, "args"));
    b.jump(counted);
  };

  // Read again: pulling headers left paths that differ in what the verifier knows of the length.
  if (b.hook === "tc" && tableHit !== undefined) {
    b.mov(e.len, b.ctx("packet_len"));
    if (e.outer !== undefined) b.aluTo("sub", e.len, e.outer);
  }
  const words = loadKeyWords(e, inTable);
  for (const table of tables) {
    b.origin = table.from ?? { text: `look-up of ${table.map}` };
    if (plan.table !== undefined && tableHit !== undefined && isInTable(plan, table))
      emitTableLookup(e, words, table, plan.table, inTable.length >= FILTERED_FROM, slot, tableHit, miss);
    else if (hit !== undefined) {
      b.mov(value, lookUpInHash(e, table, args));
      b.unless("ne", value, 0, hit);
    }
  }
  b.jump(miss);
  if (plan.table !== undefined && tableHit !== undefined) {
    b.place(tableHit);
    take(slot, SLOT.value, argsAt(plan.table));
  }
  if (hit !== undefined) {
    b.place(hit);
    take(value, 0, VALUE.args);
  }
  b.place(counted);
  return { shape, args };
};
