import assert from "node:assert/strict";
import { type ObjectSpec, Vm } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import { type Case, CASES, PACKET } from "./cases.js";
import { fromU64, resultObject, u32 } from "./fixtures.js";

const KEY = u32(0);

const inVm = (object: ObjectSpec): bigint => {
  const vm = new Vm(object);
  vm.run("main", { hook: "xdp", packet: PACKET });
  return fromU64(vm.map("result").lookup(KEY)!);
};

describe("Vm.run() leaves the r0 that the instruction set asks for", () => {
  for (const { name, code, r0 } of CASES) {
    it(name, () => assert.equal(inVm(resultObject(code)).toString(16), r0.toString(16)));
  }
});

describe("the kernel leaves the same r0", () => {
  const sys = linux();
  const inKernel = (object: ObjectSpec): bigint => {
    using loaded = loadObject(sys, object);
    loaded.program("main").testRun({ data: PACKET });
    const value = new Uint8Array(8);
    assert.ok(loaded.map("result").lookup(KEY, value));
    return fromU64(value);
  };
  for (const { name, code, r0 } of CASES satisfies readonly Case[]) {
    it(name, () => assert.equal(inKernel(resultObject(code)).toString(16), r0.toString(16)));
  }
});
