// Rules of the parser that OVS's printed flow does not show, and the layers.

import assert from "node:assert/strict";
import { extract, FLOW, FLOW_WORDS, type FlowWords, get, getBytes, type Layers, newFlow, newLayers } from "#compiler";
import { toHex } from "ebpf-assembler";
import { buildPacket, type L4Spec, type PacketSpec } from "../../support/packet-builder.js";
import { randomPackets } from "../../support/random-packets.js";

const MACS = { dst: "02:00:00:00:00:02", src: "02:00:00:00:00:01" } as const;

const parse = (packet: Uint8Array): { flow: FlowWords; layers: Layers } => {
  const flow = newFlow();
  return { flow, layers: extract(packet, packet.length, 7, flow, newLayers()) };
};

const ipv6 = (l4: L4Spec): PacketSpec => ({ ...MACS, l3: { kind: "ipv6", src: "fd00::1", dst: "fd00::2", l4 } });

const sll = { type: 1, mac: "02:00:00:00:00:0a" } as const;
const other = { type: 1, mac: "02:00:00:00:00:0b" } as const;
const zero = { type: 1, mac: "00:00:00:00:00:00" } as const;
const tll = { type: 2, mac: "02:00:00:00:00:0c" } as const;

describe("extract(), neighbour discovery", () => {
  const target = "00".repeat(15) + "99";
  const rows = [
    { name: "no option", options: [], want: [target, 0, "00".repeat(6), "00".repeat(6)] },
    { name: "one option", options: [sll], want: [target, 1, "02000000000a", "00".repeat(6)] },
    {
      name: "both options: the first one's kind",
      options: [tll, sll],
      want: [target, 2, "02000000000a", "02000000000c"],
    },
    {
      name: "an option twice: the kind only",
      options: [sll, other],
      want: ["00".repeat(16), 1, "00".repeat(6), "00".repeat(6)],
    },
    {
      name: "an option again after a zero MAC",
      options: [zero, sll],
      want: [target, 1, "02000000000a", "00".repeat(6)],
    },
    {
      name: "an option of length 0 ends the list",
      options: [new Uint8Array(8), sll],
      want: [target, 0, "00".repeat(6), "00".repeat(6)],
    },
    {
      name: "an option over the end ends the list",
      options: [sll, Uint8Array.of(2, 2, 0, 0, 0, 0, 0, 1)],
      want: [target, 1, "02000000000a", "00".repeat(6)],
    },
    {
      name: "other options and link-layer addresses of other sizes are skipped",
      options: [Uint8Array.of(1, 2, ...new Uint8Array(14)), Uint8Array.of(14, 1, 0, 0, 0, 0, 0, 0), tll],
      want: [target, 2, "00".repeat(6), "02000000000c"],
    },
  ] as const;
  for (const { name, options, want } of rows) {
    it(`parses ${name}`, () => {
      const { flow } = parse(
        buildPacket(ipv6({ kind: "nd", type: 135, reserved: 0x80000001, target: "::99", options })),
      );
      assert.equal(get(flow, "nd_reserved"), 0x80000001);
      assert.deepEqual(
        [
          toHex(getBytes(flow, FLOW.nd_target.at, 128)),
          get(flow, "nd_options_type"),
          toHex(getBytes(flow, FLOW.arp_sha.at, 48)),
          toHex(getBytes(flow, FLOW.arp_tha.at, 48)),
        ],
        want,
      );
    });
  }

  it("keeps nd_reserved when the target is cut off", () => {
    const { flow, layers } = parse(
      buildPacket(
        ipv6({ kind: "icmpv6", type: 136, code: 0, rest: 0xe0000000, payload: new Uint8Array(15).fill(0xff) }),
      ),
    );
    assert.equal(get(flow, "nd_reserved"), 0xe0000000);
    assert.equal(toHex(getBytes(flow, FLOW.nd_target.at, 128)), "00".repeat(16));
    assert.ok(layers.complete);
  });

  it("leaves nd_reserved 0 for other messages", () => {
    const { flow } = parse(buildPacket(ipv6({ kind: "icmpv6", type: 135, code: 1, rest: 5 })));
    assert.equal(get(flow, "nd_reserved"), 0);
  });
});

describe("extract(), layers", () => {
  const udp: L4Spec = { kind: "udp", src: 1, dst: 2, payload: new Uint8Array(4) };

  it("finds L3, L4 and the end of the payload before padding", () => {
    const { layers } = parse(
      buildPacket({
        ...MACS,
        vlans: [{ tci: 5 }],
        minSize: 100,
        l3: { kind: "ipv4", src: "10.0.0.1", dst: "10.0.0.2", options: new Uint8Array(8), l4: udp },
      }),
    );
    const want = { nVlans: 1, dlType: 0x0800, l3: 18, l4: 46, end: 58, proto: 17, frag: 0, complete: true };
    assert.deepEqual(layers, { ...want, nExtHeaders: 0, routing: false, fault: "none" });
  });

  it("walks IPv6 extension headers and notices an active routing header", () => {
    const { layers } = parse(
      buildPacket({
        ...MACS,
        l3: {
          kind: "ipv6",
          src: "fd00::1",
          dst: "fd00::2",
          ext: [{ kind: "hopopts" }, { kind: "routing", segmentsLeft: 1 }, { kind: "fragment", offset: 0, more: true }],
          l4: udp,
        },
      }),
    );
    assert.deepEqual(
      [layers.l4, layers.end, layers.proto, layers.frag, layers.nExtHeaders, layers.routing],
      [14 + 40 + 24, 14 + 40 + 24 + 12, 17, 1, 3, true],
    );
  });

  it("says why it stopped", () => {
    const whole = buildPacket({ ...MACS, l3: { kind: "ipv4", src: "10.0.0.1", dst: "10.0.0.2", l4: udp } });
    const bad = (override: NonNullable<PacketSpec["override"]>): Uint8Array =>
      buildPacket({ ...MACS, override, l3: { kind: "ipv4", src: "10.0.0.1", dst: "10.0.0.2", l4: udp } });
    assert.equal(parse(whole).layers.fault, "none");
    assert.equal(parse(whole.subarray(0, 13)).layers.fault, "runt");
    assert.equal(parse(whole.subarray(0, 40)).layers.fault, "ip");
    assert.equal(parse(bad({ ipv4: { totalLength: 27 } })).layers.fault, "l4");
  });

  it("gives a flow of in_port alone for less than an Ethernet header", () => {
    const { flow } = parse(new Uint8Array(13).fill(0xff));
    assert.equal(get(flow, "in_port"), 7);
    assert.equal(flow.filter((word) => word !== 0).length, 1);
  });

  it("overwrites every word of a flow and of layers used before", () => {
    const flow = newFlow();
    const layers = newLayers();
    for (const packet of randomPackets(11, 500)) {
      const fresh = parse(packet);
      flow.fill(0xdeadbeef, 0, FLOW_WORDS);
      assert.deepEqual(extract(packet, packet.length, 7, flow, layers), fresh.layers);
      assert.deepEqual(flow, fresh.flow);
    }
  });

  it("looks at no byte beyond the length given", () => {
    const flow = newFlow();
    for (const packet of randomPackets(12, 500)) {
      const longer = new Uint8Array(packet.length + 64).fill(0xff);
      longer.set(packet);
      extract(longer, packet.length, 7, flow, newLayers());
      assert.deepEqual(flow, parse(packet).flow);
    }
  });
});
