import assert from "node:assert/strict";
import fc from "fast-check";
import { Heat } from "#runtime";

const heatOf = (packets: readonly number[]): Heat<number> => {
  const heat = new Heat<number>();
  packets.forEach((n, i) => heat.add(i, n));
  return heat;
};

describe("Heat", () => {
  it("sort() puts the hottest first, and leaves those that are alike as they were", () => {
    const heat = heatOf([5, 0, 9, 0, 5]);
    assert.deepEqual(
      heat.sort([1, 0, 3, 2, 4], (one) => one),
      [2, 0, 4, 1, 3],
    );
  });

  it("excessLooks() is what the order costs a packet more than the best one", () => {
    assert.equal(heatOf([1, 99]).excessLooks([0, 1]), 0.98);
    assert.equal(heatOf([99, 1]).excessLooks([0, 1]), 0);
    assert.equal(heatOf([]).excessLooks([0, 1]), 0);
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { minLength: 1, maxLength: 8 }), (packets) => {
        const heat = heatOf(packets);
        const order = [...packets.keys()];
        const excess = heat.excessLooks(order);
        assert.ok(excess >= 0 && excess <= packets.length - 1);
        assert.equal(heat.excessLooks(heat.sort(order, (one) => one)), 0);
      }),
    );
  });

  it("cool() halves what was, and forgets what is cold", () => {
    const heat = heatOf([8]);
    for (const want of [4, 2, 1, 0.5, 0]) {
      heat.cool();
      assert.equal(heat.of(0), want);
    }
  });
});
