// Tables, pictures, comparisons and the command line, on rows made up for it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  compareRuns,
  disturbanceClock,
  drawRows,
  formatComparison,
  formatDisturbance,
  formatGroup,
  formatProgress,
  parseOptions,
  PROFILE_NUMBERS,
  readRun,
  significanceLimit,
  writeResults,
  type Row,
  type Run,
} from "#bench";

const row = (ours: readonly number[], c: readonly number[], name = "x"): Row => ({
  group: "datapath",
  name,
  title: "X <1>",
  at: "1,000 flows, xdp",
  unit: "ns/packet",
  better: "less",
  floor: { name: "floor", role: "other", samples: [10] },
  series: [
    { name: "ours", role: "ours", samples: ours },
    { name: "slow C", role: "rival", samples: c.map((n) => n * 2) },
    { name: "C", role: "rival", samples: c },
    { name: "generic", role: "other", samples: c.map((n) => n * 4) },
  ],
});

const run = (...results: Run["results"]): Run => ({
  machine: { cpu: "cpu", nCpus: 2, kernel: "6", node: "v20", compiler: "clang" },
  profile: "usual",
  rounds: 8,
  repeat: 1,
  stolen: 0,
  others: 0,
  results,
});

const EIGHT = [50, 51, 52, 53, 54, 55, 56, 57];

describe("formatGroup()", () => {
  it("puts figures under their titles, ratios to the best rival and what was not measured", () => {
    const missing = { group: "datapath", name: "y", at: "1 flow, tc", why: "no clang" } as const;
    assert.equal(
      formatGroup("datapath", [row([60], [50]), missing]),
      [
        "Datapath: cached packets by BPF_PROG_TEST_RUN, random flows",
        "case   at                unit       floor  ours  +-  best rival  ours/best  over floor  best is  others (by ours, over floor)",
        "X <1>  1,000 flows, xdp  ns/packet     10    60  0%          50      1.20x       1.25x  C        slow C 100 (1.80x); generic 200 (3.80x)",
        "not measured: y, 1 flow, tc: no clang",
      ].join("\n"),
    );
    assert.equal(formatProgress(row([60], [50])), "X <1>, 1,000 flows, xdp: 60 ns/packet, 1.20x of C");
  });
});

describe("drawRows()", () => {
  it("draws a bar for each series and escapes what XML wants escaped", () => {
    const svg = drawRows("datapath", [row([60, 62], [50, 52])]);
    // The background, and four bars.
    assert.equal(svg.match(/<rect /g)?.length, 5);
    assert.ok(svg.includes("X &lt;1&gt;, 1,000 flows") && !svg.includes("NaN"));
    assert.ok(svg.startsWith("<svg ") && svg.endsWith("</svg>\n"));
  });
});

describe("compareRuns()", () => {
  const base = run(row(EIGHT, EIGHT));

  it("sees no change in the same figures, nor in a machine that is twice as slow", () => {
    const twice = EIGHT.map((n) => n * 2);
    for (const after of [base, run(row(twice, twice))])
      assert.deepEqual(
        compareRuns(base, after).map(({ verdict, by }) => [verdict, by]),
        [["same", "C"]],
      );
  });

  it("tells slower from faster", () => {
    const slow = EIGHT.map((n) => n * 1.2);
    const verdicts = (before: Run, after: Run): string[] => compareRuns(before, after).map(({ verdict }) => verdict);
    assert.deepEqual(verdicts(base, run(row(slow, EIGHT))), ["slower"]);
    assert.deepEqual(verdicts(run(row(slow, EIGHT)), base), ["faster"]);
  });

  it("takes more for better where it is", () => {
    const more = (ours: readonly number[]): Run => run({ ...row(ours, EIGHT), better: "more" });
    const [result] = compareRuns(more(EIGHT), more(EIGHT.map((n) => n * 0.8)));
    assert.equal(result?.verdict, "slower");
  });

  it("does not judge by two rounds", () => {
    const [result] = compareRuns(run(row([1, 2], [1, 1])), run(row([9, 8], [1, 1])));
    assert.equal(result?.verdict, "too few rounds");
  });

  it("leaves out what only one run has, and shows the rest", () => {
    const rows = compareRuns(base, run(row(EIGHT, EIGHT), row(EIGHT, EIGHT, "new")));
    assert.deepEqual(
      rows.map(({ key }) => key),
      ["datapath/x/1,000 flows, xdp"],
    );
    assert.match(formatComparison(rows), /x of C\s+0\.0%\s+1\.0\s+same/);
  });
});

describe("significanceLimit()", () => {
  it("is the largest p below its share of 5 %", () => {
    assert.equal(significanceLimit([0.001, 0.02, 0.04, 0.9]), 0.02);
    assert.equal(significanceLimit([0.03, 0.9]), -1);
  });
});

describe("writeResults() and readRun()", () => {
  it("come back with what was written, and a picture per group", () => {
    const directory = mkdtempSync(join(tmpdir(), "ofxdp-test-"));
    try {
      const result = run(row(EIGHT, EIGHT));
      const [json, ...pictures] = writeResults(directory, result);
      assert.deepEqual(readRun(json!), result);
      assert.deepEqual(pictures, [join(directory, "datapath.svg")]);
      assert.throws(() => readRun(pictures[0]!), { code: "EBENCH", message: /Cannot read .*datapath\.svg/ });
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("formatDisturbance()", () => {
  it("warns when much was taken", () => {
    assert.match(formatDisturbance({ stolen: 0.01, others: 0.02 }), /took 1\.0 %, other processes 2\.0 %\.$/);
    assert.match(formatDisturbance({ stolen: 0.01, others: 0.2 }), /trust nothing but ratios/);
  });

  it("is made of shares", () => {
    const { stolen, others } = disturbanceClock()();
    for (const share of [stolen, others]) assert.ok(share >= 0 && share <= 1);
  });
});

describe("parseOptions()", () => {
  it("takes numbers from the profile unless they are given", () => {
    const options = parseOptions(["--quick", "--rounds", "3", "--case", "l2"], ["l2"]);
    assert.equal(options.profile, "quick");
    assert.deepEqual([options.rounds, options.repeat], [3, PROFILE_NUMBERS.quick.repeat]);
    assert.deepEqual(options.cases, ["l2"]);
  });

  it("names what there is to choose from", () => {
    assert.throws(() => parseOptions(["--case", "no"], ["l2", "nat"]), { code: "EBENCH", message: /l2, nat/ });
    assert.throws(() => parseOptions(["--rounds", "0"], []), { code: "EBENCH", message: /whole number/ });
  });
});
