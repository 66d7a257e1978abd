// A histogram of durations with buckets of constant relative width: recording is a few integer operations and no
// allocation, and a quantile is wrong by at most 1/16 of its value.

/** Each power of two is cut into this many buckets. */
const PARTS = 16;
const PART_BITS = 4;
/** Up to 2^40 ns, 18 minutes; longer ones count as that. */
const POWERS = 40;

/** What a histogram tells at one time. Durations in nanoseconds. */
export interface Quantiles {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

export class Histogram {
  private readonly buckets = new Uint32Array(PARTS * POWERS);
  private sum = 0;
  count = 0;
  max = 0;

  /** Counts one duration of `ns` nanoseconds; negative ones count as 0. */
  record(ns: number): void {
    const value = Math.max(0, Math.round(ns));
    this.count++;
    this.sum += value;
    if (value > this.max) this.max = value;
    this.buckets[Histogram.bucketOf(value)]!++;
  }

  private static bucketOf(value: number): number {
    if (value < PARTS) return value;
    const power = Math.floor(Math.log2(value));
    const part = Math.floor(value / 2 ** (power - PART_BITS)) - PARTS;
    return Math.min((power - PART_BITS + 1) * PARTS + part, PARTS * POWERS - 1);
  }

  /** Upper end of a bucket. */
  private static upperOf(bucket: number): number {
    if (bucket < PARTS) return bucket;
    const power = Math.floor(bucket / PARTS) + PART_BITS - 1;
    const part = bucket % PARTS;
    return (PARTS + part + 1) * 2 ** (power - PART_BITS) - 1;
  }

  /** The value that `share` (0..1) of the recorded ones do not exceed; 0 when there are none. */
  quantile(share: number): number {
    const want = Math.ceil(share * this.count);
    let seen = 0;
    for (let i = 0; i < this.buckets.length; i++) {
      seen += this.buckets[i]!;
      if (seen >= want && seen > 0) return Math.min(Histogram.upperOf(i), this.max);
    }
    return 0;
  }

  get quantiles(): Quantiles {
    return {
      count: this.count,
      mean: this.count === 0 ? 0 : this.sum / this.count,
      p50: this.quantile(0.5),
      p90: this.quantile(0.9),
      p99: this.quantile(0.99),
      max: this.max,
    };
  }

  reset(): void {
    this.buckets.fill(0);
    this.sum = 0;
    this.count = 0;
    this.max = 0;
  }
}
