import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  add,
  atomicAdd,
  call,
  exit,
  fp,
  Label,
  ldFunc,
  load,
  MAP_FLAGS,
  mov,
  program,
  r0,
  r1,
  r2,
  r3,
  r4,
  readElf,
  storeImm,
  type ObjectSpec,
} from "ebpf-assembler";
import { BpfMap, failNth, FaultSys, linux, loadObject, SyscallError, VerifierError } from "libbpf-ts";
import * as slots from "../fixtures.js";
import { checkNoLeaks, frame, mapSpec, openFds, programSpec, returning, u32, u64, unchecked } from "../fixtures.js";

const uses = (map: string) =>
  programSpec("uses", [slots.loadMap(1), slots.movImm(0, 2), slots.exit()], {
    relocations: [{ insn: 0, kind: "map", map, offset: 0 }],
  });

const spec: ObjectSpec = {
  license: "GPL",
  maps: [mapSpec("first", { entries: [[u32(1), u64(1n)]] }), mapSpec("second")],
  programs: [uses("second"), returning("plain", 1)],
};

describe("loadObject()", () => {
  checkNoLeaks();
  const sys = linux();

  it("creates the maps and loads the programs that use them", () => {
    using object = loadObject(sys, spec);
    assert.equal(object.program("uses").testRun({ data: frame() }).retval, 2);
    assert.deepEqual(object.program("uses").info.mapIds, [object.map("second").info.id]);
    assert.throws(() => object.map("third"), /No map "third" in the object: want one of first, second/);
  });

  it("uses given maps in place of its own and leaves them open", () => {
    using second = BpfMap.create(sys, mapSpec("second"));
    loadObject(sys, spec, { maps: new Map([["second", second]]) })[Symbol.dispose]();
    second.update(u32(1), u64(1n));
    using other = BpfMap.create(sys, mapSpec("second", { valueSize: 16 }));
    assert.throws(
      () => loadObject(sys, spec, { maps: new Map([["second", other]]) }),
      /Cannot use map "second" as "second": want value size 8, got 16/,
    );
  });

  const typed: ObjectSpec = {
    license: "GPL",
    maps: [
      mapSpec("fields", {
        keyFields: [{ name: "port", size: 4 }],
        valueFields: [
          { name: "n_packets", size: 4 },
          { name: "n_bytes", size: 4 },
        ],
        entries: [[u32(1), u64((3n << 32n) | 2n)]],
      }),
    ],
    programs: [
      program({
        name: "main",
        type: "xdp",
        code: [{ ...mov(r0, 2), from: { text: "priority=7,arp actions=drop", file: "flows.txt", line: 4 } }, exit()],
      }),
    ],
  };
  const bpftool = (...args: string[]) => execFileSync("bpftool", args, { encoding: "utf8" });

  it("gives the kernel the names of map fields and the flows behind instructions", () => {
    using object = loadObject(sys, typed);
    const dump = bpftool("map", "dump", "id", String(object.map("fields").info.id));
    assert.deepEqual(JSON.parse(dump), [{ key: 1, value: { n_packets: 2, n_bytes: 3 } }]);
    const code = bpftool("prog", "dump", "xlated", "id", String(object.program("main").info.id), "linum");
    assert.match(code, /; priority=7,arp actions=drop \[file:flows\.txt line_num:4/);
  });

  it("loads types for callbacks and subprograms without being asked, and not when told not to", () => {
    const callback = new Label("callback");
    const spec: ObjectSpec = {
      license: "GPL",
      maps: [],
      programs: [
        program({
          name: "loops",
          type: "xdp",
          code: [
            storeImm("u64", fp, -8, 0),
            mov(r1, 10),
            ldFunc(r2, callback),
            mov(r3, fp),
            add(r3, -8),
            mov(r4, 0),
            call("loop"),
            load(r0, "u64", fp, -8),
            exit(),
            callback,
            mov(r1, 1),
            atomicAdd("u64", r2, 0, r1),
            mov(r0, 0),
            exit(),
          ],
        }),
      ],
    };
    using object = loadObject(sys, spec);
    assert.equal(object.program("loops").testRun({ data: frame() }).retval, 10);
    assert.throws(() => loadObject(sys, spec, { types: false }), VerifierError);
  });

  it("freezes read-only maps when asked to", () => {
    const constants = mapSpec("constants", {
      type: "array",
      maxEntries: 1,
      flags: MAP_FLAGS.RDONLY_PROG,
      entries: [[u32(0), u64(2n)]],
    });
    for (const freeze of [true, false]) {
      using object = loadObject(sys, { ...spec, maps: [constants], programs: [] }, { freeze });
      const change = () => object.map("constants").update(u32(0), u64(3n));
      if (freeze) assert.throws(change, SyscallError);
      else change();
    }
  });

  it("loads what clang built", () => {
    const dir = mkdtempSync(join(tmpdir(), "loader-clang-"));
    try {
      const source = `
        #define SEC(name) __attribute__((section(name), used))
        typedef unsigned int u32;
        const volatile u32 verdicts[4] = {1, 2, 3, 4};
        u32 seen = 0;
        SEC("xdp") int main_prog(void *ctx) { __sync_fetch_and_add(&seen, 1); return verdicts[seen & 3]; }
        char _license[] SEC("license") = "GPL";
      `;
      writeFileSync(join(dir, "f.c"), source);
      execFileSync("clang-14", ["-g", "-O2", "-target", "bpf", "-c", join(dir, "f.c"), "-o", join(dir, "f.o")]);
      using object = loadObject(sys, readElf(readFileSync(join(dir, "f.o"))), { freeze: true, types: true });
      const verdicts = Array.from({ length: 5 }, () => object.program("main_prog").testRun({ data: frame() }).retval);
      assert.deepEqual(verdicts, [2, 3, 4, 1, 2]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("leaves nothing behind, whichever of its steps fails", () => {
    const counting = new FaultSys(sys);
    loadObject(counting, spec)[Symbol.dispose]();
    const steps = counting.calls.filter((c) => c.call !== "close()").length;
    assert.equal(steps, 5, "two maps, one entry, two programs");
    const before = openFds();
    for (let step = 0; step < steps; step++) {
      assert.throws(() => loadObject(new FaultSys(sys, failNth(step, 1)), spec), SyscallError, `step ${step}`);
      assert.deepEqual(openFds(), before, `after a failure of step ${step}`);
    }
    for (let step = 0; step < 4; step++) {
      // Refused once, types are loaded and programs verified again to learn why; then they pass.
      const failing = new FaultSys(sys, (call, i) => (i >= step && (i === step || /LOAD/.test(call)) ? 12 : 0));
      assert.throws(() => loadObject(failing, typed), SyscallError, `step ${step} with types`);
      assert.deepEqual(openFds(), before, `after a failure of step ${step} with types`);
    }
    assert.throws(() => loadObject(sys, { ...spec, programs: [...spec.programs, unchecked("bad")] }), VerifierError);
    assert.deepEqual(openFds(), before);
  });
});
