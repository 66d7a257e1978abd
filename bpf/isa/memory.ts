// Loads, stores and atomics. Offsets are signed 16 bits, widths are named as C types.

import { AssembleError } from "../base/errors.js";
import type { Imm64, Insn, Label, Reg, WReg } from "./insn.js";
import { imm32u, imm32s, inRange, insn, off16 } from "./make.js";
import { ATOMIC, ATOMIC_FETCH, CLASS, MODE, OP, PSEUDO, SIZE } from "./opcode.js";

/** Width of a memory access. */
export type Size = "u8" | "u16" | "u32" | "u64";
/** Width of a sign-extending load. Needs Linux 6.6 */
export type SignedSize = "s8" | "s16" | "s32";

const SX_SIZE = { s8: SIZE.u8, s16: SIZE.u16, s32: SIZE.u32 } as const;
const isSigned = (size: Size | SignedSize): size is SignedSize => size in SX_SIZE;

/** `dst = *(size *)(base + off)`, zero-extended for u8..u32, sign-extended for s8..s32 (those need Linux 6.6) */
export const load = (dst: WReg, size: Size | SignedSize, base: Reg, off = 0): Insn =>
  insn(CLASS.ldx | (isSigned(size) ? MODE.memsx | SX_SIZE[size] : MODE.mem | SIZE[size]), {
    dst: dst.n,
    src: base.n,
    off: off16("load", off),
  });

/** `*(size *)(base + off) = src` */
export const store = (size: Size, base: Reg, off: number, src: Reg): Insn =>
  insn(CLASS.stx | MODE.mem | SIZE[size], { dst: base.n, src: src.n, off: off16("store", off) });

const storeRange: Record<Size, (imm: number) => number> = {
  u8: (imm) => inRange("storeImm", "immediate", imm, -0x80, 0xff),
  u16: (imm) => inRange("storeImm", "immediate", imm, -0x8000, 0xffff),
  u32: (imm) => imm32u("storeImm", imm),
  u64: (imm) => imm32s("storeImm", imm),
};

/** `*(size *)(base + off) = imm`; for u64 the immediate is sign-extended */
export const storeImm = (size: Size, base: Reg, off: number, imm: number): Insn =>
  insn(CLASS.st | MODE.mem | SIZE[size], { dst: base.n, off: off16("storeImm", off), imm: storeRange[size](imm) });

/** Width of an atomic access. */
export type AtomicSize = "u32" | "u64";

const atomicInsn = (name: string, size: Size, imm: number, base: Reg, off: number, src: Reg): Insn =>
  insn(CLASS.stx | MODE.atomic | SIZE[size], { dst: base.n, src: src.n, off: off16(name, off), imm });

const atomic =
  (name: "add" | "or" | "and" | "xor") =>
  (size: AtomicSize, base: Reg, off: number, src: Reg): Insn =>
    atomicInsn(name, size, ATOMIC[name], base, off, src);
const fetching =
  (name: "add" | "or" | "and" | "xor") =>
  (size: AtomicSize, base: Reg, off: number, src: WReg): Insn =>
    atomicInsn(name, size, ATOMIC[name] | ATOMIC_FETCH, base, off, src);

/** `lock *(size *)(base + off) += src` */
export const atomicAdd = atomic("add");
/** `lock *(size *)(base + off) |= src`. Needs Linux 5.12 */
export const atomicOr = atomic("or");
/** `lock *(size *)(base + off) &= src`. Needs Linux 5.12 */
export const atomicAnd = atomic("and");
/** `lock *(size *)(base + off) ^= src`. Needs Linux 5.12 */
export const atomicXor = atomic("xor");
/** Atomic `+= src`; `src` receives the old value. Needs Linux 5.12 */
export const fetchAdd = fetching("add");
/** Atomic `|= src`; `src` receives the old value. Needs Linux 5.12 */
export const fetchOr = fetching("or");
/** Atomic `&= src`; `src` receives the old value. Needs Linux 5.12 */
export const fetchAnd = fetching("and");
/** Atomic `^= src`; `src` receives the old value. Needs Linux 5.12 */
export const fetchXor = fetching("xor");
/** Atomically exchanges `src` and memory. Needs Linux 5.12 */
export const xchg = (size: AtomicSize, base: Reg, off: number, src: WReg): Insn =>
  atomicInsn("xchg", size, ATOMIC.xchg, base, off, src);
/** If memory equals r0, it becomes `src`; r0 receives the old value in any case. Needs Linux 5.12 */
export const cmpxchg = (size: AtomicSize, base: Reg, off: number, src: Reg): Insn =>
  atomicInsn("cmpxchg", size, ATOMIC.cmpxchg, base, off, src);
/** `dst = load_acquire((size *)(base + off))`. Needs Linux 6.15 */
export const loadAcquire = (dst: WReg, size: Size, base: Reg, off = 0): Insn =>
  insn(CLASS.stx | MODE.atomic | SIZE[size], {
    dst: dst.n,
    src: base.n,
    off: off16("loadAcquire", off),
    imm: ATOMIC.loadAcquire,
  });
/** `store_release((size *)(base + off), src)`. Needs Linux 6.15 */
export const storeRelease = (size: Size, base: Reg, off: number, src: Reg): Insn =>
  atomicInsn("storeRelease", size, ATOMIC.storeRelease, base, off, src);

const wide = (dst: WReg, src: number, imm64: Imm64): Insn =>
  insn(OP.ldImm64, { dst: dst.n, src, imm64: Object.freeze(imm64) });

/** `dst = value`, all 64 bits (two slots). -2^63..2^64-1 */
export const ldImm64 = (dst: WReg, value: bigint | number): Insn => {
  if (typeof value === "number" && !Number.isSafeInteger(value))
    throw new AssembleError(`Cannot build ldImm64: ${value} is no exact integer, pass a bigint`);
  const big = BigInt(value);
  if (big < -(1n << 63n) || big >= 1n << 64n)
    throw new AssembleError(`Cannot build ldImm64: immediate is ${big}, want -2^63..2^64-1`);
  return wide(dst, PSEUDO.const, { kind: "const", value: BigInt.asUintN(64, big) });
};

/** `dst = address of map` named `map` of the object spec, as helpers want it */
export const ldMap = (dst: WReg, map: string): Insn => wide(dst, PSEUDO.mapFd, { kind: "map", map });

/** `dst = address of byte `offset` of the value` of the one-entry array map `map`. Needs Linux 5.2 */
export const ldMapValue = (dst: WReg, map: string, offset = 0): Insn =>
  wide(dst, PSEUDO.mapValue, {
    kind: "map_value",
    map,
    offset: inRange("ldMapValue", "offset", offset, 0, 0x7fff_ffff),
  });

/** `dst = address of the subprogram` at `label`, for callbacks of bpf_loop and the like. Needs Linux 5.13 */
export const ldFunc = (dst: WReg, label: Label): Insn => wide(dst, PSEUDO.func, { kind: "func", label });
