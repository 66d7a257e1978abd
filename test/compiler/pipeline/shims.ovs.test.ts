// MPLS labels, network service headers and packets without an Ethernet header, against a real Open vSwitch: the packets that
// leave, also those that recirculate, and the words of ofproto/trace.

import assert from "node:assert/strict";
import {
  carryFlow,
  extract,
  newFlow,
  newLayers,
  parseFlows,
  parseGroups,
  PORT,
  ReferenceEngine,
  Switch,
  traceFlow,
} from "#compiler";
import { toHex } from "ebpf-assembler";
import { isDamagedByOvs } from "../../support/ovs-damage.js";
import { hasOvs, Ovs, type OvsOutput } from "../../support/ovs.js";
import { randomPacket, randomShimPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { skip } from "../../support/skip.js";

const N_PORTS = 4;
const N_PACKETS = Number(process.env["OFXDP_FUZZ_PACKETS"] ?? 60);

interface Scenario {
  readonly name: string;
  /** In `ovs-ofctl add-flows` syntax. */
  readonly flows: string;
  readonly groups?: string;
}

// Where OVS 3.1 cannot pop a label inside a list of its own (of clone or check_pkt_larger), it writes behind the end of what it
// has just cleared and dies: such packets are kept from these lists by matching the bottom of the stack. It also dies when it
// has to break off with more in the action set than there is left to do.
const SCENARIOS: readonly Scenario[] = [
  {
    name: "labels pushed",
    flows: `table=0,in_port=1,ip,actions=push_mpls:0x8847,2,set_field:5->mpls_label,set_field:3->mpls_tc,set_mpls_ttl(9),3,push_mpls:0x8847,LOCAL
table=0,in_port=1,ipv6,actions=set_field:7->nw_ttl,push_mpls:0x8848,2,push_mpls:0x8847,push_mpls:0x8848,3
table=0,in_port=1,priority=1,actions=push_mpls:0x8847,2
table=0,in_port=2,mpls,actions=push_mpls:0x8847,1,push_mpls:0x8847,3
table=0,in_port=2,mplsm,actions=push_mpls:0x8848,load:0x123->OXM_OF_MPLS_LABEL[0..11],1
table=0,in_port=2,priority=1,actions=mod_vlan_vid:5,push_mpls:0x8847,1,mod_vlan_vid:6,3,strip_vlan,4
table=0,in_port=3,actions=push_mpls:0x8847,push_mpls:0x8847,push_mpls:0x8847,2,push_mpls:0x8847,1
table=0,in_port=4,ip,actions=push_mpls:0x8847,goto_table:1
table=0,in_port=4,priority=1,actions=push_vlan:0x88a8,push_mpls:0x8847,goto_table:1
table=1,mpls,mpls_ttl=64,actions=2,dec_mpls_ttl,3
table=1,mpls,priority=5,actions=dec_mpls_ttl,1,dec_mpls_ttl,LOCAL
table=1,priority=0,actions=LOCAL`,
  },
  {
    name: "labels changed",
    flows: `table=0,in_port=1,mpls,actions=dec_mpls_ttl,2,dec_mpls_ttl,3
table=0,in_port=1,mplsm,actions=dec_mpls_ttl,set_field:9->mpls_label,2
table=0,in_port=2,mpls,mpls_bos=1,actions=set_field:17->mpls_label,1,set_field:2->mpls_tc,3
table=0,in_port=2,mpls,mpls_bos=0,actions=set_mpls_ttl(33),1,move:OXM_OF_MPLS_LABEL[0..15]->NXM_NX_REG1[0..15],resubmit(,2),3
table=0,in_port=3,mpls,mpls_tc=3,actions=1
table=0,in_port=3,mpls,mpls_label=1,actions=2
table=0,in_port=3,priority=1,actions=4
table=0,in_port=4,mpls,actions=move:OXM_OF_ETH_SRC[0..19]->OXM_OF_MPLS_LABEL[],push:NXM_NX_MPLS_TTL[],pop:OXM_OF_MPLS_TC[],1,resubmit(,1)
table=1,mpls,actions=dec_mpls_ttl,LOCAL
table=2,reg1=0,actions=LOCAL
table=2,reg1=16,actions=4`,
  },
  {
    name: "labels popped",
    flows: `table=0,in_port=1,mpls,mpls_bos=1,actions=pop_mpls:0x0800,2
table=0,in_port=1,mpls,mpls_bos=0,actions=pop_mpls:0x8847,2,dec_mpls_ttl,3
table=0,in_port=1,mplsm,actions=pop_mpls:0x8847,2
table=0,in_port=2,mpls,actions=pop_mpls:0x0800,dec_ttl,1,mod_nw_tos:8,3
table=0,in_port=3,mpls,actions=pop_mpls:0x86dd,resubmit(,1),1
table=0,in_port=3,mplsm,actions=pop_mpls:0x800,mod_dl_src:00:00:00:00:00:09,2,load:5->NXM_NX_REG3[],push:NXM_NX_REG3[],goto_table:2
table=0,in_port=4,mpls,actions=pop_mpls:0x800,1,mod_vlan_vid:9,2,strip_vlan,3
table=1,ipv6,actions=dec_ttl,2,resubmit(,3),LOCAL
table=1,priority=1,actions=4
table=2,ip,actions=pop:NXM_NX_REG4[],set_field:9->nw_ttl,3,resubmit(,4)
table=2,priority=2,actions=LOCAL
table=3,tcp,actions=2
table=3,udp,actions=mod_tp_dst:9,2
table=4,reg3=5,reg4=5,actions=1
table=4,priority=2,actions=2`,
  },
  {
    name: "labels popped and pushed",
    flows: `table=0,in_port=1,mpls,actions=pop_mpls:0x8847,push_mpls:0x8847,2,pop_mpls:0x8847,pop_mpls:0x8847,3
table=0,in_port=1,ip,actions=push_mpls:0x8847,2,pop_mpls:0x0800,3,dec_ttl,4
table=0,in_port=2,mpls,actions=pop_mpls:0x0800,push_mpls:0x8848,1,pop_mpls:0x0800,dec_ttl,3
table=0,in_port=2,ip,actions=push_mpls:0x8847,push_mpls:0x8847,set_mpls_label(3),1,pop_mpls:0x8847,pop_mpls:0x800,dec_ttl,3
table=0,in_port=3,actions=push_mpls:0x8847,set_field:99->mpls_label,write_actions(pop_mpls:0x800,dec_ttl,1),goto_table:1
table=0,in_port=4,mpls,actions=write_actions(pop_mpls:0x800,mod_nw_tos:4,output:2),goto_table:1
table=0,in_port=4,ip,actions=write_actions(push_mpls:0x8847,set_mpls_ttl(5),output:2)
table=1,mpls,actions=pop_mpls:0x800,4,note:01,load:1->NXM_NX_REG1[],load:1->NXM_NX_REG2[],load:1->NXM_NX_REG3[],load:1->NXM_NX_REG4[],clear_actions,write_actions(push_mpls:0x8847,output:3)`,
  },
  {
    name: "labels in clones, tables, and packets cut short",
    flows: `table=0,in_port=1,ip,actions=clone(push_mpls:0x8847,2),3,clone(push_mpls:0x8847,output(port=2,max_len=40)),dec_ttl,4
table=0,in_port=1,mpls,actions=clone(pop_mpls:0x800,2),3,dec_mpls_ttl,4
table=0,in_port=2,mpls,mpls_bos=1,actions=clone(pop_mpls:0x800,dec_ttl,1,output(port=3,max_len=30)),3,dec_mpls_ttl,4
table=0,in_port=2,ip,actions=check_pkt_larger(60)->NXM_NX_REG0[0],push_mpls:0x8847,resubmit(,1),4
table=0,in_port=3,mpls,mpls_bos=1,actions=check_pkt_larger(60)->NXM_NX_REG0[0],pop_mpls:0x800,dec_ttl,resubmit(,1),4
table=0,in_port=3,priority=1,actions=debug_recirc,2
table=0,in_port=4,mpls,actions=resubmit(,2),1,set_field:5->mpls_label,2,note:01
table=0,in_port=4,ip,actions=set_field:3->reg9,debug_recirc,resubmit(,2),output:NXM_NX_REG9[]
table=1,reg0=1,actions=3
table=1,reg0=0,actions=LOCAL
table=2,mpls,mpls_bos=1,actions=pop_mpls:0x800,1,exit
table=2,mpls,actions=pop_mpls:0x8847,2
table=2,ip,actions=2`,
  },
  {
    name: "labels in groups",
    groups: `group_id=1,type=all,bucket=bucket_id:1,actions=push_mpls:0x8847,output:1,bucket=bucket_id:2,actions=dec_ttl,output:2
group_id=2,type=all,bucket=bucket_id:1,actions=pop_mpls:0x800,output:1,bucket=bucket_id:2,actions=pop_mpls:0x800,dec_ttl,output:2,bucket=bucket_id:3,actions=dec_mpls_ttl,output:3
group_id=3,type=select,selection_method=hash,fields(ip_src),bucket=bucket_id:1,weight:1,actions=output:1,bucket=bucket_id:2,weight:5,actions=push_mpls:0x8847,output:3
group_id=4,type=all,bucket=bucket_id:1,actions=output:LOCAL,bucket=bucket_id:2,actions=push_mpls:0x8847,resubmit(,1),bucket=bucket_id:3,actions=output:2`,
    flows: `table=0,in_port=1,ip,actions=group:1,set_field:1.2.3.4->ip_src,4
table=0,in_port=2,mpls,actions=group:2,4
table=0,in_port=2,ip,actions=group:3,4
table=0,in_port=3,mpls,actions=pop_mpls:0x800,group:3,4
table=0,in_port=4,actions=group:4,1
table=1,mpls,actions=push_mpls:0x8847,push_mpls:0x8847,1,push_mpls:0x8847,3`,
  },
  {
    name: "queues",
    flows: `table=0,in_port=1,actions=set_queue:5,2,pop_queue,3,set_queue:1,set_queue:7,push_mpls:0x8847,4
table=0,in_port=2,actions=enqueue:3:7,1,enqueue:IN_PORT:4,clone(set_queue:3,4),1
table=0,in_port=3,mpls,actions=set_queue:9,pop_mpls:0x800,dec_ttl,1
table=0,in_port=4,actions=set_queue:0x10,resubmit(,1),1
table=1,ip,actions=set_queue:2,2`,
  },
  {
    name: "service headers changed",
    flows: `table=0,in_port=1,dl_type=0x894f,actions=dec_nsh_ttl,2,set_field:3->nsh_flags,set_field:0x123->nsh_spi,3
table=0,in_port=2,dl_type=0x894f,nsh_mdtype=1,actions=set_field:0x11223344->nsh_c1,set_field:0x55->nsh_c4,set_field:7->nsh_si,1
table=0,in_port=2,dl_type=0x894f,nsh_mdtype=2,actions=set_field:9->nsh_ttl,set_field:7->nsh_si,1
table=0,in_port=3,dl_type=0x894f,nsh_np=3,actions=dec_nsh_ttl,dec_nsh_ttl,mod_dl_src:00:00:00:00:00:09,1
table=0,in_port=3,dl_type=0x894f,nsh_np=1,actions=move:NXOXM_NSH_C2[]->NXM_NX_REG0[],push:NXOXM_NSH_SI[],pop:NXM_NX_REG1[0..7],output:NXM_NX_REG0[0..2],mod_vlan_vid:5,2
table=0,in_port=3,priority=1,actions=4
table=0,in_port=4,dl_type=0x894f,nsh_spi=5,actions=1
table=0,in_port=4,dl_type=0x894f,actions=set_field:5->nsh_spi,resubmit(,0)`,
  },
  {
    name: "service headers pushed",
    flows: `table=0,in_port=1,ip,actions=encap(nsh(md_type=1)),set_field:0x1234->nsh_spi,set_field:0x11223344->nsh_c1,encap(ethernet),set_field:11:22:33:44:55:66->dl_dst,2,set_field:5->nsh_si,3
table=0,in_port=1,ipv6,actions=dec_ttl,encap(nsh(md_type=2,tlv(0x1000,10,0x12345678),tlv(0x2000,20,0xfedcba9876))),set_field:0x1234->nsh_spi,encap(ethernet),2
table=0,in_port=1,priority=1,actions=encap(nsh),2,encap(ethernet),3
table=0,in_port=2,vlan_tci=0/0x1000,ip,actions=decap(),encap(nsh(md_type=1)),encap(ethernet),mod_dl_src:00:00:00:00:00:05,1
table=0,in_port=2,vlan_tci=0/0x1000,priority=2,actions=mod_dl_src:00:00:00:00:00:05,decap(),encap(ethernet),1
table=0,in_port=2,priority=1,actions=1,decap(),3
table=0,in_port=3,actions=encap(nsh),encap(nsh(md_type=2)),encap(ethernet),push_vlan:0x8100,1,mod_vlan_vid:9,2
table=0,in_port=4,actions=encap(nsh),set_field:9->nsh_si,encap(ethernet),goto_table:1
table=1,dl_type=0x894f,nsh_si=9,actions=dec_nsh_ttl,1,mod_vlan_vid:3,LOCAL,strip_vlan,2`,
  },
  {
    name: "service headers popped",
    flows: `table=0,in_port=1,vlan_tci=0/0x1000,dl_type=0x894f,actions=decap(),decap(),resubmit(,1)
table=0,in_port=1,priority=1,actions=decap(),2
table=0,in_port=2,vlan_tci=0/0x1000,dl_type=0x894f,nsh_np=3,actions=decap(),decap(),1,resubmit(,4)
table=0,in_port=2,vlan_tci=0/0x1000,dl_type=0x894f,nsh_np=4,actions=decap(),decap(),decap(),resubmit(,2)
table=0,in_port=2,vlan_tci=0/0x1000,dl_type=0x894f,priority=3,actions=load:5->NXM_NX_REG7[],decap(),decap(),encap(ethernet),resubmit(,2)
table=0,in_port=3,vlan_tci=0/0x1000,dl_type=0x894f,actions=decap(),dec_nsh_ttl,goto_table:3
table=0,in_port=4,actions=encap(nsh),decap(),1,encap(nsh),encap(ethernet),2
table=1,packet_type=(0,0),actions=1,4
table=1,packet_type=(1,0x800),actions=encap(ethernet),set_field:00:00:00:00:00:08->eth_dst,3,resubmit(,5)
table=1,packet_type=(1,0x86dd),actions=encap(ethernet),3,resubmit(,5)
table=1,packet_type=(1,0x894f),actions=encap(ethernet),LOCAL
table=1,priority=0,actions=2
table=2,reg7=5,actions=LOCAL
table=2,ip,actions=1
table=2,priority=1,actions=3
table=3,packet_type=(1,0x894f),nsh_np=3,actions=decap(),4
table=3,packet_type=(1,0x894f),priority=2,actions=encap(ethernet),4
table=3,dl_type=0x894f,actions=2
table=3,priority=0,actions=1
table=4,dl_src=02:00:00:00:00:02,actions=mod_dl_src:00:00:00:00:00:05,3
table=4,priority=0,actions=4
table=5,ip,actions=dec_ttl,LOCAL
table=5,ipv6,actions=LOCAL,mod_nw_tos:8,4`,
  },
  {
    name: "labels around whole packets",
    // OVS 3.1 dies of a label around a packet that has one already.
    flows: `table=0,priority=65535,in_port=1,mpls,actions=drop
table=0,priority=65535,in_port=4,mpls,actions=drop
table=0,in_port=1,actions=encap(mpls),set_field:9->mpls_label,encap(ethernet),set_field:00:00:00:00:00:08->eth_dst,2
table=0,in_port=2,vlan_tci=0/0x1000,ip,actions=decap(),encap(mpls),encap(ethernet),1
table=0,in_port=2,vlan_tci=0/0x1000,mpls,mpls_bos=1,actions=decap(),decap(packet_type(ns=1,type=0x800)),encap(ethernet),set_field:00:00:00:00:00:08->eth_dst,1
table=0,in_port=2,vlan_tci=0/0x1000,mplsm,mpls_bos=1,actions=decap(),decap(packet_type(ns=0,type=0)),resubmit(,1)
table=0,in_port=3,vlan_tci=0/0x1000,arp,actions=encap(mpls_mc),encap(mpls),encap(ethernet),2
table=0,in_port=3,vlan_tci=0/0x1000,udp,actions=encap(mpls),encap(ethernet),2
table=0,in_port=4,actions=encap(mpls),2,encap(ethernet),1
table=1,ip,actions=1
table=1,priority=1,actions=3`,
  },
];

const newSwitch = ({ flows, groups }: Scenario): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
  sw.setPort({ number: PORT.LOCAL });
  for (const group of parseGroups(groups ?? "")) sw.addGroup(group, 0);
  for (const flow of parseFlows(flows)) sw.add(carryFlow(flow, "OpenFlow15") ?? flow, 0);
  return sw;
};

/** Order among ports does not count, nor, since OVS recirculates at once and ofxdp at the end, within a port. */
const shape = (outputs: readonly OvsOutput[]): string[] =>
  outputs.map(({ port, packet }) => `${port}: ${toHex(packet)}`).sort();

/** Lines that are ours alone, or different on purpose: docs/ovs-differences.md. */
const OWN = /^(Megaflow|Carried by|This flow is handled| {2}- )/;

const shown = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !OWN.test(line))
    .join("\n")
    // A packet given as bytes has effects in OVS.
    .replaceAll("dont_send=1", "dont_send=0")
    // Parts of a header that matter are in its sets there.
    .replace(/set\(nsh\([^)]*\)\)/g, "set(nsh)")
    // Connections that are none, of packets without an Ethernet header.
    .replace("ct_nw_src=0.0.0.0,ct_nw_dst=0.0.0.0,", "")
    .replace("ct_ipv6_src=::,ct_ipv6_dst=::,", "")
    // Numbers of recirculations are given out once in OVS, here by each translation; ports are datapath ports there.
    .replace(/recirc(_id=|\()(0x)?[0-9a-f]+/g, "recirc$1N")
    .replace(/^(Datapath actions: ).*$/m, (line) => line.replace(/(?<=[ ,(])100(?=[,)]|$)/g, "LOCAL"))
    .trim();

describe("MPLS and NSH against Open vSwitch", function () {
  this.timeout(600_000);
  let ovs: Ovs;
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    ovs = await Ovs.start({ ports: N_PORTS });
  });
  after(() => ovs?.stop());

  for (const scenario of SCENARIOS) {
    const { name, flows, groups } = scenario;
    it(`translate() does as OVS with ${name}`, async () => {
      await ovs.setFlows("");
      await ovs.setGroups(groups ?? "");
      await ovs.setFlows(flows);
      const engine = new ReferenceEngine(newSwitch(scenario));
      const r = new Random(name.length);
      for (let i = 0; i < N_PACKETS; i++) {
        const packet = r.oneIn(3) ? randomPacket(r) : randomShimPacket(r);
        const inPort = 1 + r.below(N_PORTS);
        const flow = newFlow();
        const layers = newLayers();
        extract(packet, packet.length, inPort, flow, layers);
        if (isDamagedByOvs(packet, layers)) continue;
        const have = shape(engine.handle(inPort, packet, 0).outputs);
        await ovs.appctl("revalidator/purge");
        const want = shape(await ovs.forward(inPort, packet));
        const explain = `packet ${i} from ${inPort}: ${toHex(packet)}`;
        const isSame = have.join() === want.join();
        assert.deepEqual(have, want, isSame ? "" : `${explain}\n${await ovs.trace(inPort, packet)}`);
        assert.equal(shown(traceFlow(engine.sw, flow).text), shown(await ovs.trace(inPort, packet)), explain);
      }
    });
  }
});
