import assert from "node:assert/strict";
import type { ObjectSpec } from "ebpf-assembler";
import { BpfMap, failNth, FaultSys, linux, loadObject, SyscallError, VerifierError } from "libbpf-ts";
import {
  checkNoLeaks,
  exit,
  frame,
  loadMap,
  mapSpec,
  movImm,
  openFds,
  programSpec,
  returning,
  u32,
  u64,
  unchecked,
} from "../fixtures.js";

const uses = (map: string) =>
  programSpec("uses", [loadMap(1), movImm(0, 2), exit()], { relocations: [{ insn: 0, kind: "map", map, offset: 0 }] });

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
    assert.throws(() => loadObject(sys, { ...spec, programs: [...spec.programs, unchecked("bad")] }), VerifierError);
    assert.deepEqual(openFds(), before);
  });
});
