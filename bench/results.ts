// The files of a run: every sample as JSON, and a picture per group.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BenchError } from "./error.js";
import type { Disturbance, Machine } from "./machine.js";
import type { Profile } from "./datapath/case.js";
import { GROUPS, isRow, type Missing, type Row } from "./row.js";
import { drawRows } from "./svg.js";

export interface Run extends Disturbance {
  readonly machine: Machine;
  readonly profile: Profile;
  readonly rounds: number;
  readonly repeat: number;
  readonly results: readonly (Row | Missing)[];
}

/** Writes latest.json and a picture for each group that was measured. @returns the paths */
export const writeResults = (directory: string, run: Run): string[] => {
  mkdirSync(directory, { recursive: true });
  const put = (name: string, text: string): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    return path;
  };
  const rows = run.results.filter(isRow);
  const pictures = GROUPS.map((group) => ({ group, rows: rows.filter((row) => row.group === group) }));
  return [
    put("latest.json", `${JSON.stringify(run, null, 1)}\n`),
    ...pictures
      .filter((picture) => picture.rows.length > 0)
      .map(({ group, rows: ofGroup }) => put(`${group}.svg`, drawRows(group, ofGroup))),
  ];
};

/** @throws {@link BenchError} when the file is not the result of a run */
export const readRun = (path: string): Run => {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new BenchError(`Cannot read ${path}: ${(error as Error).message}`);
  }
  const { results } = (value ?? {}) as Partial<Run>;
  if (!Array.isArray(results)) throw new BenchError(`Cannot read ${path}: want a result of npm run bench`);
  return value as Run;
};
