// Time that a hypervisor gave to other machines: on a shared host, packets wait for it as for anything else, and nothing in
// this machine can shorten it. The demo says how much it was beside the latencies that it measures.

import { readFileSync } from "node:fs";

/** Fields of the `cpu` line of /proc/stat, in USER_HZ (proc(5)). */
const STEAL = 7;
const LAST = 7;

interface Reading {
  readonly total: number;
  readonly steal: number;
}

const read = (): Reading => {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const times = line.split(/\s+/).slice(1).map(Number);
  return { total: times.slice(0, LAST + 1).reduce((sum, time) => sum + time, 0), steal: times[STEAL] ?? 0 };
};

/** Starts to count; the result says which share, 0 to 1, of the processors' time has been stolen since. */
export const countSteal = (): (() => number) => {
  const start = read();
  return () => {
    const now = read();
    return now.total === start.total ? 0 : (now.steal - start.steal) / (now.total - start.total);
  };
};
