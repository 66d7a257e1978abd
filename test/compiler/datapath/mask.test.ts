import assert from "node:assert/strict";
import { extract, get, lookupMask, newFlow, parseFlows, Switch, translate } from "#compiler";
import { buildPacket } from "../../support/packet-builder.js";

const udp = buildPacket({
  dst: "02:00:00:00:00:01",
  src: "02:00:00:00:00:02",
  l3: { kind: "ipv4", src: "10.0.0.1", dst: "10.0.0.2", l4: { kind: "udp", src: 53, dst: 53 } },
});

/** Fragment bits that a look-up for `udp` keeps under these flows. */
const fragmentBits = (flows: string): number => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of [1, 2]) sw.setPort({ number });
  for (const flow of parseFlows(flows)) sw.add(flow, 0);
  const flow = newFlow();
  extract(udp, udp.length, 1, flow);
  return get(lookupMask(flow, translate(sw, flow)), "nw_frag");
};

describe("lookupMask()", () => {
  const rows: readonly { name: string; flows: string; want: number }[] = [
    { name: "leaves the fragment bits out where nothing of L4 matters", flows: "ip,actions=2", want: 0 },
    { name: "keeps them where a port matters", flows: "udp,tp_dst=53,actions=2", want: 3 },
    {
      name: "keeps them where a rule matches them",
      flows: "priority=2,ip,ip_frag=no,actions=2\npriority=1,ip,actions=drop",
      want: 3,
    },
    { name: "keeps them where an action sets a port", flows: "udp,actions=mod_tp_dst:1,2", want: 3 },
  ];
  for (const { name, flows, want } of rows) it(name, () => assert.equal(fragmentBits(flows), want));
});
