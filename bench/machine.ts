// Where the figures come from, and how much of the machine there was: a hypervisor that gives time to others (steal) is the
// first reason to mistrust a run.

import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { compilerVersion } from "./clang.js";

export interface Machine {
  readonly cpu: string;
  readonly nCpus: number;
  readonly kernel: string;
  readonly node: string;
  readonly compiler: string;
}

export const describeMachine = (): Machine => ({
  cpu: cpus()[0]?.model ?? "",
  nCpus: cpus().length,
  kernel: release(),
  node: process.version,
  compiler: compilerVersion(),
});

/** Columns of the `cpu` line of /proc/stat (proc(5)), in ticks: user to steal; the rest is counted among them. */
const STEAL = 7;

const readTimes = (): { readonly total: number; readonly stolen: number } => {
  const [line = ""] = readFileSync("/proc/stat", "latin1").split("\n");
  const times = line
    .split(/\s+/)
    .slice(1, STEAL + 2)
    .map(Number);
  return { total: times.reduce((sum, time) => sum + time, 0), stolen: times[STEAL] ?? 0 };
};

/** Starts to count; a reading says which share, 0 to 1, of the processors' time was stolen since. */
export const stealClock = (): (() => number) => {
  const start = readTimes();
  return () => {
    const { total, stolen } = readTimes();
    return total === start.total ? 0 : (stolen - start.stolen) / (total - start.total);
  };
};
