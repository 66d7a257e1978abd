// Conformance cases of the instruction set, in the style of bpf_conformance: assembly text and the r0 it must leave.
// The same table runs in the interpreter and in the kernel. r1 is the context of an XDP program, the packet is
// {@link PACKET}.

/** 64 bytes 00 01 02 … 3f. */
export const PACKET = Uint8Array.from({ length: 64 }, (_, i) => i);

export interface Case {
  readonly name: string;
  readonly code: string;
  /** Expected r0, unsigned. */
  readonly r0: bigint;
}

const MIN64 = "0x8000000000000000";
const M1 = 0xffffffffffffffffn;

/** `r0 = a; r1 = b; r0 OP r1` for 64-bit constants, with OP e.g. `+=`. */
const binary = (op: string, a: string, b: string, r0: bigint): Case => ({
  name: `${a} ${op} ${b}`,
  code: `r0 = ${a} ll\n r1 = ${b} ll\n r0 ${op} r1\n exit`,
  r0,
});
const narrow = (op: string, a: string, b: string, r0: bigint): Case => ({
  name: `32-bit ${a} ${op} ${b}`,
  code: `r0 = ${a} ll\n r1 = ${b} ll\n w0 ${op} w1\n exit`,
  r0,
});
/** `r0 = a; OP r0` with an immediate operand. */
const unary = (text: string, a: string, r0: bigint): Case => ({
  name: `${text} of ${a}`,
  code: `r0 = ${a} ll\n ${text}\n exit`,
  r0,
});
/** 1 when the jump is taken, 2 when not. */
const jump = (condition: string, a: string, b: string, isTaken: boolean): Case => ({
  name: `if ${condition} with ${a}, ${b}`,
  code: `r1 = ${a} ll\n r2 = ${b} ll\n r0 = 1\n if ${condition} goto done\n r0 = 2\n done: exit`,
  r0: isTaken ? 1n : 2n,
});
/** Stores `old` at fp-8, runs `code` (address in r2, operand `arg` in r1) and gives r0. */
const onStack = (name: string, old: string, arg: string, code: string, r0: bigint): Case => ({
  name,
  code: `r1 = ${old} ll\n *(u64 *)(r10 -8) = r1\n r1 = ${arg} ll\n r2 = r10\n r2 += -8\n ${code}\n exit`,
  r0,
});
/** `code` with the packet's first 16 bytes readable at r2. */
const onPacket = (name: string, code: string, r0: bigint): Case => ({
  name,
  code: `r2 = *(u32 *)(r1 +0)\n r3 = *(u32 *)(r1 +4)\n r4 = r2\n r4 += 16\n r0 = 0\n if r4 > r3 goto out\n ${code}\n out: exit`,
  r0,
});

const ARITHMETIC: readonly Case[] = [
  binary("+=", "0xffffffff", "0x1", 0x100000000n),
  binary("+=", "0xffffffffffffffff", "0x1", 0n),
  binary("+=", "0x7fffffffffffffff", "0x1", 0x8000000000000000n),
  binary("-=", "0x100000000", "0x1", 0xffffffffn),
  binary("-=", "0x0", "0x1", M1),
  binary("*=", "0xffffffff", "0xffffffff", 0xfffffffe00000001n),
  binary("*=", "0x123456789abcdef0", "0xfedcba9876543210", (0x123456789abcdef0n * 0xfedcba9876543210n) & M1),
  binary("*=", "0xffffffffffffffff", "0xffffffffffffffff", 1n),
  binary("/=", "0xfedcba9876543210", "0x12345", 0xfedcba9876543210n / 0x12345n),
  binary("/=", "0xffffffffffffffff", "0x100000000", 0xffffffffn),
  binary("/=", "0x5", "0x0", 0n),
  binary("/=", "0xfffffffffffffffe", "0xffffffffffffffff", 0n),
  binary("%=", "0xfedcba9876543210", "0x12345", 0xfedcba9876543210n % 0x12345n),
  binary("%=", "0xfedcba9876543210", "0x0", 0xfedcba9876543210n),
  binary("s/=", "0xfffffffffffffff8", "0x3", M1 - 1n),
  binary("s/=", "0x8", "0xfffffffffffffffd", M1 - 1n),
  binary("s/=", MIN64, "0xffffffffffffffff", 0x8000000000000000n),
  binary("s/=", "0x7", "0x0", 0n),
  binary("s%=", "0xfffffffffffffff8", "0x3", M1 - 1n),
  binary("s%=", "0x8", "0xfffffffffffffffd", 2n),
  binary("s%=", MIN64, "0xffffffffffffffff", 0n),
  binary("s%=", "0xfffffffffffffff9", "0x0", M1 - 6n),
  binary("|=", "0xf0f0f0f0f0f0f0f0", "0x0f00000000000001", 0xfff0f0f0f0f0f0f1n),
  binary("&=", "0xf0f0f0f0f0f0f0f0", "0xff000000000000ff", 0xf0000000000000f0n),
  binary("^=", "0xffffffff00000000", "0xffff0000ffff0000", 0x0000ffffffff0000n),
  binary("<<=", "0x123456789abcdef1", "0x0", 0x123456789abcdef1n),
  binary("<<=", "0x123456789abcdef1", "0x4", 0x23456789abcdef10n),
  binary("<<=", "0x123456789abcdef1", "0x20", 0x9abcdef100000000n),
  binary("<<=", "0x123456789abcdef1", "0x3f", 0x8000000000000000n),
  binary("<<=", "0x123456789abcdef1", "0x44", 0x23456789abcdef10n),
  binary(">>=", "0xf23456789abcdef1", "0x4", 0x0f23456789abcdefn),
  binary(">>=", "0xf23456789abcdef1", "0x20", 0xf2345678n),
  binary(">>=", "0xf23456789abcdef1", "0x3f", 1n),
  binary(">>=", "0xf23456789abcdef1", "0x40", 0xf23456789abcdef1n),
  binary("s>>=", "0xf23456789abcdef1", "0x4", 0xff23456789abcdefn),
  binary("s>>=", "0xf23456789abcdef1", "0x20", 0xfffffffff2345678n),
  binary("s>>=", "0x7fffffffffffffff", "0x3e", 1n),
  binary("s>>=", MIN64, "0x7f", M1),
  binary("=", "0x1", "0xfedcba9876543210", 0xfedcba9876543210n),

  narrow("+=", "0xffffffffffffffff", "0x1", 0n),
  narrow("+=", "0x17fffffff", "0x1", 0x80000000n),
  narrow("-=", "0x0", "0x1", 0xffffffffn),
  narrow("*=", "0xffffffff", "0xffffffff", 1n),
  narrow("*=", "0x1ffff0001", "0x10001", 0x1n),
  narrow("/=", "0xfffffffffffffffe", "0x2", 0x7fffffffn),
  narrow("/=", "0xfffffffffffffffe", "0x100000000", 0n),
  narrow("%=", "0xffffffffffffffff", "0x10", 15n),
  narrow("%=", "0xffffffff80000005", "0x100000000", 0x80000005n),
  narrow("s/=", "0xfffffff8", "0x3", 0xfffffffen),
  narrow("s/=", "0x80000000", "0xffffffff", 0x80000000n),
  narrow("s/=", "0x100000007", "0x0", 0n),
  narrow("s%=", "0xfffffff8", "0x3", 0xfffffffen),
  narrow("s%=", "0x80000000", "0xffffffff", 0n),
  narrow("s%=", "0x1fffffff9", "0x0", 0xfffffff9n),
  narrow("|=", "0xffffffff00000001", "0x2", 3n),
  narrow("&=", "0xffffffffffffffff", "0xffffffff80000001", 0x80000001n),
  narrow("^=", "0xffffffffffffffff", "0x0", 0xffffffffn),
  narrow("<<=", "0xffffffff80000001", "0x1", 2n),
  narrow("<<=", "0x1", "0x21", 2n),
  narrow(">>=", "0xffffffff80000000", "0x1f", 1n),
  narrow(">>=", "0x80000000", "0x20", 0x80000000n),
  narrow("s>>=", "0x80000000", "0x1f", 0xffffffffn),
  narrow("=", "0x1", "0xffffffff80000000", 0x80000000n),

  unary("r0 += -1", "0x0", M1),
  unary("r0 -= -1", "0xffffffff", 0x100000000n),
  unary("r0 *= -1", "0x1", M1),
  unary("r0 /= -1", "0xffffffffffffffff", 1n),
  unary("r0 s/= -1", MIN64, 0x8000000000000000n),
  unary("r0 %= 7", "0xffffffffffffffff", M1 % 7n),
  unary("r0 s%= -7", "0xfffffffffffffff8", M1),
  unary("r0 |= -2147483648", "0x1", 0xffffffff80000001n),
  unary("r0 &= -16", "0xffffffffffffffff", M1 - 15n),
  unary("r0 ^= -1", "0x0", M1),
  unary("r0 <<= 63", "0x3", 0x8000000000000000n),
  unary("r0 >>= 63", MIN64, 1n),
  unary("r0 s>>= 63", MIN64, M1),
  unary("r0 = -5", "0x0", M1 - 4n),
  unary("w0 = -5", "0x0", 0xfffffffbn),
  unary("w0 += -1", "0x0", 0xffffffffn),
  unary("w0 /= -1", "0xffffffff", 1n),
  unary("w0 s/= -1", "0x80000000", 0x80000000n),
  unary("r0 = -r0", "0x1", M1),
  unary("r0 = -r0", "0x100000000", 0xffffffff00000000n),
  unary("r0 = -r0", MIN64, 0x8000000000000000n),
  unary("w0 = -w0", "0xffffffff00000001", 0xffffffffn),
  unary("r0 += r0", "0x80000000c0000000", 0x0000000180000000n),
  unary("r0 -= r0", "0x8000000080000000", 0n),
  unary("r0 *= r0", "0x100000001", 0x200000001n),

  unary("r0 = (s8)r0", "0x1280", 0xffffffffffffff80n),
  unary("r0 = (s16)r0", "0x128000", 0xffffffffffff8000n),
  unary("r0 = (s32)r0", "0x1280000000", 0xffffffff80000000n),
  unary("r0 = (s8)r0", "0xff7f", 0x7fn),
  unary("w0 = (s8)w0", "0x1280", 0xffffff80n),
  unary("w0 = (s16)w0", "0x128000", 0xffff8000n),
  unary("r0 = be16 r0", "0x1122334455667788", 0x8877n),
  unary("r0 = be32 r0", "0x1122334455667788", 0x88776655n),
  unary("r0 = be64 r0", "0x1122334455667788", 0x8877665544332211n),
  unary("r0 = le16 r0", "0x1122334455667788", 0x7788n),
  unary("r0 = le32 r0", "0x1122334455667788", 0x55667788n),
  unary("r0 = le64 r0", "0x1122334455667788", 0x1122334455667788n),
  unary("r0 = bswap16 r0", "0x1122334455667788", 0x8877n),
  unary("r0 = bswap32 r0", "0x1122334455667788", 0x88776655n),
  unary("r0 = bswap64 r0", "0x1122334455667788", 0x8877665544332211n),
];

const SMALL = "0x5";
const NEGATIVE = "0xfffffffffffffffb";
/** Differs from SMALL in the upper word only. */
const HIGH = "0x100000005";

const JUMPS: readonly Case[] = [
  ...(
    [
      // [operator, SMALL ? NEGATIVE, NEGATIVE ? SMALL, SMALL ? SMALL, SMALL ? HIGH, HIGH ? SMALL]
      ["==", false, false, true, false, false],
      ["!=", true, true, false, true, true],
      [">", false, true, false, false, true],
      [">=", false, true, true, false, true],
      ["<", true, false, false, true, false],
      ["<=", true, false, true, true, false],
      ["s>", true, false, false, false, true],
      ["s>=", true, false, true, false, true],
      ["s<", false, true, false, true, false],
      ["s<=", false, true, true, true, false],
    ] as const
  ).flatMap(([op, a, b, c, d, e]) => [
    jump(`r1 ${op} r2`, SMALL, NEGATIVE, a),
    jump(`r1 ${op} r2`, NEGATIVE, SMALL, b),
    jump(`r1 ${op} r2`, SMALL, SMALL, c),
    jump(`r1 ${op} r2`, SMALL, HIGH, d),
    jump(`r1 ${op} r2`, HIGH, SMALL, e),
    // 32-bit comparisons see no difference between SMALL and HIGH.
    jump(`w1 ${op} w2`, SMALL, NEGATIVE, a),
    jump(`w1 ${op} w2`, NEGATIVE, SMALL, b),
    jump(`w1 ${op} w2`, HIGH, SMALL, c),
    jump(`r1 ${op} -5`, NEGATIVE, "0x0", c),
    jump(`r1 ${op} -5`, SMALL, "0x0", a),
    jump(`w1 ${op} -5`, SMALL, "0x0", a),
  ]),
  jump("r1 & r2", "0x8000000000000000", MIN64, true),
  jump("r1 & r2", "0x8000000000000000", "0x7fffffffffffffff", false),
  jump("w1 & w2", "0xffffffff00000001", "0xffffffff00000002", false),
  jump("w1 & w2", "0x3", "0x2", true),
  jump("r1 & -2147483648", "0xf00000000", "0x0", true),
  jump("w1 & -2147483648", "0xf00000000", "0x0", false),
  { name: "goto ahead and back", code: "r0 = 1\n goto ahead\n back: r0 += 2\n exit\n ahead: goto back", r0: 3n },
  { name: "gotol ahead and back", code: "r0 = 1\n gotol ahead\n back: r0 += 2\n exit\n ahead: gotol back", r0: 3n },
  {
    name: "bounded loop",
    code: "r0 = 0\n r1 = 0\n again: r0 += r1\n r1 += 1\n if r1 < 100 goto again\n exit",
    r0: 4950n,
  },
  {
    name: "may_goto falls through while the loop may go on",
    code: "r0 = 0\n again: may_goto out\n r0 += 1\n if r0 < 10 goto again\n out: exit",
    r0: 10n,
  },
];

const MEMORY: readonly Case[] = [
  onStack("u8 load", "0x1122334455667788", "0x0", "r0 = *(u8 *)(r10 -7)", 0x77n),
  onStack("u16 load", "0x1122334455667788", "0x0", "r0 = *(u16 *)(r10 -6)", 0x5566n),
  onStack("u32 load", "0xffeeddccbbaa9988", "0x0", "r0 = *(u32 *)(r10 -4)", 0xffeeddccn),
  onStack("u64 load", "0xffeeddccbbaa9988", "0x0", "r0 = *(u64 *)(r10 -8)", 0xffeeddccbbaa9988n),
  onStack("s8 load", "0x1122334455668788", "0x0", "r0 = *(s8 *)(r10 -7)", 0xffffffffffffff87n),
  onStack("s16 load", "0x1122334485667788", "0x0", "r0 = *(s16 *)(r10 -6)", 0xffffffffffff8566n),
  onStack("s32 load", "0xffeeddccbbaa9988", "0x0", "r0 = *(s32 *)(r10 -4)", 0xffffffffffeeddccn),
  onStack("u8 store", "0x1122334455667788", "0xfff", "*(u8 *)(r2 +1) = r1\n r0 = *(u64 *)(r2 +0)", 0x112233445566ff88n),
  onStack(
    "u16 store",
    "0x1122334455667788",
    "0xfffff",
    "*(u16 *)(r2 +2) = r1\n r0 = *(u64 *)(r2 +0)",
    0x11223344ffff7788n,
  ),
  onStack(
    "u32 store",
    "0x1122334455667788",
    "0xffffffffff",
    "*(u32 *)(r2 +4) = r1\n r0 = *(u64 *)(r2 +0)",
    0xffffffff55667788n,
  ),
  onStack("u8 constant store", "0x0", "0x0", "*(u8 *)(r2 +7) = -1\n r0 = *(u64 *)(r2 +0)", 0xff00000000000000n),
  onStack("u16 constant store", "0x0", "0x0", "*(u16 *)(r2 +6) = -2\n r0 = *(u64 *)(r2 +0)", 0xfffe000000000000n),
  onStack("u32 constant store", "0x0", "0x0", "*(u32 *)(r2 +4) = -2\n r0 = *(u64 *)(r2 +0)", 0xfffffffe00000000n),
  onStack("u64 constant store", "0x0", "0x0", "*(u64 *)(r2 +0) = -2\n r0 = *(u64 *)(r2 +0)", M1 - 1n),
  onPacket("packet load", "r0 = *(u32 *)(r2 +3)", 0x06050403n),
  onPacket("packet load, big endian", "r0 = *(u16 *)(r2 +12)\n r0 = be16 r0", 0x0c0dn),
  onPacket("packet store", "*(u16 *)(r2 +0) = -2\n r0 = *(u32 *)(r2 +0)", 0x0302fffen),
  onPacket("packet length from pointers", "r3 -= r2\n r0 = r3", 64n),
];

const ADD = "*(u64 *)(r2 +0) += r1";
const OLD = "0xfffffffffffffff0";
const ATOMIC: readonly Case[] = [
  onStack("atomic add", OLD, "0x20", `lock ${ADD}\n r0 = *(u64 *)(r2 +0)`, 0x10n),
  onStack("32-bit atomic add", OLD, "0x20", "lock *(u32 *)(r2 +0) += r1\n r0 = *(u64 *)(r2 +0)", 0xffffffff00000010n),
  onStack("atomic or", "0xf0", "0xf00000000f", "lock *(u64 *)(r2 +0) |= r1\n r0 = *(u64 *)(r2 +0)", 0xf0000000ffn),
  onStack("atomic and", OLD, "0xff", "lock *(u64 *)(r2 +0) &= r1\n r0 = *(u64 *)(r2 +0)", 0xf0n),
  onStack("atomic xor", OLD, "0xffffffffffffffff", "lock *(u64 *)(r2 +0) ^= r1\n r0 = *(u64 *)(r2 +0)", 15n),
  onStack(
    "fetch add gives the old value",
    OLD,
    "0x20",
    "r1 = atomic64_fetch_add((u64 *)(r2 +0), r1)\n r0 = r1",
    0xfffffffffffffff0n,
  ),
  onStack("fetch add adds", OLD, "0x20", "r1 = atomic64_fetch_add((u64 *)(r2 +0), r1)\n r0 = *(u64 *)(r2 +0)", 0x10n),
  onStack(
    "32-bit fetch add extends by zeros",
    OLD,
    "0xffffffff00000020",
    "w1 = atomic_fetch_add((u32 *)(r2 +0), w1)\n r0 = r1",
    0xfffffff0n,
  ),
  onStack(
    "fetch or",
    "0xf0",
    "0xf",
    "r1 = atomic64_fetch_or((u64 *)(r2 +0), r1)\n r0 = *(u64 *)(r2 +0)\n r0 <<= 8\n r0 |= r1",
    0xfff0n,
  ),
  onStack(
    "fetch and",
    "0xf0",
    "0x1f",
    "r1 = atomic64_fetch_and((u64 *)(r2 +0), r1)\n r0 = *(u64 *)(r2 +0)\n r0 <<= 8\n r0 |= r1",
    0x10f0n,
  ),
  onStack(
    "fetch xor",
    "0xf0",
    "0xff",
    "r1 = atomic64_fetch_xor((u64 *)(r2 +0), r1)\n r0 = *(u64 *)(r2 +0)\n r0 <<= 8\n r0 |= r1",
    0x0ff0n,
  ),
  onStack(
    "xchg",
    "0x1122334455667788",
    "0x42",
    "r1 = xchg_64(r2 +0, r1)\n r0 = *(u64 *)(r2 +0)\n r0 += r1",
    0x11223344556677can,
  ),
  onStack(
    "32-bit xchg",
    "0x1122334455667788",
    "0x42",
    "w1 = xchg32_32(r2 +0, w1)\n r0 = *(u64 *)(r2 +0)",
    0x1122334400000042n,
  ),
  onStack(
    "cmpxchg that matches",
    "0x100000001",
    "0x7",
    "r0 = 0x100000001 ll\n r0 = cmpxchg_64(r2 +0, r0, r1)\n r3 = *(u64 *)(r2 +0)\n r0 += r3",
    0x100000008n,
  ),
  onStack(
    "cmpxchg that does not match",
    "0x100000001",
    "0x7",
    "r0 = 1\n r0 = cmpxchg_64(r2 +0, r0, r1)\n r3 = *(u64 *)(r2 +0)\n r0 += r3",
    0x200000002n,
  ),
  onStack(
    "32-bit cmpxchg compares 32 bits",
    "0x1122334400000001",
    "0x7",
    "r0 = 0xffffffff00000001 ll\n w0 = cmpxchg32_32(r2 +0, w0, w1)\n r3 = *(u64 *)(r2 +0)\n r0 += r3",
    0x1122334400000008n,
  ),
];

const CALLS: readonly Case[] = [
  {
    name: "local call keeps r6..r9 and r10",
    code: "r6 = 6\n r9 = 9\n *(u64 *)(r10 -8) = 100\n r1 = 1\n call sub\n r0 += r6\n r0 += r9\n r1 = *(u64 *)(r10 -8)\n r0 += r1\n exit\n sub: r6 = 1000\n r9 = 1000\n *(u64 *)(r10 -8) = 7\n r0 = r1\n r0 += 1\n exit",
    r0: 117n,
  },
  {
    name: "subprogram reads and writes its caller's stack through a pointer",
    code: "*(u64 *)(r10 -8) = 40\n r1 = r10\n r1 += -8\n call sub\n r0 = *(u64 *)(r10 -8)\n exit\n sub: r2 = *(u64 *)(r1 +0)\n r2 += 2\n *(u64 *)(r1 +0) = r2\n r0 = 0\n exit",
    r0: 42n,
  },
  { name: "helper result", code: "call bpf_xdp_get_buff_len\n exit", r0: 64n },
  { name: "ld_imm64 const", code: "r0 = 0x123456789abcdef0 ll\n exit", r0: 0x123456789abcdef0n },
];

export const CASES: readonly Case[] = [...ARITHMETIC, ...JUMPS, ...MEMORY, ...ATOMIC, ...CALLS];
