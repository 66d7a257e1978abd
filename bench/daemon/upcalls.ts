// What the slow path does with packets that are each of a new flow: how long the first packet takes, and how many flows a
// second it sets up, every one installed and its packet sent on.

import { setTimeout as sleep } from "node:timers/promises";
import type { Bridge } from "#runtime";
import { BenchError } from "../error.js";
import type { Row, Series } from "../row.js";
import { blastPath } from "../wire/blast.js";
import { WireLab } from "../wire/lab.js";
import { openBridge } from "../wire/paths.js";
import { cpuClock } from "./cpu-time.js";

/** Reads the source address, so every address has a megaflow of its own. */
const PER_FLOW = ["priority=1,ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],output:2"];
/** Flows that a sender goes through before it begins again: more than any run takes. */
const ENDLESS = String(1 << 24);
const MAX_FLOWS = 400_000;

const WARM = { ms: 1000, perSecond: 4000 } as const;
const STEP_MS = 10;

/** Waits until the slow path has seen nothing new for a while. @returns when it last did */
const untilQuiet = async (bridge: Bridge): Promise<number> => {
  let last = performance.now();
  for (let before = -1, idle = 0; idle < 3;) {
    const { misses } = bridge.slowPath.stats;
    if (misses === before) idle++;
    else {
      idle = 0;
      last = performance.now();
    }
    before = misses;
    await sleep(STEP_MS);
  }
  return last;
};

const row = (
  name: string,
  title: string,
  at: string,
  unit: string,
  better: Row["better"],
  ours: Omit<Series, "name" | "role">,
): Row => ({
  group: "daemon",
  name,
  title,
  at,
  unit,
  better,
  series: [{ name: "ours", role: "ours", ...ours }],
});

export interface FirstPacketOptions {
  readonly rounds: number;
  readonly roundMs: number;
  readonly perSecond: number;
}

/** Latency of first packets, from the datapath's time stamp to transmission. */
export async function* runFirstPacket({ rounds, roundMs, perSecond }: FirstPacketOptions): AsyncGenerator<Row> {
  using lab = new WireLab(blastPath());
  using bridge = openBridge(lab, "tc", PER_FLOW, { maxFlows: MAX_FLOWS });
  using sender = lab.sender(ENDLESS);
  await lab.send(WARM.ms, WARM.perSecond, sender);
  await untilQuiet(bridge);
  const [p50, p99]: [number[], number[]] = [[], []];
  let lost = 0;
  for (let i = 0; i < rounds; i++) {
    bridge.slowPath.latency.reset();
    const { sent, arrived } = await lab.send(roundMs, perSecond, sender);
    await untilQuiet(bridge);
    lost += sent - arrived;
    const { latency } = bridge.slowPath.stats;
    if (latency.count === 0) throw new BenchError("No packet came to the slow path");
    p50.push(latency.p50 / 1000);
    p99.push(latency.p99 / 1000);
  }
  const title = `First packet at ${perSecond.toLocaleString("en")} new flows/s`;
  const facts = { lost };
  yield row("first-packet", title, "p50", "us", "less", { samples: p50, facts });
  yield row("first-packet", title, "p99", "us", "less", { samples: p99, facts });
}

export interface SetUpOptions {
  /** Flows offered in a round, and how fast: more than can be set up. */
  readonly roundMs: number;
  readonly perSecond: number;
  /** Rounds go on until the cache holds so many megaflows. */
  readonly megaflows: number;
}

/** Megaflows up to which a cache counts as small, and from which as large. */
const SMALL = 60_000;
const LARGE = 100_000;

/** Flows set up per second, while the cache is small and once it is large. */
export async function* runSetUp({ roundMs, perSecond, megaflows }: SetUpOptions): AsyncGenerator<Row> {
  using lab = new WireLab(blastPath());
  using bridge = openBridge(lab, "tc", PER_FLOW, { maxFlows: MAX_FLOWS });
  using sender = lab.sender(ENDLESS);
  await lab.send(WARM.ms, WARM.perSecond, sender);
  await untilQuiet(bridge);
  const sizes = [
    { at: `up to ${SMALL.toLocaleString("en")} megaflows`, isIn: (n: number) => n <= SMALL, samples: [], busyUs: [] },
    { at: `beyond ${LARGE.toLocaleString("en")} megaflows`, isIn: (n: number) => n > LARGE, samples: [], busyUs: [] },
  ] as readonly { at: string; isIn: (n: number) => boolean; samples: number[]; busyUs: number[] }[];
  while (bridge.cache.size < megaflows) {
    const before = { misses: bridge.slowPath.stats.misses, size: bridge.cache.size };
    const [start, cpu] = [performance.now(), cpuClock()];
    const sending = lab.send(roundMs, perSecond, sender);
    const quiet = untilQuiet(bridge);
    await sending;
    const end = Math.max(await quiet, await untilQuiet(bridge));
    const handled = bridge.slowPath.stats.misses - before.misses;
    const installed = bridge.cache.size - before.size;
    if (handled === 0) throw new BenchError("No packet came to the slow path");
    if (installed < handled) throw new BenchError(`Of ${handled} new flows ${installed} were installed`);
    const size = sizes.find(({ isIn }) => isIn(bridge.cache.size));
    size?.samples.push((handled / (end - start)) * 1000);
    size?.busyUs.push(cpu().busyNs / 1000 / handled);
  }
  for (const { at, samples, busyUs } of sizes) {
    if (samples.length === 0) continue;
    const facts = { busyUsPerFlow: busyUs.reduce((a, b) => a + b, 0) / busyUs.length };
    yield row("set-up", "Flows set up, every packet a new one", at, "flows/s", "more", { samples, facts });
  }
}
