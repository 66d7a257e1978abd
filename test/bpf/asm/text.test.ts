import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  assemble,
  assembleText,
  CodecError,
  CompileError,
  disassemble,
  Label,
  parseAssembly,
  program,
  toHex,
  type Code,
} from "ebpf-assembler";
import * as bpf from "ebpf-assembler";
import fc from "fast-check";

const { r0, r1, r2, r3, r6, r7, fp } = bpf;
const L = new Label("L");

/** One instruction, the kernel's text for it. The jump target is the instruction after next. */
const SPELLINGS: readonly (readonly [bpf.Insn, string])[] = [
  [bpf.mov(r1, 5), "r1 = 5"],
  [bpf.mov32(r1, -1), "w1 = -1"],
  [bpf.mov(r6, r1), "r6 = r1"],
  [bpf.movsx(r1, "s8", r2), "r1 = (s8)r2"],
  [bpf.movsx32(r1, "s16", r2), "w1 = (s16)w2"],
  [bpf.add(r2, -8), "r2 += -8"],
  [bpf.arsh32(r1, 3), "w1 s>>= 3"],
  [bpf.sdiv(r1, r2), "r1 s/= r2"],
  [bpf.smod32(r1, 7), "w1 s%= 7"],
  [bpf.neg32(r0), "w0 = -w0"],
  [bpf.be16(r1), "r1 = be16 r1"],
  [bpf.le64(r1), "r1 = le64 r1"],
  [bpf.bswap32(r1), "r1 = bswap32 r1"],
  [bpf.addrSpaceCast(r1, r2, 0, 1), "r1 = addr_space_cast(r2, 0, 1)"],
  [bpf.load(r3, "u32", r7, 26), "r3 = *(u32 *)(r7 +26)"],
  [bpf.load(r3, "s16", r7, -4), "r3 = *(s16 *)(r7 -4)"],
  [bpf.store("u64", fp, -8, r1), "*(u64 *)(r10 -8) = r1"],
  [bpf.storeImm("u8", r1, 0, 255), "*(u8 *)(r1 +0) = 255"],
  [bpf.atomicAdd("u64", r1, 0, r2), "lock *(u64 *)(r1 +0) += r2"],
  [bpf.atomicXor("u32", r1, 4, r2), "lock *(u32 *)(r1 +4) ^= r2"],
  [bpf.fetchAdd("u64", r1, 8, r2), "r2 = atomic64_fetch_add((u64 *)(r1 +8), r2)"],
  [bpf.fetchOr("u32", r1, 8, r2), "r2 = atomic_fetch_or((u32 *)(r1 +8), r2)"],
  [bpf.xchg("u64", r1, 8, r2), "r2 = atomic64_xchg((u64 *)(r1 +8), r2)"],
  [bpf.cmpxchg("u32", r1, 8, r2), "r0 = atomic_cmpxchg((u32 *)(r1 +8), r0, r2)"],
  [bpf.loadAcquire(r3, "u64", r1, 8), "r3 = load_acquire((u64 *)(r1 +8))"],
  [bpf.storeRelease("u16", r1, 8, r3), "store_release((u16 *)(r1 +8), r3)"],
  [bpf.jne(r1, 8, L), "if r1 != 0x8 goto pc+1"],
  [bpf.jslt32(r1, -1, L), "if w1 s< 0xffffffff goto pc+1"],
  [bpf.jset(r1, r2, L), "if r1 & r2 goto pc+1"],
  [bpf.ja(L), "goto pc+1"],
  [bpf.gotol(L), "gotol pc+1"],
  [bpf.mayGoto(L), "may_goto pc+1"],
  [bpf.call("map_lookup_elem"), "call bpf_map_lookup_elem#1"],
  [bpf.call(4000), "call unknown#4000"],
  [bpf.callKfunc(77), "call kernel-function#77"],
  [bpf.callLocal(L), "call pc+1"],
  [bpf.exit(), "exit"],
  [bpf.ldImm64(r1, -2n), "r1 = 0xfffffffffffffffe ll"],
  [bpf.ldMap(r1, "flows"), "r1 = map[flows]"],
  [bpf.ldMapValue(r1, "config", 8), "r1 = map[config][0]+8"],
  [bpf.ldFunc(r2, L), "r2 = subprog[+2]"],
];

/** Slots near to real ones: every opcode byte, mostly sensible operands. */
const slot = fc
  .record({
    code: fc.integer({ min: 0, max: 255 }),
    dst: fc.integer({ min: 0, max: 12 }),
    src: fc.integer({ min: 0, max: 12 }),
    off: fc.oneof(fc.constantFrom(0, 1, 8, 16, 32, -1), fc.integer({ min: -0x8000, max: 0x7fff })),
    imm: fc.oneof(
      fc.constantFrom(0, 1, 16, 32, 64, 0xe1, 0xf1, 0x100, 0x110, 0x40, 0x41, 0x51, 0xa1, -1),
      fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
    ),
  })
  .map(({ code, dst, src, off, imm }) => {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, code);
    view.setUint8(1, dst | (src << 4));
    view.setInt16(2, off, true);
    view.setInt32(4, imm, true);
    return bytes;
  });
const slots = fc.array(slot, { maxLength: 12 }).map((list) => bpf.concatBytes(...list));

const reads = (text: string): string => toHex(assembleText(text).code);

describe("disassemble()", () => {
  for (const [insn, text] of SPELLINGS)
    it(`prints ${text} as the kernel does, and assembleText() reads it`, () => {
      const assembled = assemble([insn, bpf.exit(), L, bpf.exit()]);
      const lines = disassemble(assembled, { numbers: false }).split("\n");
      assert.equal(lines[0], text);
      assert.deepEqual({ ...assembleText(lines.join("\n")), lines: [] }, assembled);
    });

  it("numbers slots, prints opcodes and origins", () => {
    const from = { text: "table=0 actions=drop" };
    const code = assemble([{ ...bpf.ldMap(r1, "m"), from }, bpf.mov(r0, 2), { ...bpf.exit(), from: { text: "end" } }]);
    assert.equal(
      disassemble(code),
      "; table=0 actions=drop\n   0: (18) r1 = map[m]\n   2: (b7) r0 = 2\n; end\n   3: (95) exit\n",
    );
  });

  it("prints labels on request, and only where an instruction starts", () => {
    const code: Code = [bpf.jeq(r1, 1, L), bpf.ldImm64(r0, 1), L, bpf.ldFunc(r2, L), bpf.exit()];
    const text = disassemble(assemble(code), { labels: true, numbers: false });
    assert.equal(text, "if r1 == 0x1 goto L3\nr0 = 0x1 ll\nL3:\nr2 = subprog[L3]\nexit\n");
    assert.deepEqual(assembleText(text).code, assemble(code).code);
    const inside = assembleText("if r1 == 0x1 goto pc+1\nr0 = 0x1 ll\nexit");
    assert.match(disassemble(inside, { labels: true, numbers: false }), /goto pc\+1\n/);
  });

  it("loses nothing of any bytes, printed with or without numbers and labels", () => {
    const bytes = fc.oneof(
      slots,
      fc.uint8Array({ maxLength: 12 }).map((b) => b.subarray(0, b.length & ~7)),
    );
    fc.assert(
      fc.property(bytes, fc.boolean(), fc.boolean(), (code, numbers, labels) => {
        assert.equal(reads(disassemble({ code }, { numbers, labels })), toHex(code));
      }),
      { numRuns: 3000 },
    );
  });

  it("has a spelling for every opcode that a builder makes", () => {
    for (const [insn] of SPELLINGS)
      assert.doesNotMatch(disassemble(assemble([insn, bpf.exit(), L, bpf.exit()])), /\.8byte/);
  });

  it("refuses bytes that are no whole slots", () => {
    assert.throws(() => disassemble({ code: new Uint8Array(9) }), CodecError);
  });
});

describe("assembleText()", () => {
  it("reads labels, comments, verifier state and several spellings of one thing", () => {
    const kernel = reads("   0: (61) r1 = *(u32 *)(r6 +4)        ; R1_w=scalar() R6=ctx()\n1: (05) goto pc-2");
    const own = reads("top: // start\n\n  r1 = *( u32* )( r6 + 0x4 )\n  goto top ; again");
    assert.equal(own, kernel);
  });

  it("takes the opcode of a verifier log for the width of a constant", () => {
    assert.equal(reads("0: (18) r1 = 0x5"), reads("r1 = 0x5 ll"));
    assert.equal(reads("0: (b7) r1 = 5"), reads("r1 = 5"));
  });

  it("reads negative numbers behind a plus sign", () => {
    const text = "r0 = *(u16 *)skb[r0 + -1]\n";
    assert.equal(disassemble(assembleText(text), { numbers: false, origins: false }), text);
  });

  it("reaches far labels", () => {
    const { code } = assembleText(`if r1 == 1 goto end\n${"r0 = 0\n".repeat(40_000)}exit\nend: r0 = 1\nexit`);
    assert.equal(code.length / 8, 40_005);
  });

  it("gives each instruction its line as origin", () => {
    const { lines } = assembleText("r0 = 2 ; XDP_PASS\n\n  exit", { file: "pass.s" });
    assert.deepEqual(lines, [
      { insn: 0, origin: { text: "r0 = 2", file: "pass.s", line: 1 } },
      { insn: 1, origin: { text: "exit", file: "pass.s", line: 3 } },
    ]);
  });

  const BAD: readonly (readonly [text: string, complaint: RegExp])[] = [
    ["r1 =+ r2", /^f:1:5: want a number, .* or .*, got "\+"$/],
    ["frob r1", /^f:1:1: want an instruction, got "frob"$/],
    ["r0 = 1\n r11 = 1", /^f:2:2: want a register of r0\.\.r10, got r11$/],
    ["r1 = 4294967296", /^f:1:6: want a number of -2147483648\.\.2147483647, got 4294967296$/],
    ["r1 = be16 r2", /^f:1:11: want r1 again, got r2$/],
    ["r1 = *(u32 *)(r6 +40000)", /^f:1:18: want a number of -32768\.\.32767, got \+40000$/],
    ["goto nowhere", /^f:1:6: label "nowhere" is not placed$/],
    ["goto end\nend:", /^f:1:6: label "end" stands after the last instruction$/],
    ["a: exit\na: exit", /^f:2:1: label "a" is already placed in line 1$/],
    ["goto pc+40000", /^f:1:6: want a distance of -32768\.\.32767, got 40000$/],
    ["call bpf_redirect#24", /^f:1:6: want bpf_redirect#23, got bpf_redirect#24$/],
    ["0: (b7) r1 = r2", /^f:1:9: want an instruction of opcode \(b7\), got r1 = r2$/],
    ["r1 = map[id:7]", /^f:1:6: want map\[NAME\]/],
    ["if r1 == 1", /^f:1:11: want .*got the end of the line$/],
    ["if r1 == w2 goto pc+1", /^f:1:10: want a number or a 64-bit register, got "w2"$/],
    ["r0 = atomic_cmpxchg((u32 *)(r1 +0), r3, r2)", /^f:1:37: want r0, got r3$/],
  ];
  for (const [text, complaint] of BAD)
    it(`complains about ${JSON.stringify(text)} at its place`, () => {
      assert.throws(
        () => parseAssembly(text, "f"),
        (e: unknown) => e instanceof CompileError && complaint.test(e.message),
      );
    });

  it("complains about every wrong line at once", () => {
    assert.throws(
      () => parseAssembly("foo\nexit\nr0 = bar", "f"),
      (e: unknown) => {
        assert.ok(e instanceof CompileError);
        assert.deepEqual(
          e.diagnostics.map((d) => [d.line, d.column]),
          [
            [1, 1],
            [3, 6],
          ],
        );
        return true;
      },
    );
  });

  it("answers any text with code or a CompileError", () => {
    const scraps = fc.constantFrom(
      "r1",
      "w2",
      "=",
      "+=",
      "(",
      ")",
      "*",
      "u32",
      "goto",
      "call",
      "if",
      "pc+1",
      "L:",
      "L",
      "map[m]",
      "subprog[L]",
      "0x10",
      "-5",
      "ll",
      "lock",
      "exit",
      ";",
      "<",
      "s>>=",
      "12:",
      "(b7)",
      ".8byte",
      "\n",
      "é",
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(scraps, fc.string({ maxLength: 3 })), { maxLength: 10 }), (words) => {
        try {
          assembleText(words.join(" "));
        } catch (e) {
          if (!(e instanceof CompileError)) throw e;
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe("disassemble() beside LLVM", () => {
  // LLVM 14 knows the ISA up to v3, without jset, and spells references without their meaning.
  const known = SPELLINGS.filter(
    ([, text]) =>
      !/\(s\d+\)|s\/=|s%=|bswap|addr_space|\(s16 \*|acquire|release|gotol|may_goto|subprog|kernel-|map\[| & |call pc|\*\)\(r1 \+\d\) = 255/.test(
        text,
      ),
  );

  it("agrees with the LLVM disassembler on what each instruction is", () => {
    assert.ok(known.length > 20);
    for (const [insn, text] of known) {
      const { code } = program({ name: "p", type: "xdp", code: [insn, bpf.exit(), L, bpf.exit()] });
      const input = [...code].map((byte) => `0x${byte.toString(16)}`).join(" ");
      const llvm = execFileSync("llvm-mc-14", ["--disassemble", "--triple=bpfel", "--mattr=+alu32"], {
        input,
        encoding: "utf8",
        stdio: ["pipe", "pipe", "ignore"],
      });
      const body = llvm.replace(/^\s*\.text\n/, "").replace(/^\s*\n/gm, "");
      assert.equal(toHex(assembleText(body).code), toHex(code), `${text} is to LLVM: ${body}`);
    }
  });
});
