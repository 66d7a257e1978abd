// The daemon's and the wire's benches run with few packets: no timing is asserted, what they count is.

import assert from "node:assert/strict";
import {
  attackPackets,
  median,
  oursOf,
  runAttack,
  runFirstPacket,
  runFlowMods,
  runLoad,
  runMemory,
  runSetUp,
  runSwap,
  type Row,
} from "#bench";
import { toHex } from "ebpf-assembler";

const all = async (rows: AsyncIterable<Row>): Promise<Row[]> => {
  const list: Row[] = [];
  for await (const row of rows) list.push(row);
  return list;
};

/** Every row has samples of ours that are numbers. */
const check = (rows: readonly Row[], n: number): void => {
  assert.equal(rows.length, n);
  for (const row of rows) assert.ok(Number.isFinite(median(oursOf(row)!.samples)), JSON.stringify(row));
};

describe("daemon benches", function () {
  this.timeout(60_000);

  it("runFirstPacket() gives both quantiles and loses no packet at a low rate", async () => {
    const rows = await all(runFirstPacket({ rounds: 2, roundMs: 50, perSecond: 1000 }));
    check(rows, 2);
    assert.deepEqual(
      rows.map((row) => [row.at, oursOf(row)!.samples.length, oursOf(row)!.facts!["lost"]]),
      [
        ["p50", 2, 0],
        ["p99", 2, 0],
      ],
    );
  });

  it("runSetUp() sets up every flow that it counts", async () => {
    check(await all(runSetUp({ roundMs: 20, perSecond: 20_000, megaflows: 5_000 })), 1);
  });

  it("runLoad() takes a time for each step", async () => {
    check(await all(runLoad({ rounds: 1, rules: [50] })), 5);
  });

  it("runFlowMods() changes a rule that has a megaflow", async () => {
    check(await all(runFlowMods({ rounds: 2, rules: 50 })), 2);
  });

  it("runMemory() weighs rules and megaflows", async () => {
    const rows = await all(runMemory({ items: 2_000 }));
    check(rows, 3);
    for (const row of rows) assert.ok(oursOf(row)!.samples[0]! > 0, row.at);
  });

  it("runSwap() loses no packet", async () => {
    const rows = await all(runSwap({ swaps: 20, perSecond: 20_000 }));
    check(rows, 2);
    const [lost] = rows;
    assert.deepEqual(oursOf(lost!)!.samples, [0]);
    assert.ok(oursOf(lost!)!.facts!["sent"]! > 0);
  });

  it("runAttack() keeps the number of masks within its limit", async () => {
    const rows = await all(runAttack({ rounds: 1, perSecond: 2_000 }));
    check(rows, 1);
    const { masks, attackPackets: sent } = oursOf(rows[0]!)!.facts!;
    assert.ok(masks! > 1 && masks! <= 32 && sent! > 1000, `${masks} masks, ${sent} packets`);
  });
});

describe("attackPackets()", () => {
  it("gives one packet for each place of a first difference", () => {
    const packets = attackPackets();
    assert.equal(packets.length, 16 * 32 * 16);
    assert.equal(new Set(packets.map(toHex)).size, packets.length);
  });
});
