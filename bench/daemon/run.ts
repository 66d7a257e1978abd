// The daemon's cases, a row each.

import { OffloadError } from "ebpf-assembler";
import type { Profile } from "../datapath/case.js";
import type { Missing, Row } from "../row.js";
import { runAttack } from "./attack.js";
import { runSwap } from "./swap.js";
import { runFlowMods, runLoad, runMemory } from "./tables.js";
import { runFirstPacket, runSetUp } from "./upcalls.js";

interface DaemonCase {
  readonly name: string;
  readonly title: string;
  readonly run: (profile: Profile) => AsyncIterable<Row>;
}

export const DAEMON_CASES: readonly DaemonCase[] = [
  {
    name: "first-packet",
    title: "Latency of first packets",
    run: (profile) =>
      runFirstPacket({ rounds: 7, roundMs: { quick: 200, usual: 600, full: 2000 }[profile], perSecond: 1000 }),
  },
  {
    name: "set-up",
    title: "Flows set up per second",
    run: (profile) =>
      runSetUp({
        roundMs: 80,
        perSecond: 150_000,
        megaflows: { quick: 30_000, usual: 180_000, full: 180_000 }[profile],
      }),
  },
  {
    name: "load",
    title: "Loading and compiling rules",
    run: (profile) =>
      runLoad({
        rounds: { quick: 3, usual: 7, full: 9 }[profile],
        rules: { quick: [1_000], usual: [1_000, 10_000], full: [1_000, 10_000, 100_000] }[profile],
      }),
  },
  {
    name: "flow-mod",
    title: "Flow-mods",
    run: (profile) => runFlowMods({ rounds: { quick: 7, usual: 15, full: 31 }[profile], rules: 10_000 }),
  },
  {
    name: "memory",
    title: "Memory per rule and per megaflow",
    run: (profile) => runMemory({ items: { quick: 5_000, usual: 20_000, full: 100_000 }[profile] }),
  },
  {
    name: "swap",
    title: "Packets lost while programs are swapped",
    run: (profile) => runSwap({ swaps: { quick: 200, usual: 1_000, full: 1_000 }[profile], perSecond: 150_000 }),
  },
  {
    name: "attack",
    title: "One packet per possible mask",
    run: (profile) => runAttack({ rounds: { quick: 3, usual: 7, full: 15 }[profile], perSecond: 10_000 }),
  },
];

/** Runs one case. */
export async function* runDaemonCase(name: string, profile: Profile): AsyncGenerator<Row | Missing> {
  const found = DAEMON_CASES.find((row) => row.name === name)!;
  try {
    yield* found.run(profile);
  } catch (error) {
    if (!(error instanceof OffloadError)) throw error;
    yield { group: "daemon", name, at: "", why: error.message };
  }
}
