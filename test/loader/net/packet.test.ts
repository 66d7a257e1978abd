import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ClosedError, GSO, linux, PacketReceiver, PacketSender, type ReceivedPacket } from "libbpf-ts";
import { checkNoLeaks, frame } from "../fixtures.js";
import { VethLab } from "../lab.js";

/** Ones' complement sum of 16-bit words in network order. */
const sum16 = (bytes: Uint8Array, start = 0): number => {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
};

const [IP_AT, L4_AT, TCP_SIZE] = [14, 34, 20];
const pseudoSum = (packet: Uint8Array, protocol: number): number =>
  sum16(packet.subarray(IP_AT + 12, IP_AT + 20), protocol + packet.length - L4_AT);

/** Ethernet, IPv4 and TCP with `payload` bytes; the TCP checksum is partial. */
const tcpPacket = (payload: number): Uint8Array => {
  const packet = new Uint8Array(L4_AT + TCP_SIZE + payload);
  const view = new DataView(packet.buffer);
  packet.set(frame().subarray(0, 12));
  view.setUint16(12, 0x0800);
  view.setUint8(IP_AT, 0x45);
  view.setUint16(IP_AT + 2, packet.length - IP_AT);
  view.setUint8(IP_AT + 8, 64);
  view.setUint8(IP_AT + 9, 6);
  packet.set([10, 0, 0, 1, 10, 0, 0, 2], IP_AT + 12);
  view.setUint16(IP_AT + 10, ~sum16(packet.subarray(IP_AT, L4_AT)) & 0xffff);
  view.setUint16(L4_AT, 1000);
  view.setUint16(L4_AT + 2, 2000);
  view.setUint8(L4_AT + 12, 0x50);
  view.setUint8(L4_AT + 13, 0x10);
  for (let i = L4_AT + TCP_SIZE; i < packet.length; i++) packet[i] = i;
  view.setUint16(L4_AT + 16, pseudoSum(packet, 6));
  return packet;
};

describe("PacketSender and PacketReceiver", () => {
  checkNoLeaks();
  const sys = linux();

  describe("on a veth pair", () => {
    let lab: VethLab;
    let sender: PacketSender;
    let receiver: PacketReceiver;
    before(() => {
      lab = new VethLab();
      sender = lab.a.ns.run(() => PacketSender.open(sys));
      receiver = lab.b.ns.run(() => PacketReceiver.open(sys, lab.b.interface.index));
    });
    after(() => {
      for (const owned of [receiver, sender, lab]) owned[Symbol.dispose]();
    });
    beforeEach(() => {
      while (receiver.receive() !== undefined);
      sender.drops.clear();
    });
    const index = () => lab.a.interface.index;

    /** Everything of ours that arrives; the kernel's own IPv6 chatter is left out. */
    const received = async (n: number): Promise<ReceivedPacket[]> => {
      const packets: ReceivedPacket[] = [];
      for (let i = 0; i < 200 && packets.length < n; i++) {
        for (let packet = receiver.receive(); packet !== undefined; packet = receiver.receive())
          if (packet.data[0] === 2) packets.push(packet);
        await sleep(1);
      }
      return packets;
    };

    it("carry packets of every size, bytes unchanged and in order", async () => {
      const sizes = Array.from({ length: 300 }, (_, i) => 14 + ((i * 37) % 1500));
      const sent = sizes.map((size, i) => {
        const packet = new Uint8Array(size).fill(i);
        packet.set(frame().subarray(0, 14));
        return packet;
      });
      for (const packet of sent) sender.queue(index(), packet);
      sender.flush();
      const packets = await received(sent.length);
      assert.deepEqual(
        packets.map((p) => p.data),
        sent,
      );
      assert.equal(sender.counters.dropped, 0);
    });

    it("keep VLAN tags, also nested ones", async () => {
      for (const tags of [
        [0x8100, 0x2064],
        [0x88a8, 0x0005, 0x8100, 0xe00a],
      ]) {
        const packet = new Uint8Array(64 + 2 * tags.length);
        const view = new DataView(packet.buffer);
        packet.set(frame().subarray(0, 12));
        [...tags, 0x88b5].forEach((word, i) => view.setUint16(12 + 2 * i, word));
        assert.equal(sender.send(index(), packet), true);
        assert.deepEqual(
          (await received(1)).map((p) => p.data),
          [packet],
        );
      }
    });

    it("drop and count what the kernel refuses, and send the rest", async () => {
      sender.queue(index(), frame());
      sender.queue(9999, frame());
      sender.queue(index(), new Uint8Array(3000).fill(2));
      sender.queue(index(), frame());
      assert.equal(sender.flush(), 2);
      assert.equal((await received(2)).length, 2);
      assert.deepEqual(
        [...sender.drops],
        [
          ["ENXIO", 1],
          ["EMSGSIZE", 1],
        ],
      );
    });

    it("leave a partial checksum to the device", async () => {
      const packet = tcpPacket(100);
      assert.equal(sender.send(index(), packet, { checksumStart: L4_AT, checksumOffset: 16 }), true);
      const [got] = await received(1);
      assert.deepEqual(got, { data: packet, hasPartialChecksum: true });
    });

    it("cut a GSO packet that is larger than the MTU when the device cannot", async () => {
      const packet = tcpPacket(4000);
      const offload = {
        checksumStart: L4_AT,
        checksumOffset: 16,
        gsoType: GSO.tcp4,
        gsoSize: 1000,
        headerLength: L4_AT + TCP_SIZE,
      };
      assert.equal(sender.send(index(), packet, offload), true);
      const [whole] = await received(1);
      assert.equal(whole?.data.length, packet.length, "a veth passes it on whole");
    });

    it("queue() refuses what no packet can be", () => {
      assert.throws(() => sender.queue(index(), new Uint8Array(70_000)), /want at most/);
    });

    it("follow() delivers from the event loop", async () => {
      const got: ReceivedPacket[] = [];
      using _following = receiver.follow((packet) => {
        if (packet.data[0] === 2) got.push(packet);
      });
      sender.send(index(), frame());
      for (let i = 0; i < 500 && got.length === 0; i++) await sleep(1);
      assert.deepEqual(got[0]?.data, frame());
    });

    it("throw after they were closed", () => {
      const closed = PacketSender.open(sys);
      closed[Symbol.dispose]();
      assert.throws(() => closed.send(1, frame()), ClosedError);
    });
  });
});
