// Random straight-line programs, and what they compute, told a second time in bigint arithmetic.

import fc from "fast-check";
import * as bpf from "ebpf-assembler";
import type { Code, Insn, Reg, WReg } from "ebpf-assembler";

type Build = (dst: WReg, src: Reg | number) => Insn;
type Model = (a: bigint, b: bigint, bits: 32 | 64) => bigint;

const signed = (x: bigint, bits: number): bigint => BigInt.asIntN(bits, x);
const by = (b: bigint, bits: number): bigint => b & BigInt(bits - 1);

/** Builders for 64 and 32 bits, and the model; operands come cut to the width. */
const BINARY: Readonly<Record<string, readonly [wide: Build, narrow: Build, model: Model]>> = {
  mov: [bpf.mov, bpf.mov32, (_a, b) => b],
  add: [bpf.add, bpf.add32, (a, b) => a + b],
  sub: [bpf.sub, bpf.sub32, (a, b) => a - b],
  mul: [bpf.mul, bpf.mul32, (a, b) => a * b],
  div: [bpf.div, bpf.div32, (a, b) => (b === 0n ? 0n : a / b)],
  mod: [bpf.mod, bpf.mod32, (a, b) => (b === 0n ? a : a % b)],
  sdiv: [bpf.sdiv, bpf.sdiv32, (a, b, bits) => (b === 0n ? 0n : signed(a, bits) / signed(b, bits))],
  smod: [bpf.smod, bpf.smod32, (a, b, bits) => (b === 0n ? a : signed(a, bits) % signed(b, bits))],
  or: [bpf.or, bpf.or32, (a, b) => a | b],
  and: [bpf.and, bpf.and32, (a, b) => a & b],
  xor: [bpf.xor, bpf.xor32, (a, b) => a ^ b],
  lsh: [bpf.lsh, bpf.lsh32, (a, b, bits) => a << by(b, bits)],
  rsh: [bpf.rsh, bpf.rsh32, (a, b, bits) => a >> by(b, bits)],
  arsh: [bpf.arsh, bpf.arsh32, (a, b, bits) => signed(a, bits) >> by(b, bits)],
};

const swapBytes = (x: bigint, bits: number): bigint => {
  let out = 0n;
  for (let i = 0; i < bits; i += 8) out = (out << 8n) | ((x >> BigInt(i)) & 0xffn);
  return out;
};

const UNARY: readonly (readonly [build: (dst: WReg) => Insn, model: (a: bigint) => bigint])[] = [
  [bpf.neg, (a) => -a],
  [bpf.neg32, (a) => BigInt.asUintN(32, -a)],
  [bpf.be16, (a) => swapBytes(a, 16)],
  [bpf.be32, (a) => swapBytes(a, 32)],
  [bpf.be64, (a) => swapBytes(a, 64)],
  [bpf.le16, (a) => a & 0xffffn],
  [bpf.le32, (a) => a & 0xffffffffn],
  [bpf.bswap64, (a) => swapBytes(a, 64)],
  [(r) => bpf.movsx(r, "s8", r), (a) => signed(a, 8)],
  [(r) => bpf.movsx(r, "s16", r), (a) => signed(a, 16)],
  [(r) => bpf.movsx(r, "s32", r), (a) => signed(a, 32)],
  [(r) => bpf.movsx32(r, "s8", r), (a) => BigInt.asUintN(32, signed(a, 8))],
  [(r) => bpf.movsx32(r, "s16", r), (a) => BigInt.asUintN(32, signed(a, 16))],
];

/** One instruction: builds it, and changes the model's registers. */
interface Step {
  readonly insn: Insn;
  readonly apply: (registers: bigint[]) => void;
}

const N_REGISTERS = 6;
const register = fc.nat(N_REGISTERS - 1);
const reg = (n: number): WReg => bpf.WRITABLE_REGS[n]!;

/** Immediates that the builders take: divisors are not 0, shifts below the width. */
const immediateFor = (name: string, bits: 32 | 64): fc.Arbitrary<number> => {
  if (["lsh", "rsh", "arsh"].includes(name)) return fc.nat(bits - 1);
  const any = fc.oneof(fc.integer({ min: -0x80000000, max: 0x7fffffff }), fc.integer({ min: -3, max: 3 }));
  return ["div", "mod", "sdiv", "smod"].includes(name) ? any.filter((imm) => imm !== 0) : any;
};

const binary = fc
  .tuple(fc.constantFrom(...Object.keys(BINARY)), fc.constantFrom(32 as const, 64 as const), register, fc.boolean())
  .chain(([name, bits, dst, isConstant]) =>
    (isConstant ? immediateFor(name, bits) : register).map((operand): Step => {
      const [wide, narrow, model] = BINARY[name]!;
      return {
        insn: (bits === 64 ? wide : narrow)(reg(dst), isConstant ? operand : reg(operand)),
        apply: (r) => {
          const b = isConstant ? BigInt(operand) : r[operand]!;
          r[dst] = BigInt.asUintN(bits, model(BigInt.asUintN(bits, r[dst]!), BigInt.asUintN(bits, b), bits));
        },
      };
    }),
  );

const unary = fc.tuple(fc.constantFrom(...UNARY), register).map(([[build, model], dst]): Step => ({
  insn: build(reg(dst)),
  apply: (r) => void (r[dst] = BigInt.asUintN(64, model(r[dst]!))),
}));

const word = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc.constantFrom(0n, 1n, 0xffffffffn, 0x100000000n, 0x7fffffffffffffffn, 1n << 63n, (1n << 64n) - 1n),
);

/** A program and the r0 that it leaves: a mix of all its registers. */
export interface Sample {
  readonly code: Code;
  readonly r0: bigint;
}

export const sample: fc.Arbitrary<Sample> = fc
  .tuple(
    fc.tuple(word, word, word, word, word, word),
    fc.array(fc.oneof({ weight: 4, arbitrary: binary }, unary), { minLength: 1, maxLength: 30 }),
  )
  .map(([seeds, steps]) => {
    const registers: bigint[] = [...seeds];
    for (const step of steps) step.apply(registers);
    const code: Insn[] = seeds.map((seed, n) => bpf.ldImm64(reg(n), seed));
    code.push(...steps.map((step) => step.insn));
    let r0 = registers[0]!;
    for (let n = 1; n < N_REGISTERS; n++) {
      code.push(bpf.mul(bpf.r0, 31), bpf.xor(bpf.r0, reg(n)));
      r0 = BigInt.asUintN(64, r0 * 31n) ^ registers[n]!;
    }
    code.push(bpf.exit());
    return { code, r0 };
  });
