import assert from "node:assert/strict";
import {
  PACKET_WORDS_AT,
  carrierOf,
  extract,
  formatOdpActions,
  formatOdpFlow,
  newFlow,
  orderActionSet,
  PORT,
  set,
  unwildcard,
  type Action,
  type DpAction,
} from "#compiler";
import { fromHex } from "ebpf-assembler";

type SetAction = Extract<DpAction, { kind: "set" }>;
const put = (target: SetAction["target"], hex: string, family: SetAction["family"] = "other", proto = 0): DpAction => ({
  kind: "set",
  target,
  bytes: fromHex(hex),
  family,
  proto,
});
const out = (port: number): DpAction => ({ kind: "output", port });
const copy: DpAction = {
  ...{ kind: "controller", reason: "action", maxLen: 128, controllerId: 0, table: 0, cookie: 5n },
  metadata: new Uint32Array(PACKET_WORDS_AT),
};

describe("formatOdpActions()", () => {
  const rows: readonly (readonly [string, readonly DpAction[]])[] = [
    ["drop", []],
    ["1,LOCAL", [out(1), out(PORT.LOCAL)]],
    [
      "set(eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)),set(ipv4(ttl=63)),2",
      [put("eth_src", "020000000001"), put("eth_dst", "020000000002"), put("nw_ttl", "3f", "ipv4"), out(2)],
    ],
    [
      "set(ipv6(dst=fd00::1,tclass=0x20,hlimit=1)),set(tcp(src=80))",
      [
        put("ipv6_dst", "fd000000000000000000000000000001", "ipv6", 6),
        put("nw_tos", "20", "ipv6"),
        put("nw_ttl", "01", "ipv6"),
        put("tp_src", "0050", "ipv6", 6),
      ],
    ],
    ["set(arp(sip=10.0.0.1,op=2))", [put("arp_spa", "0a000001", "arp"), put("arp_op", "0002", "arp")]],
    [
      "pop_vlan,push_vlan(vid=10,pcp=3),push_vlan(tpid=0x88a8,vid=0,pcp=0)",
      [
        { kind: "pop_vlan" },
        { kind: "push_vlan", tpid: 0x8100, tci: 0x600a },
        { kind: "push_vlan", tpid: 0x88a8, tci: 0 },
      ],
    ],
    [
      "userspace(pid=0,controller(reason=1,dont_send=0,continuation=0,recirc_id=0,rule_cookie=0x5,controller_id=0,max_len=128))",
      [copy],
    ],
  ];
  for (const [text, actions] of rows) it(`writes ${text}`, () => assert.equal(formatOdpActions(actions), text));
});

describe("formatOdpFlow()", () => {
  const flow = newFlow();
  extract(
    fromHex(
      "020000000002020000000001810060" + "0a080045000020000000004011b6aa0a0000010a00000200350035000c000000000000",
    ),
    50,
    1,
    flow,
  );

  it("shows what matters, nested as tags are", () => {
    const mask = newFlow();
    for (const member of ["in_port", "dl_type", "vlan0_tci", "dl_dst", "nw_frag", "tp_dst"] as const)
      unwildcard(mask, member);
    set(mask, "nw_dst", 0xffff0000);
    assert.equal(
      formatOdpFlow(flow, mask),
      "recirc_id(0),in_port(1),eth(dst=02:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x0800),ipv4(dst=10.0.0.0/255.255.0.0,frag=no),udp(dst=53))",
    );
  });

  it("shows no tag that did not matter, and says when the absence of one did", () => {
    const mask = newFlow();
    for (const member of ["in_port", "dl_type"] as const) unwildcard(mask, member);
    assert.equal(formatOdpFlow(flow, mask), "recirc_id(0),in_port(1),eth(),eth_type(0x0800)");
    const untagged = flow.slice();
    for (const member of ["vlan0_tpid", "vlan0_tci"] as const) set(untagged, member, 0);
    set(mask, "vlan0_tci", 0x1000);
    assert.equal(formatOdpFlow(untagged, mask), "recirc_id(0),in_port(1),eth(),vlan(none),eth_type(0x0800)");
  });
});

describe("carrierOf()", () => {
  const edit = put("eth_dst", "020000000002");
  const rows: readonly (readonly [string, readonly DpAction[], string, RegExp | undefined])[] = [
    ["a drop", [], "xdp", undefined],
    ["edits and one output", [edit, out(1)], "xdp", undefined],
    ["two outputs", [out(1), out(2)], "tc", /^2 outputs: XDP cannot clone$/],
    [
      "two outputs with an edit between",
      [out(1), edit, out(2)],
      "tc",
      /^2 outputs with different edits: XDP cannot clone$/,
    ],
    ["a copy to the controller", [copy, out(1)], "slow", /controller/],
    ["a neighbour discovery option", [put("nd_sll", "020000000002", "ipv6", 58), out(1)], "slow", /nd_sll/],
  ];
  for (const [name, actions, hook, why] of rows) {
    it(`gives ${name} to ${hook}`, () => {
      const carriage = carrierOf(actions);
      assert.equal(carriage.hook, hook);
      if (why === undefined) assert.equal(carriage.why, undefined);
      else assert.match(carriage.why!, why);
      assert.equal(carriage.slow !== undefined, hook === "slow");
    });
  }
});

describe("orderActionSet()", () => {
  const output = (port: number): Action => ({ kind: "output", port, maxLen: 0 });
  const push: Action = { kind: "push_vlan", ethertype: 0x8100 };
  const ttl: Action = { kind: "set_ip_ttl", ttl: 9 };
  const group: Action = { kind: "group", group: 1 };

  it("pushes before it sets, sends last, and keeps the last output only", () => {
    assert.deepEqual(orderActionSet([output(1), ttl, output(2), push]), [push, ttl, output(2)]);
  });
  it("prefers a group to an output", () => assert.deepEqual(orderActionSet([group, output(1)]), [group]));
  it("does nothing without something that sends", () => assert.deepEqual(orderActionSet([push, ttl]), []));
});
