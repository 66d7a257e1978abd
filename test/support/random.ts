// A small seeded generator of pseudo-random numbers: the same seed gives the same packets and tables everywhere.

/** xorshift32-based; the state is never 0. */
export class Random {
  #state: number;

  constructor(seed: number) {
    // A few rounds of a multiplicative hash keep neighbouring seeds apart.
    let x = (seed ^ 0x9e3779b9) >>> 0;
    for (let i = 0; i < 3; i++) x = Math.imul(x ^ (x >>> 15), 0x85ebca6b) >>> 0;
    this.#state = x === 0 ? 1 : x;
  }

  /** 0 .. 2^32 - 1. */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return Math.imul(this.#state, 0x9e3779b1) >>> 0;
  }

  /** 0 .. n - 1. */
  below(n: number): number {
    return Math.floor((this.u32() / 2 ** 32) * n);
  }

  /** `from` .. `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  bytes(size: number): Uint8Array {
    const out = new Uint8Array(size);
    for (let i = 0; i < size; i++) out[i] = this.u32() >>> 24;
    return out;
  }
}
