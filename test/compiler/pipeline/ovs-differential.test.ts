// The reference translator against a real Open vSwitch: random tables, random packets, the same bytes out of the same
// ports. OVS forwards from its cache where it has one; where that disagrees it is asked again with an empty cache, so
// that what counts is its translation.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import assert from "node:assert/strict";
import {
  carryFlow,
  Executor,
  extract,
  get,
  newFlow,
  type DpAction,
  type FailMode,
  type FlowWords,
  parseFlows,
  parseGroups,
  PORT,
  Switch,
  traceFlow,
  translate,
  learnFrom,
} from "#compiler";
import { toHex } from "ebpf-assembler";
import { hasOvs, Ovs, type OvsOutput } from "../../support/ovs.js";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { skip } from "../../support/skip.js";
import { GROUPS, randomTable, type Version } from "./tables.js";

const N_PORTS = 4;

/** The switch as the flows arrive at it: ovs-ofctl says some things in the words of the version that it speaks. */
const newSwitch = (flows: string, version: Version, failMode: FailMode = "secure"): Switch => {
  const sw = new Switch({ failMode });
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

/** Both send the same. OVS is asked again with an empty cache where its cached answer is another. */
const assertSame = async (
  ovs: Ovs,
  sw: Switch,
  inPort: number,
  packet: Uint8Array,
  explain: () => Promise<string>,
): Promise<void> => {
  const compare = async (): Promise<{ have: string[]; want: string[] }> => {
    const { outputs, damaged } = outputsOf(sw, inPort, packet);
    return { have: shape(outputs, damaged), want: shape(await ovs.forward(inPort, packet), damaged) };
  };
  let { have, want } = await compare();
  if (isDeepStrictEqual(have, want)) return;
  await ovs.appctl("revalidator/purge");
  ({ have, want } = await compare());
  if (!isDeepStrictEqual(have, want)) assert.deepEqual(have, want, await explain());
};

describe("translate() against Open vSwitch", function () {
  this.timeout(600_000);
  before(function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
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
        await assertSame(
          ovs,
          sw,
          inPort,
          packet,
          async () => `seed ${seed} packet ${i}\n${table}\n${toHex(packet)}\n${await ovs.trace(inPort, packet)}`,
        );
      }
    }
  });

  it("learns and forwards as a switch without flows does", async () => {
    await using ovs = await Ovs.start({ ports: N_PORTS, failMode: "standalone" });
    const sw = newSwitch("", "instructions", "standalone");
    const r = new Random(7);
    for (let i = 0; i < 300; i++) {
      const packet = randomPacket(r);
      if (packet.length < 14) continue;
      const inPort = 1 + r.below(N_PORTS);
      // From cached packets OVS learns some time later.
      await ovs.appctl("revalidator/purge");
      await assertSame(ovs, sw, inPort, packet, () => Promise.resolve(`packet ${i}`));
    }
  });

  it("traceFlow() explains as ofproto/trace does", async () => {
    await using ovs = await Ovs.start({ ports: N_PORTS });
    // Ours alone, or different on purpose: docs/ovs-differences.md. Tables with NORMAL are left to the other tests, for
    // OVS learns from what it traces.
    const own = /^(Megaflow|Datapath actions|Carried by|This flow is handled| {2}- )/;
    const shown = (text: string): string =>
      text
        .split("\n")
        .filter((line) => !own.test(line))
        .join("\n")
        .trim();
    let compared = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const r = new Random(seed);
      const table = randomTable(r, "instructions").replaceAll("NORMAL", "FLOOD");
      await ovs.setFlows(table);
      const sw = newSwitch(table, "instructions");
      for (let i = 0; i < 40; i++) {
        const packet = randomPacket(r);
        if (packet.length < 14) continue;
        const inPort = 1 + r.below(N_PORTS);
        const flow = newFlow();
        extract(packet, packet.length, inPort, flow);
        // Neither is parsed here.
        if ([0x8847, 0x8848, 0x894f].includes(get(flow, "dl_type"))) continue;
        compared++;
        assert.equal(shown(traceFlow(sw, flow).text), shown(await ovs.trace(inPort, packet)), `seed ${seed}\n${table}`);
      }
    }
    assert.ok(compared > 150, `only ${compared} packets compared`);
  });
});
