// What the daemon does besides forwarding: loading flows, taking upcalls at a rate, holding many megaflows. Real packets
// between network namespaces; sender and daemon are two threads, so on two CPUs the sender's kernel work takes its share.

import { Worker } from "node:worker_threads";
import { parseFlows } from "#compiler";
import type { Quantiles } from "#runtime";
import { cpuClock } from "./cpu-time.js";
import { BenchError } from "../error.js";
import { Lab } from "./lab.js";
import type { SendOrder, SendReport } from "./sender.js";

/** Reads the source address, so every address has a megaflow of its own. */
const PER_FLOW = "priority=1,ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],output:2";

export interface UpcallRate {
  /** Packets per second that were asked for, and that were sent; each of a new flow. */
  readonly wanted: number;
  readonly sentPerSecond: number;
  readonly sent: number;
  readonly upcalls: number;
  /** Packets that did not come out of the other port. */
  readonly notForwarded: number;
  /** Main thread per upcall, everything included (counters, expiry): the rate it could sustain is the inverse. */
  readonly busyUsPerUpcall: number;
  /** Share of the time that the main thread was ready to run and had no CPU: above a few per cent the rates mean little. */
  readonly waited: number;
  /** From the datapath's time stamp to transmission, ns. */
  readonly latency: Quantiles;
  /** Megaflows in the cache afterwards. */
  readonly megaflows: number;
}

export interface DaemonResult {
  readonly hook: string;
  /** Text to tables; wall and CPU time. */
  readonly load: { readonly flows: number; readonly ms: number; readonly busyMs: number };
  readonly rates: readonly UpcallRate[];
  /** Reading and crediting the counters of all megaflows. */
  readonly settle: { readonly megaflows: number; readonly ms: number; readonly busyMs: number };
}

export interface DaemonOptions {
  readonly hook: "tc" | "native";
  readonly flows: number;
  /** Rates in new flows per second, each for so many packets. */
  readonly rates: readonly { readonly perSecond: number; readonly packets: number }[];
  readonly signal?: AbortSignal;
}

const send = (order: SendOrder): Promise<SendReport> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./sender.js", import.meta.url), { workerData: order });
    worker.once("message", resolve);
    worker.once("error", reject);
  });

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const STEP_MS = 50;
const SETTLE_STEPS = 40;

/** Waits until the slow path has seen nothing new for a while. */
const untilQuiet = async ({ bridge }: Lab): Promise<void> => {
  for (let i = 0, before = -1; i < SETTLE_STEPS && bridge.stats.upcalls.misses !== before; i++) {
    before = bridge.stats.upcalls.misses;
    await sleep(STEP_MS);
  }
};

const loadTime = ({ bridge }: Lab, flows: number): DaemonResult["load"] => {
  const lines = Array.from(
    { length: flows },
    (_, i) => `priority=100,udp,nw_dst=172.16.${(i >>> 8) & 255}.${i & 255},tp_dst=${1 + (i % 1000)},actions=output:2`,
  );
  const text = lines.join("\n");
  const [start, cpu] = [performance.now(), cpuClock()];
  bridge.add(parseFlows(text, { file: "bench" }));
  return { flows, ms: performance.now() - start, busyMs: cpu().busyNs / 1e6 };
};

const txPackets = ({ bridge }: Lab): number => bridge.stats.ports.find(({ port }) => port === 2)?.txPackets ?? 0;

/**
 * Runs the daemon's benches in namespaces of their own.
 * @throws {@link BenchError} when packets go another way than they should, {@link SyscallError} without privilege
 */
export const runDaemon = async ({ hook, flows, rates, signal }: DaemonOptions): Promise<DaemonResult> => {
  using lab = new Lab(hook, 120_000);
  const { bridge } = lab;
  const load = loadTime(lab, flows);
  bridge.add(parseFlows(PER_FLOW, { file: "bench" }));
  const results: UpcallRate[] = [];
  let first = 0;
  // Once through before it counts: code is compiled, the program specialised.
  for (const [i, { perSecond, packets }] of [{ perSecond: 2000, packets: 4000 }, ...rates].entries()) {
    signal?.throwIfAborted();
    await bridge.settle();
    const before = { misses: bridge.stats.upcalls.misses, tx: txPackets(lab) };
    bridge.slowPath.latency.reset();
    const [start, cpu] = [performance.now(), cpuClock()];
    const { sent, seconds } = await send({ netns: lab.sender, first, count: packets, perSecond });
    first += packets;
    await untilQuiet(lab);
    const { busyNs, waitedNs } = cpu();
    const ms = performance.now() - start;
    await bridge.settle();
    const { upcalls, cache } = bridge.stats;
    if (i === 0) continue;
    const nUpcalls = upcalls.misses - before.misses;
    results.push({
      wanted: perSecond,
      sentPerSecond: sent / seconds,
      sent,
      upcalls: nUpcalls,
      notForwarded: sent - (txPackets(lab) - before.tx),
      busyUsPerUpcall: busyNs / 1000 / nUpcalls,
      waited: waitedNs / 1e6 / ms,
      latency: upcalls.latency,
      megaflows: cache.megaflows,
    });
  }
  if (results.every(({ upcalls }) => upcalls === 0)) throw new BenchError("No packet came to the slow path");
  const [start, cpu] = [performance.now(), cpuClock()];
  await bridge.settle();
  const settle = { ms: performance.now() - start, busyMs: cpu().busyNs / 1e6 };
  return { hook, load, rates: results, settle: { megaflows: bridge.stats.cache.megaflows, ...settle } };
};
