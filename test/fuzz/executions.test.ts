// One semantics, several executions: random tables and packets go through the reference translator and through the
// compiled datapath programs, and must come out the same: packets, ports, controller copies, and the counters of every rule.

import assert from "node:assert/strict";
import { toHex } from "ebpf-assembler";
import {
  DatapathEngine,
  loadVm,
  ReferenceEngine,
  type Handled,
  type Hook,
  type LoadBackend,
  type Switch,
} from "#compiler";
import { KernelLab } from "#runtime";
import { N_PORTS, randomSwitch } from "../support/random-switch.js";
import { randomPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";

const N_TABLES = 50;
const N_PACKETS = 200;
const PORTS = Array.from({ length: N_PORTS }, (_, i) => i + 1);

/** Outputs in an order that does not depend on which execution made them. */
const normalised = (handled: Handled): unknown => ({
  outputs: handled.outputs
    .filter((o) => isUntaggable(o.packet))
    .map((o) => `${o.port}:${toHex(o.packet)}`)
    .sort(),
  controller: handled.controller.map((c) => `${c.reason}:${c.table}:${toHex(c.packet)}`),
});

const counters = (sw: Switch): string[] =>
  [...sw.rules()].map((rule) => `${rule.table}/${rule.priority}: ${rule.packets} packets, ${rule.bytes} bytes`);

/** Packets of a run: repeated ones among them, so that the cache is hit. */
const packetsOf = (seed: number, n: number): { inPort: number; packet: Uint8Array }[] => {
  const r = new Random(seed);
  const seen: { inPort: number; packet: Uint8Array }[] = [];
  return Array.from({ length: n }, () => {
    const next =
      seen.length > 0 && r.oneIn(3) ? r.pick(seen) : { inPort: 1 + r.below(N_PORTS), packet: randomPacket(r) };
    seen.push(next);
    return next;
  }).filter(({ packet }) => packet.length > 14);
};

/** Linux drops a tagged frame without 2 bytes behind the tag when it takes the tag off: before TC, and before we catch it. */
const isUntaggable = (packet: Uint8Array): boolean => {
  const type = (packet[12]! << 8) | packet[13]!;
  return !(type === 0x8100 || type === 0x88a8) || packet.length >= 20;
};

type Paths = Record<Handled["path"], number>;

const fuzz = (
  hook: Hook,
  load: LoadBackend,
  ports: Pick<KernelLab, "ifindexOf" | "portOf"> | undefined,
  seed: number,
): Paths => {
  const reference = new ReferenceEngine(randomSwitch(seed));
  using engine = new DatapathEngine(randomSwitch(seed), hook, load, { patience: 20, ...ports });
  const paths = { hit: 0, slow: 0, miss: 0 };
  packetsOf(seed, N_PACKETS).forEach(({ inPort, packet }, i) => {
    if (hook === "tc" && !isUntaggable(packet)) return;
    const want = reference.handle(inPort, packet, i);
    const have = engine.handle(inPort, packet, i);
    paths[have.path]++;
    assert.deepEqual(
      normalised(have),
      normalised(want),
      `seed ${seed} packet ${i} (${have.path}) ${inPort}: ${toHex(packet)}`,
    );
  });
  engine.settle(N_PACKETS);
  assert.deepEqual(counters(engine.sw), counters(reference.sw), `counters of seed ${seed}`);
  return paths;
};

describe("executions", () => {
  for (const hook of ["xdp", "tc"] as const) {
    for (const engine of ["interpreter", "kernel"] as const) {
      it(`agree: reference and ${engine} at ${hook}, ${N_TABLES} tables x ${N_PACKETS} packets`, function () {
        this.timeout(600_000);
        const total = { hit: 0, slow: 0, miss: 0 };
        using lab = engine === "kernel" ? new KernelLab(PORTS) : undefined;
        const load = lab?.load ?? loadVm(PORTS);
        for (let seed = 1; seed <= N_TABLES; seed++) {
          const paths = fuzz(hook, load, lab, seed);
          for (const path of ["hit", "slow", "miss"] as const) total[path] += paths[path];
        }
        assert.ok(total.hit > (N_TABLES * N_PACKETS) / 10, `too few hits: ${JSON.stringify(total)}`);
      });
    }
  }
});
