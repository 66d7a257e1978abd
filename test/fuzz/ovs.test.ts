// The reference against a real Open vSwitch over generated tables and packets: the same bytes must leave the same ports.
// Reasons for the packets that are left out are in test/support/ovs-damage.ts and docs/ovs-differences.md.
//
// Packets go to OVS in batches, which it answers in any order, partly from its cache. Where a batch comes out otherwise,
// the table is run again from the start, packet by packet and with the cache emptied before each: what counts is what
// OVS's own translation says of a packet.

import assert from "node:assert/strict";
import { carryFlow, parseFlows, parseGroups, PORT, ReferenceEngine, Switch, type Handled } from "#compiler";
import { toHex } from "ebpf-assembler";
import { CAPTURE_TABLES, captureRun } from "../support/captures.js";
import type { Sample } from "../support/executions.js";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { isDamagedOnItsWay } from "../support/ovs-damage.js";
import { Ovs, OvsError, type OvsOutput } from "../support/ovs.js";
import { randomTable } from "../support/random-flows.js";
import { randomPacket, randomShimPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";

const TABLES = seeds(200);
const N_PACKETS = 100;
const PORTS = [1, 2, 3, 4] as const;
/** What the oracle's ports send: an MTU of 9,000 bytes, and the Ethernet header. */
const MAX_FRAME = 9000 + 14;

interface Tables {
  readonly name: string;
  readonly flows: string;
  readonly groups: string;
}

const GROUPS = `
group_id=1,type=all,bucket=bucket_id:1,actions=set_field:02:00:00:00:aa:01->eth_src,output:1,bucket=bucket_id:2,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2
group_id=2,type=indirect,bucket=bucket_id:1,actions=dec_ttl,output:4
group_id=3,type=select,selection_method=hash,fields(ip_src,ip_dst,tcp_src),bucket=bucket_id:1,weight:1,actions=output:1,bucket=bucket_id:2,weight:5,actions=mod_nw_tos:16,output:3
`.trim();

const newSwitch = ({ flows, groups }: Tables): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of [...PORTS, PORT.LOCAL]) sw.setPort({ number });
  for (const group of parseGroups(groups)) sw.addGroup(group, 0);
  // As the flows arrive: ovs-ofctl says some things in the words of the version that it speaks.
  for (const flow of parseFlows(flows)) sw.add(carryFlow(flow, "OpenFlow15") ?? flow, 0);
  return sw;
};

const isDamaged = (sw: Switch, { inPort, packet }: Sample): boolean => isDamagedOnItsWay(sw, inPort, packet);

/** Packets by port, in an order of their own. */
const sorted = (outputs: readonly OvsOutput[]): string[] =>
  outputs.map(({ port, packet }) => `${port}: ${toHex(packet)}`).sort();

const load = async (ovs: Ovs, { flows, groups }: Tables): Promise<void> => {
  // OVS 3.1 dies when the first thing that a new bridge hears is that its groups are to be deleted.
  await ovs.setFlows("");
  await ovs.setGroups(groups);
  await ovs.setFlows(flows);
  await ovs.appctl("fdb/flush", "br0");
  ovs.outputs();
};

/** Runs of samples by one port, in order. */
const runsOf = (samples: readonly Sample[]): Sample[][] => {
  const runs: Sample[][] = [];
  for (const sample of samples) {
    if (runs.at(-1)?.[0]!.inPort === sample.inPort) runs.at(-1)!.push(sample);
    else runs.push([sample]);
  }
  return runs;
};

/** What a test has seen: a run in which nothing left the switch, or all was left out, would prove nothing. */
interface Seen {
  sent: number;
  changed: number;
  outputs: number;
  /** Packets that were parsed a second time. */
  recirculated: number;
}

const expected = (reference: ReferenceEngine, { inPort, packet }: Sample, seen: Seen): Handled["outputs"] => {
  const { outputs, translation } = reference.handle(inPort, packet, 0);
  if (translation?.actions.some(({ kind }) => kind === "recirc") === true) seen.recirculated++;
  seen.sent++;
  seen.outputs += outputs.length;
  if (outputs.some((output) => toHex(output.packet) !== toHex(packet))) seen.changed++;
  return outputs;
};

/** Whether all runs of packets come out as from the reference, each run as a heap. */
const agreesInBatches = async (ovs: Ovs, tables: Tables, samples: readonly Sample[], seen: Seen): Promise<boolean> => {
  await load(ovs, tables);
  const reference = new ReferenceEngine(newSwitch(tables));
  for (const run of runsOf(samples)) {
    const sent = run.filter((sample) => !isDamaged(reference.sw, sample));
    const want = sent.flatMap((sample) => expected(reference, sample, seen));
    if (sent.length > 0) await ovs.receive(sent[0]!.inPort, ...sent.map(({ packet }) => packet));
    if (sorted(ovs.outputs()).join() !== sorted(want).join()) return false;
  }
  return true;
};

/** The same packet by packet; throws at the first difference. */
const compareOneByOne = async (ovs: Ovs, tables: Tables, samples: readonly Sample[], seen: Seen): Promise<void> => {
  await load(ovs, tables);
  const reference = new ReferenceEngine(newSwitch(tables));
  for (const [i, sample] of samples.entries()) {
    if (isDamaged(reference.sw, sample)) continue;
    const { inPort, packet } = sample;
    const want = expected(reference, sample, seen);
    await ovs.appctl("revalidator/purge");
    const have = await ovs.forward(inPort, packet);
    if (sorted(want).join() === sorted(have).join()) continue;
    const about = `${tables.name} packet ${i} by port ${inPort}: ${toHex(packet)}`;
    assert.deepEqual(sorted(want), sorted(have), `${about}\n${tables.flows}\n${await ovs.trace(inPort, packet)}`);
  }
};

const newSeen = (): Seen => ({ sent: 0, changed: 0, outputs: 0, recirculated: 0 });

/** @returns what was seen in the run that counts */
const compare = async (ovs: Ovs, tables: Tables, samples: readonly Sample[]): Promise<Seen> => {
  const batches = newSeen();
  if (await agreesInBatches(ovs, tables, samples, batches)) return batches;
  const single = newSeen();
  await compareOneByOne(ovs, tables, samples, single);
  return single;
};

describe("the reference against Open vSwitch", function () {
  this.timeout(timeLimit(600_000));
  let ovs: Ovs;
  before(async () => {
    ovs = await Ovs.start({ ports: PORTS.length });
  });
  after(() => ovs.stop());

  it(`sends the same packets: ${TABLES.length} generated tables x ${N_PACKETS} packets`, async () => {
    const seen = newSeen();
    for (const seed of TABLES) {
      const r = new Random(90_000 + seed);
      const size = { nTables: r.between(1, 4), nFlows: r.between(5, 30) };
      const recirculates = seed % 2 === 0;
      const flows = randomTable(r, { ...size, groups: [1, 2, 3], recirculates, learns: seed % 4 === 1 });
      const make = (): Uint8Array => (recirculates && r.oneIn(2) ? randomShimPacket(r) : randomPacket(r));
      const samples = PORTS.flatMap((inPort) =>
        Array.from({ length: N_PACKETS / PORTS.length }, () => ({ inPort, packet: make() })),
      );
      const tables = { name: `seed ${seed}`, flows: flows.join("\n"), groups: GROUPS };
      const table = await compare(ovs, tables, samples).catch((error: unknown) => {
        // It died: whether it should have is to be seen from the tables.
        if (error instanceof OvsError) throw new OvsError(`${tables.name}\n${tables.flows}`, error.message);
        throw error;
      });
      for (const what of Object.keys(seen) as (keyof Seen)[]) seen[what] += table[what];
    }
    const { sent, changed, outputs, recirculated } = seen;
    const all = TABLES.length * N_PACKETS;
    // A few tables may happen to rewrite nothing.
    const enough =
      TABLES.length < 20 ||
      (sent > 0.8 * all && changed > 0.03 * all && outputs > 0.3 * all && (TABLES.length < 40 || recirculated > 0));
    assert.ok(enough, JSON.stringify(seen));
  });

  for (const tables of CAPTURE_TABLES) {
    it(`sends the same packets: captures of real traffic through ${tables.name}`, async () => {
      // Two more tags may be pushed.
      const samples = captureRun().filter(({ packet }) => packet.length <= MAX_FRAME - 2 * 4);
      const seen = await compare(ovs, tables, samples);
      assert.ok(seen.outputs > samples.length / 3, JSON.stringify(seen));
    });
  }
});
