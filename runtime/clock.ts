// The one clock of the daemon: CLOCK_MONOTONIC, which is what the datapath stamps upcalls with.

/** What to add to performance.now() to get milliseconds of CLOCK_MONOTONIC. */
const OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** CLOCK_MONOTONIC in milliseconds, with a fraction. Allocates nothing. */
export const monotonicMs = (): number => performance.now() + OFFSET_MS;
