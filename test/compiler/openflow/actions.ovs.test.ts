// Every action in text: read and printed as ovs-ofctl does, in each version of OpenFlow, and refused where it refuses.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatActions, formatFlowMod, parseFlow, parseFlowLines, parseFlowMods, PROTOCOL } from "#compiler";

/** Protocols that a version of ovs-ofctl stands for. */
const VERSIONS = {
  OpenFlow10: PROTOCOL["OpenFlow10-table_id"] | PROTOCOL["OpenFlow10+table_id"],
  OpenFlow11: PROTOCOL.OpenFlow11,
  OpenFlow12: PROTOCOL.OpenFlow12,
  OpenFlow13: PROTOCOL.OpenFlow13,
  OpenFlow14: PROTOCOL.OpenFlow14,
  OpenFlow15: PROTOCOL.OpenFlow15,
} as const;

const ACCEPTED = [
  "ip,actions=decap()",
  "ip,actions=debug_recirc",
  "ip,actions=note:11.22",
  "ip,actions=note:",
  "ip,actions=note:11.22.33.44.55.66.77",
  "ip,actions=note:1122 33",
  "ip,actions=dec_ttl(0)",
  "ip,actions=dec_ttl(1,2)",
  "ip,actions=dec_ttl",
  "actions=dec_ttl",
  "ip,actions=resubmit:3",
  "ip,actions=resubmit(3,4)",
  "ip,actions=resubmit(,4)",
  "ip,actions=enqueue:1:2",
  "ip,actions=enqueue(1,2)",
  "ip,actions=enqueue:LOCAL:5,enqueue:IN_PORT:0",
  "ip,actions=set_tunnel:5",
  "ip,actions=set_tunnel:0x123456789",
  "ip,actions=set_tunnel64:5",
  "ip,actions=clone()",
  "ip,actions=clone(1,2),3",
  "ip,actions=clone(clone(1),set_field:1.2.3.4->ip_dst,2)",
  "ip,actions=push_vlan:0x8100,clone(1)",
  "ip,actions=clone(push_vlan:0x88a8)",
  "ip,actions=ct()",
  "ip,actions=ct(commit)",
  "tcp,actions=ct(commit,force,zone=5,table=1,alg=ftp)",
  "udp,actions=ct(commit,alg=tftp)",
  "ip,actions=ct(zone=reg0[0..15],table=0)",
  "ip,actions=ct(zone=NXM_NX_REG1[0..14],table=0)",
  "ip,actions=ct(nat)",
  "ip,actions=ct(commit,nat(src=1.1.1.1))",
  "ip,actions=ct(commit,nat(src=1.1.1.1-1.1.1.5:80-90,random))",
  "ip,actions=ct(commit,nat(dst=1.1.1.1-1.1.1.1:80,hash,persistent))",
  "ipv6,actions=ct(commit,nat(src=[fe80::1]-[fe80::5]:80-90,random))",
  "ipv6,actions=ct(commit,nat(src=fe80::1-fe80::5))",
  "ip,actions=ct(commit,nat(src))",
  "ip,actions=ct(commit,nat(src,hash))",
  "ip,actions=ct(nat(src=1.1.1.1))",
  "ip,actions=ct(commit,exec(set_field:5->ct_mark))",
  "ip,actions=ct(commit,exec(set_field:5->ct_mark),nat(src=1.2.3.4))",
  "ip,actions=ct(commit,nat(src=1.2.3.4),exec(load:5->NXM_NX_CT_MARK[],move:NXM_NX_REG0[]->NXM_NX_CT_LABEL[0..31]))",
  "ip,actions=ct_clear",
  "ip,actions=dec_nsh_ttl",
  "ip,actions=encap(nsh(md_type=2,tlv(0x1000,10,0x12345678)))",
  "ip,actions=encap(nsh(md_type=1))",
  "ip,actions=encap(nsh)",
  "ip,actions=encap(ethernet)",
  "ip,actions=encap(mpls)",
  "ip,actions=encap(mpls_mc),encap(ethernet)",
  "ip,actions=decap",
  "ip,actions=decap(packet_type(ns=1,type=0x8847))",
  "ip,actions=decap(packet_type(ns=0,type=0))",
  "ip,actions=decap(),dec_ttl",
  "ip,actions=meter:1,1",
  "ip,actions=bundle(eth_src,0,hrw,ofport,members:1,2)",
  "ip,actions=bundle(symmetric_l4,60,hrw,ofport,slaves:2,3)",
  "ip,actions=bundle(symmetric_l3l4+udp,60,active_backup,ofport,members:[2, 3])",
  "ip,actions=bundle(symmetric_l3, 7, active_backup, ofport, members:4,8,LOCAL)",
  "ip,actions=bundle(nw_src,0,hrw,ofport,members:)",
  "ip,actions=bundle(nw_dst,65537,hrw,ofport,members:1)",
  "ip,actions=bundle_load(symmetric_l4,60,hrw,ofport,NXM_NX_REG0[],members:2,3)",
  "ip,actions=bundle_load(eth_src,0,hrw,ofport,reg0[16..31],members:1)",
  "ip,actions=bundle_load(eth_src,0,hrw,ofport,reg0[16..30],members:1)",
  "ip,actions=multipath(eth_src, 50, modulo_n, 1, 0, NXM_NX_REG0[])",
  "ip,actions=multipath(symmetric_l4,1024,iter_hash,10,5,NXM_NX_REG2[0..3])",
  "ip,actions=multipath(nw_src,0,hrw,65536,0,reg3[0..15])",
  "ip,actions=learn()",
  "ip,actions=learn(table=2,idle_timeout=10,hard_timeout=20,fin_idle_timeout=5,fin_hard_timeout=10,priority=99,cookie=0x55,send_flow_rem,delete_learned,limit=5,result_dst=reg0[5],NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[],load:10->NXM_NX_REG0[5..10])",
  "ip,actions=learn(eth_type=0x800,nw_proto=6,load:NXM_NX_REG0[]->NXM_NX_REG1[],load:0->reg2[])",
  "ip,actions=learn(eth_type=0x800,ip_src=1.2.3.4,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[])",
  "ip,actions=learn(eth_dst=00:11:22:33:44:55,in_port=5)",
  "ip,actions=learn(reg0[0..7]=5,reg1[0..7]=0x55)",
  "ip,actions=learn(reg0[0..7]=0,reg1=0)",
  "tcp,actions=learn(eth_type=0x800,nw_proto=6,tcp_src=80,NXM_OF_TCP_DST[])",
  "ip,actions=learn(metadata,NXM_OF_VLAN_TCI[],vlan_vid,vlan_vid=5)",
  "ip,actions=learn(limit=-1,priority=70000,cookie=010)",
  "ip,actions=conjunction(1,1/2)",
  "ip,actions=conjunction(0xffffffff, 1 / 64),conjunction(3,2/2),note:00",
  "ip,actions=conjunction(-1,1/2)",
  "ip,actions=output:reg0[0..15]",
  "ip,actions=output:NXM_OF_IN_PORT[]",
  "ip,actions=output(port=1,max_len=100)",
  "ip,actions=output(max_len=100,port=LOCAL)",
  "ip,actions=output(port=IN_PORT,max_len=14)",
  "ip,actions=sample(probability=1)",
  "ip,actions=sample(probability=12345,collector_set_id=1,obs_domain_id=2,obs_point_id=0x33,sampling_port=1,ingress)",
  "ip,actions=sample(probability=1,sampling_port=LOCAL,egress)",
  "ip,actions=controller(userdata=01.02,pause,meter_id=3)",
  "ip,actions=controller(userdata=)",
  "ip,actions=controller(max_len=100,reason=invalid_ttl,id=5)",
  "ip,actions=controller(max_len=100,pause)",
  "ip,actions=controller(meter_id=0)",
  "ip,actions=controller:100,controller()",
  "ip,actions=exit,1",
  "ip,actions=output_reg:reg0",
  "ip,actions=delete_field:tun_metadata1",
  "ip,actions=check_pkt_larger(100)->reg0[0]",
  "ip,actions=fin_timeout(idle_timeout=1)",
  "tcp,actions=fin_timeout(idle_timeout=1,hard_timeout=0x10)",
  "tcp,actions=fin_timeout()",
  "tcp,actions=fin_timeout",
  "ip,actions=push_mpls:0x8847,set_mpls_label:5,set_mpls_tc:3,set_mpls_ttl:64,dec_mpls_ttl,pop_mpls:0x800",
  "ip,actions=push_mpls:0x8848",
  "ip,actions=push_mpls:0x800",
  "ip,actions=set_mpls_label:5",
  "mpls,actions=set_mpls_label(0xfffff),set_mpls_tc(7)",
  "mpls,actions=pop_mpls:0x0800,dec_ttl",
  "mpls,actions=dec_mpls_ttl,set_mpls_ttl:0",
  "ip,actions=push_mpls:0x8847,dec_ttl",
  "ip,actions=write_actions(clone(1))",
  "ip,actions=write_actions(note:00)",
  "ip,actions=write_actions(1,push_vlan:0x8100,dec_ttl,set_field:1.2.3.4->ip_src,ct_clear)",
  "ip,actions=push:NXM_NX_REG0[0..5],pop:reg1[3..8]",
  "ip,actions=push(NXM_OF_IP_SRC[]),pop(NXM_OF_IP_DST[])",
  "tcp,actions=push:NXM_OF_TCP_SRC[],push:nw_ttl",
  "ip,actions=set_queue:5,1,pop_queue",
  "ip,actions=set_queue:0xffffffff",
  "ipv6,actions=load:5->ipv6_label[]",
  "ipv6,actions=load:5->ipv6_label[0..9],set_field:0x3/0x7->ipv6_label",
  "ip,actions=move:NXM_OF_IP_SRC[0..15]->NXM_NX_REG0[16..31]",
  "ip,actions=group:5,GROUP:6",
  "ip,actions=Output:1,Resubmit(,2),EXIT",
  "ct_state=+trk+new,ip,actions=resubmit(,4,ct)",
  "tcp,ct_state=+est,actions=resubmit(3,4,ct)",
  "ct_state=+trk-inv,ip,actions=resubmit(,4,ct)",
  "mpls,actions=set_field:5->mpls_label,set_field:3->mpls_tc,dec_mpls_ttl",
  "actions=set_field:5->xreg0,set_field:0x1234->xxreg1,load:5->xxreg0[64..127],move:xreg0[]->xreg1[]",
  "actions=push:xxreg0,pop:xxreg1[0..63]",
  "actions=set_field:1->tun_metadata0",
  "actions=set_field:10.1.1.1->tun_dst,set_field:5->tun_id,load:5->NXM_NX_TUN_ID[]",
  "actions=set_field:5->pkt_mark,load:3->NXM_NX_PKT_MARK[0..3]",
  "dl_type=0x894f,actions=set_field:5->nsh_ttl,set_field:0x10/0x30->nsh_flags,load:1->nsh_c1[],dec_nsh_ttl",
  "actions=learn(table=2,eth_type=0x8847,mpls_label=5,load:3->NXM_NX_XXREG0[5..70])",
  "dl_type=0x894f,actions=output:nsh_c1[]",
  "dl_type=0x894f,actions=push:nsh_c1[],pop:nsh_c2[]",
  "dl_type=0x894f,actions=move:nsh_c1[]->nsh_c2[]",
  "dl_type=0x894f,actions=decap(),decap(),1",
  "ip,vlan_tci=0x1000/0x1000,actions=load:5->OXM_OF_VLAN_PCP[]",
  "ip,vlan_tci=0x1000/0x1000,actions=load:5->OXM_OF_VLAN_VID[]",
  "ip,actions=load:5->OXM_OF_IP_DSCP[]",
  "ip,actions=load:1->NXM_NX_IP_ECN[]",
  "ip,actions=load:5->NXM_OF_IP_TOS[]",
  "ip,actions=load:4->NXM_OF_IP_TOS[0..5]",
  "icmp6,icmp_type=136,icmp_code=0,actions=load:4->nd_reserved",
  "ip,vlan_tci=0x1000/0x1000,actions=set_field:5->vlan_pcp,set_field:0x1005->vlan_vid",
  "ip,vlan_tci=0x1000/0x1000,actions=set_field:0x1005/0x1fff->vlan_vid",
  "ip,vlan_tci=0x1000/0x1000,actions=set_field:0x1005/0x1005->vlan_vid",
  "ip,vlan_tci=0x1000/0x1000,actions=set_field:0x5/0x5->vlan_vid",
  "ip,actions=set_field:5->in_port",
  "ip,actions=set_field:5->in_port_oxm",
];

const REFUSED = [
  "ip,actions=note:1",
  "ip,actions=resubmit(,4,ct)",
  "ip,actions=resubmit(3,,ct)",
  "ip,ct_state=+trk,actions=resubmit(,4,ct)",
  "ip,actions=resubmit(,)",
  "ip,actions=resubmit:IN_PORT",
  "ip,actions=enqueue:FLOOD:5",
  "ip,actions=enqueue:1",
  "ip,actions=clone(write_metadata:5)",
  "ip,actions=clone(meter:1)",
  "ip,actions=ct(commit,force,zone=5,table=1,alg=ftp)",
  "ip,actions=ct(force)",
  "ip,actions=ct(commit,nat(src=fe80::1))",
  "ip,actions=ct(commit,nat(src,dst))",
  "ip,actions=ct(commit,nat(hash))",
  "ip,actions=ct(commit,nat(src=1.1.1.5-1.1.1.1))",
  "ip,actions=ct(commit,exec(set_field:5->reg0))",
  "ip,actions=ct(table=255)",
  "ip,actions=ct(bogus)",
  "actions=ct()",
  "ip,actions=nat",
  "ip,actions=encap(foo)",
  "ip,actions=encap()",
  "ip,actions=encap(nsh(foo=1))",
  "ip,actions=encap(nsh(md_type=3))",
  "ip,actions=decap(packet_type(ns=7,type=0))",
  "ip,actions=1,meter:1",
  "ip,actions=meter:0",
  "ip,actions=meter:1,meter:2",
  "ip,actions=bundle(xx,0,hrw,ofport,members:1)",
  "ip,actions=bundle(nw_dst,0,hrw,ofport)",
  "ip,actions=bundle(nw_dst,0,hrw,ofport,members:CONTROLLER)",
  "ip,actions=multipath(symmetric_l4,1024,iter_hash,17,5,NXM_NX_REG2[0..3])",
  "ip,actions=multipath(nw_src,0,hash_threshold,0,0,reg3[0..15])",
  "ip,actions=multipath(nw_src,0,hash_threshold,5,0)",
  "ip,actions=learn(ip_src=1.2.3.4)",
  "ip,actions=learn(NXM_OF_IP_DST[]=NXM_OF_IP_SRC[])",
  "ip,actions=learn(reg0[0..7]=256)",
  "ip,actions=learn(table=255)",
  "ip,actions=learn(foo)",
  "ip,actions=learn(load:5)",
  "ip,actions=learn(load:->reg0)",
  "ip,actions=learn(load:5->reg0[0..1])",
  "ip,actions=learn(output:5)",
  "ip,actions=learn(reg0=reg1[0..3])",
  "ip,actions=learn(NXM_OF_TCP_DST[])",
  "ip,actions=learn(result_dst=reg0[0..1])",
  "ip,actions=conjunction(1,0/2)",
  "ip,actions=conjunction(1,3/2)",
  "ip,actions=conjunction(1,1/1)",
  "ip,actions=conjunction(1,1/65)",
  "ip,actions=conjunction(1,1/2),1",
  "ip,actions=output:foo",
  "ip,actions=output(port=FLOOD,max_len=14)",
  "ip,actions=output(port=1,max_len=13)",
  "ip,actions=output(port=65280,max_len=14)",
  "ip,actions=sample(probability=0)",
  "ip,actions=sample()",
  "ip,actions=sample(foo=1)",
  "ip,actions=controller(userdata=0102 03.)",
  "ip,actions=controller(userdata=1)",
  "ip,actions=exit,drop",
  "ip,actions=unroll_xlate",
  "ip,actions=output_trunc:1",
  "ip,actions=delete_field:reg0",
  "ip,actions=check_pkt_larger(100)->reg0[0..1]",
  "ip,actions=check_pkt_larger(100)->reg0",
  "ip,actions=check_pkt_larger(70000)->reg0[1]",
  "ip,actions=write_metadata:5,meter:1",
  "mpls,actions=set_mpls_label:0x100000",
  "ip,actions=write_actions(meter:1)",
  "ip,actions=write_actions(goto_table:1)",
  "ip,actions=push:eth_type,pop:eth_type",
  "actions=push:NXM_OF_TCP_SRC[]",
  "ip,actions=set_queue:foo",
  "ip,actions=load:5->ipv6_label",
  "ct_state=+trk,actions=resubmit(,4,ct)",
  "dl_type=0x894f,actions=learn(table=2,nsh_spi=5)",
  "actions=multipath(eth_src,0,hrw,4,0,nsh_c1)",
];

/** What ovs-ofctl prints for each flow behind `ADD `; undefined where it cannot read what it sent. */
const ovsParse = (version: string, flows: readonly string[]): (string | undefined)[] => {
  const scratch = mkdtempSync(join(tmpdir(), "ofxdp-actions-"));
  try {
    const file = join(scratch, "flows.txt");
    writeFileSync(file, `${flows.join("\n")}\n`);
    const { stdout, stderr, status } = spawnSync("ovs-ofctl", ["-O", version, "parse-flows", file], {
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    const printed = stdout.split("\n").filter((line) => line.includes("_FLOW_MOD"));
    assert.equal(printed.length, flows.length);
    return printed.map((line) => (line.includes("decode error") ? undefined : line.replace(/^.*?: ADD /, "")));
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

describe("actions in text against ovs-ofctl", function () {
  this.timeout(60_000);

  for (const [version, allowed] of Object.entries(VERSIONS)) {
    it(`formatFlowMod() prints every action as ${version} carries it (${ACCEPTED.length} flows)`, () => {
      const mods = parseFlowMods(ACCEPTED.join("\n")).filter((mod) => (mod.protocols & allowed) !== 0);
      const texts = mods.map((mod) => mod.flow.source!.text);
      const wanted = ovsParse(version, texts);
      for (const [i, mod] of mods.entries()) {
        assert.equal(formatFlowMod(mod, { protocols: allowed }), wanted[i], texts[i]);
      }
      assert.ok(mods.length > 50);
    });
  }

  it(`parseFlowLines() refuses what OVS refuses (${REFUSED.length} flows)`, () => {
    for (const result of parseFlowLines(REFUSED.join("\n"))) {
      assert.ok(result.error !== undefined, `accepts ${result.line.text}`);
    }
    const every = Object.keys(VERSIONS).join(",");
    for (const flow of REFUSED) {
      const { status } = spawnSync("ovs-ofctl", ["-O", every, "parse-flow", flow], { encoding: "utf8" });
      assert.notEqual(status, 0, `OVS accepts ${flow}`);
    }
  });

  it("formatActions() prints what parseFlow() reads back", () => {
    for (const text of ACCEPTED) {
      const { actions } = parseFlow(text);
      const match = text.replace(/actions=.*$/, "");
      const printed = formatActions(actions);
      assert.equal(formatActions(parseFlow(`${match}actions=${printed}`).actions), printed, text);
    }
  });
});
