import assert from "node:assert/strict";
import {
  add,
  and,
  exit,
  jset,
  Label,
  load,
  mov,
  mul,
  program,
  r0,
  r1,
  r2,
  type Insn,
  type ProgramSpec,
} from "ebpf-assembler";
import { costOf, VERIFIER_LIMITS } from "#compiler";
import { linux, loadObject } from "libbpf-ts";

const xdp = (code: readonly (Insn | Label)[]): ProgramSpec => program({ name: "cost", type: "xdp", code });

/** `n` tests of a context field that jump over one instruction each. */
const chain = (n: number): ProgramSpec => {
  const code: (Insn | Label)[] = [load(r2, "u32", r1, 12), mov(r0, 0)];
  for (let i = 0; i < n; i++) {
    const over = new Label("over");
    code.push(jset(r2, 1 << (i % 16), over), add(r0, 1), over);
  }
  return xdp([...code, and(r0, 1), exit()]);
};

const verified = (spec: ProgramSpec): number => {
  using object = loadObject(linux(), { license: "GPL", maps: [], programs: [spec] });
  return object.program(spec.name).info.verifiedInsns;
};

describe("costOf()", function () {
  this.timeout(60_000);

  it("counts every instruction of straight code once, as the verifier does", () => {
    const spec = xdp([load(r0, "u32", r1, 12), ...Array.from({ length: 50 }, () => mul(r0, 3)), and(r0, 1), exit()]);
    assert.deepEqual(costOf(spec), { instructions: 53, stackBytes: 0, pendingJumps: 0, estimatedSteps: 53 });
    assert.equal(verified(spec), 53);
  });

  it("bounds the jumps that the verifier keeps: one for each test that it walks past", () => {
    assert.equal(costOf(chain(VERIFIER_LIMITS.pendingJumps + 1)).pendingJumps, VERIFIER_LIMITS.pendingJumps + 1);
    assert.equal(costOf(chain(7)).pendingJumps, 7);
  });

  it("bounds its guess of steps by a few ways to each place, however many there are", () => {
    const { instructions, estimatedSteps } = costOf(chain(1000));
    assert.ok(estimatedSteps > 2 * instructions && estimatedSteps < 20 * instructions, String(estimatedSteps));
  });
});
