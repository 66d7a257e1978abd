// Each datapath case runs with few packets. The bench itself fails when a program misses, sends another packet than its
// rivals, or counts wrongly: what is tested here is that every case gets through, and that it would fail.

import assert from "node:assert/strict";
import {
  CASES,
  compileC,
  formatDaemon,
  formatTable,
  median,
  ours,
  quantile,
  rival,
  runCase,
  runDaemon,
  udpPacket,
} from "#bench";
import { linux, loadObject, xdpContext } from "libbpf-ts";

const QUICK = { hooks: ["xdp", "tc"], rounds: 1, repeat: 100, sizes: [64] } as const;
const XDP_PASS = 2;

describe("runCase()", function () {
  this.timeout(60_000);
  for (const row of CASES) {
    it(`hits with every packet of case ${row.name}, ours as the rivals do`, () => {
      const results = [...runCase(row, QUICK)];
      assert.deepEqual(
        results.map(({ hook }) => hook),
        QUICK.hooks,
      );
      for (const { ours: mine, rivals, ratio } of results) {
        assert.equal(rivals.length, row.rivals.length);
        assert.ok(mine.jitedBytes > 0 && rivals.every(({ jitedBytes }) => jitedBytes > 0));
        assert.ok(Number.isFinite(ratio));
      }
    });
  }

  it("fails when a rival has not the flows that come", () => {
    const row = CASES.find(({ name }) => name === "l2")!;
    const rivals = row.rivals.map((spec) => ({ ...spec, keys: () => spec.keys(udpPacket(row.vary, 1000), 1000) }));
    assert.throws(() => [...runCase({ ...row, rivals }, QUICK)], { code: "EBENCH", message: /want a redirect/ });
  });

  it("fails when our megaflows come to other masks than the case is about", () => {
    const row = CASES.find(({ name }) => name === "l2")!;
    assert.throws(() => ours({ ...row, masks: 2 }, 64), { code: "EBENCH", message: /makes 1 masks, want 2/ });
  });
});

describe("ours() and rival()", function () {
  this.timeout(60_000);
  it("count the packets that they forward", () => {
    const row = CASES.find(({ name }) => name === "5-tuple")!;
    using mine = ours(row, 2);
    using theirs = rival(row, row.rivals[0]!, 2);
    for (const who of [mine, theirs]) {
      const data = udpPacket(row.vary, 1);
      who.program("xdp").testRun({ data, ctx: xdpContext(data.length, 1), repeat: 3 });
      assert.deepEqual(who.counters(), { packets: 3, bytes: 3 * data.length, touched: 1 });
    }
  });
});

describe("runDaemon()", function () {
  this.timeout(60_000);
  for (const hook of ["tc", "native"] as const) {
    it(`makes every packet an upcall and a megaflow, and loses none at a low rate (${hook})`, async () => {
      const { load, rates, settle } = await runDaemon({
        hook,
        flows: 100,
        rates: [{ perSecond: 1000, packets: 200 }],
      });
      const [rate] = rates;
      assert.ok(rate !== undefined && rate.busyUsPerUpcall > 0 && rate.latency.count === 200);
      const { sent, upcalls, notForwarded, megaflows } = rate;
      assert.deepEqual({ sent, upcalls, notForwarded }, { sent: 200, upcalls: 200, notForwarded: 0 });
      // 4,000 packets went before.
      assert.ok(megaflows >= 200 && megaflows <= 4200);
      assert.equal(settle.megaflows, megaflows);
      assert.equal(load.flows, 100);
    });
  }
});

describe("formatTable() and formatDaemon()", () => {
  const measured = (name: string, ns: number) => ({ name, ns, samples: [ns], xlatedBytes: 8, jitedBytes: 8 });

  it("put figures under their titles, best rival and ratios among them", () => {
    const c = measured("C", 50);
    const row = { case: "x", title: "X", flows: 1000, hook: "tc", floor: measured("floor", 10) } as const;
    const text = formatTable([
      { ...row, ours: measured("ours", 60), rivals: [c], best: "C", ratio: 1.2, ratioOverFloor: 1.25 },
    ]);
    assert.equal(
      text,
      "case  flows  hook  floor ns  best C  C ns  ours ns  ours/C  over floor\n" +
        "X     1,000  tc          10  C         50       60   1.20x       1.25x",
    );
  });

  it("tell wall from CPU time", () => {
    const text = formatDaemon({
      hook: "tc",
      load: { flows: 5, ms: 3, busyMs: 2 },
      rates: [],
      settle: { megaflows: 7, ms: 2, busyMs: 1 },
    });
    assert.match(text, /^Daemon, tc: 5 flows loaded in 3 ms \(2 ms busy\)/);
    assert.match(text, /7 megaflows read and credited in 2 ms \(1 ms busy\)$/);
  });
});

describe("compileC()", () => {
  it("gives programs that the kernel takes; a packet without a flow passes", () => {
    using object = loadObject(linux(), compileC("l2"));
    const data = udpPacket({ at: 0, base: 0 }, 7);
    assert.equal(object.program("mac_xdp").testRun({ data, ctx: xdpContext(data.length, 1) }).retval, XDP_PASS);
  });

  it("says what is wrong with a source", () => {
    assert.throws(() => compileC("l2", { MAX_FLOWS: 0.5 }), { code: "ENOTSUPPORTED", message: /l2\.bpf\.c/ });
  });
});

describe("quantile()", () => {
  it("interpolates, whatever the order", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.equal(quantile([0, 10], 0.25), 2.5);
    assert.throws(() => median([]), { code: "ERANGE" });
  });
});
