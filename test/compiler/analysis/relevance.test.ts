import assert from "node:assert/strict";
import {
  extract,
  keyLayout,
  lookupMask,
  missingMembers,
  newFlow,
  parseFlows,
  relevantMembers,
  Switch,
  translate,
} from "#compiler";

/** Ethernet and an IPv4 or IPv6 packet of a protocol, L4 bytes zero but a TCP header's length. */
const packet = (family: 4 | 6, proto: number): Uint8Array => {
  const bytes = new Uint8Array(96);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
  if (family === 4) bytes.set([8, 0, 0x45, 0, 0, 82, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 12);
  else bytes.set([0x86, 0xdd, 0x60, 0, 0, 0, 0, 42, proto, 64], 12);
  bytes[(family === 4 ? 34 : 54) + 12] = 0x50;
  return bytes;
};
const PACKETS = [1, 6, 17, 47].map((proto) => packet(4, proto)).concat([6, 17, 58].map((proto) => packet(6, proto)));

describe("relevantMembers()", () => {
  for (const flow of [
    "ip,actions=dec_ttl,output:2",
    "ipv6,actions=dec_ttl,output:2",
    "ip,actions=mod_nw_src:1.2.3.4,output:2",
    "ip,actions=mod_nw_dst:1.2.3.4,output:2",
    "ip,actions=mod_nw_tos:32,output:2",
    "ip,actions=mod_nw_ecn:2,output:2",
    "ip,actions=mod_nw_ttl:7,output:2",
    "ip,actions=set_field:1.2.3.4->ip_dst,output:2",
    "ipv6,actions=set_field:fd00::9->ipv6_dst,output:2",
    "ip,actions=load:5->NXM_NX_IP_TTL[],output:2",
    "ip,actions=move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[],output:2",
    "udp,actions=mod_tp_dst:53,output:2",
    "tcp6,actions=mod_tp_src:53,output:2",
    "actions=mod_dl_src:02:00:00:00:00:09,output:2",
    "actions=NORMAL",
  ]) {
    it(`forecasts every member that translating with ${flow} looks at`, () => {
      const sw = new Switch({ name: "br0" });
      for (const number of [1, 2]) sw.setPort({ number, name: `p${number}`, up: true });
      for (const one of parseFlows(`${flow}\npriority=0 actions=drop`)) sw.add(one, 0);
      // As the cache of a datapath has it: fragment bits only where L4 matters.
      const members = relevantMembers(sw);
      const layout = keyLayout(members.has("nw_proto") ? new Set([...members, "nw_frag"]) : members);
      for (const bytes of PACKETS) {
        const key = newFlow();
        extract(bytes, bytes.length, 1, key);
        assert.deepEqual(missingMembers(layout, lookupMask(key, translate(sw, key))), []);
      }
    });
  }
});
