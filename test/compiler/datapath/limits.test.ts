import assert from "node:assert/strict";
import { CompileError } from "ebpf-assembler";
import {
  buildMain,
  compileDatapath,
  emitProgram,
  keyLayout,
  LimitError,
  PACKET_MEMBERS,
  plan,
  runPasses,
  shape,
  TARGETS,
  type DatapathPlan,
  type DpAction,
} from "#compiler";

const OUTPUT: DpAction = { kind: "output", port: 2 };
const FROM = { text: "table=0,ip actions=…", file: "big.flows", line: 7 };

const planOf = (nOutputs: number): DatapathPlan =>
  plan({
    key: keyLayout(new Set(["in_port", "dl_type", "dl_dst"] as const)),
    shapes: [shape(2, [OUTPUT]), shape(3, new Array<DpAction>(nOutputs).fill(OUTPUT), FROM)],
  });

describe("compileDatapath() beyond what a kernel takes", () => {
  it("names the flow, the limit and what fits when the stack does not suffice", () => {
    // 100 outputs have 400 bytes of arguments, 200 have 800.
    compileDatapath(planOf(100), ["tc"]);
    assert.throws(
      () => compileDatapath(planOf(200), ["tc"]),
      (error) => {
        assert.ok(error instanceof LimitError);
        assert.ok(error instanceof CompileError);
        assert.equal(error.exitCode, 3);
        assert.match(
          error.message,
          /^big\.flows:7:1: .*main_tc.* need \d+ bytes, want at most 512; .*, most of it for table=0,ip actions=…; what fits: /,
        );
        return true;
      },
    );
  });

  it("keeps less in registers where the stack does not suffice otherwise", function () {
    this.timeout(60_000);
    const key = keyLayout(new Set([...PACKET_MEMBERS].filter((member) => !/^(nsh|mpls|nd_|arp)/.test(member))));
    const set: DpAction = {
      ...{ kind: "set", target: "eth_dst", family: "other", proto: 0 },
      bytes: new Uint8Array(6),
    };
    let rescued = 0;
    for (let n = 54; rescued === 0 && n < 70; n += 2) {
      const actions = [...Array.from({ length: n }, (_, i) => (i % 2 === 0 ? set : OUTPUT)), OUTPUT];
      const large = plan({ key, shapes: [shape(2, actions)] });
      try {
        emitProgram(runPasses(buildMain(large, "tc")), TARGETS.tc);
      } catch {
        compileDatapath(large, ["tc"]);
        rescued++;
      }
    }
    assert.ok(rescued > 0, "every program had stack enough");
  });

  it("foresees from the intermediate representation what is far too large", () => {
    const outputs = new Array<DpAction>(100).fill(OUTPUT);
    const shapes = Array.from({ length: 2000 }, (_, i) => shape(2 + i, outputs, FROM));
    assert.throws(
      () => compileDatapath(plan({ key: keyLayout(new Set(["in_port"] as const)), shapes }), ["tc"]),
      (error) =>
        error instanceof LimitError &&
        /^big\.flows:7:1: Program main_tc needs about \d+ instructions, want at most 1000000/.test(error.message),
    );
  });
});
