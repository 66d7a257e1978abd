// Real input: captures of real traffic through switches that people would build, by all executions, with equal results
// packet by packet. Real packets have what generators forget: PPPoE, trailers, odd options, cut off captures. What comes
// out is checked by itself, too: a rewrite must leave checksums right where they were right before.

import assert from "node:assert/strict";
import { extract, newFlow, newLayers, parseFlows, parseGroups, ReferenceEngine, Switch, type Hook } from "#compiler";
import { concatBytes, toHex } from "ebpf-assembler";
import { CAPTURE_PORTS, CAPTURE_TABLES, captureRun, captureSamples, type CaptureTable } from "../support/captures.js";
import { Executions } from "../support/executions.js";
import { internetChecksum, pseudoHeader } from "../support/packet-builder.js";

const switchOf = ({ flows, groups }: CaptureTable): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of CAPTURE_PORTS) sw.setPort({ number });
  for (const group of parseGroups(groups)) sw.addGroup(group, 0);
  for (const flow of parseFlows(flows)) sw.add(flow, 0);
  return sw;
};

const TCP = 6;
const UDP = 17;
const ICMP = 1;

/** Whether the checksums of a whole, unfragmented packet are right; undefined where that cannot be said. */
const hasGoodChecksums = (packet: Uint8Array): boolean | undefined => {
  const layers = newLayers();
  extract(packet, packet.length, 1, newFlow(), layers);
  const { l3, l4, end, proto, frag, complete } = layers;
  if (l4 < 0 || frag !== 0 || !complete) return undefined;
  const body = packet.subarray(l4, end);
  const isIpv4 = packet[l3]! >>> 4 === 4;
  const claimed = isIpv4 ? (packet[l3 + 2]! << 8) | packet[l3 + 3]! : 40 + ((packet[l3 + 4]! << 8) | packet[l3 + 5]!);
  // Cut off, or a UDP packet without a checksum.
  if (claimed !== end - l3 || (proto === UDP && body[6] === 0 && body[7] === 0)) return undefined;
  const [src, dst] = isIpv4 ? [l3 + 12, l3 + 16] : [l3 + 8, l3 + 24];
  const size = isIpv4 ? 4 : 16;
  const pseudo = pseudoHeader(packet.subarray(src, src + size), packet.subarray(dst, dst + size), proto, body.length);
  if (isIpv4 && internetChecksum(packet.subarray(l3, l4)) !== 0) return false;
  if (proto === ICMP && isIpv4) return internetChecksum(body) === 0;
  if (proto !== TCP && proto !== UDP) return undefined;
  return internetChecksum(concatBytes(pseudo, body)) === 0;
};

describe("captures of real traffic", function () {
  this.timeout(120_000);

  for (const table of CAPTURE_TABLES) {
    for (const hook of ["xdp", "tc"] as const satisfies readonly Hook[]) {
      it(`run alike through reference, interpreter and kernel at ${hook}: ${table.name}`, () => {
        using executions = new Executions(hook, CAPTURE_PORTS);
        const samples = captureRun();
        const { hit, slow } = executions.run(table.name, () => switchOf(table), samples);
        assert.ok(samples.length > 450, `only ${samples.length} packets`);
        assert.ok(hit + slow > samples.length / 3, `only ${hit + slow} of ${samples.length} packets met a megaflow`);
      });
    }
  }

  it("keep right checksums through rewrites of addresses, ports and TTL", () => {
    const campus = CAPTURE_TABLES.find(({ name }) => name === "a campus network")!;
    const reference = new ReferenceEngine(switchOf(campus));
    let rewritten = 0;
    captureSamples().forEach(({ inPort, packet }, i) => {
      const isGood = hasGoodChecksums(packet);
      for (const output of reference.handle(inPort, packet, i).outputs) {
        if (isGood !== true || toHex(output.packet) === toHex(packet)) continue;
        rewritten++;
        assert.ok(hasGoodChecksums(output.packet), `packet ${i}: ${toHex(packet)} became ${toHex(output.packet)}`);
      }
    });
    assert.ok(rewritten > 50, `only ${rewritten} packets with right checksums were rewritten`);
  });

  it("come out of a trunk and back as they went in", () => {
    const vlans = CAPTURE_TABLES.find(({ name }) => name === "VLANs pushed and popped")!;
    const reference = new ReferenceEngine(switchOf(vlans));
    const fromPort1 = captureSamples().filter(({ inPort }) => inPort === 1);
    assert.ok(fromPort1.length > 50, `only ${fromPort1.length} packets by port 1`);
    fromPort1.forEach(({ packet }, i) => {
      const out = reference.handle(1, packet, i).outputs;
      assert.deepEqual(
        out.map(({ port, packet: sent }) => [port, toHex(sent.subarray(12, 16))]),
        [[4, "8100000a"]],
      );
      const back = reference.handle(4, out[0]!.packet, i).outputs;
      assert.deepEqual(
        back.map(({ port, packet: sent }) => `${port}:${toHex(sent)}`),
        [`1:${toHex(packet)}`],
      );
    });
  });
});
