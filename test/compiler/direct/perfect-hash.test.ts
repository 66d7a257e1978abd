import assert from "node:assert/strict";
import { compileDirect, parseFlows, Switch } from "#compiler";

const PORTS = [1, 2];

describe("perfectHash()", () => {
  // Where in the key an address lies decides which bits of the hash it reaches first.
  for (const text of [
    "ip,nw_dst=10.0.0.",
    "ip,nw_src=10.0.0.",
    "udp,tp_dst=",
    "udp,tp_src=",
    "arp,arp_tpa=10.0.0.",
    "dl_src=02:00:00:00:00:",
    "dl_dst=02:00:00:00:00:",
  ])
    it(`parts any number of flows with ${text}N`, () => {
      for (const n of [2, 10, 16, 33, 64, 100]) {
        const flows = Array.from({ length: n }, (_, i) => `${text}${i},actions=output:2`);
        const sw = new Switch({ name: "br0", failMode: "secure" });
        for (const number of PORTS) sw.setPort({ number, name: `p${number}`, up: true });
        for (const flow of parseFlows(flows.join("\n"), { file: "test" })) sw.add(flow, 0);
        assert.ok(compileDirect(sw, "xdp").object.programs.length > 0);
      }
    });
});
