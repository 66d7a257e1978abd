// Which bucket a packet takes, against Open vSwitch: all selection methods, weights, ports that go down, groups that watch
// groups.

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { applyGroupMod, Executor, extract, newFlow, parseFlows, parseGroupMods, Switch, translate } from "#compiler";
import { toHex } from "ebpf-assembler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { skip } from "../../support/skip.js";

const N_PORTS = 5;
const IN_PORT = 5;
/** Groups that packets are sent to; each may watch and use those behind it, and 20, which goes round in circles. */
const N_GROUPS = 6;

const weight = (r: Random): number => r.pick([0, 1, 1, 2, 3, 7, 100, 65535]);

const FIELD_SETS = [
  "ip_src",
  "ip_src,ip_dst",
  "eth_src",
  "eth_src,tcp_src,udp_dst",
  "ip_dst=255.255.0.0,tcp_dst=0xff00",
];

const watch = (r: Random, id: number): string => {
  const port = `watch_port=${1 + r.below(N_PORTS - 1)}`;
  const group = `watch_group=${r.pick([20, 21, Math.min(id + 1 + r.below(3), N_GROUPS + 1)])}`;
  return r.pick([port, port, group, `${port},${group}`]);
};

const bucketActions = (r: Random, id: number): string =>
  r.oneIn(5) && id < N_GROUPS ? `group:${id + 1}` : `output:${1 + r.below(N_PORTS - 1)}`;

const randomGroup = (r: Random, id: number): string => {
  const type = r.pick(["select", "select", "select", "ff", "ff", "all"] as const);
  const ids = r.oneIn(3) ? [3, 9, 4, 27] : [0, 1, 2, 3];
  const buckets = ids.slice(0, 1 + r.below(4)).map((bucket) => {
    const parts = [`bucket_id=${bucket}`];
    if (type === "select") parts.push(`weight=${weight(r)}`);
    if (type === "ff" || (type === "select" && r.oneIn(3))) parts.push(watch(r, id));
    return `bucket=${[...parts, bucketActions(r, id)].join(",")}`;
  });
  const method =
    type !== "select"
      ? ""
      : r.pick([
          "",
          "",
          ",selection_method=hash",
          ",selection_method=dp_hash",
          ",selection_method=dp_hash,selection_method_param=0x100000007",
          ",selection_method=dp_hash,selection_method_param=99",
          `,selection_method=hash,selection_method_param=${r.below(9)},fields(${r.pick(FIELD_SETS)})`,
        ]);
  return `group_id=${id},type=${type}${method},${buckets.join(",")}`;
};

/** 20 and 21 watch each other; 21 has a port of its own to live by. */
const CIRCLE = [
  "group_id=20,type=ff,bucket=watch_group=21,output:1",
  "group_id=21,type=ff,bucket=watch_group=20,output:2,bucket=watch_port=4,output:4",
];

const executor = new Executor();

const portsOf = (sw: Switch, packet: Uint8Array): number[] => {
  const flow = newFlow();
  extract(packet, packet.length, IN_PORT, flow);
  const ports: number[] = [];
  executor.execute(packet, translate(sw, flow).actions, {
    output: (port) => ports.push(port),
    controller: () => undefined,
  });
  return ports.sort();
};

describe("groups against Open vSwitch", function () {
  this.timeout(300_000);
  before(function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
  });

  const N_SETS = Number(process.env["OFXDP_FUZZ_TABLES"] ?? 12);

  it(`translate() takes the same buckets in ${N_SETS} random sets of groups, with ports up and down`, async () => {
    await using ovs = await Ovs.start({ ports: N_PORTS });
    let sent = 0;
    for (let seed = 1; seed <= N_SETS; seed++) {
      const r = new Random(seed);
      const groups = [...CIRCLE, ...Array.from({ length: N_GROUPS }, (_, i) => randomGroup(r, i + 1))].join("\n");
      const flows = Array.from({ length: N_GROUPS }, (_, i) => `priority=${i},reg0=0,actions=group:${i + 1}`);
      const down = [1, 2, 3, 4].filter(() => r.oneIn(3));
      for (let port = 1; port < N_PORTS; port++) {
        await ovs.appctl("netdev-dummy/set-admin-state", `p${port}`, down.includes(port) ? "down" : "up");
      }
      await ovs.setGroups(groups);
      const sw = new Switch();
      for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number, up: !down.includes(number) });
      for (const mod of parseGroupMods(groups)) applyGroupMod(sw, mod, 0);
      for (let id = 1; id <= N_GROUPS; id++) {
        const flow = flows[id - 1]!;
        await ovs.setFlows(flow);
        sw.delete({ value: newFlow(), mask: newFlow() });
        for (const each of parseFlows(flow)) sw.add(each, 0);
        for (let i = 0; i < 8; i++) {
          const packet = randomPacket(r);
          if (packet.length < 60) continue;
          const have = portsOf(sw, packet);
          const want = (await ovs.forward(IN_PORT, packet)).map(({ port }) => port);
          if (want.length > 0) sent++;
          if (isDeepStrictEqual(have, want)) continue;
          const why = `seed ${seed}, down ${down.join()}, group ${id}\n${groups}\n${toHex(packet)}`;
          assert.deepEqual(have, want, `${why}\n${await ovs.trace(IN_PORT, packet)}`);
        }
      }
    }
    assert.ok(sent > 20 * N_SETS, `only ${sent} packets left OVS`);
  });
});
