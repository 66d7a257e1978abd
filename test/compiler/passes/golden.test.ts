import assert from "node:assert/strict";
import { check, IrBuilder, PIPELINE, printProgram, runPasses, type Program, type VReg } from "#compiler";

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
    pass: "merge-bounds-checks",
    name: "adds up sums of sums",
    build: (b) => {
      const out = b.block("out");
      const [data, end] = [b.ctx("data"), b.ctx("data_end")];
      need(b, data, end, 34, out);
      need(b, b.alu("add", data, 14, "l3"), end, 20, out);
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
  %l3.3 = add %data.0, 14
  %need.4 = add %l3.3, 20
  jump @3
@3:
  return 2
@out.1:
  return 1
`,
  },
  {
    pass: "share-expressions",
    name: "takes the first result where it is passed on every path, and leaves registers that change alone",
    build: (b) => {
      const [left, right, join] = [b.block("left"), b.block("right"), b.block("join")];
      const x = b.ctx("ingress_ifindex");
      const first = b.alu("add", x, 4, "first");
      b.branch("eq", x, 1, left, right);
      b.place(left);
      const changing = b.value("changing", b.alu("add", x, 4, "again"));
      b.aluTo("xor", changing, b.alu("mul", x, 3, "one_side"));
      b.jump(join);
      b.place(right);
      b.mov(changing, b.alu("mul", x, 3, "other_side"));
      b.place(join);
      b.ret(b.alu("xor", b.alu("mul", x, 3, "both"), b.alu("or", changing, first)));
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %first.1 = add %ingress_ifindex.0, 4
  if eq %ingress_ifindex.0, 1 then @left.1 else @right.2
@left.1:
  %again.2 = %first.1
  %changing.3 = %again.2
  %one_side.4 = mul %ingress_ifindex.0, 3
  %changing.3 = xor %changing.3, %one_side.4
  jump @join.3
@right.2:
  %other_side.5 = mul %ingress_ifindex.0, 3
  %changing.3 = %other_side.5
  jump @join.3
@join.3:
  %both.6 = mul %ingress_ifindex.0, 3
  %or.7 = or %changing.3, %first.1
  %xor.8 = xor %both.6, %or.7
  return %xor.8
`,
  },
  {
    pass: "share-expressions",
    name: "knows what is made of shared results for the same, too",
    build: (b) => {
      const x = b.ctx("ingress_ifindex");
      const twice = (): VReg => b.alu("mul", b.alu("add", b.alu("rsh", x, 8, "high"), 4, "sum"), 3, "product");
      b.ret(b.alu("sub", twice(), twice()));
    },
    want: `@entry.0:
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %high.1 = rsh %ingress_ifindex.0, 8
  %sum.2 = add %high.1, 4
  %product.3 = mul %sum.2, 3
  %high.4 = %high.1
  %sum.5 = %sum.2
  %product.6 = %product.3
  %sub.7 = sub %product.3, %product.6
  return %sub.7
`,
  },
  {
    pass: "forward-stores",
    name: "goes on into blocks that nothing else leads to",
    build: (b) => {
      const [out, join] = [b.block("out"), b.block("join")];
      const data = b.ctx("data");
      need(b, data, b.ctx("data_end"), 14, out);
      const x = b.load("u8", data, 12, "x");
      b.unless("eq", x, 7, join);
      b.mov(x, b.load("u8", data, 12, "known"));
      b.place(join);
      b.ret(b.load("u8", data, 12, "from_two"));
      b.place(out);
      b.ret(1);
    },
    want: `@entry.0:
  %data.0 = ctx.data
  %data_end.1 = ctx.data_end
  %need.2 = add %data.0, 14
  if gt %need.2, %data_end.1 then @out.1 else @3 (else likely)
@3:
  %x.3 = u8 [%data.0 + 12]
  if eq %x.3, 7 then @join.2 else @4 (else likely)
@4:
  %known.4 = %x.3
  %x.3 = %known.4
  jump @join.2
@join.2:
  %from_two.5 = u8 [%data.0 + 12]
  return %from_two.5
@out.1:
  return 1
`,
  },
  {
    pass: "promote-slots",
    name: "puts words together in registers and stores them before a helper reads them",
    build: (b) => {
      const key = b.slot("key", 16);
      const [port, len] = [b.ctx("ingress_ifindex"), b.ctx("packet_len")];
      b.store("u64", key, 0, 0);
      b.store("u64", key, 8, len);
      b.store("u32", key, 0, port);
      b.store("u16", key, 4, 8);
      b.store("u8", key, 6, len);
      const half = b.load("u32", key, 4, "half");
      b.call("map_lookup_elem", [{ map: "m" }, { at: key, off: 0 }], "map_value");
      b.store("u16", key, 4, 6);
      b.ret(b.alu("xor", half, b.load("u64", key, 0)));
    },
    want: `@entry.0:
  %key_0.6 = 0
  %ingress_ifindex.0 = ctx.ingress_ifindex
  %packet_len.1 = ctx.packet_len
  %key_0.6 = 0
  u64 [$key.0 + 8] = %packet_len.1
  %key_0.6 = %ingress_ifindex.0
  %key_0.6 = or %key_0.6, 0x800000000
  %piece.7 = and %packet_len.1, 255
  %placed.8 = lsh %piece.7, 48
  %key_0.6 = or %key_0.6, %placed.8
  %half.2 = rsh %key_0.6, 32
  u64 [$key.0] = %key_0.6
  %map_lookup_elem.3 = call map_lookup_elem(map m, &$key.0)
  %key_0.6 = and %key_0.6, 0xffff0000ffffffff
  %key_0.6 = or %key_0.6, 0x600000000
  %loaded.4 = %key_0.6
  %xor.5 = xor %half.2, %loaded.4
  return %xor.5
`,
  },
  {
    pass: "promote-slots",
    name: "leaves slots alone that a helper writes, or that are only written whole",
    build: (b) => {
      const [found, whole] = [b.slot("found", 8), b.slot("whole", 8)];
      b.store("u32", found, 0, 1);
      b.store("u32", found, 4, 2);
      b.store("u64", whole, 0, 3);
      b.call("fib_lookup", ["ctx", { at: found, off: 0 }, 8, 0]);
      b.ret(b.alu("add", b.load("u32", found, 0), b.load("u32", whole, 0)));
    },
    want: `@entry.0:
  u32 [$found.0] = 1
  u32 [$found.0 + 4] = 2
  u64 [$whole.1] = 3
  %fib_lookup.0 = call fib_lookup(ctx, &$found.0, 8, 0)
  %loaded.1 = u32 [$found.0]
  %loaded.2 = u32 [$whole.1]
  %add.3 = add %loaded.1, %loaded.2
  return %add.3
`,
  },
  {
    pass: "combine-loads",
    name: "loads and compares neighbours at once",
    build: (b) => {
      const out = b.block("out");
      const data = b.ctx("data");
      need(b, data, b.ctx("data_end"), 34, out);
      const low = b.load("u16", data, 26, "low");
      const both = b.alu("or", low, b.alu("lsh", b.load("u16", data, 28, "high"), 16, "shifted"), "both");
      b.unless("ne", b.load("u16", data, 12, "type"), 8, out);
      b.unless("ne", b.load("u16", data, 14, "version"), 0x45, out);
      b.ret(both);
      b.place(out);
      b.ret(1);
    },
    want: `@entry.0:
  %data.0 = ctx.data
  %data_end.1 = ctx.data_end
  %need.2 = add %data.0, 34
  if gt %need.2, %data_end.1 then @out.1 else @2 (else likely)
@2:
  %low.3 = u16 [%data.0 + 26]
  %high.4 = u16 [%data.0 + 28]
  %shifted.5 = lsh %high.4, 16
  %both.6 = u32 [%data.0 + 26]
  %type.7 = u16 [%data.0 + 12]
  %pair.9 = u32 [%data.0 + 12]
  if ne32 %pair.9, 4521992 then @out.1 else @4 (else likely)
@4:
  return %both.6
@out.1:
  return 1
`,
  },
  {
    pass: "drop-masks",
    name: "copies where a mask takes nothing away",
    build: (b) => {
      const x = b.alu("lsh", b.alu("and", b.ctx("packet_len"), 0xff), 8, "x");
      const kept = b.alu("and", x, 0x0f00, "kept");
      b.ret(b.alu("xor", kept, b.alu("and", x, 0xffff, "same")));
    },
    want: `@entry.0:
  %packet_len.0 = ctx.packet_len
  %and.1 = and %packet_len.0, 255
  %x.2 = lsh %and.1, 8
  %kept.3 = and %x.2, 3840
  %same.4 = %x.2
  %xor.5 = xor %kept.3, %same.4
  return %xor.5
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
