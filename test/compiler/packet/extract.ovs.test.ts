// Differential test of the parser: ovs-ofctl prints the flow of every packet of a capture file; ours must print alike.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { extract, FLOW, get, getBytes, newFlow, newLayers, writePcap } from "#compiler";
import { toHex } from "ebpf-assembler";
import { Ovs } from "../../support/ovs.js";
import { expandIpv6, ovsFlowText } from "../../support/ovs-flow-text.js";
import { randomPackets } from "../../support/random-packets.js";

const flowsByOvs = (packets: readonly Uint8Array[]): string[] => {
  const dir = mkdtempSync(join(tmpdir(), "ofxdp-pcap-"));
  try {
    const file = join(dir, "packets.pcap");
    writeFileSync(
      file,
      writePcap(
        packets.map((packet) => ({ packet })),
        "us",
      ),
    );
    const out = execFileSync("ovs-ofctl", ["parse-pcap", file], { encoding: "utf8", maxBuffer: 1 << 28 });
    return out.trimEnd().split("\n").map(expandIpv6);
  } finally {
    rmSync(dir, { recursive: true });
  }
};

/** Compares the packets one by one; the message names the first one that differs. */
const compare = (packets: readonly Uint8Array[]): void => {
  const theirs = flowsByOvs(packets);
  assert.equal(theirs.length, packets.length);
  const flow = newFlow();
  const layers = newLayers();
  packets.forEach((packet, i) => {
    extract(packet, packet.length, 1, flow, layers);
    assert.equal(ovsFlowText(flow), theirs[i], `packet ${i}: ${toHex(packet)}`);
  });
};

describe("extract()", () => {
  for (const seed of [1, 2, 3, 4]) {
    it(`gives the flow that OVS extracts, 5,000 random packets of seed ${seed}`, () => {
      compare(randomPackets(seed, 5000));
    });
  }

  it("gives the flow that OVS extracts from packets cut off at every byte", () => {
    const cut = randomPackets(7, 120)
      .filter((packet) => packet.length < 200)
      .flatMap((packet) => Array.from({ length: packet.length - 1 }, (_, n) => packet.slice(0, n + 1)));
    assert.ok(cut.length > 3000);
    compare(cut);
  });

  it("gives the flow that OVS extracts for every IP length that a packet can claim", () => {
    const claimed: Uint8Array[] = [];
    for (const packet of randomPackets(9, 400)) {
      const { l3, dlType } = extract(packet, packet.length, 1, newFlow());
      const at = dlType === 0x0800 ? l3 + 2 : dlType === 0x86dd ? l3 + 4 : 0;
      if (at === 0 || at + 2 > packet.length || packet.length > 180) continue;
      for (let length = 0; length <= packet.length - l3; length++) {
        const copy = packet.slice();
        copy.set([length >> 8, length & 0xff], at);
        claimed.push(copy);
      }
    }
    assert.ok(claimed.length > 5000);
    compare(claimed);
  });

  it("gives the ND fields that OVS matches but does not print", async () => {
    const flow = newFlow();
    const packets: Uint8Array[] = [];
    const flows = new Set<string>();
    for (const packet of randomPackets(8, 4000)) {
      const layers = extract(packet, packet.length, 1, flow, newLayers());
      const [type, code] = [get(flow, "tp_src"), get(flow, "tp_dst")];
      const isNd = layers.dlType === 0x86dd && layers.proto === 58 && (type === 135 || type === 136) && code === 0;
      // Look-ups of OVS see no L4 fields of fragments.
      if (!isNd || !layers.complete || layers.frag !== 0) continue;
      packets.push(packet);
      const target = (toHex(getBytes(flow, FLOW.nd_target.at, 128)).match(/.{4}/g) ?? []).join(":");
      const mac = toHex(getBytes(flow, type === 135 ? FLOW.arp_sha.at : FLOW.arp_tha.at, 48)).replace(
        /..(?=.)/g,
        "$&:",
      );
      flows.add(
        `icmp6,icmp_type=${type},icmp_code=0,nd_target=${target},${type === 135 ? "nd_sll" : "nd_tll"}=${mac},` +
          `nd_reserved=${get(flow, "nd_reserved")},nd_options_type=${get(flow, "nd_options_type")},actions=2`,
      );
    }
    assert.ok(packets.length > 100);
    await using ovs = await Ovs.start({ ports: 2 });
    await ovs.setFlows([...flows].join("\n"));
    await ovs.receive(1, ...packets);
    assert.deepEqual(
      ovs.outputs().map((o) => toHex(o.packet)),
      packets.map((p) => toHex(p)),
    );
  });
});
