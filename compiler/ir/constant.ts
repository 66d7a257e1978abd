// Constants of the intermediate representation: 64-bit patterns, written as a number where the signed value fits 32 bits
// (the immediates of BPF) and as an unsigned bigint elsewhere. Arithmetic here is the machine's, bit for bit.

import type { AluOp, Cond, Operand } from "./types.js";

/** A constant operand. */
export type Constant = number | bigint;

export const isConstant = (x: Operand): x is Constant => typeof x !== "object";

/** The 64-bit pattern, 0..2^64-1. */
export const pattern = (c: Constant): bigint => BigInt.asUintN(64, BigInt(c));

/** The canonical spelling of a 64-bit pattern: a number if its signed value fits 32 bits, an unsigned bigint otherwise. */
export const constant = (bits: Constant): Constant => {
  if (typeof bits === "number" && (bits | 0) === bits) return bits;
  const signed = BigInt.asIntN(64, BigInt(bits));
  return signed >= -0x8000_0000n && signed <= 0x7fff_ffffn ? Number(signed) : BigInt.asUintN(64, signed);
};

/** The low 32 bits as a signed number, what a 32-bit instruction takes for an immediate. */
export const low32 = (c: Constant): number => (typeof c === "number" ? c | 0 : Number(BigInt.asIntN(32, c)));

const ALU: Record<AluOp, (a: bigint, b: bigint, width: number) => bigint> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => (b === 0n ? 0n : a / b),
  mod: (a, b) => (b === 0n ? a : a % b),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  lsh: (a, b, width) => a << (b & BigInt(width - 1)),
  rsh: (a, b, width) => a >> (b & BigInt(width - 1)),
  arsh: (a, b, width) => BigInt.asIntN(width, a) >> (b & BigInt(width - 1)),
};

/** `a OP b` as the machine computes it: unsigned, x / 0 = 0, x % 0 = x, shifts modulo the width (RFC 9669 section 4.1). */
export const evalAlu = (op: AluOp, width: 32 | 64, a: Constant, b: Constant): Constant => {
  const x = BigInt.asUintN(width, BigInt(a));
  const y = BigInt.asUintN(width, BigInt(b));
  return constant(BigInt.asUintN(width, ALU[op](x, y, width)));
};

const COND: Record<Cond, (a: bigint, b: bigint, width: number) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  sgt: (a, b, width) => BigInt.asIntN(width, a) > BigInt.asIntN(width, b),
  sge: (a, b, width) => BigInt.asIntN(width, a) >= BigInt.asIntN(width, b),
  slt: (a, b, width) => BigInt.asIntN(width, a) < BigInt.asIntN(width, b),
  sle: (a, b, width) => BigInt.asIntN(width, a) <= BigInt.asIntN(width, b),
  set: (a, b) => (a & b) !== 0n,
};

/** Whether `a COND b` holds in the low `width` bits. */
export const evalCond = (cond: Cond, width: 32 | 64, a: Constant, b: Constant): boolean =>
  COND[cond](BigInt.asUintN(width, BigInt(a)), BigInt.asUintN(width, BigInt(b)), width);

/** Bytes swapped in the low `bits` bits, upper bits zero. */
export const evalSwap = (bits: 16 | 32 | 64, a: Constant): Constant => {
  let rest = BigInt.asUintN(bits, BigInt(a));
  let out = 0n;
  for (let i = 0; i < bits; i += 8) {
    out = (out << 8n) | (rest & 0xffn);
    rest >>= 8n;
  }
  return constant(out);
};
