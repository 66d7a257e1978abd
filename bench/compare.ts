// Whether two runs differ, row by row, and whether that is more than noise.
//
// Runs are minutes or machines apart, so times themselves say little: where a row has a rival, ours is taken as a multiple
// of that rival's time in the same round. The two sets of rounds are held against each other by the Mann-Whitney U test
// (exact, two-sided), all rows together at a false discovery rate of 5 % (Benjamini and Hochberg 1995). A row differs when
// it is significant and its median moved by at least 3 %.

import { bestRival, isRow, keyOfRow, oursOf, type Row } from "./row.js";
import type { Run } from "./results.js";
import { mannWhitney, median } from "./statistics.js";
import { formatColumns, type Column } from "./table.js";

export const FALSE_DISCOVERY_RATE = 0.05;
export const MIN_CHANGE = 0.03;

export type Verdict = "slower" | "faster" | "same" | "too few rounds";

export interface Comparison {
  readonly key: string;
  /** The rival that both are multiples of; undefined: figures as they are. */
  readonly by: string | undefined;
  readonly unit: string;
  /** Medians. */
  readonly before: number;
  readonly after: number;
  /** after / before - 1, turned so that more is worse. */
  readonly worsening: number;
  readonly p: number;
  readonly verdict: Verdict;
}

/** Ours in a row: as multiples of a rival's samples, or as they are. */
const samplesOf = (row: Row, rival: string | undefined): readonly number[] => {
  const ours = oursOf(row)?.samples ?? [];
  const by = row.series.find(({ name }) => name === rival)?.samples;
  return by === undefined ? ours : ours.map((sample, i) => sample / by[i]!);
};

/** The smallest p-value that so many samples can have: no two of them overlap. */
const smallestP = (a: number, b: number): number =>
  mannWhitney(
    Array.from({ length: a }, () => 0),
    Array.from({ length: b }, () => 1),
  );

/** The largest p-value that is significant among `all`, by the procedure of Benjamini and Hochberg; -1 for none. */
export const significanceLimit = (all: readonly number[]): number =>
  [...all]
    .sort((a, b) => a - b)
    .reduce((limit, p, i) => (p <= ((i + 1) / all.length) * FALSE_DISCOVERY_RATE ? p : limit), -1);

/** Rows that both runs have. */
export const compareRuns = (before: Run, after: Run): Comparison[] => {
  const old = new Map(before.results.filter(isRow).map((row) => [keyOfRow(row), row]));
  const pairs = after.results.filter(isRow).flatMap((row) => {
    const was = old.get(keyOfRow(row));
    return was === undefined || oursOf(row) === undefined || oursOf(was) === undefined ? [] : [{ was, row }];
  });
  const tested = pairs.map(({ was, row }) => {
    const name = bestRival(was)?.name;
    const by = row.series.some((series) => series.name === name) ? name : undefined;
    const [a, b] = [samplesOf(was, by), samplesOf(row, by)];
    const isEnough = smallestP(a.length, b.length) <= FALSE_DISCOVERY_RATE;
    const [x, y] = [median(a), median(b)];
    const change = x === 0 ? Number(y !== 0) : y / x - 1;
    return {
      ...{ key: keyOfRow(row), by, unit: row.unit, before: x, after: y, p: mannWhitney(a, b), isEnough },
      worsening: row.better === "less" ? change : -change,
    };
  });
  const limit = significanceLimit(tested.filter(({ isEnough }) => isEnough).map(({ p }) => p));
  return tested.map(({ isEnough, ...row }): Comparison => {
    const differs = row.p <= limit && Math.abs(row.worsening) >= MIN_CHANGE;
    const verdict = !isEnough ? "too few rounds" : !differs ? "same" : row.worsening > 0 ? "slower" : "faster";
    return { ...row, verdict };
  });
};

const COLUMNS: readonly Column<Comparison>[] = [
  { title: "row", cell: (c) => c.key, align: "left" },
  { title: "before", cell: (c) => c.before.toPrecision(4) },
  { title: "after", cell: (c) => c.after.toPrecision(4) },
  { title: "in", cell: (c) => (c.by === undefined ? c.unit : `x of ${c.by}`), align: "left" },
  { title: "worse by", cell: (c) => `${(100 * c.worsening).toFixed(1)}%` },
  { title: "p", cell: (c) => c.p.toPrecision(2) },
  { title: "verdict", cell: (c) => c.verdict, align: "left" },
];

export const formatComparison = (rows: readonly Comparison[]): string => formatColumns(COLUMNS, rows);
