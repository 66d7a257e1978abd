// Meters against Open vSwitch: their text, which packets pass, and the statistics.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import {
  formatMeter,
  parseFlows,
  parseMeterLines,
  parseMeterMods,
  ReferenceEngine,
  Switch,
  type MeterEntry,
} from "#compiler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { Random } from "../../support/random.js";
import { skip } from "../../support/skip.js";

const METERS = [
  "meter=1 pktps bands=type=drop rate=5",
  "meter=2,kbps,burst,stats,bands=type=drop,rate=100,burst_size=20",
  "meter=4294901760 kbps burst bands=type=drop rate=1 burst_size=2 type=drop rate=4294967295 burst_size=0xffffffff",
  "meter=0x10, burst kbps  band = type=drop rate=010 burst_size=7",
  "meter=controller pktps stats bands=type=drop rate=7",
  "meter=slowpath kbps bands=type=drop rate=7",
  "stats pktps meter=7 bands=type=drop rate=3 type=drop rate=4,,type=drop,rate=3",
];

const WRONG = [
  "meter=1 pktps",
  "meter=1 pktps bands",
  "meter=1 pktps bands=",
  "pktps bands=type=drop rate=5",
  "meter=0 pktps bands=type=drop rate=5",
  "meter=4294901761 pktps bands=type=drop rate=5",
  "meter=all pktps bands=type=drop rate=5",
  "meter=x pktps bands=type=drop rate=5",
  "meter=1 bands=type=drop rate=5",
  "meter=1 stats bands=type=drop rate=5",
  "meter=1 pktps kbps bands=type=drop rate=5",
  "meter=1 pktps foo=1 bands=type=drop rate=5",
  "meter=1 pktps bands=rate=5",
  "meter=1 pktps bands=rate=5 type=drop",
  "meter=1 pktps bands=type=drop",
  "meter=1 pktps bands=type=drop rate=0",
  "meter=1 pktps bands=type=drop rate=4294967296",
  "meter=1 pktps bands=type=drop rate=5 burst_size=3",
  "meter=1 pktps burst bands=type=drop rate=5",
  "meter=1 pktps bands=type=drop rate=5 prec_level=1",
  "meter=1 pktps bands=type=dscp_remark rate=5",
  "meter=1 pktps bands=type=dscp_remark rate=5 prec_level=256",
  "meter=1 pktps bands=type=other rate=5",
  "meter=1 pktps bands=type=drop rate=5 foo=1",
  "meter=1 pktps bands=type=drop rate",
  `meter=1 pktps bands=${Array.from({ length: 9 }, () => "type=drop rate=5").join(",")}`,
];

describe("meters against Open vSwitch", function () {
  this.timeout(120_000);
  let ovs: Ovs;
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    ovs = await Ovs.start({ ports: 3 });
  });
  after(() => ovs.stop());

  const ofctl = (...args: readonly string[]): { out: string; ok: boolean } => {
    const [command, ...rest] = args as [string, ...string[]];
    const bridge = `unix:${join(ovs.dir, "br0.mgmt")}`;
    const { stdout, stderr, status } = spawnSync(
      "ovs-ofctl",
      ["-O", "OpenFlow13", "-t", "5", command, bridge, ...rest],
      {
        encoding: "utf8",
      },
    );
    return { out: `${stdout}${stderr}`, ok: status === 0 && !stderr.includes("OFPT_ERROR") };
  };

  const dumped = (): string[] =>
    ofctl("dump-meters")
      .out.replace(/\n(?=type=)/g, " ")
      .replaceAll("bands= ", "bands=")
      .split("\n")
      .filter((line) => line.startsWith("meter="));

  it("parseMeterMods() and formatMeter() give the text of dump-meters", () => {
    ofctl("del-meters");
    const mods = parseMeterMods(METERS.join("\n"));
    for (const [i, { meter }] of mods.entries()) {
      const { out, ok } = ofctl("add-meter", METERS[i]!);
      assert.ok(ok, `${METERS[i]!}: ${out}`);
      const want = formatMeter(meter);
      assert.ok(dumped().includes(want), `${want}\n${dumped().join("\n")}`);
      assert.deepEqual(parseMeterMods(want)[0]!.meter, meter);
    }
    ofctl("del-meters");
  });

  it(`parseMeterLines() refuses what OVS refuses (${WRONG.length} lines)`, () => {
    ofctl("del-meters");
    for (const [i, { error }] of parseMeterLines(WRONG.join("\n")).entries()) {
      assert.ok(error !== undefined, `we accept ${WRONG[i]!}`);
      assert.ok(!ofctl("add-meter", WRONG[i]!).ok, `OVS accepts ${WRONG[i]!}`);
    }
  });

  it("translate() and MeterTable let the same packets pass at the same time, and count them alike", async () => {
    const meters = [
      "meter=1 pktps bands=type=drop rate=5",
      "meter=2 kbps burst stats bands=type=drop rate=100 burst_size=10",
      "meter=3 pktps burst bands=type=drop rate=20 burst_size=4,type=drop rate=10 burst_size=8",
    ];
    const flows = [
      "in_port=1,actions=meter:1,output:2",
      "in_port=2,udp,actions=meter:2,mod_nw_tos:16,output:3",
      "in_port=2,actions=meter:2",
      "in_port=3,actions=meter:3,resubmit(,1)",
      "table=1,actions=output:1,output:2",
    ];
    ofctl("del-meters");
    await ovs.appctl("time/stop");
    const sw = new Switch();
    for (let number = 1; number <= 3; number++) sw.setPort({ number });
    let now = 0;
    for (const { meter } of parseMeterMods(meters.join("\n"))) sw.addMeter(meter, now);
    for (const text of meters) assert.ok(ofctl("add-meter", text).ok, text);
    await ovs.setFlows(flows.join("\n"));
    for (const flow of parseFlows(flows.join("\n"))) sw.add(flow, 0);
    const engine = new ReferenceEngine(sw);
    const r = new Random(11);
    const seen = { passed: 0, dropped: 0 };
    for (let i = 0; i < 400; i++) {
      if (r.oneIn(2)) {
        const ms = 1 + r.below(r.oneIn(10) ? 900 : 60);
        await ovs.appctl("time/warp", String(ms), String(ms));
        now += ms;
      }
      const inPort = 1 + r.below(3);
      const packet = new Uint8Array(60 + r.below(900));
      packet.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x12, 0x34]);
      const have = engine.handle(inPort, packet, now).outputs.map(({ port }) => port);
      const want = (await ovs.forward(inPort, packet)).map(({ port }) => port);
      assert.deepEqual(have, want, `packet ${i} by port ${inPort} at ${now}`);
      if (want.length > 0) seen.passed++;
      else seen.dropped++;
    }
    assert.ok(seen.passed > 50 && seen.dropped > 50, JSON.stringify(seen));
    const stats = ofctl("meter-stats").out;
    for (const { meter, ...rest } of sw.meters) {
      const { packets, bytes, bands } = sw.meters.stats({ meter, ...rest } satisfies MeterEntry);
      const [line, ...bandLines] = stats.slice(stats.indexOf(`meter:${meter.id} `)).split("\n");
      assert.match(line!, new RegExp(`packet_in_count:${packets} byte_in_count:${bytes} `), stats);
      for (const [i, band] of bands.entries()) {
        assert.equal(bandLines[i], `${i}: packet_count:${band.packets} byte_count:${band.bytes}`, stats);
      }
    }
  });
});
