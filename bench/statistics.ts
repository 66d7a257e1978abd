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
