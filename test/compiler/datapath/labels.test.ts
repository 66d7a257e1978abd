// MPLS labels in the datapath programs: pushed, popped and rewritten where the hook can, by the interpreter and by the kernel, as
// the reference does it.

import assert from "node:assert/strict";
import { carrierOf, parseFlows, Switch, type DpAction, type Hook } from "#compiler";
import { buildPacket } from "../../support/packet-builder.js";
import { Executions, type Paths, type Sample } from "../../support/executions.js";

const PORTS = [1, 2, 3] as const;

const ETHERNET = { dst: "02:00:00:00:00:02", src: "02:00:00:00:00:01", snap: false } as const;
const UDP = { kind: "udp", src: 1000, dst: 53, payload: new Uint8Array(20) } as const;

const ip = (ttl: number, vlans: readonly { tpid: number; tci: number }[] = []): Uint8Array =>
  buildPacket({
    ...ETHERNET,
    vlans: [...vlans],
    l3: { kind: "ipv4", src: "10.0.0.1", dst: "10.0.0.2", tos: 0x48, ttl, dontFragment: false, l4: UDP },
  });

/** Labels, the last at the bottom, in front of an IP packet. */
const labelled = (...ttls: readonly number[]): Uint8Array => {
  const entries = ttls.flatMap((ttl, i) => [0, 1, 0x24 | (i === ttls.length - 1 ? 1 : 0), ttl]);
  const payload = Uint8Array.from([...entries, ...ip(64).subarray(14)]);
  return buildPacket({ ...ETHERNET, vlans: [], l3: { kind: "raw", type: 0x8847, payload } });
};

interface Case {
  readonly name: string;
  readonly actions: string;
  readonly packets: readonly Uint8Array[];
  /** Where a program carries it out. */
  readonly hooks: readonly Hook[];
}

const IP = [ip(64), ip(2), ip(255)];
const MPLS = [labelled(64), labelled(9, 64), labelled(2, 3, 4)];

const CASES: readonly Case[] = [
  { name: "a label pushed", actions: "push_mpls:0x8847,output:2", packets: IP, hooks: ["xdp", "tc"] },
  {
    name: "labels pushed behind other rewrites, and a tag around them",
    actions:
      "dec_ttl,mod_dl_src:02:00:00:00:00:09,push_mpls:0x8848,set_mpls_label(7),push_mpls:0x8847,mod_vlan_vid:5,output:2",
    packets: IP,
    hooks: ["xdp", "tc"],
  },
  {
    name: "a label more",
    actions: "push_mpls:0x8847,set_mpls_ttl(5),output:2",
    packets: MPLS.slice(0, 2),
    hooks: ["xdp", "tc"],
  },
  {
    name: "a label rewritten",
    actions: "dec_mpls_ttl,set_mpls_label(77),output:2",
    packets: MPLS,
    hooks: ["xdp", "tc"],
  },
  { name: "a label popped", actions: "pop_mpls:0x8847,dec_mpls_ttl,output:2", packets: MPLS.slice(1), hooks: ["xdp"] },
  { name: "the last label popped", actions: "pop_mpls:0x0800,output:2", packets: MPLS.slice(0, 1), hooks: ["xdp"] },
  {
    name: "labels on two ways",
    actions: "push_mpls:0x8847,output:2,push_mpls:0x8847,output:3",
    packets: IP,
    hooks: ["tc"],
  },
];

const switchOf = (actions: string): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of PORTS) sw.setPort({ number });
  const types = ["ip", "mpls"].filter((type) => (type === "mpls") === /mpls_ttl|pop|label\(77\)/.test(actions));
  for (const flow of parseFlows(types.map((type) => `${type},actions=${actions}`).join("\n"))) sw.add(flow, 0);
  return sw;
};

const samplesOf = (packets: readonly Uint8Array[]): Sample[] =>
  Array.from({ length: 12 }, (_, i) => ({ inPort: 1, packet: packets[i % packets.length]! }));

describe("labels in datapath programs", function () {
  this.timeout(60_000);
  for (const hook of ["xdp", "tc"] as const) {
    let executions: Executions;
    before(() => (executions = new Executions(hook, PORTS)));
    after(() => executions[Symbol.dispose]());

    for (const { name, actions, packets, hooks } of CASES) {
      const inProgram = hooks.includes(hook);
      it(`${name}: ${inProgram ? "carried out" : "left to user space"} at ${hook}, as the reference does it`, () => {
        const run = (): Paths => executions.run(name, () => switchOf(actions), samplesOf(packets));
        const { hit, slow, rewritten } = run();
        if (inProgram) assert.ok(hit > 12 && rewritten === hit, JSON.stringify({ hit, slow, rewritten }));
        else assert.ok(hit === 0 && slow > 12, JSON.stringify({ hit, slow }));
      });
    }
  }

  it("are left to user space where a frame has a tag in its bytes", () => {
    using executions = new Executions("xdp", PORTS);
    const packets = [ip(64, [{ tpid: 0x8100, tci: 5 }])];
    const { hit, slow } = executions.run("tagged", () => switchOf("push_mpls:0x8847,output:2"), samplesOf(packets));
    assert.ok(hit === 0 && slow > 12, JSON.stringify({ hit, slow }));
  });

  it("carrierOf() says what a hook lacks", () => {
    const push: DpAction = { kind: "push_mpls", ethertype: 0x8847, lse: 0x100 };
    const output: DpAction = { kind: "output", port: 2 };
    assert.deepEqual(carrierOf([push, output]), { hook: "xdp" });
    assert.deepEqual(carrierOf([{ kind: "pop_mpls", ethertype: 0x0800 }, output]), { hook: "xdp" });
    assert.match(
      carrierOf([push, output, { kind: "pop_mpls", ethertype: 0x0800 }, output]).why ?? "",
      /TC cannot take/,
    );
    assert.match(carrierOf([{ kind: "push_vlan", tpid: 0x8100, tci: 5 }, push, output]).why ?? "", /behind tags/);
  });
});
