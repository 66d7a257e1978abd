// Differential test of the executor: a real Open vSwitch gets flows that rewrite one thing each and random packets; what
// it sends out must be what the executor makes of the same packets, byte for byte.

import assert from "node:assert/strict";
import { type DpAction, ETH_TYPE, Executor, extract, type Layers, newFlow, newLayers, type SetTarget } from "#compiler";
import { fromHex, toHex } from "ebpf-assembler";
import { isDamagedByOvs } from "../../support/ovs-damage.js";
import { Ovs } from "../../support/ovs.js";
import { randomPackets } from "../../support/random-packets.js";

const set = (target: SetTarget, hex: string): DpAction => ({
  kind: "set",
  target,
  bytes: fromHex(hex),
  family: "other",
  proto: 0,
});

interface Row {
  /** What the flow matches. */
  readonly match: string;
  /** Which packets that is. */
  readonly takes: (layers: Layers, packet: Uint8Array) => boolean;
  /** OpenFlow actions before the output. */
  readonly of: string;
  /** The same as datapath actions. */
  readonly dp: readonly DpAction[];
}

const ofType =
  (type: number, proto?: number) =>
  (layers: Layers): boolean =>
    layers.dlType === type &&
    (proto === undefined || layers.proto === proto) &&
    (proto === undefined || layers.l4 >= 0);

const any = (): boolean => true;
const tagged = (layers: Layers): boolean => layers.nVlans > 0;
const ip = ofType(ETH_TYPE.IPV4);
const ipv6 = ofType(ETH_TYPE.IPV6);
const isArp = ofType(ETH_TYPE.ARP);
const nd =
  (type: number) =>
  (layers: Layers, packet: Uint8Array): boolean =>
    layers.dlType === ETH_TYPE.IPV6 &&
    layers.proto === 58 &&
    layers.complete &&
    // Look-ups of OVS see no L4 fields of a first fragment (fragment mode "normal").
    layers.frag === 0 &&
    packet[layers.l4] === type &&
    packet[layers.l4 + 1] === 0;

const NS = "icmp6,icmp_type=135,icmp_code=0";
const NA = "icmp6,icmp_type=136,icmp_code=0";
const MAC = "0e:99:88:77:66:55";
const MAC_HEX = "0e9988776655";
const IP6_HEX = "20010db8000000000000000000000077";

const l4Rows = (["tcp", "udp", "sctp"] as const).flatMap((name, i): Row[] =>
  ([ETH_TYPE.IPV4, ETH_TYPE.IPV6] as const).map((type) => ({
    match: type === ETH_TYPE.IPV4 ? name : `${name}6`,
    takes: ofType(type, [6, 17, 132][i]!),
    of: `set_field:4660->${name}_src,set_field:80->${name}_dst`,
    dp: [set("tp_src", "1234"), set("tp_dst", "0050")],
  })),
);

const ROWS: readonly Row[] = [
  { match: "", takes: any, of: `set_field:${MAC}->eth_dst`, dp: [set("eth_dst", MAC_HEX)] },
  { match: "", takes: any, of: `set_field:${MAC}->eth_src`, dp: [set("eth_src", MAC_HEX)] },
  {
    // On top of two tags OVS takes the second one off: the translator's business, not the executor's.
    match: "vlan_tci=0",
    takes: (layers) => layers.nVlans === 0,
    of: "push_vlan:0x88a8,set_field:0x1123->vlan_vid",
    dp: [{ kind: "push_vlan", tpid: 0x88a8, tci: 0x1123 }],
  },
  { match: "vlan_tci=0x1000/0x1000", takes: tagged, of: "pop_vlan", dp: [{ kind: "pop_vlan" }] },
  {
    match: "vlan_tci=0x1000/0x1000",
    takes: tagged,
    of: "set_field:0x1234->vlan_vid,set_field:5->vlan_pcp",
    dp: [set("vlan_tci", "b234")],
  },
  { match: "ip", takes: ip, of: "set_field:203.0.113.9->ip_src", dp: [set("nw_src", "cb007109")] },
  { match: "ip", takes: ip, of: "set_field:203.0.113.9->ip_dst", dp: [set("nw_dst", "cb007109")] },
  { match: "ip", takes: ip, of: "set_field:42->ip_dscp,set_field:1->nw_ecn", dp: [set("nw_tos", "a9")] },
  { match: "ip", takes: ip, of: "set_field:77->nw_ttl", dp: [set("nw_ttl", "4d")] },
  { match: "ipv6", takes: ipv6, of: "set_field:2001:db8::77->ipv6_src", dp: [set("ipv6_src", IP6_HEX)] },
  { match: "ipv6", takes: ipv6, of: "set_field:2001:db8::77->ipv6_dst", dp: [set("ipv6_dst", IP6_HEX)] },
  { match: "ipv6", takes: ipv6, of: "set_field:42->ip_dscp,set_field:1->nw_ecn", dp: [set("nw_tos", "a9")] },
  { match: "ipv6", takes: ipv6, of: "set_field:77->nw_ttl", dp: [set("nw_ttl", "4d")] },
  { match: "ipv6", takes: ipv6, of: "set_field:0xabcde->ipv6_label", dp: [set("ipv6_label", "000abcde")] },
  ...l4Rows,
  { match: "icmp", takes: ofType(ETH_TYPE.IPV4, 1), of: "set_field:11->icmp_type", dp: [set("icmp_type", "0b")] },
  { match: "icmp", takes: ofType(ETH_TYPE.IPV4, 1), of: "set_field:7->icmp_code", dp: [set("icmp_code", "07")] },
  { match: "icmp6", takes: ofType(ETH_TYPE.IPV6, 58), of: "set_field:4->icmpv6_type", dp: [set("icmp_type", "04")] },
  { match: "icmp6", takes: ofType(ETH_TYPE.IPV6, 58), of: "set_field:7->icmpv6_code", dp: [set("icmp_code", "07")] },
  { match: "arp", takes: isArp, of: "set_field:2->arp_op", dp: [set("arp_op", "0002")] },
  { match: "arp", takes: isArp, of: "set_field:203.0.113.9->arp_spa", dp: [set("arp_spa", "cb007109")] },
  { match: "arp", takes: isArp, of: "set_field:203.0.113.9->arp_tpa", dp: [set("arp_tpa", "cb007109")] },
  { match: "arp", takes: isArp, of: `set_field:${MAC}->arp_sha`, dp: [set("arp_sha", MAC_HEX)] },
  { match: "arp", takes: isArp, of: `set_field:${MAC}->arp_tha`, dp: [set("arp_tha", MAC_HEX)] },
  { match: NS, takes: nd(135), of: "set_field:2001:db8::77->nd_target", dp: [set("nd_target", IP6_HEX)] },
  { match: NA, takes: nd(136), of: "set_field:2001:db8::77->nd_target", dp: [set("nd_target", IP6_HEX)] },
  { match: NS, takes: nd(135), of: `set_field:${MAC}->nd_sll`, dp: [set("nd_sll", MAC_HEX)] },
  { match: NA, takes: nd(136), of: `set_field:${MAC}->nd_tll`, dp: [set("nd_tll", MAC_HEX)] },
  { match: NA, takes: nd(136), of: "set_field:0xe0000000->nd_reserved", dp: [set("nd_reserved", "e0000000")] },
  { match: NS, takes: nd(135), of: "set_field:2->nd_options_type", dp: [set("nd_options_type", "02")] },
  {
    match: "tcp,vlan_tci=0",
    takes: (layers) => layers.nVlans === 0 && ofType(ETH_TYPE.IPV4, 6)(layers),
    of: `set_field:${MAC}->eth_src,set_field:203.0.113.9->ip_src,set_field:203.0.113.7->ip_dst,set_field:1->nw_ttl,set_field:8080->tcp_dst,push_vlan:0x8100,set_field:0x1007->vlan_vid`,
    dp: [
      set("eth_src", MAC_HEX),
      set("nw_src", "cb007109"),
      set("nw_dst", "cb007107"),
      set("nw_ttl", "01"),
      set("tp_dst", "1f90"),
      { kind: "push_vlan", tpid: 0x8100, tci: 0x1007 },
    ],
  },
  {
    match: "udp6,vlan_tci=0x1000/0x1000",
    takes: (layers) => tagged(layers) && ofType(ETH_TYPE.IPV6, 17)(layers),
    of: "pop_vlan,set_field:2001:db8::77->ipv6_src,set_field:2001:db8::77->ipv6_dst,set_field:9->udp_src",
    dp: [{ kind: "pop_vlan" }, set("ipv6_src", IP6_HEX), set("ipv6_dst", IP6_HEX), set("tp_src", "0009")],
  },
];

/** OVS writes nothing from L3 on into a packet whose nw_proto is 0 (commit_set_nw_action); the translator will not ask to. */
const isWritten = (layers: Layers, dp: readonly DpAction[]): boolean =>
  layers.proto !== 0 || dp.every((a) => a.kind !== "set" || /^(eth|vlan|arp_op)/.test(a.target));

describe("Executor.execute() against Open vSwitch", () => {
  let ovs: Ovs;
  before(async () => {
    ovs = await Ovs.start({ ports: 2 });
  });
  after(() => ovs.stop());

  const packets = randomPackets(21, 3000);
  const flow = newFlow();
  const layers = newLayers();
  const executor = new Executor();

  for (const { match, takes, of, dp } of ROWS) {
    it(`sends the same bytes for ${match === "" ? "all packets" : match}: ${of}`, async () => {
      const targets = dp.flatMap((a) => (a.kind === "set" ? [a.target] : []));
      const sent: Uint8Array[] = [];
      const want: string[] = [];
      for (const packet of packets) {
        extract(packet, packet.length, 1, flow, layers);
        if (!takes(layers, packet) || isDamagedByOvs(packet, layers, targets)) continue;
        if (match === "" && sent.length >= 400) break;
        sent.push(packet);
        const actions: DpAction[] = [...(isWritten(layers, dp) ? dp : []), { kind: "output", port: 2 }];
        executor.execute(packet, actions, {
          output: (port, bytes) => {
            assert.equal(port, 2);
            want.push(toHex(bytes));
          },
          controller: () => assert.fail("no controller action"),
        });
      }
      assert.ok(sent.length >= 10, `only ${sent.length} packets`);
      await ovs.setFlows(`${match === "" ? "" : `${match},`}actions=${of},2`);
      const ask = async (): Promise<string[]> => {
        ovs.outputs();
        await ovs.receive(1, ...sent);
        return ovs.outputs().map((o) => toHex(o.packet));
      };
      let got = await ask();
      if (got.some((hex, i) => hex !== want[i])) {
        // A megaflow of the flows before can outlive the change of tables: what OVS says without it counts.
        await ovs.appctl("revalidator/purge");
        got = await ask();
      }
      assert.equal(got.length, sent.length);
      got.forEach((hex, i) => assert.equal(want[i], hex, `packet ${toHex(sent[i]!)}`));
    });
  }
});
