// Turns the encoded slots of a program into arrays that the interpreter runs through: one dense operation number per
// slot, register numbers scaled to their place in the register file, immediates and jump targets resolved.
//
// What the kernel refuses before it looks at data flow (unknown opcodes, reserved fields that are not zero, jumps out of
// the program, r10 written) is refused here, with the slot named.

import type { ProgramSpec } from "../object/spec.js";
import { Fault } from "./errors.js";
import { Op } from "./execute.js";
import { CONSTANT, type Image } from "./image.js";

const FRAME_POINTER = 10;

/** What `ld_imm64` of a relocated slot loads: low and high word of an address. */
export type Resolve = (slot: number) => readonly [lo: number, hi: number] | undefined;

// Opcode bytes: class in bits 0..2, source in bit 3, operation in bits 4..7 (RFC 9669 section 3).
const ALU = 0x04;
const ALU64 = 0x07;
const JMP = 0x05;
const JMP32 = 0x06;

/** Binary operations: number in the opcode, then [ALU64, ALU32]. */
const BINARY: readonly (readonly [number, Op, Op])[] = [
  [0x00, Op.ADD64, Op.ADD32],
  [0x10, Op.SUB64, Op.SUB32],
  [0x20, Op.MUL64, Op.MUL32],
  [0x30, Op.DIV64, Op.DIV32],
  [0x40, Op.OR64, Op.OR32],
  [0x50, Op.AND64, Op.AND32],
  [0x60, Op.LSH64, Op.LSH32],
  [0x70, Op.RSH64, Op.RSH32],
  [0x90, Op.MOD64, Op.MOD32],
  [0xa0, Op.XOR64, Op.XOR32],
  [0xb0, Op.MOV64, Op.MOV32],
  [0xc0, Op.ARSH64, Op.ARSH32],
];

/** The same with a non-zero offset: signed division, and moves that extend the sign of `off` bits. */
const WITH_OFFSET: readonly (readonly [number, number, Op, Op])[] = [
  [0x30, 1, Op.SDIV64, Op.SDIV32],
  [0x90, 1, Op.SMOD64, Op.SMOD32],
  [0xb0, 8, Op.MOVSX8_64, Op.MOVSX8_32],
  [0xb0, 16, Op.MOVSX16_64, Op.MOVSX16_32],
  [0xb0, 32, Op.MOVSX32_64, Op.INVALID],
];

const JUMPS: readonly (readonly [number, Op, Op])[] = [
  [0x10, Op.JEQ64, Op.JEQ32],
  [0x20, Op.JGT64, Op.JGT32],
  [0x30, Op.JGE64, Op.JGE32],
  [0x40, Op.JSET64, Op.JSET32],
  [0x50, Op.JNE64, Op.JNE32],
  [0x60, Op.JSGT64, Op.JSGT32],
  [0x70, Op.JSGE64, Op.JSGE32],
  [0xa0, Op.JLT64, Op.JLT32],
  [0xb0, Op.JLE64, Op.JLE32],
  [0xc0, Op.JSLT64, Op.JSLT32],
  [0xd0, Op.JSLE64, Op.JSLE32],
];

/** Loads and stores by their whole opcode byte. */
const MEMORY: readonly (readonly [number, Op])[] = [
  [0x61, Op.LDX4],
  [0x69, Op.LDX2],
  [0x71, Op.LDX1],
  [0x79, Op.LDX8],
  [0x81, Op.LDSX4],
  [0x89, Op.LDSX2],
  [0x91, Op.LDSX1],
  [0x62, Op.ST4],
  [0x6a, Op.ST2],
  [0x72, Op.ST1],
  [0x7a, Op.ST8],
  [0x63, Op.ST4],
  [0x6b, Op.ST2],
  [0x73, Op.ST1],
  [0x7b, Op.ST8],
];

/** Byte order: opcode byte, width in `imm`. */
const BYTE_ORDER: readonly (readonly [number, number, Op])[] = [
  [0xd4, 16, Op.LE16],
  [0xd4, 32, Op.LE32],
  [0xd4, 64, Op.LE64],
  [0xdc, 16, Op.SWAP16],
  [0xdc, 32, Op.SWAP32],
  [0xdc, 64, Op.SWAP64],
  [0xd7, 16, Op.SWAP16],
  [0xd7, 32, Op.SWAP32],
  [0xd7, 64, Op.SWAP64],
];

/** Atomic operations: size by the opcode byte, operation in `imm`; loads and stores exist for all sizes. */
const ATOMIC_SIZES: { readonly [code: number]: number } = { 0xc3: 4, 0xdb: 8, 0xcb: 2, 0xd3: 1 };
const LOAD_ACQUIRE = 0x100;
const STORE_RELEASE = 0x110;
const ATOMIC_OPS: ReadonlySet<number> = new Set([0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1]);
const LOAD_BY_SIZE: { readonly [size: number]: Op } = { 1: Op.LDX1, 2: Op.LDX2, 4: Op.LDX4, 8: Op.LDX8 };
const STORE_BY_SIZE: { readonly [size: number]: Op } = { 1: Op.ST1, 2: Op.ST2, 4: Op.ST4, 8: Op.ST8 };

/** Key of {@link OPS}: opcode byte and, where it decides, the 16-bit offset or the width. */
const keyOf = (code: number, variant = 0): number => code | (variant << 8);

const OPS: ReadonlyMap<number, Op> = new Map([
  ...BINARY.flatMap(([n, wide, narrow]) =>
    [0, 8].flatMap(
      (x) =>
        [
          [keyOf(n | x | ALU64), wide],
          [keyOf(n | x | ALU), narrow],
        ] as const,
    ),
  ),
  ...WITH_OFFSET.flatMap(([n, off, wide, narrow]) =>
    (n === 0xb0 ? [8] : [0, 8]).flatMap(
      (x) =>
        [
          [keyOf(n | x | ALU64, off), wide],
          [keyOf(n | x | ALU, off), narrow],
        ] as const,
    ),
  ),
  ...JUMPS.flatMap(([n, wide, narrow]) =>
    [0, 8].flatMap(
      (x) =>
        [
          [keyOf(n | x | JMP), wide],
          [keyOf(n | x | JMP32), narrow],
        ] as const,
    ),
  ),
  ...MEMORY.map(([code, op]) => [keyOf(code), op] as const),
  ...BYTE_ORDER.map(([code, width, op]) => [keyOf(code, width), op] as const),
  [keyOf(0x87), Op.NEG64],
  [keyOf(0x84), Op.NEG32],
  [keyOf(0x05), Op.JA],
  [keyOf(0x06), Op.JA],
  [keyOf(0xe5), Op.MAY_GOTO],
  [keyOf(0x95), Op.EXIT],
  [keyOf(0x18), Op.LD_IMM64],
]);

const isAlu = (code: number): boolean => (code & 7) === ALU || (code & 7) === ALU64;
const isJump = (code: number): boolean => (code & 7) === JMP || (code & 7) === JMP32;

/** A slot that cannot be decoded. */
export class DecodeFault extends Fault {
  constructor(
    readonly slot: number,
    reason: string,
  ) {
    super(reason);
  }
}

/**
 * Decodes a whole program.
 * @param resolve - the address that a slot with a relocation loads
 * @param isHelper - whether a helper number exists
 * @throws {@link DecodeFault}
 */
export const decode = (spec: ProgramSpec, resolve: Resolve, isHelper: (id: number) => boolean): Image => {
  const n = spec.code.length >> 3;
  const image: Image = {
    spec,
    op: new Uint8Array(n),
    dst: new Uint8Array(n),
    src: new Uint8Array(n),
    off: new Int16Array(n),
    imm: new Int32Array(n),
    immHigh: new Int32Array(n),
    target: new Int32Array(n).fill(-1),
  };
  if (n === 0 || spec.code.length % 8 !== 0)
    throw new DecodeFault(0, `the code has ${spec.code.length} bytes, want a positive multiple of 8`);
  const view = new DataView(spec.code.buffer, spec.code.byteOffset, spec.code.byteLength);
  for (let slot = 0; slot < n; slot++) {
    decodeSlot(image, view, slot, resolve, isHelper);
    if (image.op[slot] === Op.LD_IMM64) image.op[++slot] = Op.SECOND_HALF;
  }
  for (let slot = 0; slot < n; slot++) {
    const target = image.target[slot]!;
    if (target === -1) continue;
    if (target < 0 || target >= n) throw new DecodeFault(slot, `jump to slot ${target} of a program of ${n}`);
    if (image.op[target] === Op.SECOND_HALF)
      throw new DecodeFault(slot, `jump into the middle of the ld_imm64 at ${target - 1}`);
  }
  return image;
};

const decodeSlot = (
  image: Image,
  view: DataView,
  slot: number,
  resolve: Resolve,
  isHelper: (id: number) => boolean,
): void => {
  const code = view.getUint8(8 * slot);
  const dst = view.getUint8(8 * slot + 1) & 0xf;
  const src = view.getUint8(8 * slot + 1) >> 4;
  const off = view.getInt16(8 * slot + 2, true);
  const imm = view.getInt32(8 * slot + 4, true);
  const fail = (reason: string): never => {
    throw new DecodeFault(slot, reason);
  };
  if (dst > FRAME_POINTER || (src > FRAME_POINTER && code !== 0x18))
    fail(`there is no register r${Math.max(dst, src)}`);

  image.dst[slot] = 2 * dst;
  image.src[slot] = 2 * src;
  image.off[slot] = off;
  image.imm[slot] = imm;
  image.immHigh[slot] = imm >> 31;

  const sourceIsConstant = (code & 8) === 0;
  const cls = code & 7;
  const atomicSize = ATOMIC_SIZES[code];
  if (code === 0x85 || code === 0x8d) {
    if (code === 0x8d || dst !== 0 || off !== 0) fail("unknown form of call");
    if (src === 0) {
      image.op[slot] = isHelper(imm) ? Op.CALL_HELPER : fail(`unknown helper ${imm}`);
    } else if (src === 1) {
      image.op[slot] = Op.CALL_LOCAL;
      image.target[slot] = slot + 1 + imm;
    } else fail("calls of kernel functions are not supported");
    return;
  }
  if (code === 0x18) {
    if (8 * slot + 16 > view.byteLength) fail("ld_imm64 is cut off");
    if (dst === FRAME_POINTER) fail("the frame pointer is read only");
    image.op[slot] = Op.LD_IMM64;
    const address = resolve(slot);
    if (address !== undefined) {
      [image.imm[slot], image.immHigh[slot]] = address;
    } else if (src === 4) {
      image.op[slot] = Op.LD_IMM64;
      image.target[slot] = slot + 1 + imm;
      image.src[slot] = 1;
      return;
    } else if (src === 0) {
      image.immHigh[slot] = view.getInt32(8 * slot + 12, true);
    } else fail(`ld_imm64 with source ${src} has no relocation`);
    image.src[slot] = 0;
    return;
  }
  if (atomicSize !== undefined) {
    if (imm === LOAD_ACQUIRE || imm === STORE_RELEASE) {
      image.op[slot] = (imm === LOAD_ACQUIRE ? LOAD_BY_SIZE : STORE_BY_SIZE)[atomicSize]!;
    } else if (atomicSize >= 4 && ATOMIC_OPS.has(imm)) {
      image.op[slot] = atomicSize === 8 ? Op.ATOMIC8 : Op.ATOMIC4;
    } else fail(`unknown atomic operation 0x${imm.toString(16)} of ${atomicSize} bytes`);
    return;
  }

  const isSwap = (code & 0xf7) === 0xd4 || code === 0xd7;
  const variant = isSwap ? imm : isAlu(code) ? off : 0;
  const op = variant < 0 ? undefined : OPS.get(keyOf(code, variant));
  if (op === undefined || op === Op.INVALID) return fail(`unknown opcode 0x${code.toString(16).padStart(2, "0")}`);
  image.op[slot] = op;

  const writes = isAlu(code) || cls === 1;
  if (writes && dst === FRAME_POINTER) fail("the frame pointer is read only");
  if (isAlu(code)) {
    const unary = isSwap || (code & 0xf0) === 0x80;
    if (unary || sourceIsConstant ? src !== 0 : imm !== 0) fail("reserved fields are not zero");
    if (isSwap && off !== 0) fail("reserved fields are not zero");
    if (sourceIsConstant && !unary) image.src[slot] = CONSTANT;
    const by = code & 0xf0;
    if (sourceIsConstant && (by === 0x30 || by === 0x90) && imm === 0) fail("division by zero");
    const width = cls === ALU64 ? 64 : 32;
    if (sourceIsConstant && (by === 0x60 || by === 0x70 || by === 0xc0) && (imm < 0 || imm >= width))
      fail(`invalid shift ${imm}`);
  } else if (isJump(code)) {
    if (code === 0x95) {
      if (dst !== 0 || src !== 0 || off !== 0 || imm !== 0) fail("reserved fields are not zero");
      return;
    }
    const isPlain = code === 0x05 || code === 0x06 || code === 0xe5;
    if (isPlain ? dst !== 0 || src !== 0 : sourceIsConstant ? src !== 0 : imm !== 0)
      fail("reserved fields are not zero");
    image.target[slot] = slot + 1 + (code === 0x06 ? imm : off);
    if (sourceIsConstant && !isPlain) image.src[slot] = CONSTANT;
    if (image.target[slot] === -1) fail("jump before the start of the program");
  } else if (cls === 2) {
    if (src !== 0) fail("reserved fields are not zero");
    image.src[slot] = CONSTANT;
  } else if (imm !== 0) fail("reserved fields are not zero");
};
