// What the slow path does with packets that are each of a new flow: how long the first packet takes, and how many flows a
// second it sets up, every one installed and its packet sent on.

import { setTimeout as sleep } from "node:timers/promises";
import { NotSupportedError, Scope } from "ebpf-assembler";
import { BenchError } from "../error.js";
import type { Dialogue } from "../processes.js";
import type { Row, Series } from "../row.js";
import { median } from "../statistics.js";
import { blastPath } from "../wire/blast.js";
import { WireLab } from "../wire/lab.js";
import { startOvs } from "../wire/ovs.js";
import { openBridge } from "../wire/paths.js";
import { cpuClock } from "./cpu-time.js";

/** Reads the source address, so every address has a megaflow of its own. */
const PER_FLOW = ["priority=1,ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],output:2"];
/** Flows that a sender goes through before it begins again: more than any run takes. */
const ENDLESS = String(1 << 24);
const MAX_FLOWS = 400_000;

const WARM = { ms: 1000, perSecond: 4000 } as const;
const STEP_MS = 10;

/** Waits until no packet has arrived for a while. @returns when the last one did */
const untilQuiet = async (lab: WireLab): Promise<number> => {
  let last = performance.now();
  for (let before = -1, idle = 0; idle < 3;) {
    const arrived = lab.received;
    if (arrived === before) idle++;
    else {
      idle = 0;
      last = performance.now();
    }
    before = arrived;
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
  await untilQuiet(lab);
  const [p50, p99]: [number[], number[]] = [[], []];
  let lost = 0;
  for (let i = 0; i < rounds; i++) {
    bridge.slowPath.latency.reset();
    const { sent, arrived } = await lab.send(roundMs, perSecond, sender);
    await untilQuiet(lab);
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

/** A switch that gets packets of new flows, and flows per second of each round. */
interface Taking {
  readonly lab: WireLab;
  readonly sender: Dialogue;
}

/** One round of new flows. @returns packets that came out, and how many a second */
const newFlows = async (
  { lab, sender }: Taking,
  { roundMs, perSecond }: SetUpOptions,
): Promise<{ readonly arrived: number; readonly perSecond: number }> => {
  const before = lab.received;
  const start = performance.now();
  const sending = lab.send(roundMs, perSecond, sender);
  const quiet = untilQuiet(lab);
  await sending;
  const end = Math.max(await quiet, await untilQuiet(lab));
  const arrived = lab.received - before;
  if (arrived === 0) throw new BenchError("No packet of a new flow came out");
  return { arrived, perSecond: (arrived / (end - start)) * 1000 };
};

/** Flows set up per second: beside Open vSwitch while the cache is small, alone once it is large. */
export async function* runSetUp(options: SetUpOptions): AsyncGenerator<Row> {
  using scope = new Scope();
  const lab = scope.use(new WireLab(blastPath()));
  const bridge = scope.use(openBridge(lab, "tc", PER_FLOW, { maxFlows: MAX_FLOWS }));
  const ours: Taking = { lab, sender: scope.use(lab.sender(ENDLESS)) };
  const ovs = await openOvs(scope);
  for (const { lab: each, sender } of [ours, ...(ovs === undefined ? [] : [ovs])]) {
    await each.send(WARM.ms, WARM.perSecond, sender);
    await untilQuiet(each);
  }
  const [small, large, theirs, busyUs]: [number[], number[], number[], number[]] = [[], [], [], []];
  while (bridge.cache.size < options.megaflows) {
    const { size } = bridge.cache;
    const cpu = cpuClock();
    const { arrived, perSecond } = await newFlows(ours, options);
    busyUs.push(cpu().busyNs / 1000 / arrived);
    const installed = bridge.cache.size - size;
    if (installed < arrived) throw new BenchError(`Of ${arrived} new flows ${installed} were installed`);
    if (bridge.cache.size > LARGE) large.push(perSecond);
    else if (bridge.cache.size <= SMALL) {
      small.push(perSecond);
      if (ovs !== undefined) theirs.push((await newFlows(ovs, options)).perSecond);
    }
  }
  const facts = { busyUsPerFlow: median(busyUs) };
  const title = "Flows set up, every packet a new one";
  const common = ["flows/s", "more"] as const;
  const [upTo, beyond] = [
    `up to ${SMALL.toLocaleString("en")} megaflows`,
    `beyond ${LARGE.toLocaleString("en")} megaflows`,
  ];
  const others: Series[] = theirs.length === 0 ? [] : [{ name: "OVS userspace", role: "other", samples: theirs }];
  const first = row("set-up", title, upTo, ...common, { samples: small, facts });
  yield { ...first, series: [...first.series, ...others] };
  if (large.length > 0) yield row("set-up", title, beyond, ...common, { samples: large, facts });
}

/** Undefined when Open vSwitch is not installed. */
const openOvs = async (scope: Scope): Promise<Taking | undefined> => {
  try {
    const lab = scope.use(new WireLab(blastPath()));
    scope.use(await startOvs(lab, { flows: PER_FLOW }));
    return { lab, sender: scope.use(lab.sender(ENDLESS)) };
  } catch (error) {
    if (error instanceof NotSupportedError) return undefined;
    throw error;
  }
};
