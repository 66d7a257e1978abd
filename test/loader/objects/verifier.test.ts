import assert from "node:assert/strict";
import { originOf, parseRefusal } from "libbpf-ts";

describe("parseRefusal()", () => {
  for (const [name, log, want] of [
    [
      "finds the last instruction and the reason after it",
      [
        "0: R1=ctx() R10=fp0",
        "; flow text @ flows.txt:3",
        "40: (b7) r3 = 1                       ; R3_w=1",
        "41: (61) r3 = *(u32 *)(r7 +26)",
        "invalid access to packet, off=26 size=4, R7(id=0,off=0,r=14)",
        "R7 offset is outside of the packet",
        "processed 42 insns (limit 1000000) max_states_per_insn 0 total_states 3 peak_states 3 mark_read 1",
      ],
      {
        insn: 41,
        text: "(61) r3 = *(u32 *)(r7 +26)",
        reason: "invalid access to packet, off=26 size=4, R7(id=0,off=0,r=14)",
      },
    ],
    [
      "finds the instruction that a reason names when none was walked",
      ["unreachable insn 5", "processed 0 insns (limit 1000000)"],
      { insn: 5, text: undefined, reason: "unreachable insn 5" },
    ],
    [
      "passes over the state that a jump brings along",
      [
        "from 3 to 9: R0=1 R10=fp0",
        "9: (95) exit",
        "At program exit the register R0 has unknown value",
        "processed 3 insns",
      ],
      { insn: 9, text: "(95) exit", reason: "At program exit the register R0 has unknown value" },
    ],
    ["is silent about an empty log", [], { insn: undefined, text: undefined, reason: "" }],
  ] as const)
    it(name, () => assert.deepEqual(parseRefusal(log), want));
});

describe("originOf()", () => {
  const lines = [
    { insn: 2, origin: { text: "a" } },
    { insn: 5, origin: { text: "b" } },
  ];
  for (const [insn, want] of [
    [0, undefined],
    [2, "a"],
    [4, "a"],
    [5, "b"],
    [900, "b"],
  ] as const)
    it(`gives ${want ?? "nothing"} for instruction ${insn}`, () => assert.equal(originOf({ lines }, insn)?.text, want));
});
