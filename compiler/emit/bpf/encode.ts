// Writes an allocated program out as BPF instructions: arguments into r1..r5, results from r0, jumps towards the block
// that does not follow, slots as offsets from r10.

import {
  add,
  add32,
  and,
  and32,
  arsh,
  arsh32,
  atomicAdd,
  be16,
  be32,
  be64,
  call,
  cmpxchg,
  div,
  div32,
  exit,
  fp,
  ja,
  jeq,
  jeq32,
  jge,
  jge32,
  jgt,
  jgt32,
  jle,
  jle32,
  jlt,
  jlt32,
  jne,
  jne32,
  jset,
  jset32,
  jsge,
  jsge32,
  jsgt,
  jsgt32,
  jsle,
  jsle32,
  jslt,
  jslt32,
  Label,
  ldImm64,
  ldMap,
  ldMapValue,
  load,
  lsh,
  lsh32,
  mod,
  mod32,
  mov,
  mov32,
  mul,
  mul32,
  or,
  or32,
  r0,
  RangeViolation,
  rsh,
  rsh32,
  store,
  storeImm,
  sub,
  sub32,
  WRITABLE_REGS,
  xor,
  xor32,
  type HelperName,
  type Insn,
  type Reg as MachineReg,
  type WReg,
} from "ebpf-assembler";
import { pattern, type Constant } from "../../ir/constant.js";
import type { AluOp, BlockId, Cond, Slot } from "../../ir/types.js";
import { isIntrinsic, type Intrinsic } from "../../targets/index.js";
import type { Allocation } from "./allocate.js";
import type { Frame } from "./frame.js";
import type { Base, CallArg, LInst, Reg, RegOrImm, Remat } from "./lir.js";
import { orderMoves } from "./parallel-move.js";

const [, R1, R2, R3] = WRITABLE_REGS as readonly [WReg, WReg, WReg, WReg, ...WReg[]];

/** Arguments are in r1, r2, …; the result goes to r0. */
const INTRINSIC_CODE: Readonly<Record<Intrinsic, readonly Insn[]>> = {
  cmpxchg_u64: [mov(r0, R2), cmpxchg("u64", R1, 0, R3)],
};

type Alu = (dst: WReg, by: MachineReg | number) => Insn;
type Jump = (r: MachineReg, by: MachineReg | number, to: Label) => Insn;

const ALU: Readonly<Record<AluOp, readonly [wide: Alu, narrow: Alu]>> = {
  add: [add, add32],
  sub: [sub, sub32],
  mul: [mul, mul32],
  div: [div, div32],
  mod: [mod, mod32],
  and: [and, and32],
  or: [or, or32],
  xor: [xor, xor32],
  lsh: [lsh, lsh32],
  rsh: [rsh, rsh32],
  arsh: [arsh, arsh32],
};

const JUMP: Readonly<Record<Cond, readonly [wide: Jump, narrow: Jump]>> = {
  eq: [jeq, jeq32],
  ne: [jne, jne32],
  gt: [jgt, jgt32],
  ge: [jge, jge32],
  lt: [jlt, jlt32],
  le: [jle, jle32],
  sgt: [jsgt, jsgt32],
  sge: [jsge, jsge32],
  slt: [jslt, jslt32],
  sle: [jsle, jsle32],
  set: [jset, jset32],
};

/** The condition that holds when the other does not; `set` has none. */
const OPPOSITE: Readonly<Partial<Record<Cond, Cond>>> = {
  eq: "ne",
  ne: "eq",
  gt: "le",
  le: "gt",
  ge: "lt",
  lt: "ge",
  sgt: "sle",
  sle: "sgt",
  sge: "slt",
  slt: "sge",
};

const SWAP = { 16: be16, 32: be32, 64: be64 } as const;

class Encoder {
  private readonly out: (Insn | Label)[] = [];
  private readonly labels = new Map<BlockId, Label>();
  private readonly referenced = new Set<Label>();

  constructor(
    private readonly allocation: Allocation,
    private readonly frame: Frame,
  ) {
    for (const block of allocation.program.blocks) this.labels.set(block.id, new Label(block.hint));
  }

  private phys(r: Reg): WReg {
    const n = this.allocation.physOf(r);
    const reg = WRITABLE_REGS[n];
    if (reg === undefined) throw new RangeViolation(`Cannot encode register ${r}: it has no machine register`);
    return reg;
  }

  private at(slot: Slot, off: number): number {
    return this.frame.get(slot.slot)! + off;
  }

  private base(base: Base, off: number): readonly [MachineReg, number] {
    return typeof base === "number" ? [this.phys(base), off] : [fp, this.at(base, off)];
  }

  private operand(x: RegOrImm): MachineReg | number {
    return "reg" in x ? this.phys(x.reg) : x.imm;
  }

  private label(id: BlockId): Label {
    const label = this.labels.get(id)!;
    this.referenced.add(label);
    return label;
  }

  private constant(dst: WReg, value: Constant): Insn {
    if (typeof value === "number") return mov(dst, value);
    const bits = pattern(value);
    return bits < 1n << 32n ? mov32(dst, Number(bits)) : ldImm64(dst, bits);
  }

  private make(dst: WReg, what: Remat): readonly Insn[] {
    if ("value" in what) return [this.constant(dst, what.value)];
    if ("map" in what) return [ldMap(dst, what.map)];
    if ("mapValue" in what) return [ldMapValue(dst, what.mapValue, what.off)];
    if ("spilled" in what) return [load(dst, "u64", fp, this.at(what.spilled, 0))];
    return [mov(dst, fp), add(dst, this.at(what.slot, what.off))];
  }

  /** Arguments that are in registers first, all at once; then those that are made in place. */
  private args(args: readonly CallArg[]): readonly Insn[] {
    const target = (i: number): WReg => WRITABLE_REGS[i + 1]!;
    const moves = args.flatMap((a, i) => ("reg" in a ? [{ to: i + 1, from: this.phys(a.reg).n }] : []));
    const made = args.flatMap((a, i) => ("reg" in a ? [] : this.make(target(i), a)));
    const moved = orderMoves(moves, r0.n).map((m) => mov(WRITABLE_REGS[m.to]!, WRITABLE_REGS[m.from]!));
    return [...moved, ...made];
  }

  private goto(to: BlockId, next: BlockId | undefined): readonly Insn[] {
    return to === next ? [] : [ja(this.label(to))];
  }

  private branch(inst: LInst & { op: "branch" }, next: BlockId | undefined): readonly Insn[] {
    const side = inst.width === 64 ? 0 : 1;
    const jump = (cond: Cond, to: BlockId): Insn =>
      JUMP[cond][side](this.phys(inst.a), this.operand(inst.b), this.label(to));
    const opposite = OPPOSITE[inst.cond];
    if (inst.then === next && opposite !== undefined) return [jump(opposite, inst.else)];
    return [jump(inst.cond, inst.then), ...this.goto(inst.else, next)];
  }

  /** Its arguments are where a helper wants them. */
  private callee(helper: string): readonly Insn[] {
    return isIntrinsic(helper) ? INTRINSIC_CODE[helper] : [call(helper as HelperName)];
  }

  private inst(inst: LInst, next: BlockId | undefined): readonly Insn[] {
    switch (inst.op) {
      case "entry": {
        const dst = this.allocation.physOf(inst.dst);
        return dst === 1 ? [] : [mov(this.phys(inst.dst), WRITABLE_REGS[1]!)];
      }
      case "mov":
        if (inst.width === 32) return [mov32(this.phys(inst.dst), this.phys(inst.src))];
        return this.phys(inst.dst) === this.phys(inst.src) ? [] : [mov(this.phys(inst.dst), this.phys(inst.src))];
      case "make":
        return this.make(this.phys(inst.dst), inst.what);
      case "alu":
        return [ALU[inst.alu][inst.width === 64 ? 0 : 1](this.phys(inst.dst), this.operand(inst.b))];
      case "swap":
        return [SWAP[inst.bits](this.phys(inst.dst))];
      case "load":
        return [load(this.phys(inst.dst), inst.size, ...this.base(inst.base, inst.off))];
      case "store": {
        const [base, off] = this.base(inst.base, inst.off);
        const src = this.operand(inst.src);
        return [typeof src === "number" ? storeImm(inst.size, base, off, src) : store(inst.size, base, off, src)];
      }
      case "atomic_add":
        return [atomicAdd(inst.size, this.phys(inst.base), inst.off, this.phys(inst.src))];
      case "call": {
        const result = inst.dst === undefined ? r0 : this.phys(inst.dst);
        const taken = result === r0 ? [] : [mov(result, r0)];
        return [...this.args(inst.args), ...this.callee(inst.helper), ...taken];
      }
      case "tail_call":
        return [...this.args(inst.args), call("tail_call"), ...this.goto(inst.else, next)];
      case "branch":
        return this.branch(inst, next);
      case "jump":
        return this.goto(inst.to, next);
      case "return": {
        const value = this.operand(inst.value);
        const set = value === r0 ? [] : [mov(r0, value)];
        return [...set, exit()];
      }
    }
  }

  run(): readonly (Insn | Label)[] {
    const { blocks } = this.allocation.program;
    blocks.forEach((block, i) => {
      this.out.push(this.labels.get(block.id)!);
      const next = blocks[i + 1]?.id;
      for (const inst of block.insts)
        for (const insn of this.inst(inst, next)) this.out.push(inst.from ? { ...insn, from: inst.from } : insn);
    });
    return this.out.filter((x) => !(x instanceof Label) || this.referenced.has(x));
  }
}

/** Encodes an allocated program. */
export const encode = (allocation: Allocation, frame: Frame): readonly (Insn | Label)[] =>
  new Encoder(allocation, frame).run();
