// How many values a per-CPU map has per key.

import { readFileSync } from "node:fs";
import { CodecError } from "ebpf-assembler";

const POSSIBLE = "/sys/devices/system/cpu/possible";

/** Number of CPUs in a kernel CPU list that starts at 0, such as `0-3` or `0,2-5`: one more than the largest id. */
export const parseCpuCount = (list: string): number => {
  const last = /(\d+)\s*$/.exec(list)?.[1];
  if (last === undefined)
    throw new CodecError("decode CPU list", 0, `want ranges such as "0-3", got ${JSON.stringify(list)}`);
  return Number(last) + 1;
};

let count: number | undefined;

/** Possible CPUs of the running kernel. */
export const possibleCpus = (): number => (count ??= parseCpuCount(readFileSync(POSSIBLE, "utf8")));
