// What instructions read, write and where blocks go, in one place: checker, passes and emitter walk programs with these.

import type { Arg, Block, BlockId, Inst, Operand, Program, Slot, Terminator, VReg } from "./types.js";
import { isReg, isSlot } from "./types.js";

const regs = (...xs: readonly (Operand | Slot)[]): VReg[] => xs.filter(isReg);

/** A slot argument of a helper call. */
export type SlotArg = Extract<Arg, { readonly at: Slot }>;
export const isSlotArg = (a: Arg): a is SlotArg => typeof a === "object" && "at" in a;

/** The virtual registers that `inst` reads, in operand order; a register read twice is listed twice. */
export const usesOf = (inst: Inst): readonly VReg[] => {
  switch (inst.op) {
    case "mov":
      return regs(inst.src);
    case "alu":
      return regs(inst.a, inst.b);
    case "swap":
    case "forget":
      return [inst.src];
    case "load":
      return regs(inst.base);
    case "store":
      return regs(inst.base, inst.src);
    case "atomic_add":
      return [inst.base, inst.src];
    case "ctx":
    case "map_value":
      return [];
    case "call":
      return inst.args.filter(isReg);
  }
};

/** The virtual register that `inst` writes. */
export const defOf = (inst: Inst): VReg | undefined =>
  inst.op === "store" || inst.op === "atomic_add" ? undefined : inst.dst;

/** The virtual registers that the terminator reads. */
export const endUsesOf = (end: Terminator): readonly VReg[] => {
  switch (end.op) {
    case "jump":
      return [];
    case "branch":
      return regs(end.a, end.b);
    case "return":
      return regs(end.value);
    case "tail_call":
      return regs(end.index);
  }
};

/** Where control may go on, without repetition. */
export const successorsOf = (end: Terminator): readonly BlockId[] => {
  switch (end.op) {
    case "jump":
      return [end.to];
    case "branch":
      return end.then === end.else ? [end.then] : [end.then, end.else];
    case "return":
      return [];
    case "tail_call":
      return [end.else];
  }
};

/** `end` with every target replaced by `f(target)`; `end` itself when none changes. */
export const retarget = (end: Terminator, f: (to: BlockId) => BlockId): Terminator => {
  switch (end.op) {
    case "jump":
      return f(end.to) === end.to ? end : { ...end, to: f(end.to) };
    case "branch":
      return f(end.then) === end.then && f(end.else) === end.else
        ? end
        : { ...end, then: f(end.then), else: f(end.else) };
    case "return":
      return end;
    case "tail_call":
      return f(end.else) === end.else ? end : { ...end, else: f(end.else) };
  }
};

/** A value for a register that is read; a place that cannot hold a constant keeps the register. */
export type Substitution = (reg: VReg) => Operand;

const asReg = (f: Substitution, r: VReg): VReg => {
  const to = f(r);
  return isReg(to) ? to : r;
};
const operand = (f: Substitution, x: Operand): Operand => (isReg(x) ? f(x) : x);
const base = (f: Substitution, x: VReg | Slot): VReg | Slot => (isSlot(x) ? x : asReg(f, x));

/** `inst` with every register that it reads replaced; `inst` itself when none changes. */
export const substitute = (inst: Inst, f: Substitution): Inst => {
  if (usesOf(inst).every((r) => f(r) === r)) return inst;
  switch (inst.op) {
    case "mov":
      return { ...inst, src: operand(f, inst.src) };
    case "alu":
      return { ...inst, a: operand(f, inst.a), b: operand(f, inst.b) };
    case "swap":
    case "forget": {
      const src = asReg(f, inst.src);
      return src === inst.src ? inst : { ...inst, src };
    }
    case "load": {
      const from = base(f, inst.base);
      return from === inst.base ? inst : { ...inst, base: from };
    }
    case "store":
      return { ...inst, base: base(f, inst.base), src: operand(f, inst.src) };
    case "atomic_add": {
      const [base, src] = [asReg(f, inst.base), asReg(f, inst.src)];
      return base === inst.base && src === inst.src ? inst : { ...inst, base, src };
    }
    case "ctx":
    case "map_value":
      return inst;
    case "call":
      return { ...inst, args: inst.args.map((a) => (isReg(a) ? f(a) : a)) };
  }
};

/** {@link substitute} for terminators. */
export const substituteEnd = (end: Terminator, f: Substitution): Terminator => {
  if (endUsesOf(end).every((r) => f(r) === r)) return end;
  switch (end.op) {
    case "jump":
      return end;
    case "branch": {
      const [a, b] = [asReg(f, end.a), operand(f, end.b)];
      return a === end.a && b === end.b ? end : { ...end, a, b };
    }
    case "return":
      return { ...end, value: operand(f, end.value) };
    case "tail_call":
      return { ...end, index: operand(f, end.index) };
  }
};

/** The blocks by id. */
export const blocksById = (program: Program): ReadonlyMap<BlockId, Block> =>
  new Map(program.blocks.map((b) => [b.id, b]));

/** Ids of the blocks that the entry reaches, the entry among them. */
export const reachable = (program: Program): ReadonlySet<BlockId> => {
  const blocks = blocksById(program);
  const seen = new Set<BlockId>();
  const todo = program.blocks.slice(0, 1).map((b) => b.id);
  for (let id; (id = todo.pop()) !== undefined;) {
    if (seen.has(id)) continue;
    seen.add(id);
    const block = blocks.get(id);
    if (block) todo.push(...successorsOf(block.end));
  }
  return seen;
};

/** `program` without the blocks that the entry does not reach; `program` itself when it reaches all. */
export const dropUnreached = (program: Program): Program => {
  const reached = reachable(program);
  if (reached.size === program.blocks.length) return program;
  return { ...program, blocks: program.blocks.filter((b) => reached.has(b.id)) };
};

/** How many instructions write each virtual register, by register id. */
export const countDefs = (program: Program): ReadonlyMap<number, number> => {
  const defs = new Map<number, number>();
  for (const block of program.blocks) {
    for (const inst of block.body) {
      const dst = defOf(inst);
      if (dst) defs.set(dst.id, (defs.get(dst.id) ?? 0) + 1);
    }
  }
  return defs;
};

/** `program` with `f` applied to every block; `program` itself when `f` returned every block as it was. */
export const mapBlocks = (program: Program, f: (block: Block) => Block): Program => {
  const blocks = program.blocks.map(f);
  return blocks.every((b, i) => b === program.blocks[i]) ? program : { ...program, blocks };
};
