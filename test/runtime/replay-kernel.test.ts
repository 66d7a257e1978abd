import assert from "node:assert/strict";
import { fromHex, toHex } from "ebpf-assembler";
import { parseFlows, referenceReplay, Switch, vmReplay, type MakeReplayEngine } from "#compiler";
import { kernelReplay } from "#runtime";

const FLOWS = `table=0,priority=10,ip,nw_dst=10.0.2.0/24 actions=dec_ttl,mod_dl_src:02:00:00:00:00:fe,goto_table:1
table=0,priority=5,dl_vlan=7 actions=strip_vlan,output:3,output:2
table=0,priority=1 actions=push_vlan:0x8100,mod_vlan_vid:20,goto_table:1
table=1,dl_dst=02:00:00:00:00:03 actions=output:3
table=1,priority=0 actions=controller`;

const IP = "02000000000302000000000108004500001400000000400126e70a0000010a000207";
const ARP = "0200000000030200000000010806000108000604000102000000000102030405000000000000060708090000";
const TAGGED = "0200000000090200000000018100000708004500001400000000400125e70a0000010a000307";

const replay = (make: MakeReplayEngine, hook: "xdp" | "tc"): unknown[] => {
  const sw = new Switch();
  for (const number of [1, 2, 3]) sw.setPort({ number });
  for (const flow of parseFlows(FLOWS)) sw.add(flow, 0);
  using engine = make(sw, { hook });
  return [IP, ARP, TAGGED, IP, ARP, TAGGED].map((packet) => {
    const { outputs, controller } = engine.handle(1, fromHex(packet), 0);
    return {
      outputs: outputs.map((o) => `${o.port} ${toHex(o.packet)}`).sort(),
      controller: controller.map((c) => toHex(c.packet)),
    };
  });
};

describe("kernelReplay()", () => {
  for (const hook of ["xdp", "tc"] as const) {
    it(`sends what the reference and the interpreter send, at ${hook}`, () => {
      const want = replay(referenceReplay, hook);
      assert.ok(want.every((one) => (one as { outputs: string[] }).outputs.length > 0));
      assert.deepEqual(replay(vmReplay, hook), want);
      assert.deepEqual(replay(kernelReplay, hook), want);
    });
  }
});
