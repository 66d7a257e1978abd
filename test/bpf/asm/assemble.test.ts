import assert from "node:assert/strict";
import {
  add,
  assemble,
  AssembleError,
  callLocal,
  type Code,
  exit,
  fp,
  fromHex,
  ja,
  jeq,
  jne,
  jset,
  Label,
  ldFunc,
  ldImm64,
  ldMap,
  ldMapValue,
  load,
  mov,
  program,
  r0,
  r1,
  r2,
  r3,
  toHex,
  type Insn,
} from "ebpf-assembler";
import fc from "fast-check";

const nops = (n: number): Insn[] => Array.from({ length: n }, () => mov(r3, 0));
const isAssembleError = (message: RegExp) => (e: unknown) => e instanceof AssembleError && message.test(e.message);

/**
 * Runs the subset of instructions the tests below use and returns r0: enough of a machine to see where jumps go.
 * Fails on a slot outside the program.
 */
const run = (code: Uint8Array, r1Value: number): number => {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  const regs = new Array<number>(11).fill(0);
  regs[1] = r1Value;
  for (let pc = 0, steps = 0; ; pc++, steps++) {
    assert.ok(pc >= 0 && pc * 8 < code.length && steps < 1e6, `pc ${pc}`);
    const at = pc * 8;
    const dst = view.getUint8(at + 1) & 15;
    const off = view.getInt16(at + 2, true);
    const imm = view.getInt32(at + 4, true);
    switch (view.getUint8(at)) {
      case 0xb7:
        regs[dst] = imm;
        break;
      case 0x07:
        regs[dst]! += imm;
        break;
      case 0x05:
        pc += off;
        break;
      case 0x06:
        pc += imm;
        break;
      case 0x15:
        if (regs[dst] === imm) pc += off;
        break;
      case 0x55:
        if (regs[dst] !== imm) pc += off;
        break;
      case 0x45:
        if ((regs[dst]! & imm) !== 0) pc += off;
        break;
      case 0x95:
        return regs[0]!;
      default:
        assert.fail(`opcode ${view.getUint8(at)}`);
    }
  }
};

describe("assemble()", () => {
  it("resolves jumps both ways and counts ld_imm64 as two slots", () => {
    const [top, end] = [new Label("top"), new Label("end")];
    const { code } = assemble([top, jeq(r1, 1, end), ldImm64(r2, 0x1122334455667788n), ja(top), end, exit()]);
    assert.equal(
      toHex(code),
      "1501030001000000" + "1802000088776655" + "0000000044332211" + "0500fcff00000000" + "9500000000000000",
    );
  });

  it("marks map references and lists them", () => {
    const { code, relocations } = assemble([ldMap(r1, "flows"), ldMapValue(r2, "config", 24), exit()]);
    assert.deepEqual(relocations, [
      { insn: 0, kind: "map", map: "flows", offset: 0 },
      { insn: 2, kind: "map_value", map: "config", offset: 24 },
    ]);
    assert.deepEqual(
      code.subarray(0, 32),
      fromHex("1811000000000000 0000000000000000 1822000000000000 0000000018000000"),
    );
  });

  it("puts the distance of subprograms into imm", () => {
    const sub = new Label("sub");
    const { code } = assemble([callLocal(sub), ldFunc(r2, sub), exit(), sub, mov(r0, 0), exit()]);
    assert.equal(toHex(code.subarray(0, 16)), "8510000003000000" + "1842000002000000");
  });

  it("merges equal origins that follow each other", () => {
    const a = { text: "table=0 actions=drop", file: "f", line: 1 };
    const from = (insn: Insn, origin: typeof a): Insn => ({ ...insn, from: origin });
    const { lines } = assemble([
      from(mov(r0, 0), a),
      from(mov(r0, 1), { ...a }),
      mov(r0, 2),
      from(mov(r0, 3), { ...a, line: 2 }),
      from(exit(), a),
    ]);
    assert.deepEqual(
      lines.map((l) => [l.insn, l.origin.line]),
      [
        [0, 1],
        [3, 2],
        [4, 1],
      ],
    );
  });

  it("names a label that is missing, doubled or last", () => {
    const miss = new Label("miss");
    assert.throws(
      () => assemble([load(r1, "u16", fp, -2), miss, jne(r1, 1, new Label("gone")), exit()]),
      isAssembleError(/^Cannot assemble insn 1: label "gone" was never placed$/),
    );
    assert.throws(
      () => assemble([miss, exit(), miss, exit()]),
      isAssembleError(/"miss" is placed twice, at insn 0 and insn 1/),
    );
    assert.throws(() => assemble([ja(miss), miss]), isAssembleError(/insn 0: label "miss" stands after the last/));
  });

  it("lets one instruction object stand in several places", () => {
    const end = new Label("end");
    const jump = jne(r1, 1, end);
    assert.equal(
      toHex(assemble([jump, jump, end, exit()]).code.subarray(0, 16)),
      "5501010001000000" + "5501000001000000",
    );
  });
});

for (const gotol of [true, false])
  describe(`assemble() with far jumps, gotol ${gotol}`, () => {
    const far = (jump: (to: Label) => Insn, before: Insn[] = []): Code => {
      const [end, start] = [new Label("end"), new Label("start")];
      return [
        ja(start),
        end,
        add(r0, 100),
        exit(),
        start,
        mov(r0, 7),
        ...before,
        jump(end),
        ...nops(1),
        exit(),
        ...nops(3),
      ];
    };

    it("leaves a jump of exactly 28672 slots alone and reaches one slot more", () => {
      for (const [n, taken] of [
        [28672, 1],
        [28673, 1],
        [28672, 0],
        [28673, 0],
      ] as const) {
        const end = new Label("end");
        const { code } = assemble([mov(r0, 1), jeq(r1, 1, end), ...nops(n - 1), exit(), end, mov(r0, 2), exit()], {
          gotol,
        });
        assert.equal(code.length / 8 === n + 4, n === 28672);
        assert.equal(run(code, taken), taken ? 2 : 1);
      }
    });

    it("reaches targets behind 100,000 instructions, also by jumps that have no opposite", () => {
      for (const make of [(to: Label) => jne(r1, 0, to), (to: Label) => jset(r1, 1, to), (to: Label) => ja(to)]) {
        const { code } = assemble(far(make, nops(100_000)), { gotol });
        assert.equal(run(code, 1), 107);
        if (make(new Label("x")).code !== 0x05) assert.equal(run(code, 0), 7);
      }
    });

    it("goes where each jump of a random program says", () => {
      // A program of blocks; block i tests r1 == i and then jumps to the block `to[i]`, which leaves r0 = its number.
      const plan = fc.record({
        gap: fc.integer({ min: 100, max: 9000 }),
        ends: fc.boolean(),
        to: fc.array(fc.nat(11), { minLength: 12, maxLength: 12 }),
      });
      fc.assert(
        fc.property(plan, ({ gap, ends, to }) => {
          const results = to.map((_, i) => new Label(`result${i}`));
          const blocks = to.flatMap((target, i) => {
            const next = new Label("next");
            // Islands stand freely after a `goto`, elsewhere they are jumped over.
            return [jeq(r1, i, results[target]!), ...nops(gap), ...(ends ? [ja(next), next] : [])];
          });
          const tails = results.flatMap((label, i) => [label, mov(r0, i + 1), exit(), ...nops(gap)]);
          const { code } = assemble([...blocks, mov(r0, 99), exit(), ...tails], { gotol });
          to.forEach((target, i) => assert.equal(run(code, i), target + 1));
          assert.equal(run(code, 1000), 99);
        }),
        { numRuns: 12 },
      );
    });

    it("uses gotol only where it may", () => {
      const { code } = assemble(
        far((to) => jne(r1, 0, to), nops(70_000)),
        { gotol },
      );
      const used = Array.from({ length: code.length / 8 }, (_, i) => code[i * 8]).includes(0x06);
      assert.equal(used, gotol);
    });
  });

describe("program()", () => {
  it("is a program spec", () => {
    const spec = program({ name: "pass", type: "xdp", code: [mov(r0, 2), exit()] });
    assert.deepEqual(
      { ...spec, code: toHex(spec.code) },
      {
        name: "pass",
        type: "xdp",
        code: "b700000002000000" + "9500000000000000",
        relocations: [],
        lines: [],
        flags: 0,
      },
    );
  });

  it("refuses a name that the kernel refuses", () => {
    for (const name of ["", "sixteen-chars-xx", "a b", "abcdefghijklmnop"])
      assert.throws(() => program({ name, type: "xdp", code: [exit()] }), isAssembleError(/name a program/));
  });
});
