// Differential test of the parser: ovs-ofctl prints the flow of every packet of a capture file; ours must print alike.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { extract, newFlow, newLayers, writePcap } from "#compiler";
import { toHex } from "ebpf-assembler";
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
});
