// The one clock of the daemon: CLOCK_MONOTONIC, which is what the datapath stamps upcalls with.

/** Readings of both clocks, so that one pair is close together although the process may be interrupted between the two. */
const READINGS = 100;

/** What to add to performance.now() to get milliseconds of CLOCK_MONOTONIC. An interruption makes a reading too small. */
const OFFSET_MS = Math.max(
  ...Array.from({ length: READINGS }, () => Number(process.hrtime.bigint()) / 1e6 - performance.now()),
);

/** CLOCK_MONOTONIC in milliseconds, with a fraction. Allocates nothing. */
export const monotonicMs = (): number => performance.now() + OFFSET_MS;
