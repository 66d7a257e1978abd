// Rewrites spilled registers so that each is in a machine register only where that is easy.
//
// A spilled register gets a home on the stack; every write stores to it. In a first step the register is split into
// segments: it is loaded at its first use and stays in a register through blocks that have one predecessor, up to the next
// call or join of paths. A segment that finds no machine register is spilled again: it is then read from the home for each
// single instruction. A register that only ever holds one constant is made again instead and needs no home.

import type { BlockId, Slot } from "../../ir/types.js";
import {
  defOf,
  isCall,
  renameRegs,
  targetsOf,
  usesOf,
  type CallArg,
  type LBlock,
  type LInst,
  type LProgram,
  type Reg,
  type Remat,
} from "./lir.js";

/** 0: as selected. 1: a segment of a spilled register. 2: lives around one instruction and is never spilled. */
export type Level = 0 | 1 | 2;

/** What spilling knows about the registers of a program. */
export interface SpillState {
  /** Per register. */
  readonly levels: readonly Level[];
  /** Stack slot that holds the same value as a segment. */
  readonly homes: ReadonlyMap<Reg, Slot>;
  readonly slots: readonly Slot[];
}

/**
 * The constant that each of `regs` holds, where one `make` is all that writes it. What is in a home is none: the home may be
 * written while the register is still wanted.
 */
const constants = (program: LProgram, regs: ReadonlySet<Reg>): Map<Reg, Remat> => {
  const found = new Map<Reg, Remat | undefined>();
  for (const block of program.blocks)
    for (const inst of block.insts) {
      const dst = defOf(inst);
      if (dst === undefined || !regs.has(dst)) continue;
      const isConstant = inst.op === "make" && !("spilled" in inst.what) && !found.has(dst);
      found.set(dst, isConstant ? inst.what : undefined);
    }
  const out = new Map<Reg, Remat>();
  for (const [reg, what] of found) if (what !== undefined) out.set(reg, what);
  return out;
};

/** The reached blocks, each after its predecessor if it has one only. */
const withOnlyPredecessor = (blocks: readonly LBlock[]): { block: LBlock; after: BlockId | undefined }[] => {
  const byId = new Map(blocks.map((b) => [b.id, b]));
  const nIn = new Map<BlockId, number>();
  for (const block of blocks) for (const to of targetsOf(block.insts.at(-1)!)) nIn.set(to, (nIn.get(to) ?? 0) + 1);
  const entry = blocks[0]!;
  nIn.set(entry.id, (nIn.get(entry.id) ?? 0) + 1);
  const out: { block: LBlock; after: BlockId | undefined }[] = [];
  const seen = new Set<BlockId>([entry.id]);
  const todo: { block: LBlock; after: BlockId | undefined }[] = [{ block: entry, after: undefined }];
  for (let item; (item = todo.pop()) !== undefined;) {
    out.push(item);
    for (const to of targetsOf(item.block.insts.at(-1)!)) {
      if (seen.has(to)) continue;
      seen.add(to);
      todo.push({ block: byId.get(to)!, after: nIn.get(to) === 1 ? item.block.id : undefined });
    }
  }
  return out;
};

class Spiller {
  private readonly remat: ReadonlyMap<Reg, Remat>;
  private readonly hints: string[];
  private readonly levels: Level[];
  private readonly homes: Map<Reg, Slot>;
  private readonly slots: Slot[];
  /** Registers that hold the value of a spilled one at this point. */
  private current = new Map<Reg, Reg>();
  private out: LInst[] = [];
  /** Segments: a store to the home stands right behind each of their writes already. */
  private readonly hadHome: ReadonlySet<Reg>;

  constructor(
    private readonly program: LProgram,
    private readonly regs: ReadonlySet<Reg>,
    state: SpillState,
    firstSlot: number,
  ) {
    this.remat = constants(program, regs);
    this.hints = [...program.hints];
    this.levels = [...state.levels];
    this.homes = new Map(state.homes);
    this.hadHome = new Set(state.homes.keys());
    this.slots = [...state.slots];
    for (const reg of regs) {
      if (this.remat.has(reg) || this.homes.has(reg)) continue;
      const hint = `spill_${program.hints[reg] ?? reg}`;
      const slot: Slot = { slot: firstSlot + this.slots.length, size: 8, align: 8, hint };
      this.slots.push(slot);
      this.homes.set(reg, slot);
    }
  }

  private valueOf(reg: Reg): Remat {
    return this.remat.get(reg) ?? { spilled: this.homes.get(reg)! };
  }

  private fresh(reg: Reg): Reg {
    const temp = this.hints.push(this.hints[reg] ?? "") - 1;
    const isSegment = this.levels[reg] === 0 && !this.remat.has(reg);
    this.levels[temp] = isSegment ? 1 : 2;
    if (isSegment) this.homes.set(temp, this.homes.get(reg)!);
    return temp;
  }

  /** Whether `inst` only brings to the segment `dst` what is in its home anyway. */
  private isFromHome(inst: LInst, dst: Reg): boolean {
    const home = this.hadHome.has(dst) && this.regs.has(dst) ? this.homes.get(dst) : undefined;
    if (home === undefined) return false;
    if (inst.op === "mov") return this.regs.has(inst.src) && this.homes.get(inst.src) === home;
    return inst.op === "make" && "spilled" in inst.what && inst.what.spilled === home;
  }

  /** Sees to it that some register holds `reg`. */
  private load(reg: Reg, from: LInst["from"]): void {
    if (this.current.has(reg)) return;
    const temp = this.fresh(reg);
    this.push({ op: "make", dst: temp, what: this.valueOf(reg) }, from);
    this.current.set(reg, temp);
  }

  private callArgs<T extends LInst & { readonly args: readonly CallArg[] }>(inst: T): T {
    const args = inst.args.map((arg): CallArg => {
      if (!("reg" in arg) || !this.regs.has(arg.reg)) return arg;
      // A value that is in no register is made in the argument register itself.
      const has = this.current.get(arg.reg);
      return has === undefined ? this.valueOf(arg.reg) : { reg: has };
    });
    return { ...inst, args };
  }

  private push(inst: LInst, from: LInst["from"]): void {
    this.out.push(from === undefined ? inst : { ...inst, from });
  }

  /** Where a write of the spilled register `reg` goes; when it is read, too, the value is there already. */
  private resultOf(reg: Reg, isRead: boolean, from: LInst["from"]): Reg {
    if (!isRead) return this.fresh(reg);
    const has = this.current.get(reg)!;
    if (this.levels[has] === 2) return has;
    // The register that is read may be wanted on another way on from here.
    const result = this.fresh(reg);
    this.push({ op: "mov", dst: result, src: has, width: 64 }, from);
    this.current.set(reg, result);
    return result;
  }

  private inst(source: LInst): void {
    const dst = defOf(source);
    if (dst !== undefined && (this.remat.has(dst) || this.isFromHome(source, dst))) return;
    const { from } = source;
    const inst = source.op === "call" || source.op === "tail_call" ? this.callArgs(source) : source;
    const uses = new Set(usesOf(inst).filter((r) => this.regs.has(r)));
    const isBrief = (temp: Reg): boolean => this.levels[temp] === 2;
    // A brief register lasts for one instruction, and from a write to the next instruction.
    for (const [reg, temp] of this.current) if (isBrief(temp) && !uses.has(reg)) this.current.delete(reg);
    for (const reg of uses) this.load(reg, from);
    const written = dst !== undefined && this.regs.has(dst) ? dst : undefined;
    const twoAddress = inst.op === "alu" || inst.op === "swap";
    const result = written === undefined ? undefined : this.resultOf(written, twoAddress, from);
    const renamed = renameRegs(inst, (r) => this.current.get(r) ?? r);
    this.out.push(result === undefined ? renamed : ({ ...renamed, dst: result } as LInst));
    if (isCall(inst)) this.current.clear();
    for (const [reg, temp] of this.current) if (isBrief(temp)) this.current.delete(reg);
    if (written === undefined || result === undefined) return;
    this.current.set(written, result);
    if (this.hadHome.has(written)) return;
    this.push({ op: "store", size: "u64", base: this.homes.get(written)!, off: 0, src: { reg: result } }, from);
  }

  run(): { program: LProgram; state: SpillState } {
    const ends = new Map<BlockId, ReadonlyMap<Reg, Reg>>();
    const rewritten = new Map<BlockId, LBlock>();
    for (const { block, after } of withOnlyPredecessor(this.program.blocks)) {
      this.current = new Map(after === undefined ? [] : ends.get(after));
      this.out = [];
      for (const inst of block.insts) this.inst(inst);
      ends.set(block.id, this.current);
      rewritten.set(block.id, { ...block, insts: this.out });
    }
    const blocks = this.program.blocks.map((b) => rewritten.get(b.id)!);
    const program = { ...this.program, blocks, nRegs: this.hints.length, hints: this.hints };
    return { program, state: { levels: this.levels, homes: this.homes, slots: this.slots } };
  }
}

/** Spills `regs`. @param firstSlot - number of the first spill slot of the program */
export const spill = (
  program: LProgram,
  regs: ReadonlySet<Reg>,
  state: SpillState,
  firstSlot: number,
): { program: LProgram; state: SpillState } => new Spiller(program, regs, state, firstSlot).run();
