// The few statistics that noisy timings need.

import { RangeViolation } from "ebpf-assembler";

/** The `q`-quantile by linear interpolation, 0 <= q <= 1. @throws {@link RangeViolation} for no values */
export const quantile = (values: readonly number[], q: number): number => {
  if (values.length === 0) throw new RangeViolation("Cannot take a quantile of no values");
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
};

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Half the distance of the quartiles by the median: how far a typical sample lies off. */
export const spread = (values: readonly number[]): number => {
  const middle = median(values);
  return middle === 0 ? 0 : (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / Math.abs(middle);
};

/** Twice the rank of each value among all, 1 being the smallest; equal values share the mean of theirs. */
const doubledRanks = (values: readonly number[]): number[] => {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Array<number>(values.length);
  for (let from = 0, to: number; from < order.length; from = to) {
    to = from + 1;
    while (to < order.length && values[order[to]!] === values[order[from]!]) to++;
    for (let i = from; i < to; i++) ranks[order[i]!] = from + 1 + to;
  }
  return ranks;
};

/**
 * Two-sided p-value of the Mann-Whitney U test, exact also for ties: of all ways to part the ranks into groups of these
 * sizes, the share whose rank sum lies at least as far from its mean. 1 when a group is empty.
 */
export const mannWhitney = (a: readonly number[], b: readonly number[]): number => {
  if (a.length === 0 || b.length === 0) return 1;
  const ranks = doubledRanks([...a, ...b]);
  const total = ranks.reduce((sum, rank) => sum + rank, 0);
  const observed = ranks.slice(0, a.length).reduce((sum, rank) => sum + rank, 0);
  // ways[k][s]: choices of k ranks with sum s.
  const ways = Array.from({ length: a.length + 1 }, () => new Float64Array(total + 1));
  ways[0]![0] = 1;
  for (const rank of ranks) {
    for (let k = a.length; k > 0; k--) {
      const [into, from] = [ways[k]!, ways[k - 1]!];
      for (let sum = total; sum >= rank; sum--) into[sum]! += from[sum - rank]!;
    }
  }
  const mean = (total * a.length) / ranks.length;
  const distance = Math.abs(observed - mean);
  let [extreme, all] = [0, 0];
  ways[a.length]!.forEach((count, sum) => {
    all += count;
    if (Math.abs(sum - mean) >= distance - 1e-9) extreme += count;
  });
  return extreme / all;
};
