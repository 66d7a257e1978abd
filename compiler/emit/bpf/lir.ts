// The machine-near form between the intermediate representation and BPF: instructions with the operands that BPF has
// (two-address arithmetic, 32-bit immediates), over virtual registers that are plain numbers, in blocks whose order is
// the final one. Selection makes it, the allocator rewrites it, encoding writes it out.

import type { Origin, Size } from "ebpf-assembler";
import type { Constant } from "../../ir/constant.js";
import type { AluOp, BlockId, Cond, Slot } from "../../ir/types.js";

/** A virtual register of the machine form. */
export type Reg = number;

/** Base of a memory access: a register or a piece of the stack frame. */
export type Base = Reg | Slot;

/** A register or an immediate of 32 signed bits. */
export type RegOrImm = { readonly reg: Reg } | { readonly imm: number };

/** What a helper gets as an argument; everything but `reg` is made in the argument register itself. */
export type CallArg = { readonly reg: Reg } | Remat;

/** A value that is made again wherever it is wanted, instead of being kept. */
export type Remat =
  | { readonly value: Constant }
  | { readonly map: string }
  | { readonly mapValue: string; readonly off: number }
  | { readonly slot: Slot; readonly off: number }
  /** The 64-bit content of a spill slot. */
  | { readonly spilled: Slot };

interface Common {
  readonly from?: Origin;
}

export type LInst = Common &
  /** `dst` is the context, which is in r1. First of the program. */
  (
    | { readonly op: "entry"; readonly dst: Reg }
    | { readonly op: "mov"; readonly dst: Reg; readonly src: Reg; readonly width: 32 | 64 }
    | { readonly op: "make"; readonly dst: Reg; readonly what: Remat }
    /** `dst = dst OP b`. */
    | { readonly op: "alu"; readonly alu: AluOp; readonly width: 32 | 64; readonly dst: Reg; readonly b: RegOrImm }
    /** Byte swap of `dst` in place. */
    | { readonly op: "swap"; readonly bits: 16 | 32 | 64; readonly dst: Reg }
    | { readonly op: "load"; readonly size: Size; readonly dst: Reg; readonly base: Base; readonly off: number }
    | { readonly op: "store"; readonly size: Size; readonly base: Base; readonly off: number; readonly src: RegOrImm }
    | {
        readonly op: "atomic_add";
        readonly size: "u32" | "u64";
        readonly base: Reg;
        readonly off: number;
        readonly src: Reg;
      }
    | { readonly op: "call"; readonly helper: string; readonly args: readonly CallArg[]; readonly dst?: Reg }
    | {
        readonly op: "branch";
        readonly cond: Cond;
        readonly width: 32 | 64;
        readonly a: Reg;
        readonly b: RegOrImm;
        readonly then: BlockId;
        readonly else: BlockId;
        readonly likely?: "then" | "else";
      }
    | { readonly op: "jump"; readonly to: BlockId }
    | { readonly op: "return"; readonly value: RegOrImm }
    | { readonly op: "tail_call"; readonly args: readonly CallArg[]; readonly else: BlockId }
  );

export interface LBlock {
  readonly id: BlockId;
  readonly hint: string;
  /** The terminator is the last one. */
  readonly insts: readonly LInst[];
}

/** A selected program. Registers are 0..nRegs-1. */
export interface LProgram {
  readonly name: string;
  readonly blocks: readonly LBlock[];
  readonly nRegs: number;
  /** For messages: hint of a register. */
  readonly hints: readonly string[];
}

const regOf = (x: object): readonly Reg[] => ("reg" in x ? [x.reg as Reg] : []);
const regBase = (b: Base): readonly Reg[] => (typeof b === "number" ? [b] : []);

/** Registers that `inst` reads; for two-address forms `dst` is among them. */
export const usesOf = (inst: LInst): readonly Reg[] => {
  switch (inst.op) {
    case "entry":
    case "make":
    case "jump":
      return [];
    case "mov":
      return [inst.src];
    case "alu":
      return [inst.dst, ...regOf(inst.b)];
    case "swap":
      return [inst.dst];
    case "load":
      return regBase(inst.base);
    case "store":
      return [...regBase(inst.base), ...regOf(inst.src)];
    case "atomic_add":
      return [inst.base, inst.src];
    case "call":
    case "tail_call":
      return inst.args.flatMap(regOf);
    case "branch":
      return [inst.a, ...regOf(inst.b)];
    case "return":
      return regOf(inst.value);
  }
};

/** Register that `inst` writes. */
export const defOf = (inst: LInst): Reg | undefined => ("dst" in inst ? inst.dst : undefined);

/** Whether `inst` loses r0..r5. */
export const isCall = (inst: LInst): boolean => inst.op === "call" || inst.op === "tail_call";

/** Where control may go on after `inst`; empty for all but terminators. */
export const targetsOf = (inst: LInst): readonly BlockId[] => {
  switch (inst.op) {
    case "branch":
      return [inst.then, inst.else];
    case "jump":
      return [inst.to];
    case "tail_call":
      return [inst.else];
    default:
      return [];
  }
};

/** `inst` with every register replaced by `f`. */
export const renameRegs = (inst: LInst, f: (r: Reg) => Reg): LInst => {
  const x = <T extends object>(v: T): T => ("reg" in v ? { ...v, reg: f(v.reg as Reg) } : v);
  const base = (b: Base): Base => (typeof b === "number" ? f(b) : b);
  switch (inst.op) {
    case "entry":
    case "make":
    case "swap":
      return { ...inst, dst: f(inst.dst) };
    case "mov":
      return { ...inst, dst: f(inst.dst), src: f(inst.src) };
    case "alu":
      return { ...inst, dst: f(inst.dst), b: x(inst.b) };
    case "load":
      return { ...inst, dst: f(inst.dst), base: base(inst.base) };
    case "store":
      return { ...inst, base: base(inst.base), src: x(inst.src) };
    case "atomic_add":
      return { ...inst, base: f(inst.base), src: f(inst.src) };
    case "call": {
      const args = inst.args.map(x);
      return inst.dst === undefined ? { ...inst, args } : { ...inst, args, dst: f(inst.dst) };
    }
    case "tail_call":
      return { ...inst, args: inst.args.map(x) };
    case "branch":
      return { ...inst, a: f(inst.a), b: x(inst.b) };
    case "return":
      return { ...inst, value: x(inst.value) };
    case "jump":
      return inst;
  }
};
