// Packets that their sender left to be cut into segments, and that get a label in user space: they leave in whole segments.

import assert from "node:assert/strict";
import { extract, HEADERS, newFlow, newLayers, parseFlows, pseudoHeaderSum } from "#compiler";
import { GSO } from "libbpf-ts";
import { buildPacket } from "../support/packet-builder.js";
import { eventually, Lab } from "./lab.js";

const SEGMENT = 1000;
const PAYLOAD = Uint8Array.from({ length: 12_345 }, (_, i) => i * 13);
const LABEL_BYTES = 4;

describe("runtime, labels on GSO packets", function () {
  this.timeout(60_000);

  it("segments them behind the label, loses nothing and counts what it cannot cut", async () => {
    using lab = new Lab(2);
    await lab.silence();
    // A copy to the controller: user space carries the actions out.
    using bridge = lab.bridge({
      failMode: "secure",
      flows: parseFlows("ip,actions=controller,push_mpls:0x8847,set_field:100->mpls_label,output:2"),
    });
    const { sender, ifindex } = lab.sender(1);
    using tx = sender;
    using rx = lab.receiver(2);
    const ends = { dst: Lab.mac(9), src: Lab.mac(1) };
    const ip = { kind: "ipv4", src: "10.0.0.1", dst: "10.9.9.9" } as const;

    const send = (packet: Uint8Array, gsoType: number, checksumOffset: number, headerBytes: number): void => {
      const layers = newLayers();
      extract(packet, packet.length, 1, newFlow(), layers);
      const sum = pseudoHeaderSum(packet, layers);
      packet.set([sum >>> 8, sum & 0xff], layers.l4 + checksumOffset);
      const offload = { checksumStart: layers.l4, checksumOffset, gsoType, gsoSize: SEGMENT };
      tx.queue(ifindex, packet, { ...offload, headerLength: layers.l4 + headerBytes });
      tx.flush();
      assert.deepEqual([...tx.drops], []);
    };

    const l4 = { kind: "tcp", src: 1234, dst: 80, flags: 0x18, payload: PAYLOAD } as const;
    const tcp = buildPacket({ ...ends, vlans: [], l3: { ...ip, l4 } });
    send(tcp, GSO.tcp4, HEADERS.tcp.fields.checksum.byteOffset, HEADERS.tcp.minBytes);
    const headers = HEADERS.ethernet.minBytes + LABEL_BYTES + HEADERS.ipv4.minBytes + HEADERS.tcp.minBytes;
    const pieces: Uint8Array[] = [];
    const size = (): number => pieces.reduce((sum, { length }) => sum + length, 0);
    await eventually(() => {
      for (let packet = rx.receive(); packet !== undefined; packet = rx.receive()) {
        const { data } = packet;
        if (data[12] !== 0x88 || data[13] !== 0x47) continue;
        assert.ok(data.length <= headers + SEGMENT, `${data.length} bytes`);
        assert.equal((data[14]! << 12) | (data[15]! << 4) | (data[16]! >>> 4), 100, "label");
        pieces.push(data.slice(headers));
      }
      return size() >= PAYLOAD.length;
    });
    assert.equal(pieces.length, Math.ceil(PAYLOAD.length / SEGMENT));
    assert.deepEqual(Buffer.concat(pieces), Buffer.from(PAYLOAD));
    assert.equal(bridge.stats.upcalls.gsoRefused, 0);

    const udp = buildPacket({
      ...ends,
      vlans: [],
      l3: { ...ip, l4: { kind: "udp", src: 7, dst: 9, payload: PAYLOAD.subarray(0, 5000) } },
    });
    send(udp, GSO.udpL4, HEADERS.udp.fields.checksum.byteOffset, HEADERS.udp.minBytes);
    assert.ok(await eventually(() => bridge.stats.upcalls.gsoRefused > 0));
  });
});
