// Rows as tables for people. Times are of one machine at one moment; what counts is the ratio to the best rival of the same
// row, whole and over the floor.

import { bestRival, isRow, oursOf, overFloor, ratios, type Group, type Missing, type Row, type Series } from "./row.js";
import { median, spread } from "./statistics.js";
import { formatColumns, type Column } from "./table.js";

/** Three digits that count. */
export const formatNumber = (n: number): string => {
  if (!Number.isFinite(n)) return "-";
  const digits = Math.abs(n) >= 100 ? 0 : Math.abs(n) >= 10 ? 1 : 2;
  return n.toLocaleString("en", { maximumFractionDigits: digits });
};

const cellOf = (series: Series | undefined): string =>
  series === undefined ? "" : formatNumber(median(series.samples));
const times = (n: number | undefined): string => (n === undefined ? "" : `${n.toFixed(2)}x`);

const ratioOf = (row: Row): number | undefined => {
  const all = ratios(row);
  return all === undefined ? undefined : median(all);
};

const ratioOverFloor = (row: Row): number | undefined => {
  const [ours, best] = [oursOf(row), bestRival(row)];
  if (row.floor === undefined || ours === undefined || best === undefined) return undefined;
  return overFloor(row, ours) / overFloor(row, best);
};

/** The other series, each with how many times ours it takes over the floor (or, where more is better, gives). */
const otherCell = (row: Row): string => {
  const ours = oursOf(row);
  return row.series
    .filter((series) => series.role !== "ours" && series !== bestRival(row))
    .map((series) => {
      const value = cellOf(series);
      return ours === undefined
        ? `${series.name} ${value}`
        : `${series.name} ${value} (${times(overFloor(row, series) / overFloor(row, ours))})`;
    })
    .join("; ");
};

const COLUMNS: readonly Column<Row>[] = [
  { title: "case", cell: (r) => r.title, align: "left" },
  { title: "at", cell: (r) => r.at, align: "left" },
  { title: "unit", cell: (r) => r.unit, align: "left" },
  { title: "floor", cell: (r) => cellOf(r.floor) },
  { title: "ours", cell: (r) => cellOf(oursOf(r)) },
  { title: "+-", cell: (r) => `${(100 * spread(oursOf(r)?.samples ?? [0])).toFixed(0)}%` },
  { title: "best rival", cell: (r) => cellOf(bestRival(r)) },
  { title: "ours/best", cell: (r) => times(ratioOf(r)) },
  { title: "over floor", cell: (r) => times(ratioOverFloor(r)) },
  { title: "best is", cell: (r) => bestRival(r)?.name ?? "", align: "left" },
  { title: "others (by ours, over floor)", cell: otherCell, align: "left" },
];

const TITLES: Readonly<Record<Group, string>> = {
  datapath: "Datapath: cached packets by BPF_PROG_TEST_RUN, random flows",
  wire: "Wire: packets and TCP through veth pairs between namespaces",
  daemon: "Daemon: the slow path, the tables, the compiler",
  openflow: "OpenFlow: controllers at work, and what else feels of it",
};

/** Columns that say nothing in these rows are left out. */
const columnsFor = (rows: readonly Row[]): readonly Column<Row>[] =>
  COLUMNS.filter(({ cell }) => rows.some((row) => cell(row) !== ""));

/** All rows of a group under its title, without the last line feed. */
export const formatGroup = (group: Group, results: readonly (Row | Missing)[]): string => {
  const rows = results.filter(isRow);
  const missing = results.filter((r): r is Missing => !isRow(r));
  return [
    TITLES[group],
    ...(rows.length > 0 ? [formatColumns(columnsFor(rows), rows)] : []),
    ...missing.map(({ name, at, why }) => `not measured: ${name}, ${at}: ${why}`),
  ].join("\n");
};

/** One row on one line, as it comes. */
export const formatProgress = (result: Row | Missing): string => {
  if (!isRow(result)) return `${result.name}, ${result.at}: not measured: ${result.why}`;
  const ratio = ratioOf(result);
  const best = bestRival(result);
  return `${result.title}, ${result.at}: ${cellOf(oursOf(result))} ${result.unit}${
    ratio === undefined || best === undefined ? "" : `, ${times(ratio)} of ${best.name}`
  }`;
};
