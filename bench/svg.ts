// Rows as bars: one picture per group, one block per row, a bar per series with its quartiles, the floor as a line.

import type { Group, Role, Row, Series } from "./row.js";
import { formatNumber } from "./report.js";
import { median, quantile } from "./statistics.js";

const WIDTH = 960;
const LABEL = 330;
const VALUE = 90;
const BAR = 16;
const GAP = 3;
const BLOCK_GAP = 14;
const HEAD = 34;

const COLOURS: Readonly<Record<Role, string>> = { ours: "#1b6ca8", rival: "#7a8a99", other: "#c3ccd4" };
const FLOOR_COLOUR = "#b03030";

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const text = (x: number, y: number, words: string, attrs = ""): string =>
  `<text x="${x}" y="${y}"${attrs === "" ? "" : ` ${attrs}`}>${escape(words)}</text>`;

const bar = (series: Series, y: number, scale: (value: number) => number): string[] => {
  const value = median(series.samples);
  const [low, high] = [quantile(series.samples, 0.25), quantile(series.samples, 0.75)].map(scale) as [number, number];
  const middle = y + BAR / 2;
  const width = scale(value) - LABEL;
  return [
    text(LABEL - 8, y + BAR - 4, series.name, 'text-anchor="end"'),
    `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" fill="${COLOURS[series.role]}"/>`,
    `<line x1="${low.toFixed(1)}" x2="${high.toFixed(1)}" y1="${middle}" y2="${middle}" stroke="#222"/>`,
    text(Math.max(LABEL + width, high) + 6, y + BAR - 4, formatNumber(value)),
  ];
};

/** One row: its heading, then its bars on a scale of its own; `top` is where it begins. */
const block = (row: Row, top: number): { readonly parts: readonly string[]; readonly bottom: number } => {
  const highest = Math.max(...row.series.map(({ samples }) => quantile(samples, 0.75)), 1e-9);
  const scale = (value: number): number => LABEL + (Math.max(0, value) / highest) * (WIDTH - LABEL - VALUE);
  const first = top + 20;
  const bars = row.series.flatMap((series, i) => bar(series, first + i * (BAR + GAP), scale));
  const bottom = first + row.series.length * (BAR + GAP);
  const floor = row.floor === undefined ? undefined : scale(median(row.floor.samples)).toFixed(1);
  const line =
    floor === undefined
      ? []
      : [`<line x1="${floor}" x2="${floor}" y1="${first - 2}" y2="${bottom}" stroke="${FLOOR_COLOUR}"/>`];
  const heading = `${row.title}, ${row.at} (${row.unit}, ${row.better} is better)`;
  return { parts: [text(8, top + 13, heading, 'font-weight="bold"'), ...bars, ...line], bottom: bottom + BLOCK_GAP };
};

/** An SVG document. */
export const drawRows = (group: Group, rows: readonly Row[]): string => {
  const parts: string[] = [];
  let y = HEAD;
  for (const row of rows) {
    const { parts: drawn, bottom } = block(row, y);
    parts.push(...drawn);
    y = bottom;
  }
  const legend = `${group}: medians, quartiles as a line; red: the floor`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}"` +
      ` font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${y}" fill="#fff"/>`,
    text(8, 20, legend, 'font-size="14"'),
    ...parts,
    "</svg>\n",
  ].join("\n");
};
