import assert from "node:assert/strict";
import { extract, FlowModError, formatOdpFlow, newFlow, parseFlow, Switch, translate } from "#compiler";
import { fromHex } from "ebpf-assembler";

const switchOf = (...flows: readonly string[]): Switch => {
  const sw = new Switch();
  for (const number of [1, 2]) sw.setPort({ number });
  for (const flow of flows) sw.add(parseFlow(flow), 0);
  return sw;
};

const ports = (sw: Switch, packet: string): unknown[] => {
  const flow = newFlow();
  const bytes = fromHex(packet);
  extract(bytes, bytes.length, 1, flow);
  const { actions, error } = translate(sw, flow);
  return error === undefined
    ? actions.map((action) => (action.kind === "output" ? action.port : action.kind))
    : [error];
};

const MACS = "020000000002020000000001";
const MPLS = `${MACS}88470000a1400000b3ff`;
const IPV4 = `${MACS}0800450000140000000040116666c0000201c0000202`;

describe("fields that no packet has here", () => {
  it("are zero when a packet comes in: rules that want more never match", () => {
    for (const [match, port] of [
      ["tun_id=5", 1],
      ["tun_id=0", 2],
      ["tun_dst=10.0.0.1", 1],
      ["ct_state=+trk", 1],
      ["ct_state=-trk", 2],
      ["ct_mark=0/1", 2],
      ["pkt_mark=0", 2],
      ["packet_type=(1,0x800)", 1],
      ["eth", 2],
    ] as const) {
      const sw = switchOf(`priority=2,${match},actions=output:2`, "priority=1,actions=IN_PORT");
      assert.deepEqual(ports(sw, IPV4), [port], match);
    }
  });

  it("keep what an action writes for the tables behind", () => {
    const sw = switchOf(
      "actions=set_field:5->tun_id,load:7->NXM_NX_PKT_MARK[],load:0x12->OXM_OF_PKT_REG1[32..39],resubmit(,1)",
      "table=1,tun_id=5,pkt_mark=7,reg2=0x12,actions=output:2",
    );
    assert.deepEqual(ports(sw, IPV4), [2]);
  });

  it("Switch.add() refuses tunnel options, which no table maps", () => {
    const flow = parseFlow("tun_metadata3=5,actions=drop");
    const isTlv = (error: unknown): boolean =>
      error instanceof FlowModError && error.problem === "invalid_tlv_field" && error.message.includes("tun_metadata3");
    assert.throws(() => switchOf().add(flow, 0), isTlv);
    assert.throws(() => switchOf().delete(flow.match), isTlv);
  });
});

describe("MPLS", () => {
  it("fields of the outermost entry are matched", () => {
    const sw = switchOf(
      "priority=3,mpls,mpls_label=11,actions=drop",
      "priority=2,mpls,mpls_label=10,mpls_tc=0,mpls_bos=1,mpls_ttl=64,actions=output:2",
      "priority=1,actions=IN_PORT",
    );
    assert.deepEqual(ports(sw, MPLS), [2]);
    assert.deepEqual(ports(sw, MPLS.replace("0000a140", "0000a040")), [1]);
    assert.deepEqual(ports(sw, IPV4), [1]);
  });

  it("fields of the outermost entry are written", () => {
    const sw = switchOf(
      "mpls,actions=set_field:3->mpls_label,resubmit(,1)",
      "table=1,mpls,mpls_label=3,mpls_ttl=64,actions=output:2",
    );
    assert.deepEqual(ports(sw, MPLS), ["set", 2]);
  });
});

describe("megaflows of MPLS and NSH", () => {
  const NSH = `${MACS}894f0fc60103000030ff00000001000000020000000300000004`;
  const megaflow = (sw: Switch, packet: string): string => {
    const flow = newFlow();
    const bytes = fromHex(packet);
    extract(bytes, bytes.length, 1, flow);
    return formatOdpFlow(flow, translate(sw, flow).mask).replace(/^.*eth_type\([^)]*\),/, "");
  };

  it("formatOdpFlow() shows the parts that mattered, as OVS does", () => {
    const sw = switchOf(
      "mpls,mpls_label=10,actions=output:2",
      "mplsm,mpls_ttl=64,mpls_bos=1,actions=output:2",
      "dl_type=0x894f,nsh_spi=0x30,nsh_si=255,nsh_c2=2/3,actions=output:2",
    );
    assert.equal(megaflow(sw, MPLS), "mpls(label=10/0xfffff,tc=0/0,ttl=0/0x0,bos=0/0)");
    assert.equal(megaflow(sw, MPLS.replace("8847", "8848")), "mpls(label=0/0x0,tc=0/0,ttl=64/0xff,bos=1/1)");
    assert.equal(megaflow(sw, NSH), "nsh(spi=0x30,si=255,c2=0x2/0x00000003)");
  });
});
