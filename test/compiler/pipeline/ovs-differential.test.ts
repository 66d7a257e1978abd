// The reference translator against a real Open vSwitch: random tables, random packets, the same bytes out of the same
// ports. OVS forwards from its cache where it has one; where that disagrees it is asked again with an empty cache, so
// that what counts is its translation, and its cached answers that its translation contradicts are counted apart.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import assert from "node:assert/strict";
import {
  carryFlow,
  Executor,
  extract,
  get,
  newFlow,
  type DpAction,
  type FlowWords,
  parseFlows,
  parseGroups,
  PORT,
  Switch,
  translate,
  learnFrom,
} from "#compiler";
import { toHex } from "ebpf-assembler";
import { hasOvs, Ovs, type OvsOutput } from "../../support/ovs.js";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { GROUPS, randomTable, type Version } from "./tables.js";

const N_PORTS = 4;

/** The switch as the flows arrive at it: ovs-ofctl says some things in the words of the version that it speaks. */
const newSwitch = (flows: string, version: Version): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
  sw.setPort({ number: PORT.LOCAL });
  if (version === "groups") for (const group of parseGroups(GROUPS)) sw.addGroup(group, 0);
  const protocol = version === "openflow10" ? "NXM+table_id" : "OpenFlow15";
  for (const flow of parseFlows(flows)) sw.add(carryFlow(flow, protocol) ?? flow, 0);
  return sw;
};

const executor = new Executor();

/** OVS 3.1 updates a checksum where the L4 header would be in later fragments too, and so damages their payload. */
const isDamagedByOvs = (flow: FlowWords, actions: readonly DpAction[]): boolean =>
  (get(flow, "nw_frag") & 2) !== 0 &&
  actions.some((a) => a.kind === "set" && /_(src|dst)$/.test(a.target) && a.proto !== 0);

const outputsOf = (sw: Switch, inPort: number, packet: Uint8Array): { outputs: OvsOutput[]; damaged: boolean } => {
  const flow = newFlow();
  extract(packet, packet.length, inPort, flow);
  const translation = translate(sw, flow);
  learnFrom(sw, translation, 0);
  const outputs: OvsOutput[] = [];
  executor.execute(packet, translation.actions, {
    output: (port, bytes) => outputs.push({ port, packet: bytes.slice() }),
    controller: () => undefined,
  });
  return { outputs, damaged: isDamagedByOvs(flow, translation.actions) };
};

/** Order among ports does not count; order within a port does. */
const shape = (outputs: readonly OvsOutput[], sizesOnly: boolean): string[] =>
  [...outputs]
    .sort((a, b) => a.port - b.port)
    .map(({ port, packet }) => `${port}: ${sizesOnly ? packet.length : toHex(packet)}`);

/** OpenFlow 1.0 has flows that later versions refuse, and only its own connection takes them. */
const setFlows = async (ovs: Ovs, version: Version, table: string): Promise<void> => {
  if (version === "groups") await ovs.setGroups(GROUPS);
  if (version !== "openflow10") return ovs.setFlows(table);
  ovs.ofctl("del-flows");
  execFileSync("ovs-ofctl", ["-O", "OpenFlow10", "add-flows", `unix:${join(ovs.dir, "br0.mgmt")}`, "-"], {
    input: table,
  });
  await ovs.appctl("revalidator/purge");
};

describe("translate() against Open vSwitch", function () {
  this.timeout(600_000);
  before(function () {
    if (!hasOvs()) this.skip();
  });

  const N_TABLES = Number(process.env["OFXDP_FUZZ_TABLES"] ?? 20);
  const N_PACKETS = Number(process.env["OFXDP_FUZZ_PACKETS"] ?? 40);

  it(`sends the same packets for ${N_TABLES} random tables`, async () => {
    await using ovs = await Ovs.start({ ports: N_PORTS });
    for (let seed = Number(process.env["OFXDP_FUZZ_SEED"] ?? 1), last = seed + N_TABLES; seed < last; seed++) {
      const r = new Random(seed);
      const version = r.pick(["openflow10", "instructions", "groups"] as const);
      const table = randomTable(r, version);
      await setFlows(ovs, version, table);
      await ovs.appctl("fdb/flush", "br0");
      const sw = newSwitch(table, version);
      for (let i = 0; i < N_PACKETS; i++) {
        const packet = randomPacket(r);
        if (packet.length < 14) continue;
        const inPort = 1 + r.below(N_PORTS);
        const compare = async (): Promise<{ have: string[]; want: string[] }> => {
          const { outputs, damaged } = outputsOf(sw, inPort, packet);
          return { have: shape(outputs, damaged), want: shape(await ovs.forward(inPort, packet), damaged) };
        };
        let { have, want } = await compare();
        if (JSON.stringify(have) !== JSON.stringify(want)) {
          await ovs.appctl("revalidator/purge");
          ({ have, want } = await compare());
        }
        assert.deepEqual(
          have,
          want,
          `seed ${seed} packet ${i}\n${table}\n${toHex(packet)}\n${await ovs.trace(inPort, packet)}`,
        );
      }
    }
  });
});
