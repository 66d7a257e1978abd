import assert from "node:assert/strict";
import fc from "fast-check";
import { Histogram } from "#runtime";

describe("runtime/metrics/histogram", () => {
  it("Histogram gives every quantile within a sixteenth of the exact one", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(40), fc.nat(1e6), fc.nat(2 ** 31 - 1)), { minLength: 1, maxLength: 200 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (values, share) => {
          const histogram = new Histogram();
          for (const value of values) histogram.record(value);
          const exact = [...values].sort((a, b) => a - b)[Math.ceil(share * values.length) - 1]!;
          const got = histogram.quantile(share);
          assert.ok(got >= exact && got <= exact * (1 + 1 / 16) + 1, `want ${exact}, got ${got}`);
        },
      ),
    );
  });

  it("Histogram keeps count, mean and maximum exactly", () => {
    const histogram = new Histogram();
    for (const ns of [10, 20, 3_000_000_000]) histogram.record(ns);
    const { count, mean, max } = histogram.quantiles;
    assert.deepEqual({ count, mean, max }, { count: 3, mean: 1_000_000_010, max: 3_000_000_000 });
    histogram.reset();
    assert.deepEqual(histogram.quantiles, { count: 0, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 });
  });

  it("Histogram takes a clock that steps back, and durations beyond its range", () => {
    const histogram = new Histogram();
    histogram.record(-5);
    histogram.record(2 ** 50);
    assert.equal(histogram.quantile(0.5), 0);
    assert.ok(histogram.quantile(1) > 2 ** 40);
  });
});
