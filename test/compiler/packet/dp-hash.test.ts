// The hashes in a packet's flow are those that OVS's functions give, for every packet that is IP.

import assert from "node:assert/strict";
import { extract, fillHashes, get, hash5Tuple, hashInt, newFlow, symmetricL3L4 } from "#compiler";
import { randomPackets } from "../../support/random-packets.js";

describe("fillHashes()", () => {
  it("gives the hashes of OVS for IP packets and 0 for others, and extract() has them", () => {
    const seen = { ip: 0, other: 0 };
    for (const packet of randomPackets(5, 4000)) {
      const flow = newFlow();
      extract(packet, packet.length, 1, flow);
      const isIp = [0x0800, 0x86dd].includes(get(flow, "dl_type"));
      seen[isIp ? "ip" : "other"]++;
      const hashes = (): number[] => [get(flow, "hash_l4"), get(flow, "hash_sym_l4")];
      const want = isIp ? [hashInt(hash5Tuple(flow, 0), 0), symmetricL3L4(flow, 0, false)] : [0, 0];
      assert.deepEqual(hashes(), want);
      fillHashes(flow);
      assert.deepEqual(hashes(), want);
    }
    assert.ok(seen.ip > 1000 && seen.other > 300, JSON.stringify(seen));
  });
});
