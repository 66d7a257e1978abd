// The daemon's benches run with few packets: no timing is asserted, what they count is.

import assert from "node:assert/strict";
import { runDaemon } from "#bench";

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
