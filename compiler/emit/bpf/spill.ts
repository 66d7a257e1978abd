// Rewrites spilled registers: each use reads a short-lived register that is loaded just before, each write stores one
// just after. A register that only ever holds one constant is made again instead and needs no memory.

import type { Slot } from "../../ir/types.js";
import { defOf, renameRegs, usesOf, type CallArg, type LInst, type LProgram, type Reg, type Remat } from "./lir.js";

/** What spilling has added so far. */
export interface Spilled {
  /** Registers that live around one instruction only. */
  readonly temporaries: ReadonlySet<Reg>;
  readonly slots: readonly Slot[];
}

/** The constant that each of `regs` holds, where one `make` is all that writes it. */
const constants = (program: LProgram, regs: ReadonlySet<Reg>): Map<Reg, Remat> => {
  const found = new Map<Reg, Remat | undefined>();
  for (const block of program.blocks)
    for (const inst of block.insts) {
      const dst = defOf(inst);
      if (dst === undefined || !regs.has(dst)) continue;
      found.set(dst, inst.op === "make" && !found.has(dst) ? inst.what : undefined);
    }
  const out = new Map<Reg, Remat>();
  for (const [reg, what] of found) if (what !== undefined) out.set(reg, what);
  return out;
};

/** Spills `regs`. @param firstSlot - number of the first spill slot of the program */
export const spill = (
  program: LProgram,
  regs: ReadonlySet<Reg>,
  before: Spilled,
  firstSlot: number,
): { program: LProgram; state: Spilled } => {
  const remat = constants(program, regs);
  const slots = [...before.slots];
  const slotOf = new Map<Reg, Slot>();
  for (const reg of regs) {
    if (remat.has(reg)) continue;
    const slot: Slot = {
      slot: firstSlot + slots.length,
      size: 8,
      align: 8,
      hint: `spill_${program.hints[reg] ?? reg}`,
    };
    slots.push(slot);
    slotOf.set(reg, slot);
  }
  const hints = [...program.hints];
  const temporaries = new Set(before.temporaries);
  const valueOf = (reg: Reg): Remat => remat.get(reg) ?? { spilled: slotOf.get(reg)! };

  const rewrite = (inst: LInst): readonly LInst[] => {
    const dst = defOf(inst);
    if (dst !== undefined && remat.has(dst)) return [];
    let now = inst;
    if (now.op === "call" || now.op === "tail_call") {
      // Arguments are made in the argument registers themselves.
      const args = now.args.map((a): CallArg => ("reg" in a && regs.has(a.reg) ? valueOf(a.reg) : a));
      now = { ...now, args };
    }
    const touched = [...new Set([...usesOf(now), ...(dst === undefined ? [] : [dst])])].filter((r) => regs.has(r));
    if (touched.length === 0) return [now];
    const temps = new Map<Reg, Reg>();
    for (const r of touched) {
      hints.push(hints[r] ?? "");
      temps.set(r, hints.length - 1);
      temporaries.add(hints.length - 1);
    }
    const common = inst.from === undefined ? {} : { from: inst.from };
    const reads = new Set(usesOf(now));
    const loads = touched
      .filter((r) => reads.has(r))
      .map((r): LInst => ({ op: "make", dst: temps.get(r)!, what: valueOf(r), ...common }));
    const renamed = renameRegs(now, (r) => temps.get(r) ?? r);
    if (dst === undefined || !regs.has(dst)) return [...loads, renamed];
    const src = { reg: temps.get(dst)! };
    const save: LInst = { op: "store", size: "u64", base: slotOf.get(dst)!, off: 0, src, ...common };
    return [...loads, renamed, save];
  };

  const blocks = program.blocks.map((block) => ({ ...block, insts: block.insts.flatMap(rewrite) }));
  return { program: { ...program, blocks, nRegs: hints.length, hints }, state: { temporaries, slots } };
};
