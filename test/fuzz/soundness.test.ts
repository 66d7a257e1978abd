// The promise of a megaflow, at the last place where it can be broken: two packets for which the datapath program builds
// the same look-up key get the same actions, and are credited to the same rules. Random switches and packets; of each
// packet, every bit is flipped in turn (beside flips of several bytes), what comes out is parsed again, and where the
// compact key of the packet's megaflow is the same, so must be all that translation says.
//
// A flipped packet is a packet, so nothing is asked of flows that cannot be. Flips of flow words that no single packet
// shows are the business of test/compiler/pipeline/soundness.test.ts.

import assert from "node:assert/strict";
import {
  extract,
  keyLayout,
  keyMask,
  learnFrom,
  lookupMask,
  missingMembers,
  newFlow,
  putCompactKey,
  putKey,
  relevantMembers,
  subtable,
  translate,
  type FlowWords,
  type KeyLayout,
  type Subtable,
  type Switch,
} from "#compiler";
import { toHex } from "ebpf-assembler";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { N_PORTS, randomSwitch } from "../support/random-switch.js";
import { randomPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";
import { agrees, outcome } from "../support/soundness.js";

const TABLES = seeds(40);
const N_PACKETS = 12;
/** Bytes whose bits are flipped one by one: two tags, IPv6, an extension header, the fields of L4. */
const FLIPPED_BYTES = 96;
/** Packets with several bytes changed, per packet. */
const N_SHUFFLED = 60;

const flowOf = (packet: Uint8Array, inPort: number): FlowWords => {
  const flow = newFlow();
  extract(packet, packet.length, inPort, flow);
  return flow;
};

/** Switches by what is looked at: much, or so little that masks leave many bits out, and by rules that the packets meet. */
const SWITCHES: Readonly<Record<string, (seed: number, packets: readonly Uint8Array[]) => Switch>> = {
  crowded: (seed) => randomSwitch(seed),
  sparse: (seed, packets) => randomSwitch(seed, { packets, nRules: [1, 3] }),
};

/** Packets next to `packet`: every bit of its headers flipped, a few bytes replaced, its end cut off. */
function* neighbours(r: Random, packet: Uint8Array): Generator<Uint8Array> {
  for (let bit = 0; bit < 8 * Math.min(packet.length, FLIPPED_BYTES); bit++) {
    const copy = packet.slice();
    copy[bit >>> 3]! ^= 1 << (bit & 7);
    yield copy;
  }
  for (let i = 0; i < N_SHUFFLED; i++) {
    const copy = packet.slice();
    for (let n = r.between(2, 6); n > 0; n--) copy[r.below(Math.min(copy.length, FLIPPED_BYTES))] = r.u32();
    yield copy;
  }
  for (let size = 14; size < Math.min(packet.length, FLIPPED_BYTES); size++) yield packet.slice(0, size);
}

/** The megaflow cache's view of flows under one mask. */
const compactKey = (layout: KeyLayout, table: Subtable, flow: FlowWords, inPort: number): string => {
  const full = new Uint8Array(layout.size);
  putKey(layout, flow, inPort, full);
  const key = new Uint8Array(table.keySize);
  putCompactKey(table, full, key);
  return toHex(key);
};

/** The key of the switch's program, with what the mask has besides: such a program would be built. */
const layoutFor = (sw: Switch, mask: FlowWords): KeyLayout => {
  const members = relevantMembers(sw);
  for (const member of missingMembers(keyLayout(members), mask)) members.add(member);
  return keyLayout(members);
};

describe("megaflows of the datapath", () => {
  for (const [name, makeSwitch] of Object.entries(SWITCHES)) {
    it(`are sound: packets of one key are treated alike, ${TABLES.length} ${name} tables x ${N_PACKETS} packets`, function () {
      this.timeout(timeLimit(120_000));
      const seen = { neighbours: 0, alike: 0, narrowed: 0 };
      for (const seed of TABLES) {
        const r = new Random(50_000 + seed);
        const packets = Array.from({ length: N_PACKETS }, () => randomPacket(r));
        const sw = makeSwitch(seed, packets);
        for (const [i, packet] of packets.entries()) {
          const inPort = 1 + r.below(N_PORTS);
          const flow = flowOf(packet, inPort);
          const translation = translate(sw, flow);
          const mask = lookupMask(flow, translation);
          if (mask !== translation.mask) seen.narrowed++;
          const layout = layoutFor(sw, mask);
          const table = subtable("mf", keyMask(layout, mask));
          const key = compactKey(layout, table, flow, inPort);
          const want = outcome(translation);
          for (const other of neighbours(r, packet)) {
            const otherFlow = flowOf(other, inPort);
            // The same flow is translated in the same way.
            if (otherFlow.every((word, w) => word === flow[w])) continue;
            seen.neighbours++;
            const isAlike = compactKey(layout, table, otherFlow, inPort) === key;
            const what = `seed ${seed} packet ${i} ${toHex(packet)} and ${toHex(other)} by port ${inPort}`;
            assert.equal(isAlike, agrees(flow, otherFlow, mask), `key and mask differ: ${what}`);
            if (!isAlike) continue;
            seen.alike++;
            assert.equal(outcome(translate(sw, otherFlow)), want, what);
          }
          learnFrom(sw, translation, 0);
        }
      }
      const { neighbours: n, alike, narrowed } = seen;
      const enough = TABLES.length * N_PACKETS;
      assert.ok(n > 50 * enough && alike > 20 * enough && narrowed > enough / 20, JSON.stringify(seen));
    });
  }
});
