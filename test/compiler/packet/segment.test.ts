import assert from "node:assert/strict";
import {
  extract,
  findUnderLabels,
  foldSum,
  HEADERS,
  newFlow,
  newLayers,
  pseudoHeaderSum,
  segmentTcp,
  sumWords,
} from "#compiler";
import { concatBytes } from "ebpf-assembler";
import { buildPacket } from "../../support/packet-builder.js";

const PAYLOAD = Uint8Array.from({ length: 3210 }, (_, i) => i * 7);
const TCP_BYTES = HEADERS.tcp.minBytes;

/** A super-packet; all flags but RST and SYN. */
const packet = (type: number, ip: Uint8Array): Uint8Array => {
  const tcp = new Uint8Array(TCP_BYTES + PAYLOAD.length);
  tcp.set([0, 80, 0, 81, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 9, 0x50, 0xf9, 1, 0, 0x55, 0x55, 0, 0]);
  tcp.set(PAYLOAD, TCP_BYTES);
  const payload = concatBytes(ip, tcp);
  const length = type === 0x0800 ? payload.length : payload.length - 40;
  new DataView(payload.buffer).setUint16(type === 0x0800 ? 2 : 4, length);
  return buildPacket({
    dst: "02:00:00:00:00:02",
    src: "02:00:00:00:00:01",
    snap: false,
    vlans: [],
    l3: { kind: "raw", type, payload },
  });
};

const CASES = [
  ["IPv4", packet(0x0800, Uint8Array.of(0x45, 0, 0, 0, 0xff, 0xfe, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2))],
  ["IPv6", packet(0x86dd, Uint8Array.of(0x60, 0, 0, 0, 0, 0, 6, 64, ...new Array<number>(32).fill(5)))],
] as const;

/** The packet with labels in front of its IP header. */
const labelled = (whole: Uint8Array, labels: Uint8Array): Uint8Array => {
  const packet = concatBytes(whole.subarray(0, 14), labels, whole.subarray(14));
  packet.set([0x88, 0x47], 12);
  return packet;
};

/** Two labels, the second at the bottom. */
const LABELS = Uint8Array.of(0, 1, 0x20, 64, 0, 0x02, 0x01, 63);

describe("findUnderLabels()", () => {
  for (const [name, whole] of CASES) {
    it(`${name}: finds the packet behind labels, which is cut into the same segments`, () => {
      const layers = newLayers();
      extract(whole, whole.length, 1, newFlow(), layers);
      const want = segmentTcp(whole, layers, 1000)!.map((segment) => labelled(segment, LABELS));
      const packet = labelled(whole, LABELS);
      extract(packet, packet.length, 1, newFlow(), layers);
      assert.ok(findUnderLabels(packet, layers));
      assert.deepEqual(segmentTcp(packet, layers, 1000), want);
    });
  }

  it("finds nothing without labels, behind a stack without a bottom, and behind one that carries no IP", () => {
    const [, whole] = CASES[0];
    for (const packet of [
      whole,
      labelled(whole, Uint8Array.of(0, 1, 0x20, 64)).subarray(0, 20),
      labelled(whole.with(14, 0x55), LABELS),
      labelled(whole, LABELS).subarray(0, 22),
    ]) {
      const layers = newLayers();
      extract(packet, packet.length, 1, newFlow(), layers);
      assert.equal(findUnderLabels(packet, layers), false);
    }
  });
});

describe("segmentTcp()", () => {
  for (const [name, whole] of CASES) {
    it(`${name}: segments hold the payload once and in order, with whole checksums`, () => {
      const layers = newLayers();
      extract(whole, whole.length, 1, newFlow(), layers);
      const segments = segmentTcp(whole, layers, 1000)!;
      assert.equal(segments.length, 4);
      const payloads = segments.map((segment, i) => {
        const own = newLayers();
        extract(segment, segment.length, 1, newFlow(), own);
        assert.equal(own.end, segment.length);
        const view = new DataView(segment.buffer);
        assert.equal(view.getUint32(own.l4 + 4), (0xffff_ff00 + 1000 * i) >>> 0, "sequence number");
        // FIN and PSH on the last, CWR on the first.
        assert.equal(segment[own.l4 + 13], 0xf9 & ~(i < 3 ? 0x09 : 0) & ~(i > 0 ? 0x80 : 0), `flags of segment ${i}`);
        assert.equal(foldSum(sumWords(segment, own.l4, own.end, pseudoHeaderSum(segment, own))), 0xffff);
        if (name === "IPv4") {
          assert.equal(foldSum(sumWords(segment, own.l3, own.l4)), 0xffff);
          assert.equal(view.getUint16(own.l3 + 4), (0xfffe + i) & 0xffff, "identification");
        }
        return segment.subarray(own.l4 + TCP_BYTES);
      });
      assert.deepEqual(concatBytes(...payloads), PAYLOAD);
    });
  }

  it("refuses what is no whole TCP packet", () => {
    const layers = newLayers();
    const udp = buildPacket({
      ...{ dst: "02:00:00:00:00:02", src: "02:00:00:00:00:01", snap: false, vlans: [] },
      l3: {
        kind: "ipv4",
        src: "10.0.0.1",
        dst: "10.0.0.2",
        tos: 0,
        ttl: 64,
        dontFragment: false,
        l4: { kind: "udp", src: 1, dst: 2, payload: new Uint8Array(9) },
      },
    });
    extract(udp, udp.length, 1, newFlow(), layers);
    assert.equal(segmentTcp(udp, layers, 100), undefined);
  });
});
