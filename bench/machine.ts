// Where the figures come from, and how much of the machine there was: a hypervisor that gives time to others (steal) is the
// first reason to mistrust a run, busy neighbours in the machine the second.

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

/** Columns of the `cpu` line of /proc/stat (proc(5)), in ticks of 10 ms: user, nice, …, steal. */
const USER = 0;
const NICE = 1;
const STEAL = 7;

interface Times {
  readonly total: number;
  readonly stolen: number;
  /** Of all processes outside the kernel. */
  readonly user: number;
}

const readTimes = (): Times => {
  const [line = ""] = readFileSync("/proc/stat", "latin1").split("\n");
  const times = line
    .split(/\s+/)
    .slice(1, STEAL + 2)
    .map(Number);
  return {
    total: times.reduce((sum, time) => sum + time, 0),
    stolen: times[STEAL] ?? 0,
    user: (times[USER] ?? 0) + (times[NICE] ?? 0),
  };
};

/** Ticks that this process and the children it has waited for spent outside the kernel: fields 14 and 16 of proc(5)'s stat. */
const ownUser = (): number => {
  const fields = readFileSync("/proc/self/stat", "latin1").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[13]);
};

/** How much of the processors' time a run did not have; shares, 0 to 1. */
export interface Disturbance {
  /** What the hypervisor gave to other machines. */
  readonly stolen: number;
  /** What other processes used, outside the kernel. */
  readonly others: number;
}

/** Starts to count; a reading says what was taken since. */
export const disturbanceClock = (): (() => Disturbance) => {
  const start = { ...readTimes(), own: ownUser() };
  return () => {
    const { total, stolen, user } = readTimes();
    const share = (ticks: number): number => (total === start.total ? 0 : Math.max(0, ticks) / (total - start.total));
    return { stolen: share(stolen - start.stolen), others: share(user - start.user - (ownUser() - start.own)) };
  };
};

/** In words, with a warning when figures mean little. */
export const formatDisturbance = ({ stolen, others }: Disturbance): string => {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const words = `Of the processors' time the hypervisor took ${percent(stolen)}, other processes ${percent(others)}`;
  return stolen + others > MUCH ? `${words}: trust nothing but ratios.` : `${words}.`;
};

const MUCH = 0.1;
