import assert from "node:assert/strict";
import { check, IrBuilder, IrError, type Hook, type Program, type VReg } from "#compiler";

const started = (hook: Hook = "xdp"): IrBuilder => new IrBuilder("bad", hook);

interface Row {
  readonly name: string;
  readonly build: (b: IrBuilder) => void;
  readonly hook?: Hook;
  readonly want: RegExp;
}

const unset = (b: IrBuilder, kind: VReg["kind"] = "scalar"): VReg => b.reg("unset", kind);

const REFUSED: readonly Row[] = [
  {
    name: "a register that nothing writes",
    build: (b) => b.ret(unset(b)),
    want: /^Cannot compile program bad, block @entry\.0, instruction 0 "return %unset\.0": %unset\.0 is not defined on every path$/,
  },
  {
    name: "a register that one of two paths writes",
    build: (b) => {
      const [then, join] = [b.block("then"), b.block("join")];
      const x = unset(b);
      b.branch("eq", b.ctx("ingress_ifindex"), 1, then, join);
      b.place(then);
      b.mov(x, 1);
      b.place(join);
      b.ret(x);
    },
    want: /block @join\.2, instruction 0 .* not defined on every path/,
  },
  {
    name: "a packet pointer after a call that moves the packet",
    hook: "tc",
    build: (b) => {
      const data = b.ctx("data");
      b.call("skb_vlan_pop", ["ctx"]);
      b.ret(b.load("u8", data, 0));
    },
    want: /dead since a call that moves the packet/,
  },
  {
    name: "an access beyond a slot",
    build: (b) => {
      b.store("u32", b.slot("key", 6, 4), 4, 0);
      b.ret(0);
    },
    want: /bytes 4\.\.7 lie outside \$key\.0 of 6 bytes/,
  },
  {
    name: "a misaligned access to a slot",
    build: (b) => {
      b.store("u32", b.slot("key", 8), 2, 0);
      b.ret(0);
    },
    want: /u32 at offset 2 of \$key\.0, aligned to 8, is not aligned/,
  },
  {
    name: "a slot argument beyond the slot",
    build: (b) => {
      b.call("map_lookup_elem", [{ map: "m" }, { at: b.slot("key", 8), off: 8 }], "map_value");
      b.ret(0);
    },
    want: /offset 8 lies outside \$key\.0 of 8 bytes/,
  },
  {
    name: "a load through a scalar",
    build: (b) => b.ret(b.load("u8", b.value("x", 5), 0)),
    want: /%x\.0 is a scalar, want a pointer to memory/,
  },
  {
    name: "a shift by the width",
    build: (b) => b.ret(b.alu("lsh", b.ctx("ingress_ifindex"), 32, "x", 32)),
    want: /shift by 32, want 0\.\.31/,
  },
  {
    name: "a division by zero",
    build: (b) => b.ret(b.alu("div", b.ctx("ingress_ifindex"), 0)),
    want: /division by the constant 0/,
  },
  {
    name: "a pointer made by 32-bit arithmetic",
    build: (b) => {
      b.alu("add", b.ctx("data"), 4, "p", 32);
      b.ret(0);
    },
    want: /pointers need 64-bit arithmetic/,
  },
  {
    name: "a packet pointer compared for equality",
    build: (b) => {
      const out = b.block("out");
      b.branch("eq", b.ctx("data"), b.ctx("data_end"), out, out);
      b.place(out);
      b.ret(0);
    },
    want: /eq of packet pointers, want gt, ge, lt or le in 64 bits/,
  },
  {
    name: "a context field that the hook lacks",
    build: (b) => b.ret(b.ctx("vlan_tci")),
    want: /hook xdp has no context field vlan_tci/,
  },
  {
    name: "a helper that the hook lacks",
    build: (b) => b.ret(b.call("clone_redirect", ["ctx", 1, 0])),
    want: /hook xdp has no helper clone_redirect/,
  },
  {
    name: "a pointer as a verdict",
    build: (b) => b.ret(b.ctx("data")),
    want: /returns the pointer %data\.0/,
  },
  {
    name: "a block that nothing jumps to",
    build: (b) => {
      b.ret(0);
      b.place(b.block("lonely"));
      b.ret(1);
    },
    want: /block @lonely\.1: nothing jumps to it/,
  },
];

describe("check()", () => {
  for (const { name, build, hook, want } of REFUSED)
    it(`refuses ${name}`, () => {
      const b = started(hook);
      build(b);
      assert.throws(
        () => check(b.finish()),
        (e: unknown) => e instanceof IrError && want.test(e.message),
      );
    });

  it("accepts what each row refuses once it is mended: a register written on both paths", () => {
    const b = started();
    const [then, otherwise, join] = [b.block("then"), b.block("else"), b.block("join")];
    const x = unset(b);
    b.branch("eq", b.ctx("ingress_ifindex"), 1, then, otherwise);
    b.place(then);
    b.mov(x, 1);
    b.jump(join);
    b.place(otherwise);
    b.mov(x, 2);
    b.place(join);
    b.ret(x);
    const program = b.finish();
    assert.equal(check(program), program);
  });

  it("refuses a jump to a block that is not there", () => {
    const program: Program = {
      name: "bad",
      hook: "xdp",
      blocks: [{ id: 0, hint: "entry", body: [], end: { op: "jump", to: 7 } }],
    };
    assert.throws(() => check(program), /no block has the id 7/);
  });
});
