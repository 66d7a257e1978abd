import assert from "node:assert/strict";
import fc from "fast-check";
import { check, PIPELINE, printProgram, runPasses, type Program } from "#compiler";
import { build, MAP, READ_BYTES, recipes, VALUE_SIZE, VALUES } from "../ir/arbitrary.js";
import { evaluate } from "../ir/evaluate.js";

const outcome = (program: Program, packet: Uint8Array): unknown => {
  const values = Array.from({ length: VALUES }, () => new Uint8Array(VALUE_SIZE));
  const verdict = evaluate(program, { packet: packet.slice(), ifindex: 1, arrays: new Map([[MAP, values]]) });
  return { verdict, values };
};

const packets = fc.uint8Array({ minLength: READ_BYTES - 1, maxLength: READ_BYTES + 4 });

describe("every pass", function () {
  this.timeout(120_000);

  for (const pass of PIPELINE)
    it(`${pass.name} keeps programs well-formed, their verdict and their effects`, () => {
      fc.assert(
        fc.property(recipes, packets, (recipe, packet) => {
          const program = build(recipe);
          const text = printProgram(program);
          const after = check(pass.run(program));
          assert.equal(printProgram(program), text, "the pass changed its input");
          assert.deepEqual(outcome(after, packet), outcome(program, packet), `${text}\n${printProgram(after)}`);
        }),
        { numRuns: 200 },
      );
    });

  it("runPasses() reports each change, keeps the outcome and is stable on its own result", () => {
    fc.assert(
      fc.property(recipes, packets, (recipe, packet) => {
        const program = build(recipe);
        const want = outcome(program, packet);
        const reported: Program[] = [];
        const last = runPasses(program, {
          after: (pass, now) => {
            assert.deepEqual(outcome(check(now), packet), want, pass.name);
            reported.push(now);
          },
        });
        assert.equal(reported.at(-1) ?? program, last);
      }),
      { numRuns: 200 },
    );
  });
});
