// The commands of the control socket. Those with a name that OVS has do what they do there.

import { readFileSync } from "node:fs";
import { RangeViolation } from "ebpf-assembler";
import {
  flowMods,
  groupMods,
  MAC_AGING_S,
  meterMods,
  parseBundle,
  parseFlowMods,
  parseFlows,
  parseGroupMods,
  parseMatch,
  parseMeterMods,
  newFlow,
  traceFlow,
  type Match,
  type PortNames,
} from "#compiler";
import type { Bridge } from "../bridge.js";
import {
  formatDirect,
  formatDpif,
  formatFdb,
  formatMegaflows,
  formatMeters,
  formatRules,
  formatUpcalls,
  reportMegaflows,
} from "./dump.js";
import type { Command } from "./unixctl.js";

/** What the commands act on. */
export interface ControlTarget {
  readonly bridge: Bridge;
  readonly version: string;
  /** Names that flow text may use for ports. */
  readonly ports: PortNames;
  /** Ends the daemon, once the answer is out; without `cleanup` its datapath goes on. */
  exit(cleanup: boolean): void;
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new RangeViolation(`Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
};

const EVERYTHING: Match = { value: newFlow(), mask: newFlow() };

const json = (value: unknown): string => JSON.stringify(value, undefined, 2);

/** All commands of a daemon. */
export const controlCommands = (target: ControlTarget): readonly Command[] => {
  const { bridge } = target;
  /** Shows something after all counters were read. */
  const shown = (text: () => string) => async (): Promise<string> => {
    await bridge.settle();
    return text();
  };
  return [
    { name: "version", usage: "", args: [0, 0], run: () => `ofxdpd (ofxdp) ${target.version}` },
    {
      name: "exit",
      usage: "[--cleanup]",
      args: [0, 1],
      run: ([option]) => {
        if (option !== undefined && option !== "--cleanup")
          throw new RangeViolation(`Bad option ${JSON.stringify(option)} of exit: want --cleanup or nothing`);
        setImmediate(() => target.exit(option !== undefined));
        return "";
      },
    },
    { name: "dpctl/dump-flows", usage: "[-m] [BRIDGE]", args: [0, 2], run: shown(() => formatMegaflows(bridge)) },
    {
      name: "dpctl/del-flows",
      usage: "[BRIDGE]",
      args: [0, 1],
      run: () => {
        bridge.cache.clear("purge");
        return "";
      },
    },
    { name: "dpif/show", usage: "", args: [0, 0], run: shown(() => formatDpif(bridge)) },
    { name: "dpif/dump-flows", usage: "[-m] BRIDGE", args: [0, 2], run: shown(() => formatMegaflows(bridge)) },
    { name: "upcall/show", usage: "", args: [0, 0], run: shown(() => formatUpcalls(bridge)) },
    { name: "fdb/show", usage: "[BRIDGE]", args: [0, 1], run: () => formatFdb(bridge, MAC_AGING_S) },
    {
      name: "fdb/flush",
      usage: "[BRIDGE]",
      args: [0, 1],
      run: () => {
        bridge.sw.macs.flush();
        bridge.tablesChanged();
        return "table successfully flushed";
      },
    },
    {
      name: "ofproto/trace",
      usage: "[BRIDGE] FLOW",
      args: [1, 2],
      run: (args) => {
        const text = args.at(-1) ?? "";
        if (args.length === 2 && args[0] !== bridge.sw.name)
          throw new RangeViolation(`No bridge named ${JSON.stringify(args[0])}: want ${bridge.sw.name}`);
        return traceFlow(bridge.sw, parseMatch(text, { ports: target.ports }).value).text;
      },
    },
    { name: "bridge/dump-flows", usage: "[BRIDGE]", args: [0, 1], run: shown(() => formatRules(bridge)) },
    {
      name: "memory/show",
      usage: "",
      args: [0, 0],
      run: () => {
        const { cache, rules, ports } = bridge.stats;
        const { rss, heapUsed } = process.memoryUsage();
        return `ports:${ports.length} rules:${rules} udpif keys:${cache.megaflows} rss:${rss} heap:${heapUsed}`;
      },
    },
    { name: "ofxdp/stats", usage: "", args: [0, 0], run: shown(() => json(bridge.stats)) },
    { name: "ofxdp/show-direct", usage: "", args: [0, 0], run: shown(() => formatDirect(bridge)) },
    { name: "ofxdp/dump-megaflows", usage: "", args: [0, 0], run: shown(() => json(reportMegaflows(bridge))) },
    {
      name: "ofxdp/add-flows",
      usage: "FILE",
      args: [1, 1],
      run: ([path = ""]) => {
        bridge.change(flowMods(parseFlowMods(readText(path), { file: path, ports: target.ports })));
        return "";
      },
    },
    {
      name: "ofxdp/add-groups",
      usage: "FILE",
      args: [1, 1],
      run: ([path = ""]) => {
        bridge.change(groupMods(parseGroupMods(readText(path), { file: path, ports: target.ports })));
        return "";
      },
    },
    {
      name: "ofxdp/add-meters",
      usage: "FILE",
      args: [1, 1],
      run: ([path = ""]) => {
        bridge.change(meterMods(parseMeterMods(readText(path), { file: path })));
        return "";
      },
    },
    {
      name: "ofxdp/bundle",
      usage: "FILE",
      args: [1, 1],
      run: ([path = ""]) => {
        bridge.commit(parseBundle(readText(path), { file: path, ports: target.ports }));
        return "";
      },
    },
    { name: "ofxdp/dump-meters", usage: "", args: [0, 0], run: () => formatMeters(bridge) },
    {
      name: "ofxdp/replace-flows",
      usage: "FILE",
      args: [1, 1],
      run: ([path = ""]) => {
        bridge.replace(parseFlows(readText(path), { file: path, ports: target.ports }));
        return "";
      },
    },
    {
      name: "ofxdp/del-flows",
      usage: "[MATCH]",
      args: [0, 1],
      run: ([match]) =>
        `${bridge.delete(match === undefined ? EVERYTHING : parseMatch(match, { ports: target.ports }))} flows deleted`,
    },
  ];
};
