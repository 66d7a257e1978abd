// How much the fuzz tests do. `FUZZ_SCALE` multiplies the number of tables (1 in CI, more at night), `FUZZ_SEED` is the
// first seed: a failure names its seed, and `FUZZ_SEED=n FUZZ_SCALE=0` runs it alone.

const numberOf = (name: string, otherwise: number): number => {
  const value = Number(process.env[name] ?? otherwise);
  return Number.isFinite(value) && value >= 0 ? value : otherwise;
};

const SCALE = numberOf("FUZZ_SCALE", 1);
const FIRST = numberOf("FUZZ_SEED", 1);

/** Seeds of a run that has `n` of them in CI. */
export const seeds = (n: number): number[] =>
  Array.from({ length: Math.max(1, Math.round(n * SCALE)) }, (_, i) => FIRST + i);

/** Milliseconds that a test may take which takes `ms` at most in CI. */
export const timeLimit = (ms: number): number => Math.round(ms * Math.max(1, SCALE));
