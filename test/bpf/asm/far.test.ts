import assert from "node:assert/strict";
import { exit, ja, jeq, Label, load, mov, program, r0, r1, r2, r3, sub, writeElf, type Code } from "ebpf-assembler";
import { inNamespaces, scratch } from "../object/fixtures.js";

/** Far forward and far back: 7 for a packet of 64 bytes, otherwise 1. */
const roundTrip = (): Code => {
  const [back, end, start] = [new Label("back"), new Label("end"), new Label("start")];
  const filler = Array.from({ length: 70_000 }, () => mov(r3, 0));
  return [
    ja(start),
    back,
    mov(r0, 7),
    exit(),
    start,
    load(r2, "u32", r1, 4),
    load(r1, "u32", r1, 0),
    sub(r2, r1),
    jeq(r2, 64, end),
    ...filler,
    mov(r0, 1),
    exit(),
    end,
    ja(back),
  ];
};

describe("assemble() of far jumps", () => {
  const file = scratch();

  for (const gotol of [true, false])
    it(`makes what the kernel takes and runs, gotol ${gotol}`, () => {
      const spec = program({ name: "far", type: "xdp", code: roundTrip(), gotol });
      assert.ok(spec.code.length / 8 - 70_000 < 40);
      const out = inNamespaces(
        `bpftool prog load "$1" "$BPFFS/p"
        for packet in "$2" "$3"; do bpftool -j prog run pinned "$BPFFS/p" data_in "$packet"; done`,
        file(`far-${gotol}.o`, writeElf({ license: "GPL", maps: [], programs: [spec] })),
        file("64", new Uint8Array(64)),
        file("65", new Uint8Array(65)),
      );
      const results = out
        .trim()
        .split(/\n+/)
        .map((line) => (JSON.parse(line) as { retval: number }).retval);
      assert.deepEqual(results, [7, 1]);
    });
});
