// fold-constants: computes what is known at compile time, and does dear arithmetic by cheap one.
//
//   before                          after
//   %a.0 = 6                        %a.0 = 6
//   %b.1 = mul %a.0, 7              %b.1 = 42
//   %c.2 = div %x.3, 8              %c.2 = rsh %x.3, 3
//   if eq %b.1, 42 then @1 else @2  jump @1
//
// A register that one instruction writes holds that constant wherever it is read (it is written before, on every path);
// any other register holds a constant from a `mov` to the next write in the same block.

import { constant, evalAlu, evalCond, evalSwap, isConstant, pattern, type Constant } from "../ir/constant.js";
import type { AluOp, Block, Cond, Inst, Operand, Terminator, VReg } from "../ir/types.js";
import { isReg } from "../ir/types.js";
import { countDefs, defOf, dropUnreached, mapBlocks, substitute, substituteEnd } from "../ir/visit.js";
import type { Pass } from "./pass.js";

/** `b COND a` for `a COND b`. */
const MIRRORED: Readonly<Record<Cond, Cond>> = {
  eq: "eq",
  ne: "ne",
  gt: "lt",
  ge: "le",
  lt: "gt",
  le: "ge",
  sgt: "slt",
  sge: "sle",
  slt: "sgt",
  sle: "sge",
  set: "set",
};

const COMMUTATIVE: ReadonlySet<AluOp> = new Set<AluOp>(["add", "mul", "and", "or", "xor"]);

const ONES = (1n << 64n) - 1n;

/** `x OP identity` is `x`, in 64 bits. */
const IDENTITY: Readonly<Partial<Record<AluOp, bigint>>> = {
  add: 0n,
  sub: 0n,
  or: 0n,
  xor: 0n,
  lsh: 0n,
  rsh: 0n,
  arsh: 0n,
  mul: 1n,
  div: 1n,
  and: ONES,
};

/** `x OP zero` is `zero`. */
const ABSORBING: Readonly<Partial<Record<AluOp, bigint>>> = { mul: 0n, and: 0n, or: ONES };

/** log2 of a power of two, otherwise undefined. */
const log2 = (bits: bigint): number | undefined =>
  bits !== 0n && (bits & (bits - 1n)) === 0n ? bits.toString(2).length - 1 : undefined;

const SHIFTS: ReadonlySet<AluOp> = new Set<AluOp>(["lsh", "rsh", "arsh"]);

/** The same result in a form that is cheaper, or the only one that the verifier takes. */
const cheaper = (inst: Inst & { op: "alu" }, b: bigint): Inst | undefined => {
  const amount = Number(b & BigInt(inst.width - 1));
  if (SHIFTS.has(inst.alu)) return b === BigInt(amount) ? undefined : { ...inst, b: amount };
  if (BigInt.asUintN(inst.width, b) === 0n) {
    // The machine defines x / 0 = 0 and x % 0 = x, but refuses the constant 0 as a divisor.
    if (inst.alu === "div") return { ...inst, alu: "and", b: 0 };
    return inst.alu === "mod" ? { ...inst, alu: "or", b: 0 } : undefined;
  }
  const shift = log2(BigInt.asUintN(inst.width, b));
  if (shift === undefined) return undefined;
  if (inst.alu === "mul") return { ...inst, alu: "lsh", b: shift };
  if (inst.alu === "div") return { ...inst, alu: "rsh", b: shift };
  if (inst.alu === "mod") return { ...inst, alu: "and", b: constant(BigInt.asUintN(inst.width, b) - 1n) };
  return undefined;
};

const foldAlu = (inst: Inst & { op: "alu" }): Inst => {
  const { alu, width, a, b, dst } = inst;
  const mov = (src: Operand): Inst => {
    const common = inst.from === undefined ? {} : { from: inst.from };
    return { op: "mov", dst, src, ...common };
  };
  if (!isConstant(b)) return isConstant(a) && COMMUTATIVE.has(alu) ? { ...inst, a: b, b: a } : inst;
  if (isConstant(a)) return mov(evalAlu(alu, width, a, b));
  if (a.kind !== "scalar") return alu !== "mul" && pattern(b) === 0n ? mov(a) : inst;
  if (width === 64 && IDENTITY[alu] === pattern(b)) return mov(a);
  if (width === 64 && ABSORBING[alu] === pattern(b)) return mov(b);
  return cheaper(inst, pattern(b)) ?? inst;
};

const foldInst = (inst: Inst, known: (r: VReg) => Constant | undefined): Inst => {
  const now = substitute(inst, (r) => (r.kind === "scalar" ? (known(r) ?? r) : r));
  if (now.op === "alu") return foldAlu(now);
  if (now.op !== "swap") return now;
  const value = known(now.src);
  if (value === undefined) return now;
  const common = now.from === undefined ? {} : { from: now.from };
  return { op: "mov", dst: now.dst, src: evalSwap(now.bits, value), ...common };
};

const foldEnd = (end: Terminator, known: (r: VReg) => Constant | undefined): Terminator => {
  const now = substituteEnd(end, (r) => (r.kind === "scalar" ? (known(r) ?? r) : r));
  if (now.op !== "branch") return now;
  const a = now.a.kind === "scalar" ? known(now.a) : undefined;
  if (a === undefined) return now;
  const common = now.from === undefined ? {} : { from: now.from };
  if (isConstant(now.b)) {
    const to = evalCond(now.cond, now.width, a, now.b) ? now.then : now.else;
    return { op: "jump", to, ...common };
  }
  return { ...now, cond: MIRRORED[now.cond], a: now.b, b: a };
};

const run: Pass["run"] = (program) => {
  const defs = countDefs(program);
  const everywhere = new Map<number, Constant>();
  /** Constants of registers written in more than one place, while walking one block. */
  let here = new Map<number, Constant>();
  const known = (r: VReg): Constant | undefined => everywhere.get(r.id) ?? here.get(r.id);

  const note = (inst: Inst): void => {
    const dst = defOf(inst);
    if (dst === undefined) return;
    here.delete(dst.id);
    if (inst.op !== "mov" || isReg(inst.src) || dst.kind !== "scalar") return;
    (defs.get(dst.id) === 1 ? everywhere : here).set(dst.id, constant(inst.src));
  };
  const block = (b: Block): Block => {
    here = new Map();
    const body = b.body.map((inst) => {
      const folded = foldInst(inst, known);
      note(folded);
      return folded;
    });
    const end = foldEnd(b.end, known);
    return end === b.end && body.every((inst, i) => inst === b.body[i]) ? b : { ...b, body, end };
  };

  // One constant makes others: again until nothing changes. Each round folds at least one instruction more.
  let now = program;
  for (;;) {
    const next = mapBlocks(now, block);
    if (next === now) return dropUnreached(now);
    now = next;
  }
};

export const foldConstants: Pass = {
  name: "fold-constants",
  doc: "computes what is known at compile time and replaces multiplication and division by shifts",
  run,
};
