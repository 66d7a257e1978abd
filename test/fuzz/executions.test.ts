// One semantics, several executions: random tables and packets go through the reference translator and through the
// compiled datapath programs, and must come out the same: packets, ports, controller copies, and the counters of every rule.

import assert from "node:assert/strict";
import { toHex } from "ebpf-assembler";
import { DatapathEngine, loadVm, ReferenceEngine, type Handled, type Hook, type Switch } from "#compiler";
import { N_PORTS, randomSwitch } from "../support/random-switch.js";
import { randomPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";

const PORTS = Array.from({ length: N_PORTS }, (_, i) => i + 1);

/** Outputs in an order that does not depend on which execution made them. */
const normalised = (handled: Handled): unknown => ({
  outputs: handled.outputs.map((o) => `${o.port}:${toHex(o.packet)}`).sort(),
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

const fuzz = (hook: Hook, seed: number, nPackets: number): Record<Handled["path"], number> => {
  const reference = new ReferenceEngine(randomSwitch(seed));
  using engine = new DatapathEngine(randomSwitch(seed), hook, loadVm(PORTS), { patience: 20 });
  const paths = { hit: 0, slow: 0, miss: 0 };
  packetsOf(seed, nPackets).forEach(({ inPort, packet }, i) => {
    const want = reference.handle(inPort, packet, i);
    const have = engine.handle(inPort, packet, i);
    paths[have.path]++;
    assert.deepEqual(
      normalised(have),
      normalised(want),
      `seed ${seed} packet ${i} (${have.path}) ${inPort}: ${toHex(packet)}`,
    );
  });
  engine.settle(nPackets);
  assert.deepEqual(counters(engine.sw), counters(reference.sw), `counters of seed ${seed}`);
  return paths;
};

describe("executions", () => {
  for (const hook of ["xdp", "tc"] as const) {
    it(`agree: reference and interpreter at ${hook}, 50 tables x 200 packets`, function () {
      this.timeout(300_000);
      const total = { hit: 0, slow: 0, miss: 0 };
      for (let seed = 1; seed <= 50; seed++) {
        const paths = fuzz(hook, seed, 200);
        for (const path of ["hit", "slow", "miss"] as const) total[path] += paths[path];
      }
      assert.ok(total.hit > 1000, `only ${total.hit} hits of ${JSON.stringify(total)}`);
    });
  }
});
