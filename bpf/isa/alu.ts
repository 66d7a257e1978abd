// Arithmetic. `add(r1, r2)` is 64 bits wide, `add32(r1, r2)` works on the low halves and clears the high half of its
// destination. The second operand is a register or a number; a number is sign-extended in the 64-bit forms.

import { AssembleError } from "../base/errors.js";
import type { Insn, WReg } from "./insn.js";
import { imm32s, imm32u, inRange, insn, type Operand } from "./make.js";
import { ALU, CLASS, OP, SOURCE } from "./opcode.js";

type Op = keyof typeof ALU;

/** How an immediate of the operation is limited besides its width: the verifier refuses the rest. */
type Limit = "any" | "shift" | "nonzero";

const immOf = (name: string, wide: boolean, limit: Limit, imm: number): number => {
  if (limit === "shift") return inRange(name, "shift", imm, 0, wide ? 63 : 31);
  if (limit === "nonzero" && imm === 0) throw new AssembleError(`Cannot build ${name}: divisor is 0, want another one`);
  return wide ? imm32s(name, imm) : imm32u(name, imm);
};

/** Makes the builder of one operation in one width; `off` tells signed division from unsigned. */
const alu = (name: string, op: Op, wide: boolean, limit: Limit = "any", off = 0) => {
  const code = (wide ? CLASS.alu64 : CLASS.alu) | ALU[op];
  return (dst: WReg, by: Operand): Insn =>
    typeof by === "number"
      ? insn(code | SOURCE.k, { dst: dst.n, off, imm: immOf(name, wide, limit, by) })
      : insn(code | SOURCE.x, { dst: dst.n, src: by.n, off });
};

/** `dst = by` */
export const mov = alu("mov", "mov", true);
/** `dst = (u32)by` */
export const mov32 = alu("mov32", "mov", false);
/** `dst += by` */
export const add = alu("add", "add", true);
/** `dst = (u32)(dst + by)` */
export const add32 = alu("add32", "add", false);
/** `dst -= by` */
export const sub = alu("sub", "sub", true);
/** `dst = (u32)(dst - by)` */
export const sub32 = alu("sub32", "sub", false);
/** `dst *= by` */
export const mul = alu("mul", "mul", true);
/** `dst = (u32)(dst * by)` */
export const mul32 = alu("mul32", "mul", false);
/** `dst /= by`, unsigned; 0 if the register `by` is 0 */
export const div = alu("div", "div", true, "nonzero");
/** `dst = (u32)dst / (u32)by`; 0 if the register `by` is 0 */
export const div32 = alu("div32", "div", false, "nonzero");
/** `dst /= by`, signed. Needs Linux 6.6 */
export const sdiv = alu("sdiv", "div", true, "nonzero", 1);
/** `dst = (u32)((s32)dst / (s32)by)`. Needs Linux 6.6 */
export const sdiv32 = alu("sdiv32", "div", false, "nonzero", 1);
/** `dst %= by`, unsigned; unchanged if the register `by` is 0 */
export const mod = alu("mod", "mod", true, "nonzero");
/** `dst = (u32)dst % (u32)by` */
export const mod32 = alu("mod32", "mod", false, "nonzero");
/** `dst %= by`, signed, sign of the dividend. Needs Linux 6.6 */
export const smod = alu("smod", "mod", true, "nonzero", 1);
/** `dst = (u32)((s32)dst % (s32)by)`. Needs Linux 6.6 */
export const smod32 = alu("smod32", "mod", false, "nonzero", 1);
/** `dst |= by` */
export const or = alu("or", "or", true);
/** `dst = (u32)(dst | by)` */
export const or32 = alu("or32", "or", false);
/** `dst &= by` */
export const and = alu("and", "and", true);
/** `dst = (u32)(dst & by)` */
export const and32 = alu("and32", "and", false);
/** `dst ^= by` */
export const xor = alu("xor", "xor", true);
/** `dst = (u32)(dst ^ by)` */
export const xor32 = alu("xor32", "xor", false);
/** `dst <<= by` (modulo 64) */
export const lsh = alu("lsh", "lsh", true, "shift");
/** `dst = (u32)dst << by` (modulo 32) */
export const lsh32 = alu("lsh32", "lsh", false, "shift");
/** `dst >>= by`, zeros come in */
export const rsh = alu("rsh", "rsh", true, "shift");
/** `dst = (u32)dst >> by`, zeros come in */
export const rsh32 = alu("rsh32", "rsh", false, "shift");
/** `dst s>>= by`, the sign comes in */
export const arsh = alu("arsh", "arsh", true, "shift");
/** `dst = (u32)((s32)dst >> by)`, the sign comes in */
export const arsh32 = alu("arsh32", "arsh", false, "shift");

/** `dst = -dst` */
export const neg = (dst: WReg): Insn => insn(CLASS.alu64 | ALU.neg, { dst: dst.n });
/** `dst = (u32)-dst` */
export const neg32 = (dst: WReg): Insn => insn(CLASS.alu | ALU.neg, { dst: dst.n });

/** Sign-extending register moves: `dst = (s8)src` and so on. */
const SX_BITS = { s8: 8, s16: 16, s32: 32 } as const;

/** `dst = (s64)(size)src`. Needs Linux 6.6 */
export const movsx = (dst: WReg, size: keyof typeof SX_BITS, src: Operand & object): Insn =>
  insn(CLASS.alu64 | ALU.mov | SOURCE.x, { dst: dst.n, src: src.n, off: SX_BITS[size] });
/** `dst = (u32)(s32)(size)src`. Needs Linux 6.6 */
export const movsx32 = (dst: WReg, size: "s8" | "s16", src: Operand & object): Insn =>
  insn(CLASS.alu | ALU.mov | SOURCE.x, { dst: dst.n, src: src.n, off: SX_BITS[size] });

/**
 * `dst = addr_space_cast(src, to, from)`: the same address in another address space; 0 is the kernel's, 1 an arena's.
 * Needs Linux 6.9
 */
export const addrSpaceCast = (dst: WReg, src: Operand & object, to: number, from: number): Insn => {
  const imm =
    (inRange("addrSpaceCast", "address space", to, 0, 0xffff) << 16) |
    inRange("addrSpaceCast", "address space", from, 0, 0xffff);
  return insn(CLASS.alu64 | ALU.mov | SOURCE.x, { dst: dst.n, src: src.n, off: 1, imm });
};

const end =
  (code: number, bits: 16 | 32 | 64) =>
  (dst: WReg): Insn =>
    insn(code, { dst: dst.n, imm: bits });

/** `dst = htobe16(dst)`: the low 16 bits between host and big-endian order, upper bits cleared */
export const be16 = end(OP.toBe, 16);
/** `dst = htobe32(dst)`, upper bits cleared */
export const be32 = end(OP.toBe, 32);
/** `dst = htobe64(dst)` */
export const be64 = end(OP.toBe, 64);
/** `dst = htole16(dst)`: on a little-endian machine only clears the upper bits */
export const le16 = end(OP.toLe, 16);
/** `dst = htole32(dst)` */
export const le32 = end(OP.toLe, 32);
/** `dst = htole64(dst)` */
export const le64 = end(OP.toLe, 64);
/** Swaps the bytes of the low 16 bits, upper bits cleared. Needs Linux 6.6 */
export const bswap16 = end(OP.bswap, 16);
/** Swaps the bytes of the low 32 bits, upper bits cleared. Needs Linux 6.6 */
export const bswap32 = end(OP.bswap, 32);
/** Swaps the bytes of the register. Needs Linux 6.6 */
export const bswap64 = end(OP.bswap, 64);
