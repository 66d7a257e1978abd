// Instruction selection: every IR instruction becomes the BPF instructions that do it, still over virtual registers.
// Register number in the machine form = register id in the IR; temporaries and the context come after.

import type { Origin } from "ebpf-assembler";
import { constant, isConstant, low32, pattern, type Constant } from "../../ir/constant.js";
import type { AluOp, Arg, Block, Cond, Inst, Operand, Program, Terminator, VReg } from "../../ir/types.js";
import { isReg } from "../../ir/types.js";
import { defOf, isSlotArg, usesOf, endUsesOf } from "../../ir/visit.js";
import type { Target } from "../../targets/index.js";
import type { CallArg, LBlock, LInst, LProgram, Reg, RegOrImm } from "./lir.js";

const COMMUTATIVE: ReadonlySet<AluOp> = new Set<AluOp>(["add", "mul", "and", "or", "xor"]);

const UNSIGNED: ReadonlySet<Cond> = new Set<Cond>(["eq", "ne", "gt", "ge", "lt", "le", "set"]);

/** Distributes over {@link LInst} so that each variant loses its origin. */
type Bare<T> = T extends unknown ? Omit<T, "from"> : never;

/** Registers whose upper 32 bits are zero after every instruction that writes them. */
const zeroExtended = (program: Program): ReadonlySet<number> => {
  const narrow = new Map<number, boolean>();
  const is32 = (inst: Inst): boolean => {
    switch (inst.op) {
      case "load":
        return inst.size !== "u64";
      case "alu":
        return inst.width === 32 || (inst.alu === "and" && isConstant(inst.b) && pattern(inst.b) < 1n << 32n);
      case "swap":
        return inst.bits !== 64;
      case "mov":
        return isConstant(inst.src) && pattern(inst.src) < 1n << 32n;
      case "ctx":
        return inst.dst.kind === "scalar";
      default:
        return false;
    }
  };
  for (const block of program.blocks)
    for (const inst of block.body) {
      const dst = defOf(inst);
      if (dst) narrow.set(dst.id, (narrow.get(dst.id) ?? true) && is32(inst));
    }
  return new Set([...narrow].filter(([, yes]) => yes).map(([id]) => id));
};

class Selector {
  private readonly hints: string[] = [];
  private insts: LInst[] = [];
  private from: Origin | undefined;
  private readonly narrow: ReadonlySet<number>;
  /** Wide constants that are in a register since the last call in this block. */
  private readonly constants = new Map<bigint, Reg>();
  /** Registers of this block that hold the packet's bounds as the context has them now. */
  private readonly bounds = new Map<"data" | "data_end", Reg>();
  /** Register of the context pointer. */
  private readonly ctx: Reg;

  constructor(
    private readonly program: Program,
    private readonly target: Target,
  ) {
    this.narrow = zeroExtended(program);
    const note = (r: VReg): void => void (this.hints[r.id] = r.hint);
    for (const block of program.blocks) {
      for (const inst of block.body) {
        usesOf(inst).forEach(note);
        const dst = defOf(inst);
        if (dst) note(dst);
      }
      endUsesOf(block.end).forEach(note);
    }
    this.ctx = this.fresh("ctx");
  }

  private fresh(hint: string): Reg {
    this.hints.push(hint);
    return this.hints.length - 1;
  }

  private add(inst: Bare<LInst>): void {
    this.insts.push((this.from === undefined ? inst : { ...inst, from: this.from }) as LInst);
  }

  /** A register holding `c`; shared up to the next call, since a wide constant takes two slots. */
  private wide(c: Constant): Reg {
    const bits = pattern(c);
    const has = this.constants.get(bits);
    if (has !== undefined) return has;
    const dst = this.fresh("const");
    this.constants.set(bits, dst);
    this.add({ op: "make", dst, what: { value: constant(c) } });
    return dst;
  }

  /** An operand of an instruction of `width`, in a register when it does not fit the immediate. */
  private operand(x: Operand, width: 32 | 64): RegOrImm {
    if (isReg(x)) return { reg: x.id };
    if (width === 32) return { imm: low32(x) };
    const c = constant(x);
    return typeof c === "number" ? { imm: c } : { reg: this.wide(c) };
  }

  private copy(dst: Reg, x: Operand): void {
    if (!isReg(x)) this.add({ op: "make", dst, what: { value: constant(x) } });
    else if (x.id !== dst) this.add({ op: "mov", dst, src: x.id, width: 64 });
  }

  private alu(inst: Inst & { op: "alu" }): void {
    const { alu, dst } = inst;
    let { a, b, width } = inst;
    const commutes = COMMUTATIVE.has(alu);
    if (commutes && (isConstant(a) || (isReg(b) && b.id === dst.id))) [a, b] = [b, a];
    if (alu === "and" && isReg(a) && isConstant(b) && width === 64 && pattern(b) >> 31n === 1n) {
      // A mask of bits 0..31 with bit 31 set is no immediate of 64 bits: the 32-bit form gives the same.
      if (pattern(b) === 0xffff_ffffn) return this.add({ op: "mov", dst: dst.id, src: a.id, width: 32 });
      width = 32;
    }
    const by = this.operand(b, width);
    const clash = "reg" in by && by.reg === dst.id && !(isReg(a) && a.id === dst.id);
    const to = clash ? this.fresh(alu) : dst.id;
    this.copy(to, a);
    this.add({ op: "alu", alu, width, dst: to, b: by });
    if (clash) this.add({ op: "mov", dst: dst.id, src: to, width: 64 });
  }

  private store(inst: Inst & { op: "store" }): void {
    const { size, base: to, off, src } = inst;
    const base = isReg(to) ? to.id : to;
    if (isReg(src)) return this.add({ op: "store", size, base, off, src: { reg: src.id } });
    const c = constant(src);
    if (size !== "u64" || typeof c === "number") {
      const bits = { u8: 8, u16: 16, u32: 32, u64: 32 }[size];
      const imm = Number(BigInt.asIntN(bits, BigInt(c)));
      return this.add({ op: "store", size, base, off, src: { imm } });
    }
    // Two halves cost no register and one slot less than a ld_imm64 and a store.
    this.add({ op: "store", size: "u32", base, off, src: { imm: low32(c) } });
    this.add({ op: "store", size: "u32", base, off: off + 4, src: { imm: Number(BigInt.asIntN(32, c >> 32n)) } });
  }

  private ctxField(inst: Inst & { op: "ctx" }): void {
    const load = (dst: Reg, field: "data" | "data_end" | typeof inst.field): void => {
      const access = this.target.ctx[field];
      if (typeof access === "object") this.add({ op: "load", size: access.load, dst, base: this.ctx, off: access.off });
    };
    const { field } = inst;
    if (this.target.ctx[field] !== "packet span") {
      load(inst.dst.id, field);
      if (field === "data" || field === "data_end") this.bounds.set(field, inst.dst.id);
      return;
    }
    const bound = (which: "data" | "data_end"): Reg => {
      const has = this.bounds.get(which);
      if (has !== undefined) return has;
      const dst = this.fresh(which);
      load(dst, which);
      return dst;
    };
    const [start, end] = [bound("data"), bound("data_end")];
    const length = this.fresh(inst.dst.hint);
    this.add({ op: "mov", dst: length, src: end, width: 64 });
    this.add({ op: "alu", alu: "sub", width: 64, dst: length, b: { reg: start } });
    this.add({ op: "mov", dst: inst.dst.id, src: length, width: 64 });
  }

  /** Forgets what `inst` makes untrue about the registers that are shared within the block. */
  private settle(inst: Inst): void {
    const dst = defOf(inst);
    for (const [which, reg] of this.bounds) if (reg === dst?.id && inst.op !== "ctx") this.bounds.delete(which);
    if (inst.op !== "call") return;
    this.constants.clear();
    if ((this.target.movesPacket as ReadonlySet<string>).has(inst.helper)) this.bounds.clear();
  }

  private arg(arg: Arg): CallArg {
    if (arg === "ctx") return { reg: this.ctx };
    if (typeof arg !== "object") return { value: constant(arg) };
    if (isReg(arg)) return { reg: arg.id };
    return isSlotArg(arg) ? { slot: arg.at, off: arg.off } : { map: arg.map };
  }

  private inst(inst: Inst): void {
    switch (inst.op) {
      case "mov":
        return this.copy(inst.dst.id, inst.src);
      case "alu":
        return this.alu(inst);
      case "swap":
        this.copy(inst.dst.id, inst.src);
        return this.add({ op: "swap", bits: inst.bits, dst: inst.dst.id });
      case "forget":
        // Not at the start of an 8-byte word: there the verifier would remember the register.
        this.add({ op: "store", size: "u32", base: inst.slot, off: 4, src: { reg: inst.src.id } });
        return this.add({ op: "load", size: "u32", dst: inst.dst.id, base: inst.slot, off: 4 });
      case "load": {
        const base = isReg(inst.base) ? inst.base.id : inst.base;
        return this.add({ op: "load", size: inst.size, dst: inst.dst.id, base, off: inst.off });
      }
      case "store":
        return this.store(inst);
      case "atomic_add":
        return this.add({
          op: "atomic_add",
          size: inst.size,
          base: inst.base.id,
          off: inst.off,
          src: inst.src.id,
        });
      case "ctx":
        return this.ctxField(inst);
      case "map_value":
        return this.add({ op: "make", dst: inst.dst.id, what: { mapValue: inst.map, off: inst.off } });
      case "call":
        return this.add({
          op: "call",
          helper: inst.helper,
          args: inst.args.map((a) => this.arg(a)),
          dst: inst.dst.id,
        });
    }
  }

  private branch(end: Terminator & { op: "branch" }): void {
    const { a, b, cond } = end;
    let { width } = end;
    if (isConstant(b) && width === 64 && typeof constant(b) === "bigint") {
      const bits = pattern(b);
      // Two values below 2^32 compare alike in 32 bits, whose immediates reach that far.
      if (bits < 1n << 32n && this.narrow.has(a.id) && UNSIGNED.has(cond)) width = 32;
    }
    const to = { then: end.then, else: end.else, ...(end.likely === undefined ? {} : { likely: end.likely }) };
    this.add({ op: "branch", cond, width, a: a.id, b: this.operand(b, width), ...to });
  }

  private returned(value: Operand): RegOrImm {
    if (isReg(value)) return { reg: value.id };
    // The verdict is the low half of r0; its upper half is nobody's.
    return { imm: low32(value) };
  }

  private end(end: Terminator): void {
    switch (end.op) {
      case "jump":
        return this.add({ op: "jump", to: end.to });
      case "branch":
        return end.then === end.else ? this.add({ op: "jump", to: end.then }) : this.branch(end);
      case "return":
        return this.add({ op: "return", value: this.returned(end.value) });
      case "tail_call": {
        const index: CallArg = isReg(end.index) ? { reg: end.index.id } : { value: constant(end.index) };
        return this.add({ op: "tail_call", args: [{ reg: this.ctx }, { map: end.map }, index], else: end.else });
      }
    }
  }

  private block(block: Block, isEntry: boolean): LBlock {
    this.insts = [];
    this.from = undefined;
    this.constants.clear();
    this.bounds.clear();
    if (isEntry) this.add({ op: "entry", dst: this.ctx });
    for (const inst of block.body) {
      this.from = inst.from;
      this.inst(inst);
      this.settle(inst);
    }
    this.from = block.end.from;
    this.end(block.end);
    return { id: block.id, hint: block.hint, insts: this.insts };
  }

  run(order: readonly Block[]): LProgram {
    const entry = this.program.blocks[0];
    const blocks = order.map((b) => this.block(b, b === entry));
    return { name: this.program.name, blocks, nRegs: this.hints.length, hints: this.hints };
  }
}

/**
 * Selects instructions.
 * @param order - the blocks of `program` in the order they are written out, the entry first
 */
export const select = (program: Program, target: Target, order: readonly Block[]): LProgram =>
  new Selector(program, target).run(order);
