import assert from "node:assert/strict";
import * as bpf from "ebpf-assembler";
import { AssembleError, fp, HELPERS, helperName, Label, r0, r1, r2, r3, r9, type Insn } from "ebpf-assembler";

const out = new Label("out");

/** Fields of `struct bpf_insn` worked out by hand from uapi/linux/bpf.h: code, dst, src, off, imm. */
const ROWS: readonly (readonly [
  name: string,
  insn: Insn,
  code: number,
  dst: number,
  src: number,
  off: number,
  imm: number,
])[] = [
  ["mov reg", bpf.mov(r1, fp), 0xbf, 1, 10, 0, 0],
  ["mov imm", bpf.mov(r1, -1), 0xb7, 1, 0, 0, -1],
  ["mov32 unsigned", bpf.mov32(r1, 0xffffffff), 0xb4, 1, 0, 0, -1],
  ["add", bpf.add(r1, r2), 0x0f, 1, 2, 0, 0],
  ["sub32", bpf.sub32(r1, 5), 0x14, 1, 0, 0, 5],
  ["arsh", bpf.arsh(r1, 63), 0xc7, 1, 0, 0, 63],
  ["neg32", bpf.neg32(r3), 0x84, 3, 0, 0, 0],
  ["sdiv", bpf.sdiv(r1, r2), 0x3f, 1, 2, 1, 0],
  ["smod32", bpf.smod32(r1, 7), 0x94, 1, 0, 1, 7],
  ["movsx s16", bpf.movsx(r1, "s16", r2), 0xbf, 1, 2, 16, 0],
  ["movsx32 s8", bpf.movsx32(r1, "s8", r2), 0xbc, 1, 2, 8, 0],
  ["addrSpaceCast", bpf.addrSpaceCast(r1, r2, 0, 1), 0xbf, 1, 2, 1, 1],
  ["be16", bpf.be16(r1), 0xdc, 1, 0, 0, 16],
  ["le64", bpf.le64(r1), 0xd4, 1, 0, 0, 64],
  ["bswap32", bpf.bswap32(r1), 0xd7, 1, 0, 0, 32],
  ["load u16", bpf.load(r1, "u16", r2, 12), 0x69, 1, 2, 12, 0],
  ["load s32", bpf.load(r1, "s32", r2, -4), 0x81, 1, 2, -4, 0],
  ["store u64", bpf.store("u64", fp, -8, r2), 0x7b, 10, 2, -8, 0],
  ["storeImm u8", bpf.storeImm("u8", r1, 3, 255), 0x72, 1, 0, 3, 255],
  ["atomicAdd", bpf.atomicAdd("u64", r1, 8, r2), 0xdb, 1, 2, 8, 0],
  ["fetchXor", bpf.fetchXor("u32", r1, 0, r2), 0xc3, 1, 2, 0, 0xa1],
  ["xchg", bpf.xchg("u64", r1, 0, r2), 0xdb, 1, 2, 0, 0xe1],
  ["cmpxchg", bpf.cmpxchg("u32", r1, 4, r2), 0xc3, 1, 2, 4, 0xf1],
  ["loadAcquire", bpf.loadAcquire(r1, "u8", r2, 1), 0xd3, 1, 2, 1, 0x100],
  ["storeRelease", bpf.storeRelease("u32", r1, 4, r2), 0xc3, 1, 2, 4, 0x110],
  ["jne imm", bpf.jne(r9, 8, out), 0x55, 9, 0, 0, 8],
  ["jgt reg", bpf.jgt(r1, r2, out), 0x2d, 1, 2, 0, 0],
  ["jslt32", bpf.jslt32(r1, -4, out), 0xc6, 1, 0, 0, -4],
  ["jset", bpf.jset(r1, 1, out), 0x45, 1, 0, 0, 1],
  ["ja", bpf.ja(out), 0x05, 0, 0, 0, 0],
  ["gotol", bpf.gotol(out), 0x06, 0, 0, 0, 0],
  ["mayGoto", bpf.mayGoto(out), 0xe5, 0, 0, 0, 0],
  ["call", bpf.call("map_lookup_elem"), 0x85, 0, 0, 0, 1],
  ["callKfunc", bpf.callKfunc(1234, 1), 0x85, 0, 2, 1, 1234],
  ["callLocal", bpf.callLocal(out), 0x85, 0, 1, 0, 0],
  ["exit", bpf.exit(), 0x95, 0, 0, 0, 0],
  ["ldImm64", bpf.ldImm64(r1, -1n), 0x18, 1, 0, 0, 0],
  ["ldMap", bpf.ldMap(r1, "m"), 0x18, 1, 1, 0, 0],
  ["ldMapValue", bpf.ldMapValue(r1, "m", 16), 0x18, 1, 2, 0, 0],
  ["ldFunc", bpf.ldFunc(r2, out), 0x18, 2, 4, 0, 0],
];

/** Operands out of range; the message must name the value. */
const REFUSED: readonly (readonly [name: string, build: () => unknown, message: RegExp])[] = [
  [
    "64-bit immediate",
    () => bpf.add(r1, 0x8000_0000),
    /add: immediate is 2147483648, want .*-2147483648\.\.2147483647/,
  ],
  ["32-bit immediate", () => bpf.and32(r1, 2 ** 32), /and32: immediate is 4294967296/],
  ["fraction", () => bpf.mov(r1, 1.5), /mov: immediate is 1.5/],
  ["shift", () => bpf.lsh32(r1, 32), /lsh32: shift is 32, want .* 0\.\.31/],
  ["zero divisor", () => bpf.mod(r1, 0), /mod: divisor is 0/],
  ["offset", () => bpf.load(r1, "u8", r2, 0x8000), /load: offset is 32768/],
  ["stored byte", () => bpf.storeImm("u8", r1, 0, 256), /storeImm: immediate is 256, want .*-128\.\.255/],
  ["64-bit constant", () => bpf.ldImm64(r1, 1n << 64n), /ldImm64: immediate is 18446744073709551616/],
  ["inexact constant", () => bpf.ldImm64(r1, 2 ** 60), /ldImm64: .*bigint/],
  ["compared immediate", () => bpf.jeq(r1, 0xffffffff, out), /jeq: immediate is 4294967295/],
];

describe("instruction builders", () => {
  for (const [name, insn, code, dst, src, off, imm] of ROWS)
    it(`${name} has the kernel's fields and is frozen`, () => {
      assert.deepEqual([insn.code, insn.dst, insn.src, insn.off, insn.imm], [code, dst, src, off, imm]);
      assert.ok(Object.isFrozen(insn));
    });

  for (const [name, build, message] of REFUSED)
    it(`refuse a ${name} out of range`, () => {
      assert.throws(build, (e: unknown) => e instanceof AssembleError && message.test(e.message));
    });

  it("do not let the frame pointer be written", () => {
    // @ts-expect-error fp is no WReg
    bpf.mov(fp, 1);
    // @ts-expect-error nor the destination of a load
    bpf.load(fp, "u8", r1, 0);
  });
});

describe("HELPERS", () => {
  it("has the numbers of the uapi header", () => {
    const known = {
      map_lookup_elem: 1,
      redirect_map: 51,
      fib_lookup: 69,
      ringbuf_output: 130,
      loop: 181,
      user_ringbuf_drain: 209,
    };
    for (const [name, number] of Object.entries(known)) {
      assert.equal(HELPERS[name as keyof typeof HELPERS], number);
      assert.equal(helperName(number), name);
    }
    assert.equal(Object.keys(HELPERS).length, 211);
    assert.equal(helperName(0), undefined);
    assert.equal(helperName(212), undefined);
    assert.equal(r0.n, 0);
  });
});
