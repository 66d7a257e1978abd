// Traffic takes the paths that the wire bench is about. What needs Open vSwitch is named in a row of its own when it fails.

import assert from "node:assert/strict";
import { blastPath, isRow, PATHS, runWire, WireLab, type Missing, type Row } from "#bench";

describe("WireLab", function () {
  this.timeout(60_000);
  it("counts at the other host what was sent, and nothing else", async () => {
    using lab = new WireLab(blastPath(), true);
    const { sent, arrived } = await lab.send(50, 10_000);
    assert.ok(sent >= 100 && sent <= 600, `${sent}`);
    assert.equal(arrived, sent);
  });

  it("says so when no packet arrives", async () => {
    using lab = new WireLab(blastPath());
    await assert.rejects(lab.packets(20), { code: "EBENCH", message: /No packet arrived/ });
  });
});

describe("runWire()", function () {
  this.timeout(120_000);
  it("gives a row per hook with ours and its rival on it", async () => {
    const results: (Row | Missing)[] = [];
    for await (const result of runWire("packets", { rounds: 1, packetsMs: 20, tcpRounds: 1, tcpSeconds: 1 }))
      results.push(result);
    const rows = results.filter(isRow);
    assert.deepEqual(
      rows.map(({ at }) => at),
      ["tc", "xdp", "vxlan"],
    );
    for (const { series } of rows)
      for (const role of ["ours", "rival"]) assert.ok(series.some((one) => one.role === role && one.samples[0]! > 0));
    for (const missing of results.filter((result): result is Missing => !isRow(result)))
      assert.match(missing.at, /OVS AF_XDP/, missing.why);
    assert.equal(
      new Set(rows.flatMap(({ series }) => series.map(({ name }) => name))).size + results.length - rows.length,
      new Set(PATHS.map(({ name }) => name)).size,
    );
  });
});
