// `trace` against `ofproto/trace` of a real Open vSwitch, from flows written as text: groups within groups, liveness, scores,
// action sets, meters. Random tables and packets are compared in ovs-differential.test.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import {
  applyGroupMod,
  parseFlows,
  parseGroupMods,
  parseMatch,
  parseMeterMod,
  PORT,
  Switch,
  traceFlow,
} from "#compiler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { skip } from "../../support/skip.js";

const METER = "meter=7 pktps bands=type=drop rate=10";

/** Chosen so that OVS does not recirculate: a dp_hash group would. */
const GROUPS = [
  "group_id=1,type=all,bucket=actions=set_field:02:00:00:00:aa:01->eth_src,output:1,bucket=actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2,bucket=actions=group:2",
  "group_id=2,type=indirect,bucket=bucket_id:1,actions=dec_ttl,resubmit(,1)",
  "group_id=4,type=select,selection_method=hash,fields(ip_src,ip_dst,tcp_src),bucket=bucket_id:1,weight:1,actions=output:2,bucket=bucket_id:2,weight:5,actions=output:3,bucket=bucket_id:3,weight:0,actions=output:4",
  "group_id=5,type=ff,bucket=bucket_id:1,watch_port:2,actions=output:2,bucket=bucket_id:2,watch_port:3,actions=output:3",
  "group_id=6,type=ff,bucket=watch_group=5,watch_port=2,actions=output:2,bucket=watch_port:2,actions=output:3",
  "group_id=8,type=ff,bucket=watch_group=9,output:3,bucket=watch_group=9,watch_port=2,output:4",
  "group_id=9,type=ff,bucket=watch_port=2,output:3",
];

const FLOWS = [
  "in_port=1,actions=group:1",
  "in_port=2,ip,actions=meter:7,group:4",
  "in_port=3,actions=write_actions(group:5,set_field:00:00:00:00:00:05->eth_dst),goto_table:1",
  "in_port=4,tcp,actions=group:8,load:5->reg3[0..7],resubmit(1,1),group:6",
  "in_port=4,actions=group:6,group:5",
  "in_port=LOCAL,actions=meter:7",
  "table=1,priority=3,ip,actions=output:3",
  "table=1,priority=0,actions=write_metadata:0x5,goto_table:2",
  "table=2,metadata=5,cookie=0x1234,actions=move:eth_src[0..15]->reg1[0..15],output:4",
];

const PACKETS = [
  "in_port=2,udp,nw_src=1.2.3.4",
  "in_port=2,tcp,nw_src=1.2.3.4,tcp_src=5",
  "in_port=2,tcp,nw_src=99.2.3.4,nw_dst=7.7.7.7,tcp_src=50000",
  "in_port=3,arp",
  "in_port=3,dl_vlan=5,ip",
  "in_port=4,ip,nw_ttl=1",
  "in_port=4,tcp,nw_src=10.0.0.1,tcp_dst=80",
  "in_port=4",
  "in_port=LOCAL,arp",
  "in_port=9,dl_type=0x1234",
];

/** Tags and rewrites mark other bits here than in OVS: docs/ovs-differences.md. */
const OTHER_MASK = [
  "in_port=1,tcp,nw_src=1.2.3.4,nw_ttl=64",
  "in_port=1,ip,ip_frag=later",
  "in_port=1,arp,dl_src=02:00:00:00:00:07",
];

describe("traceFlow() against ofproto/trace", function () {
  this.timeout(60_000);
  before(function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
  });

  it(`explains ${PACKETS.length + OTHER_MASK.length} flows in the same words, megaflow and datapath actions included`, async () => {
    await using ovs = await Ovs.start({ ports: 4 });
    const bridge = `unix:${join(ovs.dir, "br0.mgmt")}`;
    assert.equal(spawnSync("ovs-ofctl", ["-O", "OpenFlow13", "add-meter", bridge, METER]).status, 0);
    await ovs.setGroups(GROUPS.join("\n"));
    await ovs.setFlows(FLOWS.join("\n"));
    await ovs.appctl("netdev-dummy/set-admin-state", "p2", "down");
    const sw = new Switch();
    for (const number of [1, 2, 3, 4, PORT.LOCAL]) sw.setPort({ number, up: number !== 2 });
    sw.addMeter(parseMeterMod(METER).meter, 0);
    for (const mod of parseGroupMods(GROUPS.join("\n"))) applyGroupMod(sw, mod, 0);
    for (const flow of parseFlows(FLOWS.join("\n"))) sw.add(flow, 0);
    for (const text of [...PACKETS, ...OTHER_MASK]) {
      const own = OTHER_MASK.includes(text) ? /^(Carried by|Megaflow)/ : /^Carried by/;
      const shown = (trace: string): string[] =>
        trace
          .trim()
          .replaceAll(/recirc_id=[1-9]\d*/g, "recirc_id=0")
          .split("\n")
          .filter((line) => !own.test(line) && !/^This flow is handled|^ {2}- /.test(line));
      const have = shown(traceFlow(sw, parseMatch(text).value).text);
      assert.deepEqual(have, shown(await ovs.appctl("ofproto/trace", "br0", text)), text);
    }
  });
});
