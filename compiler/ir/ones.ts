// Which bits of a register can ever be one, whatever path was taken: what tells a mask that does nothing from one that does.

import { isConstant, pattern } from "./constant.js";
import type { Inst, Operand, Program, Size } from "./types.js";
import { isReg } from "./types.js";
import { defOf } from "./visit.js";

export const ALL_ONES = (1n << 64n) - 1n;

/** Bits of a value of each size. */
export const ONES: Readonly<Record<Size, bigint>> = {
  u8: 0xffn,
  u16: 0xffffn,
  u32: 0xffff_ffffn,
  u64: ALL_ONES,
};

/** All bits up to the highest one of `ones`. */
const below = (ones: bigint): bigint => (ones === 0n ? 0n : (1n << BigInt(ones.toString(2).length)) - 1n);

/** Bits that a scalar register can have, by register id; a register that is not in it can have all of them. */
export type OnesOf = ReadonlyMap<number, bigint>;

/** The bits that the result of `inst` can have. */
const result = (inst: Inst, of: (x: Operand) => bigint): bigint => {
  switch (inst.op) {
    case "mov":
      return of(inst.src);
    case "load":
      return ONES[inst.size];
    case "swap":
      return inst.bits === 64 ? ALL_ONES : (1n << BigInt(inst.bits)) - 1n;
    case "ctx":
    case "forget":
      return ONES.u32;
    case "alu": {
      const width = inst.width === 64 ? ALL_ONES : ONES.u32;
      const [a, b] = [of(inst.a) & width, of(inst.b) & width];
      const shift = isConstant(inst.b) ? pattern(inst.b) & BigInt(inst.width - 1) : undefined;
      switch (inst.alu) {
        case "and":
          return a & b;
        case "or":
        case "xor":
          return a | b;
        case "add":
          return below(a | b) === width ? width : ((below(a | b) << 1n) | 1n) & width;
        case "lsh":
          return shift === undefined ? width : (a << shift) & width;
        case "rsh":
          return shift === undefined ? below(a) : a >> shift;
        case "div":
          return below(a);
        case "mod":
          return below(a);
        default:
          return width;
      }
    }
    default:
      return ALL_ONES;
  }
};

/** Rounds after which what still grows is given up: sums in loops grow bit by bit. */
const PATIENCE = 6;

/** {@link OnesOf} every scalar register of `program`: the least that all its writes agree with. */
export const onesOf = (program: Program): OnesOf => {
  const ones = new Map<number, bigint>();
  const of = (x: Operand): bigint =>
    isReg(x) ? (x.kind === "scalar" ? (ones.get(x.id) ?? 0n) : ALL_ONES) : pattern(x);
  for (let round = 0, grew = true; grew; round++) {
    grew = false;
    for (const block of program.blocks)
      for (const inst of block.body) {
        const dst = defOf(inst);
        if (dst?.kind !== "scalar") continue;
        const before = ones.get(dst.id) ?? 0n;
        const now = before | result(inst, of);
        if (now === before) continue;
        ones.set(dst.id, round < PATIENCE ? now : ALL_ONES);
        grew = true;
      }
  }
  return ones;
};
