// A run's figures as JSON (every sample) and as a table for people. Times are of one machine at one moment; what counts is the
// ratio to the fastest hand-written program of the same row, whole and over the floor.

import type { Hook } from "#compiler";
import type { Measured, Measurement } from "./measure.js";
import { formatColumns, type Column } from "./table.js";

/** One row of the result. */
export interface DatapathResult {
  readonly case: string;
  readonly title: string;
  readonly flows: number;
  readonly hook: Hook;
  readonly floor: Measured;
  readonly ours: Measured;
  readonly rivals: readonly Measured[];
  /** Name of the fastest rival. */
  readonly best: string;
  /** Ours by the best rival's, driver and floor included. */
  readonly ratio: number;
  /** The same over the floor. */
  readonly ratioOverFloor: number;
}

/** Smallest difference from the floor that is taken for a time: timings are whole nanoseconds. */
const MIN_NS = 1;

export const datapathResult = (
  row: { readonly name: string; readonly title: string },
  flows: number,
  hook: Hook,
  { floor, contestants }: Measurement,
): DatapathResult => {
  const [ours, ...rivals] = contestants as readonly [Measured, ...Measured[]];
  const best = rivals.reduce((a, b) => (b.ns < a.ns ? b : a));
  const over = (m: Measured): number => Math.max(MIN_NS, m.ns - floor.ns);
  return {
    case: row.name,
    title: row.title,
    flows,
    hook,
    floor,
    ours,
    rivals,
    best: best.name,
    ratio: ours.ns / best.ns,
    ratioOverFloor: over(ours) / over(best),
  };
};

const COLUMNS: readonly Column<DatapathResult>[] = [
  { title: "case", cell: (r) => r.title, align: "left" },
  { title: "flows", cell: (r) => r.flows.toLocaleString("en") },
  { title: "hook", cell: (r) => r.hook, align: "left" },
  { title: "floor ns", cell: (r) => r.floor.ns.toFixed(0) },
  { title: "best C", cell: (r) => r.best, align: "left" },
  { title: "C ns", cell: (r) => r.rivals.find(({ name }) => name === r.best)!.ns.toFixed(0) },
  { title: "ours ns", cell: (r) => r.ours.ns.toFixed(0) },
  { title: "ours/C", cell: (r) => `${r.ratio.toFixed(2)}x` },
  { title: "over floor", cell: (r) => `${r.ratioOverFloor.toFixed(2)}x` },
];

/** The table, a line each, without the last line feed. */
export const formatTable = (rows: readonly DatapathResult[]): string => formatColumns(COLUMNS, rows);
