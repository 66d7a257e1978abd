import assert from "node:assert/strict";
import { compileDirect, DirectEngine, DirectRefusal, loadVm, parseFlows, ReferenceEngine, Switch } from "#compiler";
import { linux, loadObject } from "libbpf-ts";
import { counters, shown } from "../../support/executions.js";
import { Random } from "../../support/random.js";
import { randomPacket } from "../../support/random-packets.js";
import { N_PORTS, randomSwitch } from "../../support/random-switch.js";

/** What the verifier may walk of a million. */
const MAX_VERIFIED = 250_000;

const switchOf = (flows: readonly string[]): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
  for (const flow of parseFlows(flows.join("\n"), { file: "test" })) sw.add(flow, 0);
  return sw;
};

const tcpTo = (last: number): Uint8Array => {
  const packet = new Uint8Array(60);
  packet.set([
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0,
  ]);
  packet[33] = last;
  packet[46] = 0x50;
  return packet;
};

describe("compileDirect()", function () {
  this.timeout(120_000);

  for (const hook of ["xdp", "tc"] as const) {
    it(`makes programs of about 100 random rules that the verifier walks in ${MAX_VERIFIED} steps at ${hook}`, () => {
      for (let seed = 1; seed <= 8; seed++) {
        const r = new Random(seed);
        const packets = Array.from({ length: 200 }, () => randomPacket(r)).filter(({ length }) => length > 14);
        const sw = randomSwitch(seed, { packets, nRules: [30, 60], plain: true });
        const { object } = compileDirect(sw, hook, { behind: "user-space" });
        using loaded = loadObject(linux(), object);
        const { verifiedInsns } = loaded.program(`main_${hook}`).info;
        assert.ok(verifiedInsns < MAX_VERIFIED, `seed ${seed}: the verifier walked ${verifiedInsns} instructions`);
      }
    });
  }

  it("keeps values apart that were spilled again", () => {
    // Their parsers hold more than fits into registers, several times over.
    for (const [seed, hook] of [
      [1038, "xdp"],
      [1057, "tc"],
      [1069, "tc"],
    ] as const) {
      const r = new Random(seed);
      const packets = Array.from({ length: 200 }, () => (r.below(N_PORTS), randomPacket(r)));
      const sw = randomSwitch(seed, {
        packets: packets.filter(({ length }) => length > 14),
        nRules: [1, 6],
        plain: true,
      });
      using loaded = loadObject(linux(), compileDirect(sw, hook, { behind: "user-space" }).object);
      assert.ok(loaded.program(`main_${hook}`).info.verifiedInsns > 0);
    }
  });

  it("counts a chain of tables once, and each rule for what it passed", () => {
    const flows = [
      "priority=1,ip,actions=load:1->NXM_NX_REG0[],goto_table:1",
      "table=1,reg0=1,ip,actions=goto_table:2",
      "table=2,priority=2,tcp,tp_dst=1,actions=output:2",
      "table=2,priority=1,reg0=2,actions=output:3",
    ];
    const sw = switchOf(flows);
    const { analysis } = compileDirect(sw, "xdp");
    assert.deepEqual([...analysis.counts.sums.keys()], [0, 1]);
    assert.deepEqual(
      analysis.layout.fields.filter(({ member }) => member.startsWith("reg")),
      [],
    );
    const vm = new DirectEngine(sw, "xdp", loadVm([1, 2, 3, 4]));
    for (const port of [1, 1, 5]) {
      const packet = tcpTo(1);
      packet[37] = port;
      vm.handle(1, packet, 0);
    }
    vm.settle(1);
    const counts = [0, 1, 2].map((id) => [...sw.table(id).rules].map(({ packets }) => packets));
    assert.deepEqual(counts, [[3], [3], [2, 0]]);
    vm[Symbol.dispose]();
  });

  it("refuses, by table, what the verifier is expected to", () => {
    // Every subset of these writes: each is code of its own.
    const writes = [
      "mod_nw_src:1.2.3.4",
      "mod_nw_dst:4.3.2.1",
      "mod_nw_ttl:7",
      "mod_tp_src:80",
      "mod_tp_dst:81",
      "mod_dl_src:02:00:00:00:00:07",
      "mod_dl_dst:02:00:00:00:00:08",
      "mod_vlan_vid:9",
      "strip_vlan",
      "dec_ttl",
    ];
    const flows = Array.from({ length: 2 ** writes.length }, (_, i) => {
      const some = writes.filter((_write, bit) => (i >>> bit) & 1);
      return `table=3,tcp,nw_dst=10.0.${i >>> 8}.${i & 255},actions=${[...some, "output:2"].join()}`;
    });
    const sw = switchOf(["actions=goto_table:3", ...flows]);
    assert.throws(
      () => compileDirect(sw, "xdp"),
      (error) => error instanceof DirectRefusal && error.table === 3 && /verifier/.test(error.message),
    );
  });

  it("refuses tables that the stack does not suffice for", () => {
    // Registers of which nothing is known, every address of a packet, and a rule to be counted in each of many tables.
    const regs = Array.from({ length: 16 }, (_, i) => i);
    const moves = regs.map((i) => `move:NXM_OF_ETH_SRC[${i}..31]->NXM_NX_REG${i}[${i}..31]`);
    const looks = [
      ...regs.map((i) => `reg${i}=${i + 1}`),
      "metadata=5",
      "mpls,mpls_label=3",
      "eth_type=0x894f,nsh_mdtype=1,nsh_spi=1,nsh_c1=1,nsh_c2=2,nsh_c3=3,nsh_c4=4",
      "icmp6,ipv6_src=::1,ipv6_dst=::2,icmp_type=135,icmp_code=0,nd_target=::3,nd_sll=02:00:00:00:00:01,ipv6_label=1",
      "arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=02:00:00:00:00:01,arp_tha=02:00:00:00:00:02,vlan_tci=0x1001",
      "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1,tp_dst=2,tcp_flags=2,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02",
    ];
    const chain = Array.from({ length: 47 }, (_, t) => [
      `table=${t},priority=1,reg${t % 16}=${t + 9},actions=goto_table:${t + 1}`,
      `table=${t},priority=0,actions=${t === 0 ? `${moves.join()},move:NXM_OF_ETH_SRC[]->OXM_OF_METADATA[0..47],push_vlan:0x8100,` : ""}goto_table:${t + 1}`,
    ]).flat();
    const last = looks.map(
      (look, i) => `table=47,priority=${i},${look},actions=dec_ttl,mod_nw_src:1.2.3.4,output:1,output:2`,
    );
    assert.throws(
      () => compileDirect(switchOf([...chain, ...last]), "tc", { behind: "user-space", isStrict: true }),
      (error) => error instanceof DirectRefusal && error.table === 47 && /stack slots need/.test(error.message),
    );
  });

  it("comes back from tables to the rest of each list, whoever resubmitted to them", () => {
    const flows = [
      "priority=2,ip,nw_dst=10.0.0.1,actions=resubmit(,1),resubmit(,2),resubmit(,1),output:2",
      "priority=1,ip,nw_dst=10.0.0.2,actions=resubmit(,2),resubmit(,2),goto_table:1",
      "priority=1,ip,nw_dst=10.0.0.3,actions=load:2->NXM_NX_REG1[],resubmit(,1),resubmit(,2),output:4",
      "table=1,priority=1,reg0=0,actions=load:1->NXM_NX_REG0[],resubmit(,2),load:2->NXM_NX_REG1[]",
      "table=1,priority=0,reg0=1,actions=load:2->NXM_NX_REG0[],resubmit(,2)",
      "table=2,priority=1,reg0=1,reg1=0,actions=load:3->NXM_NX_REG1[]",
      "table=2,priority=0,reg1=2,actions=output:3",
      // Enough others for look-ups by data and lists by record.
      ...Array.from({ length: 60 }, (_, i) => `table=1,priority=9,tcp,tp_dst=${i + 1},actions=resubmit(,2),output:3`),
    ];
    const reference = new ReferenceEngine(switchOf(flows));
    const vm = new DirectEngine(switchOf(flows), "tc", loadVm([1, 2, 3, 4]));
    let nDirect = 0;
    [1, 2, 3, 4, 1, 2].forEach((last, now) => {
      for (const port of [0, 7]) {
        const packet = tcpTo(last);
        packet[37] = port;
        const got = vm.handle(1, packet, now);
        assert.deepEqual(shown(got, false), shown(reference.handle(1, packet, now), false), `${last}, port ${port}`);
        if (got.path === "direct") nDirect++;
      }
    });
    vm.settle(6);
    assert.deepEqual(counters(vm.sw), counters(reference.sw));
    assert.ok(nDirect >= 6, `only ${nDirect} packets were handled directly`);
    vm[Symbol.dispose]();
  });
});
