import assert from "node:assert/strict";
import { RangeViolation } from "ebpf-assembler";
import {
  BpfMap,
  clearProgramSlot,
  ClosedError,
  FaultSys,
  linux,
  Program,
  setProgramSlot,
  skbContext,
  SyscallError,
  VerifierError,
  xdpContext,
} from "libbpf-ts";
import {
  call,
  checkNoLeaks,
  exit,
  frame,
  loadMap,
  mapSpec,
  mov,
  movImm,
  programSpec,
  returning,
  slot,
  u32,
  u64,
  unchecked,
} from "../fixtures.js";

const NO_MAPS = new Map<string, BpfMap>();

describe("Program", () => {
  checkNoLeaks();
  const sys = linux();

  it("load() and testRun() run an XDP program", () => {
    using program = Program.load(sys, returning("two", 2), NO_MAPS);
    const { retval, data } = program.testRun({ data: frame() });
    assert.equal(retval, 2);
    assert.deepEqual(data, frame());
  });

  it("testRun() shows the ingress ifindex and the receive queue to an XDP program", () => {
    // r0 = ctx->ingress_ifindex; exit
    using program = Program.load(sys, programSpec("ingress", [slot(0x61, 0, 1, 12), exit()]), NO_MAPS);
    const data = frame();
    assert.equal(program.testRun({ data, ctx: xdpContext(data.length, 1) }).retval, 1);
  });

  it("testRun() shows the mark to a sched_cls program and returns the context", () => {
    // r0 = skb->mark; skb->priority = 7
    const spec = programSpec("mark", [slot(0x61, 0, 1, 8), movImm(2, 7), slot(0x63, 1, 2, 32), exit()], {
      type: "sched_cls",
    });
    using program = Program.load(sys, spec, NO_MAPS);
    const { retval, ctx } = program.testRun({ data: frame(), ctx: skbContext({ mark: 99 }) });
    assert.equal(retval, 99);
    assert.equal(new DataView(ctx.buffer, ctx.byteOffset).getUint32(32, true), 7);
  });

  it("testRun() counts repetitions and measures them", () => {
    using program = Program.load(sys, returning("rep", 1, "sched_cls"), NO_MAPS);
    assert.ok(program.testRun({ data: frame(), repeat: 10_000 }).durationNs < 10_000);
  });

  it("testRun() says that the packet is too short for the kernel", () => {
    using program = Program.load(sys, returning("short", 2), NO_MAPS);
    assert.throws(
      () => program.testRun({ data: new Uint8Array(13) }),
      (e: unknown) => e instanceof SyscallError && /run program "short" on a packet of 13 bytes/.test(e.message),
    );
  });

  it("load() fills map references in", () => {
    using map = BpfMap.create(sys, mapSpec("values", { entries: [[u32(5), u64(42n)]] }));
    const spec = programSpec(
      "reader",
      [
        slot(0x62, 10, 0, -4, 5), // *(u32 *)(r10 -4) = 5
        mov(2, 10),
        slot(0x07, 2, 0, 0, -4),
        loadMap(1),
        call(1),
        slot(0x15, 0, 0, 1, 0), // if r0 == 0 goto exit
        slot(0x79, 0, 0, 0), // r0 = *(u64 *)r0
        exit(),
      ],
      { relocations: [{ insn: 3, kind: "map", map: "values", offset: 0 }] },
    );
    using program = Program.load(sys, spec, new Map([["values", map]]));
    assert.equal(program.testRun({ data: frame() }).retval, 42);
    assert.deepEqual(program.info.mapIds, [map.info.id]);
    assert.throws(() => Program.load(sys, spec, NO_MAPS), /Cannot load program "reader": no map "values"/);
  });

  it("load() fills addresses of array values in, with their offset", () => {
    using map = BpfMap.create(sys, mapSpec("one", { type: "array", maxEntries: 1, valueSize: 16 }));
    map.value.set(u64(77n), 8);
    map.update(u32(0), map.value);
    const spec = programSpec("direct", [loadMap(1), slot(0x79, 0, 1, 0), exit()], {
      relocations: [{ insn: 0, kind: "map_value", map: "one", offset: 8 }],
    });
    using program = Program.load(sys, spec, new Map([["one", map]]));
    assert.equal(program.testRun({ data: frame() }).retval, 77);
  });

  it("load() refuses a relocation that is not on a ld_imm64", () => {
    const spec = { ...returning("reloc", 0), relocations: [{ insn: 0, kind: "map", map: "m", offset: 0 }] as const };
    assert.throws(() => Program.load(sys, spec, NO_MAPS), RangeViolation);
  });

  it("load() turns a refusal into the instruction, the reason and the flow", () => {
    const origin = { text: "table=1,tcp actions=drop", file: "flows.txt", line: 12 };
    assert.throws(
      () => Program.load(sys, unchecked("bad", origin), NO_MAPS),
      (e: unknown) => {
        assert.ok(e instanceof VerifierError);
        assert.equal(e.insn, 1);
        assert.equal(e.exitCode, 3);
        assert.match(
          e.message,
          /^Cannot load program "bad": EACCES: 1: \(71\) r0 = \*\(u8 \*\)\(r2 \+0\): invalid access to packet, off=0 size=1.* \(from flows\.txt:12: table=1,tcp actions=drop\) \(\d+ log lines omitted\)$/,
        );
        assert.ok(e.log.length >= 3);
        return true;
      },
    );
  });

  it("load() asks for a log only after a refusal, and for a larger one when it does not fit", () => {
    const counting = new FaultSys(sys);
    Program.load(counting, returning("quiet", 0), NO_MAPS)[Symbol.dispose]();
    assert.deepEqual(
      counting.calls.map((c) => c.call),
      ["bpf(PROG_LOAD)", "close()"],
    );
    const tight = new FaultSys(sys, (_call, index) => (index === 1 || index === 2 ? 28 : 0));
    assert.throws(() => Program.load(tight, unchecked("tight"), NO_MAPS), VerifierError);
    assert.equal(tight.calls.length, 4);
  });

  it("load() reports a missing privilege without asking for a log", () => {
    const denied = new FaultSys(sys, () => 1);
    assert.throws(
      () => Program.load(denied, returning("denied", 0), NO_MAPS),
      (e: unknown) => e instanceof SyscallError && e.code === "EPRIVILEGE",
    );
    assert.equal(denied.calls.length, 1);
  });

  it("load() tries again when a signal interrupts the verifier", () => {
    const interrupted = new FaultSys(sys, (_call, index) => (index < 2 ? 11 : 0));
    using program = Program.load(interrupted, returning("again", 2), NO_MAPS);
    assert.equal(program.testRun({ data: frame() }).retval, 2);
  });

  it("info tells name, tag and the work of the verifier", () => {
    using program = Program.load(sys, returning("informed", 2), NO_MAPS);
    const { name, tag, verifiedInsns, xlatedSize, type } = program.info;
    assert.deepEqual([name, verifiedInsns, xlatedSize, type], ["informed", 2, 16, 6]);
    assert.match(tag, /^[0-9a-f]{16}$/);
  });

  it("setProgramSlot() replaces the target of a tail call, clearProgramSlot() removes it", () => {
    using slots = BpfMap.create(sys, mapSpec("slots", { type: "prog_array", keySize: 4, valueSize: 4, maxEntries: 2 }));
    const stubSpec = programSpec("stub", [loadMap(2), movImm(3, 1), call(12), movImm(0, 0), exit()], {
      relocations: [{ insn: 0, kind: "map", map: "slots", offset: 0 }],
    });
    using stub = Program.load(sys, stubSpec, new Map([["slots", slots]]));
    using first = Program.load(sys, returning("first", 1), NO_MAPS);
    using second = Program.load(sys, returning("second", 2), NO_MAPS);
    const run = () => stub.testRun({ data: frame() }).retval;
    assert.equal(run(), 0);
    setProgramSlot(slots, 1, first);
    assert.equal(run(), 1);
    setProgramSlot(slots, 1, second);
    assert.equal(run(), 2);
    assert.equal(clearProgramSlot(slots, 1), true);
    assert.equal(clearProgramSlot(slots, 1), false);
    assert.equal(run(), 0);
  });

  it("throws after it was closed", () => {
    const program = Program.load(sys, returning("closed", 2), NO_MAPS);
    program[Symbol.dispose]();
    assert.throws(() => program.testRun({ data: frame() }), ClosedError);
  });
});
