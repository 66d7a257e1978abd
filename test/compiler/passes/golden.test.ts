import assert from "node:assert/strict";
import { check, IrBuilder, PIPELINE, printProgram, runPasses, type Program } from "#compiler";

const built = (build: (b: IrBuilder) => void): Program => {
  const b = new IrBuilder("p", "xdp");
  build(b);
  return check(b.finish());
};

const body = (program: Program): string => printProgram(program).split("\n").slice(1).join("\n");

const passNamed = (name: string): (typeof PIPELINE)[number] => {
  const pass = PIPELINE.find((p) => p.name === name);
  assert.ok(pass, name);
  return pass;
};

interface Row {
  readonly pass: string;
  readonly name: string;
  readonly build: (b: IrBuilder) => void;
  readonly want: string;
}

/** A check of so many bytes that leaves to `out`. */
const need = (b: IrBuilder, data: ReturnType<IrBuilder["ctx"]>, end: typeof data, bytes: number, out: number): void =>
  b.unless("gt", b.alu("add", data, bytes, "need"), end, out);

const ROWS: readonly Row[] = [
  {
    pass: "fold-constants",
    name: "computes what is known, everywhere for registers written once, and drops the way not taken",
    build: (b) => {
      const [yes, no] = [b.block("yes"), b.block("no")];
      const six = b.value("six", 6);
      const product = b.alu("mul", six, 7);
      b.branch("eq", product, 42, yes, no);
      b.place(no);
      b.ret(0);
      b.place(yes);
      b.ret(b.swap(16, product));
    },
    want: `@entry.0:
  %six.0 = 6
  %mul.1 = 42
  jump @yes.1
@yes.1:
  %swapped.2 = 10752
  return 10752
`,
  },
  {
    pass: "fold-constants",
    name: "does multiplication, division and remainder by powers of two by shifts and masks",
    build: (b) => {
      const x = b.ctx("ingress_ifindex");
      const a = b.alu("mul", 8, x);
      const c = b.alu("div", a, 4, "div", 32);
      const d = b.alu("mod", c, 16);
      b.ret(b.alu("add", d, 0));
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %mul.1 = lsh %ingress_ifindex.0, 3
  %div.2 = rsh32 %mul.1, 2
  %mod.3 = and %div.2, 15
  %add.4 = %mod.3
  return %add.4
`,
  },
  {
    pass: "fold-constants",
    name: "keeps what the verifier would refuse out: wide shifts and zero divisors that become known",
    build: (b) => {
      const x = b.ctx("ingress_ifindex");
      const wide = b.value("wide", 67);
      const zero = b.value("zero", 0);
      b.ret(b.alu("xor", b.alu("rsh", x, wide), b.alu("div", x, zero)));
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %wide.1 = 67
  %zero.2 = 0
  %rsh.3 = rsh %ingress_ifindex.0, 3
  %div.4 = 0
  %xor.5 = %rsh.3
  return %xor.5
`,
  },
  {
    pass: "thread-jumps",
    name: "jumps to where control ends up and joins blocks",
    build: (b) => {
      const [hop, out, next] = [b.block("hop"), b.block("out"), b.block("next")];
      b.branch("eq", b.ctx("ingress_ifindex"), 1, hop, next);
      b.place(hop);
      b.jump(out);
      b.place(next);
      const last = b.block("last");
      const len = b.ctx("packet_len");
      b.jump(last);
      b.place(last);
      b.unless("eq", len, 64, out);
      b.ret(2);
      b.place(out);
      b.ret(1);
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  if eq %ingress_ifindex.0, 1 then @out.2 else @next.3
@next.3:
  %packet_len.1 = ctx.packet_len
  if eq %packet_len.1, 64 then @out.2 else @5 (else likely)
@5:
  return 2
@out.2:
  return 1
`,
  },
  {
    pass: "merge-bounds-checks",
    name: "drops a shorter check behind a longer one, and keeps a longer one",
    build: (b) => {
      const out = b.block("out");
      const [data, end] = [b.ctx("data"), b.ctx("data_end")];
      need(b, data, end, 34, out);
      need(b, data, end, 14, out);
      need(b, data, end, 54, out);
      b.ret(2);
      b.place(out);
      b.ret(1);
    },
    want: `@entry.0:
  %data.0 = ctx.data
  %data_end.1 = ctx.data_end
  %need.2 = add %data.0, 34
  if gt %need.2, %data_end.1 then @out.1 else @2 (else likely)
@2:
  %need.3 = add %data.0, 14
  jump @3
@3:
  %need.4 = add %data.0, 54
  if gt %need.4, %data_end.1 then @out.1 else @4 (else likely)
@4:
  return 2
@out.1:
  return 1
`,
  },
  {
    pass: "forward-stores",
    name: "takes stored and loaded values from registers until something may have changed them",
    build: (b) => {
      const out = b.block("out");
      const data = b.ctx("data");
      need(b, data, b.ctx("data_end"), 34, out);
      const slot = b.slot("key", 8);
      const x = b.load("u16", data, 12, "x");
      b.store("u16", slot, 0, x);
      b.store("u32", slot, 4, 5);
      const y = b.alu("add", b.load("u16", slot, 0, "again"), b.load("u32", slot, 4, "five"), "y");
      b.aluTo("add", y, b.load("u16", data, 12, "packet_again"));
      b.store("u8", data, 0, 1);
      b.aluTo("add", y, b.load("u16", data, 12, "after_write"));
      b.call("map_lookup_elem", [{ map: "m" }, { at: slot, off: 0 }], "map_value");
      b.aluTo("add", y, b.load("u16", slot, 0, "after_call"));
      b.ret(y);
      b.place(out);
      b.ret(1);
    },
    want: `@entry.0:
  %data.0 = ctx.data
  %data_end.1 = ctx.data_end
  %need.2 = add %data.0, 34
  if gt %need.2, %data_end.1 then @out.1 else @2 (else likely)
@2:
  %x.3 = u16 [%data.0 + 12]
  u16 [$key.0] = %x.3
  u32 [$key.0 + 4] = 5
  %again.4 = and %x.3, 65535
  %five.5 = 5
  %y.6 = add %again.4, %five.5
  %packet_again.7 = %x.3
  %y.6 = add %y.6, %packet_again.7
  u8 [%data.0] = 1
  %after_write.8 = u16 [%data.0 + 12]
  %y.6 = add %y.6, %after_write.8
  %map_lookup_elem.9 = call map_lookup_elem(map m, &$key.0)
  %after_call.10 = u16 [$key.0]
  %y.6 = add %y.6, %after_call.10
  return %y.6
@out.1:
  return 1
`,
  },
  {
    pass: "forward-stores",
    name: "leaves a word alone that was stored in halves",
    build: (b) => {
      const slot = b.slot("scratch", 8);
      b.store("u32", slot, 0, 7);
      b.store("u32", slot, 4, 0);
      b.ret(b.load("u64", slot, 0, "opaque"));
    },
    want: `@entry.0:
  u32 [$scratch.0] = 7
  u32 [$scratch.0 + 4] = 0
  %opaque.0 = u64 [$scratch.0]
  return %opaque.0
`,
  },
  {
    pass: "propagate-copies",
    name: "reads the original, of changing registers only up to the change",
    build: (b) => {
      const x = b.ctx("ingress_ifindex");
      const copy = b.value("copy", x);
      const sum = b.value("sum", copy);
      const before = b.value("before", sum);
      b.aluTo("add", sum, before);
      b.ret(b.alu("xor", sum, before));
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %copy.1 = %ingress_ifindex.0
  %sum.2 = %ingress_ifindex.0
  %before.3 = %ingress_ifindex.0
  %sum.2 = add %ingress_ifindex.0, %ingress_ifindex.0
  %xor.4 = xor %sum.2, %ingress_ifindex.0
  return %xor.4
`,
  },
  {
    pass: "drop-dead",
    name: "drops results and slots that nothing reads; calls and other stores stay",
    build: (b) => {
      const [kept, unread] = [b.slot("kept", 4, 4), b.slot("unread", 8)];
      const x = b.ctx("ingress_ifindex");
      b.alu("add", x, 1, "dead");
      b.store("u64", unread, 0, x);
      b.store("u32", kept, 0, 1);
      b.call("map_delete_elem", [{ map: "m" }, { at: kept, off: 0 }]);
      b.ret(2);
    },
    want: `@entry.0:
  u32 [$kept.0] = 1
  %map_delete_elem.2 = call map_delete_elem(map m, &$kept.0)
  return 2
`,
  },
];

describe("passes", () => {
  for (const { pass, name, build, want } of ROWS)
    it(`${pass} ${name}`, () => {
      assert.equal(body(check(passNamed(pass).run(built(build)))), want);
    });

  for (const pass of PIPELINE)
    it(`${pass.name} returns the program itself when there is nothing to do`, () => {
      const program = built((b) => b.ret(b.ctx("ingress_ifindex")));
      assert.equal(pass.run(program), program);
    });

  it("runPasses() makes one straight block of a chain of implied checks", () => {
    const program = built((b) => {
      const out = b.block("out");
      const [data, end] = [b.ctx("data"), b.ctx("data_end")];
      need(b, data, end, 34, out);
      const type = b.load("u16", data, 12, "type");
      need(b, data, end, 14, out);
      b.ret(b.alu("sub", type, b.load("u16", data, 12, "type")));
      b.place(out);
      b.ret(1);
    });
    assert.equal(
      body(runPasses(program)),
      `@entry.0:
  %data.0 = ctx.data
  %data_end.1 = ctx.data_end
  %need.2 = add %data.0, 34
  if gt %need.2, %data_end.1 then @out.1 else @2 (else likely)
@2:
  %type.3 = u16 [%data.0 + 12]
  %sub.6 = sub %type.3, %type.3
  return %sub.6
@out.1:
  return 1
`,
    );
  });
});
