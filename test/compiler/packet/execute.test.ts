// The executor's own guarantees, among them those where OVS 3.1 is no oracle because it damages packets.

import assert from "node:assert/strict";
import {
  PACKET_WORDS_AT,
  completeChecksum,
  crc32c,
  type DpAction,
  ETH_TYPE,
  Executor,
  extract,
  foldSum,
  IP_PROTO,
  type Layers,
  newFlow,
  newLayers,
  NW_FRAG,
  type SetTarget,
  type Sink,
  sumWords,
  TARGET_SIZE,
} from "#compiler";
import { fromHex, RangeViolation, toHex } from "ebpf-assembler";
import {
  buildPacket,
  crc32cOf,
  internetChecksum,
  type PacketSpec,
  pseudoHeader,
} from "../../support/packet-builder.js";
import { Random } from "../../support/random.js";
import { randomPackets } from "../../support/random-packets.js";

const set = (target: SetTarget, bytes: Uint8Array): DpAction => ({
  kind: "set",
  target,
  bytes,
  family: "other",
  proto: 0,
});

const output = (port: number): DpAction => ({ kind: "output", port });

const layersOf = (packet: Uint8Array): Layers => extract(packet, packet.length, 1, newFlow(), newLayers());

/** What the actions send, as copies. */
const run = (packet: Uint8Array, actions: readonly DpAction[], executor = new Executor()): Uint8Array[] => {
  const out: Uint8Array[] = [];
  const sink: Sink = { output: (_, bytes) => out.push(bytes.slice()), controller: () => assert.fail() };
  executor.execute(packet, actions, sink);
  return out;
};

/** Which checksums of a packet are there and right, computed anew by the test's own code. */
const goodChecksums = (packet: Uint8Array): string[] => {
  const { l3, l4, end, proto, frag, dlType, complete, routing } = layersOf(packet);
  const good: string[] = [];
  if (l4 < 0) return good;
  const isIpv4 = dlType === ETH_TYPE.IPV4;
  if (isIpv4 && internetChecksum(packet.subarray(l3, l4)) === 0) good.push("ipv4");
  if (frag !== 0 || !complete || routing) return good;
  const segment = packet.subarray(l4, end);
  if (proto === IP_PROTO.SCTP) {
    const zeroed = segment.slice();
    zeroed.fill(0, 8, 12);
    const stored = new DataView(segment.buffer, segment.byteOffset + 8, 4).getUint32(0, true);
    if (crc32cOf(zeroed) === stored) good.push("sctp");
    return good;
  }
  const [from, size] = isIpv4 ? [l3 + 12, 4] : [l3 + 8, 16];
  const pseudo = pseudoHeader(
    packet.subarray(from, from + size),
    packet.subarray(from + size, from + 2 * size),
    proto,
    end - l4,
  );
  // What the checksum of ICMPv6 in IPv4 covers is defined nowhere.
  const covered: readonly number[] = [IP_PROTO.TCP, IP_PROTO.UDP, ...(isIpv4 ? [] : [IP_PROTO.ICMPV6])];
  if (proto === IP_PROTO.ICMP && internetChecksum(segment) === 0) good.push("icmp");
  if (proto === IP_PROTO.UDP && segment[6] === 0 && segment[7] === 0) good.push("none");
  else if (covered.includes(proto) && internetChecksum(pseudo, segment) === 0) good.push("l4");
  return good;
};

describe("Executor.execute()", () => {
  const packets = randomPackets(31, 1500);
  const executor = new Executor();

  for (const [target, size] of Object.entries(TARGET_SIZE) as [SetTarget, number][]) {
    it(`keeps right checksums right when it sets ${target}`, () => {
      const r = new Random(size);
      let changed = 0;
      for (const packet of packets) {
        const before = goodChecksums(packet);
        const [after] = run(packet, [set(target, r.bytes(size)), output(1)], executor);
        const now = goodChecksums(after!);
        // A new ICMP type may make the packet another one, but its checksum covers the same bytes.
        for (const name of before) assert.ok(now.includes(name), `${name}: ${toHex(packet)} became ${toHex(after!)}`);
        if (toHex(after!) !== toHex(packet)) changed++;
      }
      // The priority is no byte of a packet.
      assert.ok(target === "skb_priority" ? changed === 0 : changed >= 5, `only ${changed} packets were changed`);
    });
  }

  it("changes nothing behind the IP header of a later fragment", () => {
    const later = packets.filter((p) => (layersOf(p).frag & NW_FRAG.LATER) !== 0);
    assert.ok(later.length > 20);
    const r = new Random(1);
    const actions = (Object.entries(TARGET_SIZE) as [SetTarget, number][])
      .filter(([target]) => target !== "vlan_tci")
      .map(([target, size]) => set(target, r.bytes(size)));
    for (const packet of later) {
      const { l4 } = layersOf(packet);
      const [after] = run(packet, [...actions, output(1)], executor);
      assert.equal(toHex(after!.subarray(l4)), toHex(packet.subarray(l4)));
    }
  });

  it("changes nothing behind the end of the IP packet", () => {
    const r = new Random(2);
    const actions = (Object.entries(TARGET_SIZE) as [SetTarget, number][]).map(([target, size]) =>
      set(target, r.bytes(size)),
    );
    for (const packet of packets) {
      const { l4, end } = layersOf(packet);
      if (l4 < 0) continue;
      const [after] = run(packet, [...actions, output(1)], executor);
      assert.equal(toHex(after!.subarray(end)), toHex(packet.subarray(end)));
    }
  });

  it("sets the same bytes behind a tag that was pushed, and where one was popped", () => {
    const r = new Random(3);
    const sets = (Object.entries(TARGET_SIZE) as [SetTarget, number][])
      .filter(([target]) => target !== "vlan_tci")
      .map(([target, size]) => set(target, r.bytes(size)));
    const push: DpAction = { kind: "push_vlan", tpid: 0x88a8, tci: 7 };
    const pop: DpAction = { kind: "pop_vlan" };
    for (const packet of packets) {
      const sent = (...actions: readonly DpAction[]): string =>
        toHex(run(packet, [...actions, output(1)], executor)[0]!);
      const want = sent(...sets, push);
      assert.equal(sent(push, ...sets), want);
      assert.equal(sent(push, pop, ...sets, push), want);
    }
  });

  const udp: PacketSpec = {
    dst: "02:00:00:00:00:02",
    src: "02:00:00:00:00:01",
    l3: {
      kind: "ipv4",
      src: "10.0.0.1",
      dst: "10.0.0.2",
      l4: { kind: "udp", src: 1, dst: 2, payload: fromHex("abcd") },
    },
  };

  it("sends each copy as the packet is at that point, and leaves the caller's packet alone", () => {
    const packet = buildPacket(udp);
    const before = toHex(packet);
    const out = run(packet, [
      output(1),
      set("eth_dst", fromHex("0e0000000001")),
      output(2),
      { kind: "push_vlan", tpid: 0x8100, tci: 0x5005 },
      output(3),
      { kind: "pop_vlan" },
      output(4),
    ]).map((p) => toHex(p));
    const changed = `0e0000000001${before.slice(12)}`;
    assert.deepEqual(out, [before, changed, `${changed.slice(0, 24)}81004005${changed.slice(24)}`, changed]);
    assert.equal(toHex(packet), before);
  });

  it("hands out the caller's bytes themselves while nothing is changed", () => {
    const packet = buildPacket(udp);
    let seen: Uint8Array | undefined;
    new Executor().execute(packet, [{ kind: "pop_vlan" }, output(1)], {
      output: (_, bytes) => (seen = bytes),
      controller: () => assert.fail(),
    });
    assert.equal(seen, packet);
  });

  it("gives the controller the packet as it is and the action", () => {
    const packet = buildPacket(udp);
    const action: DpAction = {
      kind: "controller",
      reason: "action",
      maxLen: 20,
      controllerId: 0,
      table: 3,
      cookie: 5n,
      metadata: new Uint32Array(PACKET_WORDS_AT),
    };
    const seen: unknown[] = [];
    new Executor().execute(packet, [set("eth_src", new Uint8Array(6)), action], {
      output: () => assert.fail(),
      controller: (a, bytes) => seen.push(a, toHex(bytes.subarray(0, 14))),
    });
    assert.deepEqual(seen, [action, "0200000000020000000000000800"]);
  });

  it("does not change layers that the caller passes", () => {
    const packet = buildPacket(udp);
    const layers = layersOf(packet);
    const before = { ...layers };
    const actions: DpAction[] = [{ kind: "push_vlan", tpid: 0x8100, tci: 5 }, set("nw_ttl", fromHex("09")), output(1)];
    const out: string[] = [];
    new Executor().execute(
      packet,
      actions,
      { output: (_, bytes) => out.push(toHex(bytes)), controller: () => assert.fail() },
      layers,
    );
    assert.deepEqual(layers, before);
    assert.deepEqual(out, run(packet, actions).map(toHex));
  });

  it("does nothing to a packet of less than 14 bytes", () => {
    assert.deepEqual(run(new Uint8Array(13), [output(1)]), []);
  });

  it("pushes no tag in front of what is too short for one", () => {
    const push: DpAction = { kind: "push_vlan", tpid: 0x8100, tci: 5 };
    assert.deepEqual(run(new Uint8Array(16).fill(2), [{ kind: "pop_eth" }, push, output(1)]), [Uint8Array.of(2, 2)]);
  });

  it("refuses more tags than it has room for", () => {
    const push: DpAction = { kind: "push_vlan", tpid: 0x8100, tci: 1 };
    assert.equal(run(buildPacket(udp), [...Array<DpAction>(64).fill(push), output(1)])[0]!.length, 44 + 256);
    assert.throws(() => run(buildPacket(udp), Array<DpAction>(65).fill(push)), RangeViolation);
  });

  it("finds a link-layer option behind another option", () => {
    const packet = buildPacket({
      ...udp,
      l3: {
        kind: "ipv6",
        src: "fd00::1",
        dst: "fd00::2",
        l4: {
          kind: "nd",
          type: 135,
          target: "fd00::2",
          options: [Uint8Array.of(14, 2, ...new Uint8Array(14)), { type: 1, mac: "02:00:00:00:00:0a" }],
        },
      },
    });
    const [after] = run(packet, [set("nd_sll", fromHex("0e0000000001")), output(1)]);
    assert.ok(toHex(after!).endsWith("01010e0000000001"));
    assert.deepEqual(goodChecksums(after!), ["l4"]);
  });

  it("sends a UDP checksum that becomes 0 as 0xffff, and leaves none as none", () => {
    const checksum = (p: Uint8Array): string => toHex(p.subarray(40, 42));
    const packet = buildPacket(udp);
    const port = (packet[34]! << 8) | packet[35]!;
    // Raising the source port by the checksum brings the sum to its zero.
    const sum = port + ((packet[40]! << 8) | packet[41]!);
    const folded = (sum & 0xffff) + (sum >> 16);
    const [after] = run(packet, [set("tp_src", Uint8Array.of(folded >> 8, folded & 0xff)), output(1)]);
    assert.equal(checksum(after!), "ffff");
    assert.deepEqual(goodChecksums(after!), ["ipv4", "l4"]);
    const unchecked = packet.slice();
    unchecked.fill(0, 40, 42);
    const [none] = run(unchecked, [set("tp_src", fromHex("1234")), set("nw_src", fromHex("0b000001")), output(1)]);
    assert.equal(checksum(none!), "0000");
  });
});

describe("completeChecksum()", () => {
  it("completes a checksum that holds the pseudo-header sum, and no other", () => {
    let completed = 0;
    for (const packet of randomPackets(41, 2000)) {
      const layers = layersOf(packet);
      const { l3, l4, end, proto, dlType } = layers;
      const fits = (proto === IP_PROTO.TCP || proto === IP_PROTO.UDP) && goodChecksums(packet).includes("l4");
      const original = packet.slice();
      assert.equal(completeChecksum(packet, layers), false, toHex(original));
      assert.deepEqual(packet, original);
      if (!fits) continue;
      const from = dlType === ETH_TYPE.IPV4 ? l3 + 12 : l3 + 8;
      const size = dlType === ETH_TYPE.IPV4 ? 4 : 16;
      const pseudo = pseudoHeader(
        packet.subarray(from, from + size),
        packet.subarray(from + size, from + 2 * size),
        proto,
        end - l4,
      );
      const sum = ~internetChecksum(pseudo) & 0xffff;
      packet.set([sum >> 8, sum & 0xff], l4 + (proto === IP_PROTO.TCP ? 16 : 6));
      assert.equal(completeChecksum(packet, layers), true);
      assert.equal(toHex(packet), toHex(original));
      completed++;
    }
    assert.ok(completed > 100);
  });
});

describe("crc32c() and sumWords()", () => {
  it("crc32c() gives the check value of the CRC catalogue and agrees with the bitwise form", () => {
    assert.equal(crc32c(new TextEncoder().encode("123456789"), 0, 9), 0xe3069283);
    const bytes = new Random(3).bytes(300);
    assert.equal(crc32c(bytes, 7, 290), crc32cOf(bytes.subarray(7, 290)));
  });

  it("sumWords() of the example of RFC 1071 section 3", () => {
    assert.equal(foldSum(sumWords(fromHex("0001f203f4f5f6f7"), 0, 8)), 0xddf2);
    assert.equal(sumWords(fromHex("010203"), 0, 3), 0x0402);
  });
});
