// Flow tables: text to rules, rules to a program, a change to its effect, and what rules and megaflows weigh.

import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { compileDatapath, parseFlows, relevantMembers, Switch } from "#compiler";
import { firstPlan, monotonicMs, type Bridge } from "#runtime";
import { linux, loadObject } from "libbpf-ts";
import type { Row } from "../row.js";
import { aclFlows } from "../tables/acl.js";
import { blastPath } from "../wire/blast.js";
import { WireLab } from "../wire/lab.js";
import { openBridge } from "../wire/paths.js";
import { cpuClock } from "./cpu-time.js";

const OUT_PORT = 2;

const row = (name: string, title: string, at: string, unit: string, samples: readonly number[]): Row => ({
  group: "daemon",
  name,
  title,
  at,
  unit,
  better: "less",
  series: [{ name: "ours", role: "ours", samples }],
});

/** Milliseconds that `body` takes, and what it gives. */
const timed = <T>(body: () => T): { readonly ms: number; readonly value: T } => {
  const start = performance.now();
  const value = body();
  return { ms: performance.now() - start, value };
};

export interface LoadOptions {
  readonly rounds: number;
  /** Numbers of rules. */
  readonly rules: readonly number[];
}

/** An access list: from text to tables, and from tables to programs in the kernel. */
export async function* runLoad({ rounds, rules }: LoadOptions): AsyncGenerator<Row> {
  for (const n of rules) {
    await setImmediate();
    const text = aclFlows(n, OUT_PORT).join("\n");
    const steps = new Map<string, number[]>();
    const note = (step: string, ms: number): void => void steps.set(step, [...(steps.get(step) ?? []), ms]);
    for (let round = 0; round <= rounds; round++) {
      const { ms: parseMs, value: flows } = timed(() => parseFlows(text, { file: "bench" }));
      const sw = new Switch({ failMode: "secure" });
      const { ms: addMs } = timed(() => {
        for (const flow of flows) sw.add(flow, 0);
      });
      const { ms: compileMs, value: object } = timed(() => compileDatapath(firstPlan(relevantMembers(sw)), ["tc"]));
      const { ms: loadMs, value: loaded } = timed(() => loadObject(linux(), object));
      loaded[Symbol.dispose]();
      // The first round warms the JavaScript engine.
      if (round === 0) continue;
      note("text to rules", parseMs);
      note("rules into tables", addMs);
      note("tables to program", compileMs);
      note("program into kernel", loadMs);
      note("all", parseMs + addMs + compileMs + loadMs);
    }
    const at = `${n.toLocaleString("en")} rules`;
    for (const [step, samples] of steps) yield row("load", `Loading: ${step}`, at, "ms", samples);
  }
}

export interface FlowModOptions {
  readonly rounds: number;
  /** In the table beside the one that is changed. */
  readonly rules: number;
}

const WARM_MS = 200;
const MODS = 20;

/** CPU time of a flow-mod, and the time until one is in effect on cached packets. */
export async function* runFlowMods({ rounds, rules }: FlowModOptions): AsyncGenerator<Row> {
  using lab = new WireLab(blastPath());
  const cached = "priority=60000,udp,nw_dst=10.2.0.1,actions=output:2";
  using bridge = openBridge(lab, "tc", [...aclFlows(rules, OUT_PORT), cached]);
  await lab.send(WARM_MS, 10_000);
  const [each, effect]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const flows = parseFlows(
      Array.from(
        { length: MODS },
        (_, i) => `priority=1,tcp,tp_dst=${1 + i},tp_src=${1 + round},actions=output:2`,
      ).join("\n"),
      { file: "bench" },
    );
    const cpu = cpuClock();
    for (const flow of flows) bridge.add([flow]);
    each.push(cpu().busyNs / 1000 / flows.length);
    await bridge.settle();
    const change = parseFlows(`priority=60000,udp,nw_dst=10.2.0.1,actions=output:${1 + (round % 2)}`, {
      file: "bench",
    });
    const start = performance.now();
    bridge.add(change);
    await bridge.settle();
    effect.push(performance.now() - start);
  }
  const at = `beside ${rules.toLocaleString("en")} rules`;
  yield row("flow-mod", "Flow-mod into the table, CPU time", at, "us", each);
  yield row("flow-mod", "Flow-mod until megaflows follow", `${at}, in effect`, "ms", effect);
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const heapBytes = (): number => {
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

/** Bytes of the bridge's maps in the kernel, as it accounts for them. */
const kernelBytes = (bridge: Bridge): number => {
  let sum = 0;
  for (const map of bridge.datapath.generation.maps.values())
    sum += Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${map.fdNumber}`, "latin1"))?.[1] ?? 0);
  return sum;
};

export interface MemoryOptions {
  /** Rules, and megaflows. */
  readonly items: number;
}

const PER_FLOW = "priority=1,ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],output:2";

/** Bytes per rule and per megaflow. */
export async function* runMemory({ items }: MemoryOptions): AsyncGenerator<Row> {
  const at = `${items.toLocaleString("en")} of them`;
  {
    const sw = new Switch({ failMode: "secure" });
    const text = aclFlows(items, OUT_PORT).join("\n");
    const before = heapBytes();
    for (const flow of parseFlows(text, { file: "bench" })) sw.add(flow, monotonicMs());
    yield row("memory", "Memory per rule", `${at}, heap`, "bytes", [(heapBytes() - before) / sw.size]);
  }
  using lab = new WireLab(blastPath());
  using bridge = openBridge(lab, "tc", [PER_FLOW]);
  await lab.send(WARM_MS, 1_000);
  using sender = lab.sender(String(1 << 24));
  const before = { heap: heapBytes(), kernel: kernelBytes(bridge), n: bridge.cache.size };
  while (bridge.cache.size < before.n + items) await lab.send(WARM_MS, 20_000, sender);
  const n = bridge.cache.size - before.n;
  yield row("memory", "Memory per megaflow", `${at}, heap`, "bytes", [(heapBytes() - before.heap) / n]);
  yield row("memory", "Memory per megaflow", `${at}, kernel`, "bytes", [(kernelBytes(bridge) - before.kernel) / n]);
}
