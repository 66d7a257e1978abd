// Measures all paths in turn, many rounds over, and makes a row per hook of packets/s and of TCP throughput.

import { setTimeout as sleep } from "node:timers/promises";
import { OffloadError, Scope } from "ebpf-assembler";
import type { Missing, Row, Series } from "../row.js";
import { blastPath } from "./blast.js";
import { WireLab } from "./lab.js";
import { PATHS, type Path, type WireHook } from "./paths.js";

export interface WireOptions {
  readonly rounds: number;
  /** Of one measurement. */
  readonly packetsMs: number;
  readonly tcpSeconds: number;
  readonly tcpRounds: number;
  readonly signal?: AbortSignal;
}

export const WIRE_CASES = [
  { name: "packets", title: "Packets of 64 bytes, 1,000 flows", unit: "k packets/s" },
  { name: "tcp", title: "One TCP connection", unit: "Gb/s" },
] as const;
export type WireCase = (typeof WIRE_CASES)[number]["name"];

const WIRE_HOOKS = ["tc", "xdp", "vxlan"] as const satisfies readonly WireHook[];

/** First packets are over, programs specialised. */
const WARM_MS = 150;
const SETTLE_MS = 1500;

/** A path that is up, and what it has given so far. */
interface Taking {
  readonly path: Path;
  readonly lab: WireLab;
  readonly samples: number[];
}

const bringUp = async (scope: Scope, path: Path): Promise<Taking> => {
  const lab = scope.use(new WireLab(blastPath(), path.isDirect));
  scope.use(await path.open(lab));
  if (path.offloads !== undefined)
    for (const host of [0, 1]) await lab.atHost(host, ["ethtool", "-K", "eth0", ...path.offloads]);
  await lab.packets(WARM_MS);
  return { path, lab, samples: [] };
};

const why = (error: unknown): string => {
  if (!(error instanceof OffloadError)) throw error;
  return error.message;
};

/** A case on every path: rows, and why paths are missing from them. */
export async function* runWire(name: WireCase, options: WireOptions): AsyncGenerator<Row | Missing> {
  const { title, unit } = WIRE_CASES.find((row) => row.name === name)!;
  const rounds = name === "tcp" ? options.tcpRounds : options.rounds;
  const one = ({ lab }: Taking): Promise<number> =>
    name === "tcp" ? lab.tcp(options.tcpSeconds) : lab.packets(options.packetsMs).then((n) => n / 1000);
  const takings: Taking[] = [];
  const failed = new Map<Path, string>();
  for (const apart of [false, true]) {
    using scope = new Scope();
    const up: Taking[] = [];
    for (const path of PATHS.filter(({ spins = false }) => spins === apart)) {
      options.signal?.throwIfAborted();
      try {
        up.push(await bringUp(scope, path));
      } catch (error) {
        failed.set(path, why(error));
      }
    }
    await sleep(SETTLE_MS);
    for (let round = 0; round < rounds; round++) {
      for (const [i] of up.entries()) {
        options.signal?.throwIfAborted();
        const taking = up[(i + round) % up.length]!;
        if (failed.has(taking.path)) continue;
        try {
          taking.samples.push(await one(taking));
        } catch (error) {
          failed.set(taking.path, why(error));
        }
      }
    }
    takings.push(...up.filter(({ path }) => !failed.has(path)));
  }
  for (const hook of WIRE_HOOKS) {
    const series = takings.flatMap(({ path, samples }): Series[] => {
      const role = path.roles[hook];
      return role === undefined ? [] : [{ name: path.name, role, samples }];
    });
    yield { group: "wire", name, title, at: hook, unit, better: "more", series };
  }
  for (const [path, reason] of failed)
    yield { group: "wire", name, at: `${path.name}, ${Object.keys(path.roles).join(" and ")}`, why: reason };
}
