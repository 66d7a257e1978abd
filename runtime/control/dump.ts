// What a running switch shows of itself, as text in the words of OVS and as plain data for JSON.

import {
  formatActions,
  formatDirectReport,
  formatMatch,
  formatMeter,
  formatOdpActions,
  formatOdpFlow,
  macText,
  type Rule,
  hookOfVport,
} from "#compiler";
import type { Bridge } from "../bridge.js";
import { monotonicMs } from "../clock.js";
import type { CacheStats } from "../megaflow/cache.js";
import type { Ukey } from "../megaflow/ukey.js";
import { portText } from "../ports/port-table.js";

/** One megaflow for `--json`. */
export interface MegaflowReport {
  readonly match: string;
  readonly actions: string;
  /** What handles its packets: a hook, or user space. */
  readonly hook: string;
  /** Why user space does, when it does. */
  readonly slow?: string;
  readonly packets: number;
  readonly bytes: number;
  /** Seconds since the last packet; null when there was none. */
  readonly used: number | null;
}

/** Why user space handles a megaflow's packets; undefined when a hook does. */
const slowOf = (bridge: Bridge, ukey: Ukey): string | undefined =>
  bridge.cache.isFast(ukey) ? undefined : (bridge.cache.slowReason(ukey) ?? "its actions are being compiled");

export const reportMegaflow = (bridge: Bridge, ukey: Ukey, nowMs: number): MegaflowReport => {
  const slow = slowOf(bridge, ukey);
  return {
    match: formatOdpFlow(ukey.readFlow(), ukey.maskClass.mask),
    actions: formatOdpActions(ukey.translation.actions),
    hook:
      slow === undefined ? (hookOfVport(ukey.ifindex) ?? bridge.ports.byNumber(ukey.inPort)?.hook ?? "none") : "slow",
    ...(slow === undefined ? {} : { slow }),
    packets: ukey.packets,
    bytes: ukey.bytes,
    used: ukey.packets === 0 ? null : Math.max(0, Math.round(nowMs - ukey.usedMs) / 1000),
  };
};

export const reportMegaflows = (bridge: Bridge): MegaflowReport[] => {
  const nowMs = monotonicMs();
  return Array.from(bridge.cache.ukeys(), (ukey) => reportMegaflow(bridge, ukey, nowMs));
};

/** As `ovs-appctl dpctl/dump-flows -m`, without ufid: `MATCH, packets:N, bytes:N, used:T, dp:HOOK, actions:ACTIONS`. */
export const formatMegaflows = (bridge: Bridge): string =>
  reportMegaflows(bridge)
    .map(({ match, actions, hook, slow, packets, bytes, used }) => {
      const when = used === null ? "never" : `${used.toFixed(3)}s`;
      const where = slow === undefined ? hook : `slow(${slow})`;
      return `${match}, packets:${packets}, bytes:${bytes}, used:${when}, dp:${where}, actions:${actions}\n`;
    })
    .join("");

/** As `ovs-appctl bridge/dump-flows`. */
const formatRule = (rule: Rule, nowMs: number): string => {
  const table = rule.table === 0 ? "" : `table_id=${rule.table}, `;
  const duration = Math.floor((nowMs - rule.createdMs) / 1000);
  const match = formatMatch(rule.match, { priority: rule.priority });
  return (
    `${table}duration=${duration}s, n_packets=${rule.packets}, n_bytes=${rule.bytes}, ` +
    `${match}${match === "" ? "" : ","}actions=${formatActions(rule.actions)}\n`
  );
};

export const formatRules = (bridge: Bridge): string => {
  const nowMs = monotonicMs();
  return Array.from(bridge.sw.rules(), (rule) => formatRule(rule, nowMs)).join("");
};

/** Each meter, and under it what came to it and what exceeded its bands, as `ovs-ofctl meter-stats`. */
export const formatMeters = ({ sw }: Bridge): string =>
  Array.from(sw.meters, (entry) => {
    const { packets, bytes, bands } = sw.meters.stats(entry);
    const rows = bands.map((band, i) => `${i}: packet_count:${band.packets} byte_count:${band.bytes}\n`);
    const counts = `packet_in_count:${packets} byte_in_count:${bytes}`;
    return `${formatMeter(entry.meter)}\n${counts} bands:\n${rows.join("")}`;
  }).join("");

/** As `ovs-appctl fdb/show`. */
export const formatFdb = (bridge: Bridge, agingS: number): string => {
  const nowMs = monotonicMs();
  const rows = Array.from(bridge.sw.macs.entries(), ({ mac, vlan, port, expiresMs }) => {
    const bytes = Uint8Array.from({ length: 6 }, (_, i) => Math.floor(mac / 2 ** (8 * (5 - i))) & 0xff);
    const age = Math.max(0, Math.floor((nowMs - (expiresMs - agingS * 1000)) / 1000));
    return `${portText(port).padStart(5)}  ${String(vlan).padStart(4)}  ${macText(bytes)}  ${String(age).padStart(3)}\n`;
  });
  return ` port  VLAN  MAC                Age\n${rows.join("")}`;
};

/** As `ovs-appctl dpif/show`. */
export const formatDpif = (bridge: Bridge): string => {
  const { hits, upcalls, ports } = bridge.stats;
  const rows = ports.map(({ name, port, ifindex, hook }) => `    ${name} ${port}/${ifindex}: (${hook})\n`);
  return `ofxdp@${bridge.sw.name}: hit:${hits} missed:${upcalls.misses}\n  ${bridge.sw.name}:\n${rows.join("")}`;
};

const us = (ns: number): string => `${(ns / 1000).toFixed(0)}us`;

const storageText = ({ storage, table }: CacheStats): string => {
  if (storage === "hash") return "kernel hash maps";
  return table === undefined ? "megaflow table" : `megaflow table (slots ${table.slots}) (taken ${table.taken})`;
};

/** What direct mode does: whether it is on, and per hook what is direct and what falls to the megaflows. */
export const formatDirect = ({ front }: Bridge): string => {
  if (front === undefined) return "direct mode: never (--mode megaflow)\n";
  const { isOn, refused, builds, interruptions, lastBuildMs, packets } = front.stats;
  const state = isOn ? "on" : refused === undefined ? "off: programs are being built" : `off: ${refused}`;
  return [
    `direct mode: ${state}\n`,
    `programs: ${builds} (last built in ${lastBuildMs.toFixed(0)}ms), interrupted ${interruptions} times\n`,
    `packets: ${packets}\n`,
    ...front.reports.map(formatDirectReport),
  ].join("");
};

/** After `ovs-appctl upcall/show`. */
export const formatUpcalls = (bridge: Bridge): string => {
  const { cache, revalidator, specialiser, upcalls, lost, transmit } = bridge.stats;
  const { latency } = upcalls;
  const deleted = Object.entries(cache.deleted).filter(([, n]) => n > 0);
  return [
    `ofxdp@${bridge.sw.name}:`,
    `  flows         : (current ${cache.megaflows}) (limit ${revalidator.flowLimit}) (installed ${cache.installed})`,
    `  masks         : ${cache.masks} (subtables ${cache.subtables}) (shapes ${cache.shapes})`,
    `  dump duration : ${revalidator.lastRoundMs.toFixed(0)}ms`,
    `  storage       : ${storageText(cache)}`,
    `  programs      : ${cache.generations} (last built in ${specialiser.lastBuildMs.toFixed(0)}ms)`,
    `  upcalls       : (miss ${upcalls.misses}) (slow ${upcalls.slow}) (lost ${lost}) (errors ${upcalls.errors})`,
    `  latency       : (p50 ${us(latency.p50)}) (p90 ${us(latency.p90)}) (p99 ${us(latency.p99)}) (max ${us(latency.max)})`,
    `  sent          : ${transmit.sent} (dropped ${transmit.dropped})`,
    `  deleted       : ${deleted.map(([reason, n]) => `(${reason} ${n})`).join(" ") || "none"}`,
    "",
  ].join("\n");
};
