// Each datapath case runs with few packets. The bench itself fails when a program misses, sends another packet than its
// rivals, or counts wrongly: what is tested here is that every case gets through, and that it would fail.

import assert from "node:assert/strict";
import {
  CASES,
  isRow,
  median,
  oursOf,
  Ports,
  openRival,
  packetsOf,
  runCase,
  type Case,
  type Missing,
  type Row,
} from "#bench";
import { xdpContext } from "libbpf-ts";

const TINY = { profile: "quick", rounds: 1, repeat: 100, sizes: [64] } as const;
/** Larger tables are no other code. */
const MAX_RULES = 1_000;

const all = async (row: Case): Promise<(Row | Missing)[]> => {
  const results: (Row | Missing)[] = [];
  for await (const result of runCase(row, TINY)) results.push(result);
  return results;
};

const caseOf = (name: string): Case => CASES.find((row) => row.name === name)!;

describe("runCase()", function () {
  this.timeout(120_000);
  for (const row of CASES) {
    const rules = Number(/^(?:acl|routes)-(\d+)$/.exec(row.name)?.[1] ?? 0);
    if (rules > MAX_RULES) continue;
    it(`hits with every packet of case ${row.name}, ours as the rivals do`, async () => {
      const results = await all(row);
      assert.equal(results.length, (row.hooks ?? ["xdp"]).length * (row.isDirect === false ? 1 : 2));
      for (const result of results) {
        assert.ok(isRow(result), JSON.stringify(result));
        assert.equal(result.series.length, 1 + (row.variants ?? []).length + row.rivals.length);
        for (const { samples, facts } of result.series)
          assert.ok(samples.length === 1 && median(samples) > 0 && facts!["jitedBytes"]! > 0);
        assert.equal(oursOf(result)?.name, "ours");
      }
    });
  }

  it("says what is wrong when a rival has not the flows that come", async () => {
    const row = caseOf("5-tuple");
    const rivals = row.rivals.map((rival) => ({
      ...rival,
      tables: () => rival.tables({ packets: packetsOf(row, 128).slice(64), ifindex: 1 }),
    }));
    const [result] = await all({ ...row, rivals });
    assert.ok(result !== undefined && !isRow(result));
    assert.match(result.why, /C, kernel hash returns 2 /);
  });

  it("says what is wrong when a rival rewrites something else", async () => {
    const row = caseOf("nat");
    const [hash] = row.rivals;
    const [result] = await all({ ...row, rivals: [{ ...hash!, program: "tuple_hash" }] });
    assert.ok(result !== undefined && !isRow(result));
    assert.match(result.why, /Case nat at xdp: C, kernel hash returns/);
  });

  it("says what is wrong when our megaflows come to other masks than the case is about", async () => {
    const [result] = await all({ ...caseOf("l2"), masks: 2 });
    assert.ok(result !== undefined && !isRow(result));
    assert.match(result.why, /makes 1 masks, want 2/);
  });
});

describe("openRival()", function () {
  this.timeout(60_000);
  it("counts the packets that it forwards, in each kind of table", () => {
    const row = caseOf("5-tuple");
    using ports = new Ports();
    const packets = packetsOf(row, 2);
    for (const spec of row.rivals) {
      using rival = openRival(ports, spec, "xdp", { packets, ifindex: ports.ifindex });
      const data = packets[1]!;
      rival.program.testRun({ data, ctx: xdpContext(data.length, 1), repeat: 3 });
      assert.deepEqual(rival.counters(), { packets: 3, bytes: 3 * data.length });
    }
  });
});
