// Packets that are lost while the program behind the attached stub is swapped: two loaded generations of one plan take
// turns in the program slot, under traffic that is all cached.

import { setTimeout as sleep } from "node:timers/promises";
import { MAPS } from "#compiler";
import { setProgramSlot, type BpfMap, type Program } from "libbpf-ts";
import type { Row } from "../row.js";
import { blastPath } from "../wire/blast.js";
import { WireLab, type Sent } from "../wire/lab.js";
import { openBridge } from "../wire/paths.js";

export interface SwapOptions {
  readonly swaps: number;
  readonly perSecond: number;
}

const FLOWS = ["udp,in_port=1,actions=output:2"];
const WARM_MS = 300;
const SETTLE_STEPS = 1000;
const PAUSE_MS = 1;
const BURST_MS = 250;

/** Traffic in bursts until the swaps are over. */
const sendUntil = async (lab: WireLab, perSecond: number, swaps: { readonly isOver: boolean }): Promise<Sent> => {
  let [sent, arrived, seconds] = [0, 0, 0];
  while (!swaps.isOver) {
    const burst = await lab.send(BURST_MS, perSecond);
    sent += burst.sent;
    arrived += burst.arrived;
    seconds += burst.seconds;
  }
  return { sent, arrived, seconds };
};

export async function* runSwap({ swaps, perSecond }: SwapOptions): AsyncGenerator<Row> {
  using lab = new WireLab(blastPath());
  using bridge = openBridge(lab, "tc", FLOWS);
  await lab.send(WARM_MS, perSecond);
  await sleep(WARM_MS);
  // What is swapped must be what runs, and go on running.
  for (let i = 0; i < SETTLE_STEPS && bridge.specialiser.isBusy; i++) await sleep(PAUSE_MS);
  const { datapath } = bridge;
  const { generation } = datapath;
  const pending = datapath.prepare(generation.plan);
  const other = datapath.buildNow(pending);
  try {
    const slots = generation.maps.get(MAPS.progs.tc) as BpfMap;
    const programs = [other, generation].map(({ programs: all }) => all.get("main_tc") as Program);
    const before = bridge.slowPath.stats.misses;
    const times: number[] = [];
    const swapping = { isOver: false };
    const traffic = sendUntil(lab, perSecond, swapping);
    await sleep(PAUSE_MS);
    for (let i = 0; i < swaps; i++) {
      const start = performance.now();
      setProgramSlot(slots, 0, programs[i % programs.length]!);
      times.push((performance.now() - start) * 1000);
      await sleep(PAUSE_MS);
    }
    swapping.isOver = true;
    const { sent, arrived, seconds } = await traffic;
    const facts = { swaps, sent, perSecond: sent / seconds, misses: bridge.slowPath.stats.misses - before };
    const common = { group: "daemon", name: "swap", better: "less" } as const;
    const at = `${swaps.toLocaleString("en")} swaps, ${(perSecond / 1000).toFixed(0)} k packets/s`;
    yield {
      ...common,
      title: "Packets lost while programs are swapped",
      at,
      unit: "packets",
      series: [{ name: "ours", role: "ours", samples: [sent - arrived], facts }],
    };
    yield {
      ...common,
      title: "Time of a swap",
      at,
      unit: "us",
      series: [{ name: "ours", role: "ours", samples: times }],
    };
  } finally {
    setProgramSlot(generation.maps.get(MAPS.progs.tc) as BpfMap, 0, generation.programs.get("main_tc") as Program);
    datapath.abandon(pending);
  }
}
