// The facts of a demo in words and tables, for a person at a terminal.

import type { MegaflowReport } from "../control/dump.js";
import { isSuccess, type Comparison, type Counters, type DemoFacts, type Speed } from "./facts.js";

/** Megaflows shown at most. */
const MAX_SHOWN = 24;
const INDENT = 11;

const count = (n: number): string => n.toLocaleString("en-US");

/** 1,234 bytes as "1.2 kB". */
export const bytesText = (n: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? `${n} B` : `${value.toFixed(1)} ${units[unit]}`;
};

const rateText = (bits: number): string => `${(bits / 1e9).toFixed(bits < 1e10 ? 2 : 1)} Gb/s`;

/** Breaks after the commas outside brackets, so that no line but one with a longer part exceeds `width`. */
export const wrap = (text: string, width: number): string[] => {
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (text[i] === "," && depth === 0) {
      parts.push(text.slice(from, i + 1));
      from = i + 1;
    }
  }
  parts.push(text.slice(from));
  const lines: string[] = [];
  for (const part of parts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length <= width) lines[lines.length - 1] = last + part;
    else lines.push(part);
  }
  return lines;
};

/** One megaflow: counters, then match and actions below. */
const megaflowText = ({ match, actions, hook, slow, packets, bytes }: MegaflowReport, width: number): string => {
  const head = `${count(packets).padStart(9)} packets ${bytesText(bytes).padStart(9)}  by ${hook}${slow === undefined ? "" : ` (${slow})`}`;
  const block = (title: string, text: string): string[] =>
    wrap(text, width - INDENT).map((line, i) => (i === 0 ? title : "").padEnd(INDENT) + line);
  return [head, ...block("    match", match.replace("recirc_id(0),", "")), ...block("    do", actions)].join("\n");
};

const countersText = ({ hits, misses, slow, lost, upcallUs }: Counters): string => {
  const total = hits + misses;
  const share = total === 0 ? 0 : (100 * hits) / total;
  return [
    `hits          ${count(hits)} packets handled in the kernel by a megaflow (${share.toFixed(2)} %)`,
    `misses        ${count(misses)} packets went up to ofxdpd: the first of each kind`,
    `slow path     ${count(slow)} packets had a megaflow whose actions ofxdpd carries out`,
    `lost          ${count(lost)}`,
    `miss time     p50 ${count(upcallUs.p50)} us, p99 ${count(upcallUs.p99)} us, longest ${count(upcallUs.max)} us`,
    "              from the arrival of a packet without megaflow to its departure",
  ].join("\n");
};

const speedText = (speed: Speed | undefined): string =>
  speed === undefined ? "-" : `${rateText(speed.tcpBitsPerSecond)}  ${speed.pingUs} us`;

const comparisonTable = (speeds: readonly Comparison[]): string => {
  const rows = speeds.map(({ job, ofxdp, linux, note }) => [job, speedText(ofxdp), speedText(linux), note]);
  const table = [["", "ofxdp", "Linux", ""], ...rows];
  const widths = [0, 1, 2].map((i) => Math.max(...table.map((row) => row[i]!.length)));
  return table
    .map((row) =>
      row
        .map((cell, i) => (i < 3 ? cell.padEnd(widths[i]!) : cell))
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
};

const heading = (text: string): string => `\n${text}\n${"-".repeat(text.length)}`;

/** @param width - columns of the terminal */
export const formatReport = (facts: DemoFacts, width: number): string => {
  const { flows, program, megaflows, counters, standalone, speeds, checks, tcpTool } = facts;
  const sorted = [...megaflows].sort((a, b) => b.packets - a.packets);
  const hidden = sorted.length - MAX_SHOWN;
  const lines = [
    heading(`${flows.rules} flows in ${flows.tables} tables became ${megaflows.length} megaflows`),
    `The datapath program has ${count(program.insns)} instructions and looks up ${program.keyBytes} bytes per packet.`,
    "",
    ...sorted.slice(0, MAX_SHOWN).map((megaflow) => megaflowText(megaflow, width)),
    ...(hidden > 0 ? [`... and ${hidden} more; "ofxdp dump-flows" shows all`] : []),
    heading("What the daemon counted"),
    countersText(counters),
    heading("The switch without flows"),
    `learned ${standalone.macs} MAC addresses and made ${standalone.megaflows} megaflows:`,
    countersText(standalone.counters),
    heading(`Speed: one TCP stream by ${tcpTool}, and the round trip of a ping`),
    comparisonTable(speeds),
    heading(isSuccess(facts) ? "All as it should be" : "Not all as it should be"),
    ...checks.map(({ name, ok, detail }) => `${ok ? "ok    " : "FAILED"}  ${name}: ${detail}`),
    "",
  ];
  return lines.join("\n");
};
