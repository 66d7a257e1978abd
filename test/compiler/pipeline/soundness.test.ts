// The promise of a megaflow: packets that agree in the bits of the mask are treated alike. Checked on random tables,
// with every unmarked bit of the flow flipped where a packet can have it so, and with pairs of random packets.

import assert from "node:assert/strict";
import {
  extract,
  FLOW,
  FLOW_WORDS,
  getBits,
  learnFrom,
  newFlow,
  parseFlows,
  parseGroups,
  PORT,
  setBits,
  Switch,
  translate,
  type Member,
} from "#compiler";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { agrees, outcome, settle } from "../../support/soundness.js";
import { GROUPS, randomTable } from "./tables.js";

const N_PORTS = 4;
const MEMBERS = Object.keys(FLOW) as Member[];

const switchOf = (flows: string): Switch => {
  const sw = new Switch();
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number, config: { noFlood: number === 3 } });
  sw.setPort({ number: PORT.LOCAL });
  for (const group of parseGroups(GROUPS)) sw.addGroup(group, 0);
  for (const flow of parseFlows(flows)) sw.add(flow, 0);
  return sw;
};

const memberOf = (bit: number): string =>
  MEMBERS.find((member) => bit >= FLOW[member].at && bit < FLOW[member].at + FLOW[member].bits) ?? "none";

describe("translate(): the mask", function () {
  this.timeout(120_000);
  const N_TABLES = Number(process.env["OFXDP_FUZZ_TABLES"] ?? 5);
  const FIRST = Number(process.env["OFXDP_FUZZ_SEED"] ?? 1);
  const N_PACKETS = 12;

  it("has every bit that matters: flipping any other gives the same actions", () => {
    let flips = 0;
    for (let seed = FIRST; seed < FIRST + N_TABLES; seed++) {
      const r = new Random(seed);
      const table = randomTable(r, r.pick(["openflow10", "instructions", "groups"] as const));
      const sw = switchOf(table);
      for (let i = 0; i < N_PACKETS; i++) {
        const packet = randomPacket(r);
        if (packet.length < 14) continue;
        const flow = newFlow();
        extract(packet, packet.length, 1 + r.below(N_PORTS), flow);
        settle(flow);
        const translation = translate(sw, flow);
        const want = outcome(translation);
        for (let bit = FLOW.dl_dst.at; bit < FLOW_WORDS * 32; bit++) {
          if (getBits(translation.mask, bit, 1) !== 0) continue;
          const other = flow.slice();
          setBits(other, bit, 1, 1 - getBits(flow, bit, 1));
          settle(other);
          if (!agrees(flow, other, translation.mask)) continue;
          flips++;
          assert.equal(
            outcome(translate(sw, other)),
            want,
            `seed ${seed} packet ${i} bit ${bit} (${memberOf(bit)})\n${table}`,
          );
        }
        learnFrom(sw, translation, 0);
      }
    }
    assert.ok(flips > 100 * N_TABLES, `only ${flips} bits could be flipped`);
  });

  it("has every bit that matters: other packets with these bits get the same actions", () => {
    let pairs = 0;
    for (let seed = FIRST; seed < FIRST + N_TABLES; seed++) {
      const r = new Random(1000 + seed);
      const table = randomTable(r, r.pick(["openflow10", "instructions", "groups"] as const));
      const sw = switchOf(table);
      // Each packet, and twice itself with one byte changed.
      const flows = Array.from({ length: 60 }, () => randomPacket(r)).flatMap((packet) => {
        const inPort = 1 + r.below(N_PORTS);
        return [0, 1, 2].map((changes) => {
          const bytes = packet.slice();
          if (changes > 0) bytes[r.below(bytes.length)]! ^= 1 << r.below(8);
          const flow = newFlow();
          extract(bytes, bytes.length, inPort, flow);
          return flow;
        });
      });
      const translations = flows.map((flow) => translate(sw, flow));
      for (const [i, a] of flows.entries()) {
        for (const [j, b] of flows.entries()) {
          if (i === j || !agrees(a, b, translations[i]!.mask)) continue;
          pairs++;
          assert.equal(outcome(translations[j]!), outcome(translations[i]!), `seed ${seed} ${i} ${j}\n${table}`);
        }
      }
    }
    assert.ok(pairs > 50 * N_TABLES, `only ${pairs} pairs of packets agreed`);
  });
});
