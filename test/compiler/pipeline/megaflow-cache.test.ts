// How few megaflows traffic needs: the measure of staged look-up and prefix tries.

import assert from "node:assert/strict";
import {
  applyFlowMod,
  FLOW,
  MegaflowCache,
  newFlow,
  parseFlowMods,
  set,
  setBits,
  Switch,
  type FlowWords,
} from "#compiler";
import { Random } from "../../support/random.js";

const tcp = (src: number, dst: number, srcPort: number, dstPort: number): FlowWords => {
  const flow = newFlow();
  set(flow, "in_port", 1);
  setBits(flow, FLOW.dl_src.at + 16, 32, src);
  setBits(flow, FLOW.dl_dst.at + 16, 32, dst);
  set(flow, "dl_type", 0x0800);
  set(flow, "nw_proto", 6);
  set(flow, "nw_ttl", 64);
  set(flow, "nw_src", src);
  set(flow, "nw_dst", dst);
  set(flow, "tp_src", srcPort);
  set(flow, "tp_dst", dstPort);
  return flow;
};

describe("MegaflowCache", () => {
  it("needs at most 15 megaflows and 14 masks for the four rules of NSDI'15 and 400 sessions", () => {
    const sw = new Switch();
    for (const number of [1, 2]) sw.setPort({ number });
    const table = [
      "priority=1,arp,actions=NORMAL",
      "priority=2,ip,nw_dst=11.1.1.1/16,actions=output:2",
      "priority=4,tcp,nw_dst=9.1.1.1,tp_src=10,tp_dst=10,actions=output:2",
      "priority=3,ip,nw_dst=9.1.1.1/24,actions=output:2",
    ].join("\n");
    for (const mod of parseFlowMods(table)) applyFlowMod(sw, mod, 0);
    const cache = new MegaflowCache(sw);
    const r = new Random(1);
    const [client, server] = [0x0a000001, 0x09010101];
    for (let session = 0; session < 400; session++) {
      const port = r.between(1024, 65535);
      for (let exchange = 0; exchange < 5; exchange++) {
        cache.handle(tcp(client, server, port, 12865), 64);
        cache.handle(tcp(server, client, 12865, port), 64);
      }
    }
    const masks = new Set([...cache].map(({ match }) => match.mask.join()));
    assert.ok(cache.size <= 15, `${cache.size} megaflows`);
    assert.ok(masks.size <= 14, `${masks.size} masks`);
  });

  it("says hit, miss and slow, counts, and forgets all when the switch changes", () => {
    const sw = new Switch();
    sw.setPort({ number: 1 });
    const apply = (text: string): void => parseFlowMods(text).forEach((mod) => void applyFlowMod(sw, mod, 0));
    apply("tcp,actions=controller\nudp,actions=IN_PORT");
    const cache = new MegaflowCache(sw);
    const udp = tcp(1, 2, 3, 4);
    set(udp, "nw_proto", 17);
    assert.equal(cache.handle(udp, 60).path, "miss");
    const { path, megaflow } = cache.handle(udp, 70);
    assert.equal(path, "hit");
    assert.deepEqual([megaflow.packets, megaflow.bytes], [2, 130]);
    cache.handle(tcp(1, 2, 3, 4), 60);
    assert.equal(cache.handle(tcp(1, 2, 3, 4), 60).path, "slow");
    apply("table=9,actions=drop");
    assert.equal(cache.handle(udp, 60).path, "miss");
    assert.equal(cache.size, 1);
  });
});
