// CPU time of the main thread, from the scheduler: unlike wall time it says the same on a busy machine.

import { readFileSync } from "node:fs";

export interface CpuTime {
  /** Nanoseconds on a CPU. */
  readonly busyNs: number;
  /** Nanoseconds ready to run while others had the CPU. */
  readonly waitedNs: number;
}

/** Since the thread began. The main thread's id is the process's (Documentation/scheduler/sched-stats.rst). */
const now = (): CpuTime => {
  const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, "latin1");
  const [busyNs = 0, waitedNs = 0] = text.split(" ").map(Number);
  return { busyNs, waitedNs };
};

/** Starts a clock; each reading is the time since. */
export const cpuClock = (): (() => CpuTime) => {
  const start = now();
  return () => {
    const { busyNs, waitedNs } = now();
    return { busyNs: busyNs - start.busyNs, waitedNs: waitedNs - start.waitedNs };
  };
};
