import assert from "node:assert/strict";
import fc from "fast-check";
import { check, emitProgram, printProgram, runPasses, type Program } from "#compiler";
import { Vm, type MapSpec, type ObjectSpec } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import { evaluate, type World } from "../../ir/evaluate.js";
import { build, MAP, PORT_MAP, PORTS, READ_BYTES, recipes, VALUE_SIZE, VALUES } from "../../ir/arbitrary.js";

const devmap: MapSpec = { name: PORT_MAP, type: "devmap", keySize: 4, valueSize: 4, maxEntries: PORTS, flags: 0 };
const map: MapSpec = { name: MAP, type: "array", keySize: 4, valueSize: VALUE_SIZE, maxEntries: VALUES, flags: 0 };

const objectOf = (program: Program): ObjectSpec => ({
  license: "GPL",
  maps: [map, devmap],
  programs: [emitProgram(program)],
});

/** The verdict and the map's values after one run. */
interface Outcome {
  readonly verdict: number;
  readonly values: readonly string[];
}

const expected = (program: Program, packet: Uint8Array): Outcome => {
  const values = Array.from({ length: VALUES }, () => new Uint8Array(VALUE_SIZE));
  const world: World = { packet, ifindex: 1, arrays: new Map([[MAP, values]]) };
  return { verdict: evaluate(program, world), values: values.map((v) => Buffer.from(v).toString("hex")) };
};

const inKernel = (program: Program, packet: Uint8Array): Outcome => {
  using object = loadObject(linux(), objectOf(program));
  const { retval } = object.program(program.name).testRun({ data: packet });
  const values = Array.from({ length: VALUES }, (_, i) => {
    const value = new Uint8Array(VALUE_SIZE);
    object.map(MAP).lookup(Uint8Array.of(i, 0, 0, 0), value);
    return Buffer.from(value).toString("hex");
  });
  return { verdict: retval, values };
};

const inInterpreter = (program: Program, packet: Uint8Array): Outcome => {
  const vm = new Vm(objectOf(program));
  const { verdict } = vm.run(program.name, { hook: program.hook, packet, ingressIfindex: 1 });
  const values = Array.from({ length: VALUES }, (_, i) =>
    Buffer.from(vm.map(MAP).lookup(Uint8Array.of(i, 0, 0, 0)) ?? []).toString("hex"),
  );
  return { verdict, values };
};

const packets = fc.uint8Array({ minLength: READ_BYTES, maxLength: READ_BYTES + 4 });

describe("emitProgram() on random programs", function () {
  this.timeout(120_000);

  it("computes in the interpreter what the evaluator computes, also from short packets", () => {
    fc.assert(
      fc.property(recipes, fc.uint8Array({ minLength: 14, maxLength: READ_BYTES + 4 }), (recipe, packet) => {
        const program = check(build(recipe));
        const want = expected(program, packet.slice());
        assert.deepEqual(inInterpreter(program, packet), want, printProgram(program));
      }),
      { numRuns: 200 },
    );
  });

  it("loads into the kernel and computes there what the evaluator computes", () => {
    fc.assert(
      fc.property(recipes, packets, (recipe, packet) => {
        const program = check(build(recipe));
        const want = expected(program, packet.slice());
        assert.deepEqual(inKernel(program, packet), want, printProgram(program));
      }),
      { numRuns: 200 },
    );
  });

  it("computes the same after all passes", () => {
    fc.assert(
      fc.property(recipes, packets, (recipe, packet) => {
        const program = build(recipe);
        const optimised = check(runPasses(program));
        const want = expected(program, packet.slice());
        assert.deepEqual(inKernel(optimised, packet), want, printProgram(optimised));
      }),
      { numRuns: 200 },
    );
  });
});
