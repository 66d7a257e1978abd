// The one form of a result: what was measured side by side in one place, every sample of it. Tables, pictures and
// comparisons are made of these rows and of nothing else.

import { median } from "./statistics.js";

/**
 * What a series is in its row: ours; a rival that does the same job, the best of which ours is held against; something
 * else that is worth seeing beside them.
 */
export type Role = "ours" | "rival" | "other";

export interface Series {
  readonly name: string;
  readonly role: Role;
  /** One per round; the i-th of every series of a row were taken one after the other. */
  readonly samples: readonly number[];
  /** Figures that belong to it, such as bytes of code. */
  readonly facts?: Readonly<Record<string, number>>;
}

export const GROUPS = ["datapath", "wire", "daemon", "openflow"] as const;
export type Group = (typeof GROUPS)[number];

export interface Row {
  readonly group: Group;
  /** Of the case. */
  readonly name: string;
  readonly title: string;
  /** What else tells rows of one case apart, for example `1,000 flows, xdp`. */
  readonly at: string;
  readonly unit: string;
  readonly better: "less" | "more";
  /** What the measurement itself costs; in no role. */
  readonly floor?: Series;
  readonly series: readonly Series[];
}

/** A row that could not be measured. */
export interface Missing {
  readonly group: Group;
  readonly name: string;
  readonly at: string;
  readonly why: string;
}

export const isRow = (row: Row | Missing): row is Row => "series" in row;

/** What tells rows apart, also those of two runs. */
export const keyOfRow = ({ group, name, at }: Pick<Row, "group" | "name" | "at">): string => `${group}/${name}/${at}`;

export const oursOf = ({ series }: Row): Series | undefined => series.find(({ role }) => role === "ours");

/** The rival that did best by its median. */
export const bestRival = ({ series, better }: Row): Series | undefined => {
  const sign = better === "less" ? 1 : -1;
  return series
    .filter(({ role }) => role === "rival")
    .reduce<Series | undefined>(
      (best, s) => (best === undefined || sign * (median(s.samples) - median(best.samples)) < 0 ? s : best),
      undefined,
    );
};

/** Ours by the best rival's, round by round; undefined without one of them. */
export const ratios = (row: Row): number[] | undefined => {
  const [ours, best] = [oursOf(row), bestRival(row)];
  if (ours === undefined || best === undefined) return undefined;
  return ours.samples.map((sample, i) => sample / best.samples[i]!);
};

/** Smallest difference from the floor that is taken for a time: timings are whole nanoseconds. */
const MIN_OVER = 1;

/** Median of a series over the floor of its row. */
export const overFloor = ({ floor }: Row, series: Series): number =>
  Math.max(MIN_OVER, median(series.samples) - (floor === undefined ? 0 : median(floor.samples)));
