// The statistics of the benches against values worked out by hand or by enumeration.

import assert from "node:assert/strict";
import { mannWhitney, median, quantile, spread } from "#bench";

describe("quantile()", () => {
  it("interpolates, whatever the order", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 2, 3]), 2.5);
    assert.equal(quantile([0, 10], 0.25), 2.5);
    assert.throws(() => median([]), { code: "ERANGE" });
  });
});

describe("spread()", () => {
  it("is half the quartiles' distance by the median", () => {
    assert.equal(spread([8, 9, 10, 11, 12]), 0.1);
    assert.equal(spread([5, 5, 5]), 0);
  });
});

describe("mannWhitney()", () => {
  it("is exact for samples that do not overlap: 2 of all ways", () => {
    assert.equal(mannWhitney([1, 2, 3], [4, 5, 6]), 2 / 20);
    assert.equal(mannWhitney([4, 5, 6, 7], [1, 2, 3]), 2 / 35);
  });

  it("agrees with counting all ways, ties included", () => {
    const a = [1, 2, 2, 5];
    const b = [2, 3, 5, 9];
    const values = [...a, ...b];
    const rank = (x: number): number =>
      values.filter((y) => y < x).length + (values.filter((y) => y === x).length + 1) / 2;
    const ranks = values.map(rank);
    const mean = (a.length * (values.length + 1)) / 2;
    const far = Math.abs(ranks.slice(0, a.length).reduce((s, r) => s + r, 0) - mean);
    let [extreme, all] = [0, 0];
    for (let set = 0; set < 1 << values.length; set++) {
      const chosen = ranks.filter((_, i) => (set >> i) & 1);
      if (chosen.length !== a.length) continue;
      all++;
      if (Math.abs(chosen.reduce((s, r) => s + r, 0) - mean) >= far - 1e-9) extreme++;
    }
    assert.equal(mannWhitney(a, b), extreme / all);
  });

  it("sees nothing in equal samples or none", () => {
    assert.equal(mannWhitney([1, 1, 1], [1, 1, 1]), 1);
    assert.equal(mannWhitney([], [1]), 1);
  });
});
