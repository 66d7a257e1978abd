// A run's figures as JSON (every sample) and as a table for people. Times are of one machine at one moment; what counts is the
// ratio to the fastest hand-written program of the same row, whole and over the floor.

import type { Hook } from "#compiler";
import type { Measured, Measurement } from "./measure.js";

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

type Column = readonly [title: string, cell: (row: DatapathResult) => string];

const COLUMNS: readonly Column[] = [
  ["case", (r) => r.title],
  ["flows", (r) => r.flows.toLocaleString("en")],
  ["hook", (r) => r.hook],
  ["floor ns", (r) => r.floor.ns.toFixed(0)],
  ["best C", (r) => r.best],
  ["C ns", (r) => r.rivals.find(({ name }) => name === r.best)!.ns.toFixed(0)],
  ["ours ns", (r) => r.ours.ns.toFixed(0)],
  ["ours/C", (r) => `${r.ratio.toFixed(2)}x`],
  ["over floor", (r) => `${r.ratioOverFloor.toFixed(2)}x`],
];

/** Columns of text and the names of cases to the left, figures to the right. */
const LEFT: ReadonlySet<string> = new Set(["case", "hook", "best C"]);

/** The table, a line each, without the last line feed. */
export const formatTable = (rows: readonly DatapathResult[]): string => {
  const cells = [COLUMNS.map(([title]) => title), ...rows.map((row) => COLUMNS.map(([, cell]) => cell(row)))];
  const widths = COLUMNS.map((_, i) => Math.max(...cells.map((line) => line[i]!.length)));
  return cells
    .map((line) =>
      line
        .map((cell, i) => (LEFT.has(COLUMNS[i]![0]) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
};
