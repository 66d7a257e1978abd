// The promise of a megaflow: packets that agree in the bits of the mask are treated alike. Checked on random tables,
// with every unmarked bit of the flow flipped where a packet can have it so, and with pairs of random packets.

import assert from "node:assert/strict";
import {
  extract,
  formatOdpActions,
  FLOW,
  FLOW_WORDS,
  get,
  getBits,
  learnFrom,
  newFlow,
  parseFlows,
  parseGroups,
  PORT,
  set,
  setBits,
  Switch,
  translate,
  type FlowWords,
  type Member,
  type Translation,
} from "#compiler";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { GROUPS, randomTable } from "./tables.js";

const N_PORTS = 4;
const MEMBERS = Object.keys(FLOW) as Member[];
const VLAN_PRESENT = 0x1000;

const switchOf = (flows: string): Switch => {
  const sw = new Switch();
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number, config: { noFlood: number === 3 } });
  sw.setPort({ number: PORT.LOCAL });
  for (const group of parseGroups(GROUPS)) sw.addGroup(group, 0);
  for (const flow of parseFlows(flows)) sw.add(flow, 0);
  return sw;
};

const clear = (flow: FlowWords, ...members: readonly Member[]): void => {
  for (const member of members) {
    const { at, bits } = FLOW[member];
    for (let done = 0; done < bits; done += 16) setBits(flow, at + done, Math.min(16, bits - done), 0);
  }
};

/** Makes members that depend on others agree with them, as the parser would. */
const settle = (flow: FlowWords): void => {
  for (const [tpid, tci] of [
    ["vlan0_tpid", "vlan0_tci"],
    ["vlan1_tpid", "vlan1_tci"],
  ] as const) {
    const present = (get(flow, tci) & VLAN_PRESENT) !== 0;
    if (!present) clear(flow, tpid, tci);
    else if (![0x8100, 0x88a8].includes(get(flow, tpid))) set(flow, tpid, 0x8100);
  }
  if ((get(flow, "vlan0_tci") & VLAN_PRESENT) === 0) clear(flow, "vlan1_tpid", "vlan1_tci");
  const type = get(flow, "dl_type");
  const [ipv4, ipv6, arp] = [type === 0x0800, type === 0x86dd, type === 0x0806 || type === 0x8035];
  if (!ipv6) clear(flow, "ipv6_src", "ipv6_dst", "ipv6_label");
  else set(flow, "ipv6_label", get(flow, "ipv6_label") & 0xfffff);
  if (!ipv4 && !arp) clear(flow, "nw_src", "nw_dst");
  if (!ipv4 && !ipv6) clear(flow, "nw_tos", "nw_ttl", "nw_frag");
  if (!ipv4 && !ipv6 && !arp) clear(flow, "nw_proto");
  const proto = get(flow, "nw_proto");
  const later = (get(flow, "nw_frag") & 2) !== 0;
  const ip = (ipv4 || ipv6) && !later;
  const icmp = ip && ((ipv4 && proto === 1) || (ipv6 && proto === 58));
  if (!ip || !(icmp || [6, 17, 132, 2].includes(proto))) clear(flow, "tp_src", "tp_dst");
  if (icmp) for (const member of ["tp_src", "tp_dst"] as const) set(flow, member, get(flow, member) & 0xff);
  if (!ip || proto !== 6) clear(flow, "tcp_flags");
  set(flow, "tcp_flags", get(flow, "tcp_flags") & 0xfff);
  const nd = icmp && ipv6 && [135, 136].includes(get(flow, "tp_src")) && get(flow, "tp_dst") === 0;
  if (!nd) clear(flow, "nd_target", "nd_reserved", "nd_options_type");
  if (!nd && !arp) clear(flow, "arp_sha", "arp_tha");
};

const agrees = (a: FlowWords, b: FlowWords, mask: FlowWords): boolean =>
  mask.every((word, i) => ((a[i]! ^ b[i]!) & word) === 0);

/** All that must be equal, as a text: comparing texts is what takes no time. */
const outcome = ({ actions, rules, groups, learns, error }: Translation): string =>
  JSON.stringify([
    formatOdpActions(actions),
    actions.map((action) => (action.kind === "set" ? [action.family, action.proto] : [])),
    rules.map(({ table, priority }) => [table, priority]),
    groups.map(({ group, bucket }) => [group.group.id, bucket?.bucket.id]),
    learns,
    error,
  ]);

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
