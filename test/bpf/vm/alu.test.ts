import assert from "node:assert/strict";
import {
  assemble,
  callLocal,
  type Code,
  exit,
  Label,
  ldMapValue,
  mov,
  type ObjectSpec,
  r0,
  r1,
  store,
  Vm,
} from "ebpf-assembler";
import fc from "fast-check";
import { linux, loadObject } from "libbpf-ts";
import { type Sample, sample } from "./alu-model.js";
import { PACKET } from "./cases.js";
import { fromU64, objectSpec, RESULT, u32 } from "./fixtures.js";

const KEY = u32(0);
const objectOf = (code: Code): ObjectSpec => {
  const main = new Label("sample");
  const all = [callLocal(main), ldMapValue(r1, "result"), store("u64", r1, 0, r0), mov(r0, 0), exit(), main, ...code];
  return objectSpec([{ name: "main", type: "xdp", flags: 0, ...assemble(all) }], [RESULT]);
};

describe("random arithmetic", () => {
  it("Vm.run() computes what bigint arithmetic computes", () => {
    fc.assert(
      fc.property(sample, ({ code, r0: want }: Sample) => {
        const vm = new Vm(objectOf(code));
        vm.run("main", { hook: "xdp", packet: PACKET });
        assert.equal(fromU64(vm.map("result").lookup(KEY)!), want);
      }),
      { numRuns: 2000 },
    );
  });

  it("the kernel computes the same", () => {
    const sys = linux();
    fc.assert(
      fc.property(sample, ({ code, r0: want }: Sample) => {
        using loaded = loadObject(sys, objectOf(code));
        loaded.program("main").testRun({ data: PACKET });
        const value = new Uint8Array(8);
        assert.ok(loaded.map("result").lookup(KEY, value));
        assert.equal(fromU64(value), want);
      }),
      { numRuns: 200 },
    );
  });
});
