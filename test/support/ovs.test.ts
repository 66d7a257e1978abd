import assert from "node:assert/strict";
import { PORT } from "#compiler";
import { toHex } from "ebpf-assembler";
import { Ovs, OvsError } from "./ovs.js";
import { randomPackets } from "./random-packets.js";

describe("Ovs", () => {
  let ovs: Ovs;
  before(async () => {
    ovs = await Ovs.start({ ports: 3 });
  });
  after(() => ovs.stop());

  it("forwards by the flows that were set last", async () => {
    const packet = randomPackets(1, 1)[0]!;
    await ovs.setFlows("in_port=1 actions=2,LOCAL");
    const out = (await ovs.forward(1, packet)).map((o) => ({ port: o.port, packet: toHex(o.packet) }));
    assert.deepEqual(out, [
      { port: 2, packet: toHex(packet) },
      { port: PORT.LOCAL, packet: toHex(packet) },
    ]);
    await ovs.setFlows("in_port=1 actions=3");
    assert.deepEqual(
      (await ovs.forward(1, packet)).map((o) => o.port),
      [3],
    );
  });

  it("receive() resolves after all packets of a batch, and outputs() keeps their order", async () => {
    await ovs.setFlows("in_port=2 actions=1");
    const packets = randomPackets(2, 300);
    ovs.outputs();
    await ovs.receive(2, ...packets);
    assert.deepEqual(
      ovs.outputs().map((o) => toHex(o.packet)),
      packets.map((p) => toHex(p)),
    );
  });

  it("parses two VLAN tags", async () => {
    const text = await ovs.trace(
      1,
      Uint8Array.from([...Array(12).fill(2), 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x88, 0xcc]),
    );
    assert.match(text, /dl_vlan=5,dl_vlan_pcp=0,dl_vlan1=6,dl_vlan_pcp1=0/);
  });

  it("turns a refusal into OvsError", async () => {
    await assert.rejects(ovs.appctl("no-such-command"), OvsError);
    assert.throws(() => ovs.ofctl("add-flow", ["nonsense"]), OvsError);
  });
});
