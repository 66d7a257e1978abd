// Spill slots by lifetime: two spilled registers that are never wanted at one time share eight bytes of the stack.
//
// A slot is live from a store to it up to the last read that the store can reach. Liveness is the registers' own
// (liveness.ts), asked about a program in which each slot stands for a register and everything else for one more.

import type { Slot } from "../../ir/types.js";
import { renameRegs, usesOf, type LInst, type LProgram, type Reg } from "./lir.js";
import { liveAfter, liveness } from "./liveness.js";
import { intersects, union, type Ranges } from "./ranges.js";

/** `inst` as one that reads and writes slots: slot `i` is register `i`, whatever is in a register is `other`. */
const asSlots = (inst: LInst, indexOf: ReadonlyMap<number, number>, other: Reg): LInst => {
  if (inst.op === "call" || inst.op === "tail_call") {
    const args = inst.args.map((arg) =>
      "spilled" in arg ? { reg: indexOf.get(arg.spilled.slot)! } : "reg" in arg ? { reg: other } : arg,
    );
    return inst.op === "call" ? { op: "call", helper: inst.helper, args } : { ...inst, args };
  }
  if (inst.op === "make" && "spilled" in inst.what)
    return { op: "mov", dst: other, src: indexOf.get(inst.what.spilled.slot)!, width: 64 };
  if (inst.op === "store" && typeof inst.base === "object") {
    const slot = indexOf.get(inst.base.slot);
    if (slot !== undefined) return { op: "mov", dst: slot, src: other, width: 64 };
  }
  return renameRegs(inst, () => other);
};

/** The program in which each of `slots` stands for a register. */
const slotProgram = (program: LProgram, indexOf: ReadonlyMap<number, number>): LProgram => ({
  ...program,
  blocks: program.blocks.map((block) => ({
    ...block,
    insts: block.insts.map((inst) => asSlots(inst, indexOf, indexOf.size)),
  })),
  nRegs: indexOf.size + 1,
  hints: [],
});

const indicesOf = (slots: readonly Slot[]): ReadonlyMap<number, number> =>
  new Map(slots.map(({ slot }, i) => [slot, i]));

/**
 * `program` without stores to `slots` that nothing reads: every write of a spilled register stores it, also one that the next
 * overwrites.
 */
export const dropDeadStores = (program: LProgram, slots: readonly Slot[]): LProgram => {
  const indexOf = indicesOf(slots);
  const view = slotProgram(program, indexOf);
  const after = liveAfter(view);
  const blocks = program.blocks.map((block, b) => {
    const seen = view.blocks[b]!.insts;
    const live = new Set(after.get(block.id));
    const kept: LInst[] = [];
    for (let i = block.insts.length - 1; i >= 0; i--) {
      const inst = block.insts[i]!;
      const slot = inst.op === "store" && typeof inst.base === "object" ? indexOf.get(inst.base.slot) : undefined;
      if (slot !== undefined && !live.has(slot)) continue;
      if (slot !== undefined) live.delete(slot);
      for (const used of usesOf(seen[i]!)) live.add(used);
      kept.push(inst);
    }
    return kept.length === block.insts.length ? block : { ...block, insts: kept.reverse() };
  });
  return { ...program, blocks };
};

/**
 * Which slot each of `slots` becomes.
 * @param program - allocated; reads and writes `slots` whole, as spilling does
 * @returns by slot number, one of `slots` each; several may become one
 */
export const shareSlots = (program: LProgram, slots: readonly Slot[]): ReadonlyMap<number, Slot> => {
  const { ranges } = liveness(slotProgram(program, indicesOf(slots)));
  const shared: { readonly slot: Slot; taken: Ranges }[] = [];
  const to = new Map<number, Slot>();
  // By start of life: that is how few of them overlap at any one time, and how many are needed.
  const order = slots.map((slot, i) => ({ slot, lives: ranges[i]! }));
  order.sort((a, b) => (a.lives[0] ?? 0) - (b.lives[0] ?? 0) || a.slot.slot - b.slot.slot);
  for (const { slot, lives } of order) {
    let home = shared.find(({ taken }) => !intersects(taken, lives));
    if (home === undefined) shared.push((home = { slot, taken: [] }));
    home.taken = union(home.taken, lives);
    to.set(slot.slot, home.slot);
  }
  return to;
};
