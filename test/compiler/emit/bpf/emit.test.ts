import assert from "node:assert/strict";
import { check, emitProgram, IrBuilder, IrError, runPasses, type Program, type VReg } from "#compiler";
import { disassemble, SLOT_BYTES, type MapSpec } from "ebpf-assembler";
import { BpfMap, linux, loadObject, skbContext } from "libbpf-ts";

const frame = (size = 64): Uint8Array => Uint8Array.from({ length: size }, (_, i) => i);

const map = (name: string, type: MapSpec["type"], keySize: number, valueSize: number): MapSpec => ({
  name,
  type,
  keySize,
  valueSize,
  maxEntries: 4,
  flags: 0,
});

const MAPS: readonly MapSpec[] = [
  map("flows", "hash", 24, 24),
  map("ports", "devmap", 4, 4),
  map("progs", "prog_array", 4, 4),
  { ...map("stats", "array", 4, 16), maxEntries: 1 },
];

const slotsOf = (program: Program): number => emitProgram(program).code.length / SLOT_BYTES;

/** The verdict in the kernel on `data`. */
const verdict = (program: Program, data = frame(), prepare?: (maps: ReadonlyMap<string, BpfMap>) => void): number => {
  const spec = { license: "GPL", maps: MAPS, programs: [emitProgram(check(program))] };
  using object = loadObject(linux(), spec);
  prepare?.(object.maps);
  return object.program(program.name).testRun({ data }).retval;
};

/** Key of five fields on the stack, look-up, two counters, redirect: the shape of a cached packet. */
const cachedPacket = (): Program => {
  const b = new IrBuilder("cached", "xdp");
  const key = b.slot("key", 24);
  const pass = b.block("pass");
  b.origin = { text: "table=0,ip actions=output:2", file: "flows.txt", line: 3 };
  const [data, end] = [b.ctx("data"), b.ctx("data_end")];
  b.unless("gt", b.alu("add", data, 34), end, pass);
  b.unless("ne", b.load("u16", data, 12, "type"), 8, pass);
  b.origin = undefined;
  b.store("u32", key, 0, b.ctx("ingress_ifindex"));
  b.store("u32", key, 4, 8);
  b.store("u32", key, 8, b.load("u32", data, 26));
  b.store("u32", key, 12, b.load("u32", data, 30));
  b.store("u8", key, 16, b.load("u8", data, 23));
  b.store("u8", key, 17, 0);
  b.store("u16", key, 18, 0);
  b.store("u32", key, 20, 0);
  const len = b.ctx("packet_len");
  const value = b.call("map_lookup_elem", [{ map: "flows" }, { at: key, off: 0 }], "map_value");
  b.unless("eq", value, 0, pass);
  b.atomicAdd("u64", value, 0, b.value("one", 1));
  b.atomicAdd("u64", value, 8, len);
  b.ret(b.call("redirect_map", [{ map: "ports" }, b.load("u32", value, 16), 3]));
  b.place(pass);
  b.ret(2);
  return b.finish();
};

describe("emitProgram()", () => {
  it("writes a look-up, its counters and a redirect in no more slots than clang -O2", () => {
    // clang 14 -O2 -target bpf needs 40 for the C of the same program.
    assert.ok(slotsOf(cachedPacket()) <= 40);
    assert.equal(
      disassemble(emitProgram(cachedPacket()), { numbers: false, origins: false, labels: true }),
      `r5 = *(u32 *)(r1 +0)
r4 = *(u32 *)(r1 +4)
r3 = r5
r3 += 34
if r3 > r4 goto L37
r4 = *(u16 *)(r5 +12)
if r4 != 0x8 goto L37
r4 = *(u32 *)(r1 +12)
*(u32 *)(r10 -24) = r4
*(u32 *)(r10 -20) = 8
r4 = *(u32 *)(r5 +26)
*(u32 *)(r10 -16) = r4
r4 = *(u32 *)(r5 +30)
*(u32 *)(r10 -12) = r4
r5 = *(u8 *)(r5 +23)
*(u8 *)(r10 -8) = r5
*(u8 *)(r10 -7) = 0
*(u16 *)(r10 -6) = 0
*(u32 *)(r10 -4) = 0
r5 = *(u32 *)(r1 +0)
r6 = *(u32 *)(r1 +4)
r6 -= r5
r1 = map[flows]
r2 = r10
r2 += -24
call bpf_map_lookup_elem#1
if r0 == 0x0 goto L37
r5 = 1
lock *(u64 *)(r0 +0) += r5
lock *(u64 *)(r0 +8) += r6
r2 = *(u32 *)(r0 +16)
r1 = map[ports]
r3 = 3
call bpf_redirect_map#51
exit
L37:
r0 = 2
exit
`,
    );
  });

  it("counts and redirects in the kernel as the program says", () => {
    const data = frame();
    data.set([0x08, 0x00], 12);
    const key = new Uint8Array(24);
    const view = new DataView(key.buffer);
    view.setUint32(0, 1, true);
    view.setUint32(4, 8, true);
    key.set(data.subarray(26, 34), 8);
    view.setUint8(16, data[23]!);
    const value = new Uint8Array(24);
    new DataView(value.buffer).setUint32(16, 3, true);
    const spec = { license: "GPL", maps: MAPS, programs: [emitProgram(cachedPacket())] };
    using object = loadObject(linux(), spec);
    const program = object.program("cached");
    assert.equal(program.testRun({ data }).retval, 2);
    object.map("flows").update(key, value);
    // Port 3 is not in the devmap: the low bits of the flags are the verdict.
    assert.equal(program.testRun({ data }).retval, 3);
    assert.equal(program.testRun({ data }).retval, 3);
    object.map("flows").lookup(key, value);
    const after = new DataView(value.buffer);
    assert.deepEqual([after.getBigUint64(0, true), after.getBigUint64(8, true)], [2n, 128n]);
  });

  it("keeps the origin of every instruction", () => {
    const { lines } = emitProgram(cachedPacket());
    assert.deepEqual(lines[0], {
      insn: 0,
      origin: { text: "table=0,ip actions=output:2", file: "flows.txt", line: 3 },
    });
  });

  it("spills what the four registers kept by calls cannot hold, and gets it back", () => {
    const b = new IrBuilder("pressure", "xdp");
    const out = b.block("out");
    const data = b.ctx("data");
    b.unless("gt", b.alu("add", data, 64), b.ctx("data_end"), out);
    const values = Array.from({ length: 14 }, (_, i) => b.load("u8", data, i, `v${i}`));
    const random = b.call("get_prandom_u32", []);
    const sum = b.alu("and", random, 0, "sum");
    values.forEach((v, i) => b.aluTo("add", sum, b.alu("mul", v, i + 1)));
    b.call("get_prandom_u32", []);
    values.forEach((v) => b.aluTo("xor", sum, v));
    b.aluTo("add", sum, b.ctx("packet_len"));
    b.ret(sum);
    b.place(out);
    b.ret(0);
    const program = b.finish();
    assert.match(disassemble(emitProgram(program)), /\*\(u64 \*\)\(r10 -8\) = r/);
    let want = 0;
    for (let i = 0; i < 14; i++) want += i * (i + 1);
    for (let i = 0; i < 14; i++) want ^= i;
    assert.equal(verdict(program), want + 64);
  });

  it("makes constants again instead of keeping them across calls under pressure", () => {
    const b = new IrBuilder("remat", "xdp");
    const constants = Array.from({ length: 12 }, (_, i) => b.value(`c${i}`, BigInt(i + 1) << 33n));
    const sum = b.call("get_prandom_u32", []);
    b.aluTo("and", sum, 0);
    constants.forEach((c) => b.aluTo("add", sum, c));
    b.ret(b.alu("rsh", sum, 33));
    const program = b.finish();
    assert.doesNotMatch(disassemble(emitProgram(program)), /r10/);
    assert.equal(verdict(program), 78);
  });

  it("moves arguments across each other", () => {
    // redirect_map of an empty entry returns its flags: each call shows which of the two values came third.
    const b = new IrBuilder("swap", "xdp");
    const out = b.block("out");
    const data = b.ctx("data");
    b.unless("gt", b.alu("add", data, 64), b.ctx("data_end"), out);
    const [one, two] = [b.load("u8", data, 1), b.load("u8", data, 2)];
    const first = b.call("redirect_map", [{ map: "ports" }, one, two]);
    const second = b.call("redirect_map", [{ map: "ports" }, two, one]);
    const third = b.call("redirect_map", [{ map: "ports" }, one, one]);
    b.aluTo("lsh", second, 4);
    b.aluTo("lsh", third, 8);
    b.ret(b.alu("or", b.alu("or", first, second), third));
    b.place(out);
    b.ret(0);
    assert.equal(verdict(b.finish()), 0x112);
  });

  it("names the slots when the stack does not suffice", () => {
    const b = new IrBuilder("deep", "xdp");
    const [key, copy] = [b.slot("key", 300), b.slot("copy", 250)];
    b.store("u8", key, 0, 1);
    b.store("u8", copy, 0, 1);
    b.ret(b.alu("add", b.load("u8", key, 0), b.load("u8", copy, 0)));
    assert.throws(
      () => emitProgram(b.finish()),
      (e: unknown) =>
        e instanceof IrError &&
        /program deep: its stack slots need 560 bytes, want at most 512; .* \$key\.0 300, \$copy\.1 250/.test(
          e.message,
        ),
    );
  });

  it("reads the context of TC", () => {
    const b = new IrBuilder("context", "tc");
    const out = b.block("out");
    b.unless("gt", b.alu("add", b.ctx("data"), 14), b.ctx("data_end"), out);
    const sum = b.alu("add", b.ctx("packet_len"), b.ctx("gso_size"), "sum");
    b.aluTo("add", sum, b.ctx("vlan_present"));
    b.aluTo("add", sum, b.ctx("vlan_tci"));
    b.aluTo("lsh", sum, 8);
    b.ret(b.alu("add", sum, b.ctx("ingress_ifindex")));
    b.place(out);
    b.ret(0);
    using object = loadObject(linux(), { license: "GPL", maps: [], programs: [emitProgram(check(b.finish()))] });
    const { retval } = object.program("context").testRun({ data: frame(), ctx: skbContext({}) });
    // 64 bytes, no GSO, no tag, on the loopback device.
    assert.equal(retval, (64 << 8) + 1);
  });

  it("goes on behind a tail call that finds nothing, with the context intact", () => {
    const b = new IrBuilder("tail", "xdp");
    const after = b.block("after");
    const len = b.ctx("packet_len");
    b.tailCall("progs", 1, after);
    b.place(after);
    b.ret(b.alu("add", len, b.ctx("ingress_ifindex")));
    assert.equal(verdict(b.finish()), 65);
  });

  it("adds to a map value whose address is an immediate", () => {
    const b = new IrBuilder("direct", "xdp");
    b.atomicAdd("u64", b.mapValue("stats", 8), 0, b.value("n", 5));
    b.ret(b.load("u32", b.mapValue("stats", 8), 0));
    assert.equal(verdict(b.finish()), 5);
  });

  it("loads a chain of 12,000 rules, longer than the verifier's stack of jumps", () => {
    const b = new IrBuilder("rules", "xdp");
    const out = b.block("out");
    const data = b.ctx("data");
    b.unless("gt", b.alu("add", data, 14), b.ctx("data_end"), out);
    const type: VReg = b.load("u32", data, 0, "type");
    for (let i = 0; i < 12_000; i++) {
      const [hit, next] = [b.block("hit"), b.block("next")];
      b.branch("eq", type, 0x03020100 - 11_999 + i, hit, next, "else");
      b.place(hit);
      b.ret(i & 1);
      b.place(next);
    }
    b.ret(2);
    b.place(out);
    b.ret(3);
    const program = b.finish();
    assert.equal(verdict(program), 1);
    assert.doesNotMatch(disassemble(emitProgram(program)), /gotol/, "Linux 6.1.0 has none");
  }).timeout(60_000);

  it("compares beyond 32 signed bits, in both widths", () => {
    const b = new IrBuilder("wide", "xdp");
    const out = b.block("out");
    const data = b.ctx("data");
    b.unless("gt", b.alu("add", data, 16), b.ctx("data_end"), out);
    b.unless("ne", b.load("u32", data, 0), 0xf302_01f0n, out);
    b.unless("ne", b.load("u64", data, 8), 0x0f0e_0d0c_0b0a_0908n, out);
    b.unless("le", b.alu("and", b.load("u64", data, 8), 0xff0c_0000_0000n), 0xffff_ffffn, out);
    b.ret(7);
    b.place(out);
    b.ret(0);
    const data8 = frame();
    data8.set([0xf0, 0x01, 0x02, 0xf3]);
    const program = b.finish();
    assert.equal(verdict(program, data8), 7);
    assert.equal(verdict(runPasses(program), data8), 7);
    assert.equal(verdict(program, frame()), 0);
  });

  it("is deterministic", () => {
    assert.deepEqual(emitProgram(cachedPacket()), emitProgram(cachedPacket()));
  });
});
