// The daemon's figures for people.

import type { DaemonResult, UpcallRate } from "./daemon.js";
import { formatColumns, type Column } from "./table.js";

const us = (ns: number): string => (ns / 1000).toFixed(0);

/** Wall time, and CPU time of the main thread. */
const ms = (time: { readonly ms: number; readonly busyMs: number }): string =>
  `${time.ms.toFixed(0)} ms (${time.busyMs.toFixed(0)} ms busy)`;

const COLUMNS: readonly Column<UpcallRate>[] = [
  { title: "new flows/s", cell: (r) => r.sentPerSecond.toFixed(0) },
  { title: "sent", cell: (r) => r.sent.toString() },
  { title: "upcalls", cell: (r) => r.upcalls.toString() },
  { title: "not forwarded", cell: (r) => r.notForwarded.toString() },
  { title: "busy us/upcall", cell: (r) => r.busyUsPerUpcall.toFixed(1) },
  { title: "no CPU", cell: (r) => `${(100 * r.waited).toFixed(0)}%` },
  { title: "p50 us", cell: (r) => us(r.latency.p50) },
  { title: "p99 us", cell: (r) => us(r.latency.p99) },
  { title: "max us", cell: (r) => us(r.latency.max) },
  { title: "megaflows", cell: (r) => r.megaflows.toString() },
];

export const formatDaemon = ({ hook, load, rates, settle }: DaemonResult): string =>
  [
    `Daemon, ${hook}: ${load.flows} flows loaded in ${ms(load)}; every packet a new flow:`,
    formatColumns(COLUMNS, rates),
    `Counters of ${settle.megaflows} megaflows read and credited in ${ms(settle)}`,
  ].join("\n");
