// Every action in text: read and printed as ovs-ofctl does, in each version of OpenFlow, and refused where it refuses.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACTION_FLOWS } from "./action-flows.js";
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
    it(`formatFlowMod() prints every action as ${version} carries it (${ACTION_FLOWS.length} flows)`, () => {
      const mods = parseFlowMods(ACTION_FLOWS.join("\n")).filter((mod) => (mod.protocols & allowed) !== 0);
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
    for (const text of ACTION_FLOWS) {
      const { actions } = parseFlow(text);
      const match = text.replace(/actions=.*$/, "");
      const printed = formatActions(actions);
      assert.equal(formatActions(parseFlow(`${match}actions=${printed}`).actions), printed, text);
    }
  });
});
