// What each action does, against a real Open vSwitch: the packets that leave, and where asked the words of ofproto/trace.

import assert from "node:assert/strict";
import {
  carryFlow,
  Executor,
  extract,
  get,
  learnFrom,
  newFlow,
  parseFlows,
  PORT,
  Switch,
  traceFlow,
  translate,
} from "#compiler";
import { toHex } from "ebpf-assembler";
import { hasOvs, Ovs, type OvsOutput } from "../../support/ovs.js";
import { randomPacket } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";
import { skip } from "../../support/skip.js";

const N_PORTS = 4;
const N_PACKETS = Number(process.env["OFXDP_FUZZ_PACKETS"] ?? 40);

interface Scenario {
  readonly name: string;
  /** In `ovs-ofctl add-flows` syntax. */
  readonly flows: string;
  /** The tables change with the packets, so that a trace is of another time. */
  readonly learns?: true;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "push and pop",
    flows: `table=0,actions=push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[0..15],pop:NXM_NX_REG0[],pop:NXM_OF_ETH_DST[],push:NXM_NX_REG0[4..10],pop:NXM_NX_REG1[0..15],goto_table:1
table=1,reg0=0,actions=pop:NXM_NX_REG3[],2
table=1,priority=5,ip,actions=push:NXM_OF_IP_SRC[],push:NXM_OF_IP_DST[],pop:NXM_OF_IP_SRC[],pop:NXM_OF_IP_DST[],load:0->NXM_OF_IN_PORT[],output:3
table=1,priority=1,reg1=0x20/0x20,actions=3
table=1,priority=0,actions=4`,
  },
  {
    name: "a stack that outlives a table",
    flows: `table=0,actions=push:NXM_NX_REG0[],push:NXM_OF_IN_PORT[],resubmit(,1),pop:NXM_NX_REG2[],2,output:NXM_NX_REG2[]
table=1,actions=pop:NXM_NX_REG1[],push:NXM_OF_ETH_DST[],3`,
  },
  {
    name: "exit",
    flows: `table=0,in_port=1,actions=2,resubmit(,1),3
table=0,in_port=2,actions=1,resubmit(,3),exit,3
table=0,in_port=3,actions=1,goto_table:2
table=0,in_port=4,actions=resubmit(,2),1
table=1,ip,actions=4,exit,1
table=1,arp,actions=4
table=2,ip,actions=exit,write_actions(2)
table=2,priority=1,actions=LOCAL,exit
table=3,actions=write_actions(3)`,
  },
  {
    name: "output to a field",
    flows: `table=0,ip,actions=load:3->NXM_NX_REG0[],output:NXM_NX_REG0[0..3],output:NXM_NX_REG0[0..1],output:NXM_OF_IP_SRC[0..1]
table=0,arp,actions=load:0xffff->NXM_NX_REG0[0..15],output:NXM_NX_REG0[0..15],load:0x10000->NXM_NX_REG0[],output:NXM_NX_REG0[]
table=0,priority=1,actions=load:0xfffb->NXM_NX_REG0[],output:NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[]`,
  },
  ...(
    ["eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"] as const
  ).map((fields): Scenario => ({
    name: `multipath and bundle by ${fields}`,
    flows: `table=0,in_port=1,actions=multipath(${fields},50,modulo_n,3,0,NXM_NX_REG0[]),multipath(${fields},7,hash_threshold,5,0,NXM_NX_REG1[0..3]),goto_table:1
table=0,in_port=2,actions=multipath(${fields},0,hrw,4,0,NXM_NX_REG0[]),multipath(${fields},99,iter_hash,3,7,NXM_NX_REG1[8..12]),goto_table:1
table=0,in_port=3,actions=bundle(${fields},3,hrw,ofport,members:1,2,4,9),bundle_load(${fields},5,hrw,ofport,NXM_NX_REG0[],members:1,2,3,4),goto_table:1
table=0,in_port=4,actions=bundle(${fields},3,active_backup,ofport,members:9,2,1),bundle_load(${fields},5,active_backup,ofport,NXM_NX_REG0[0..15],members:9),multipath(${fields},1,hrw,100,0,NXM_NX_REG1[]),goto_table:1
table=1,actions=move:NXM_NX_REG0[0..15]->NXM_OF_ETH_DST[0..15],move:NXM_NX_REG1[0..15]->NXM_OF_ETH_DST[16..31],LOCAL`,
  })),
  {
    name: "note, sample, dec_ttl to nobody",
    flows: `table=0,ip,actions=note:01.02,sample(probability=65535,collector_set_id=1),dec_ttl(),1
table=0,priority=1,actions=note:03,2`.replace("dec_ttl()", "dec_ttl"),
  },
  {
    name: "clone",
    flows: `table=0,in_port=1,ip,actions=clone(set_field:1.2.3.4->ip_dst,dec_ttl,2),3,clone(resubmit(,1),4),set_field:5->nw_ttl,LOCAL
table=0,in_port=1,priority=1,actions=clone(mod_vlan_vid:5,2,clone(strip_vlan,3)),4
table=0,in_port=2,actions=push:NXM_OF_ETH_SRC[],clone(pop:NXM_OF_ETH_DST[],1),pop:NXM_NX_REG0[],3,clone(output(port=4,max_len=40),push_vlan:0x8100,LOCAL),1
table=0,in_port=3,actions=write_actions(1),goto_table:2
table=0,in_port=4,actions=clone(1,exit,2),3
table=1,actions=mod_dl_src:00:00:00:00:00:05,load:1->NXM_NX_REG0[],1
table=2,actions=clone(mod_dl_src:00:00:00:00:00:05,2),clone(output(port=4,max_len=60),2)`,
  },
  {
    name: "packets cut short",
    flows: `table=0,in_port=1,actions=output(port=2,max_len=20),3,output(port=LOCAL,max_len=1000),output(port=1,max_len=14),mod_dl_src:00:00:00:00:00:05,output(port=4,max_len=33),3
table=0,in_port=2,actions=output(port=IN_PORT,max_len=50),output(port=9,max_len=50),1
table=0,in_port=3,actions=resubmit(,1),output(port=1,max_len=14)
table=0,in_port=4,ip,actions=dec_ttl,output(port=1,max_len=50),output(port=2,max_len=51),3
table=1,actions=mod_vlan_vid:7,output(port=2,max_len=20)`,
  },
  {
    name: "check_pkt_larger",
    flows: `table=0,in_port=1,actions=check_pkt_larger(70)->NXM_NX_REG0[3],resubmit(,1),2
table=0,in_port=2,actions=check_pkt_larger(60)->NXM_NX_REG0[3],mod_dl_src:00:00:00:00:00:05,check_pkt_larger(90)->NXM_NX_REG0[0],resubmit(,1)
table=0,in_port=3,actions=resubmit(,2),4
table=0,in_port=4,actions=check_pkt_larger(80)->NXM_NX_REG0[3],goto_table:3
table=1,reg0=8,actions=3
table=1,reg0=0,actions=4,mod_vlan_vid:4
table=1,reg0=9,actions=LOCAL
table=1,reg0=1,actions=LOCAL,LOCAL
table=2,actions=check_pkt_larger(70)->NXM_NX_REG0[3],resubmit(,1)
table=3,reg0=8,actions=write_actions(1,mod_dl_dst:00:00:00:00:00:07)
table=3,reg0=0,actions=write_actions(2),goto_table:4`,
  },
  {
    name: "queues, copies to the controller, expired packets",
    flows: `table=0,in_port=1,actions=set_queue:5,2,pop_queue,enqueue:3:7,enqueue:1:7,enqueue:IN_PORT:3,4
table=0,in_port=2,ip,actions=dec_ttl,1,resubmit(,1),3
table=0,in_port=2,priority=1,actions=controller(userdata=01.02,max_len=20,id=3),1
table=0,in_port=3,actions=controller(reason=invalid_ttl),CONTROLLER:10,1
table=0,in_port=4,actions=debug_slow,1
table=1,ip,actions=dec_ttl(1,2),4,dec_ttl,LOCAL`,
  },
  {
    name: "conjunctions",
    flows: `table=0,priority=10,ip,ip_src=10.0.0.0/8,actions=conjunction(1,1/2)
table=0,priority=10,ip,ip_src=192.168.0.0/16,actions=conjunction(1,1/2),conjunction(2,2/3)
table=0,priority=10,tcp,actions=conjunction(1,2/2),conjunction(2,1/3)
table=0,priority=10,udp,actions=conjunction(1,2/2)
table=0,priority=10,in_port=1,actions=conjunction(2,3/3)
table=0,priority=10,in_port=2,actions=conjunction(7,1/2),conjunction(8,1/2)
table=0,priority=10,conj_id=1,actions=2,4
table=0,priority=3,conj_id=2,actions=3
table=0,priority=12,ip,actions=conjunction(8,2/2)
table=0,priority=12,in_port=4,actions=conjunction(8,1/2)
table=0,priority=8,ip,actions=LOCAL
table=0,priority=11,conj_id=8,actions=1
table=0,priority=5,in_port=3,actions=resubmit(,1)
table=0,priority=1,actions=goto_table:2
table=1,priority=7,arp,actions=conjunction(5,1/2)
table=1,priority=7,dl_src=02:00:00:00:00:02,actions=conjunction(5,2/2)
table=1,priority=6,arp,actions=4
table=1,conj_id=5,priority=9,actions=1
table=2,priority=9,ipv6,actions=conjunction(5,1/2)
table=2,priority=9,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=conjunction(5,2/2)
table=2,priority=9,in_port=3,actions=conjunction(5,2/2)
table=2,priority=1,actions=3
table=2,conj_id=5,ipv6,actions=LOCAL`,
  },
  {
    name: "learn addresses",
    learns: true,
    flows: `table=0,actions=learn(table=1,priority=7,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[]),resubmit(,1)
table=1,priority=0,actions=FLOOD`,
  },
  {
    name: "learn what a packet does not meet itself",
    learns: true,
    flows: `table=0,ip,actions=learn(table=1,eth_type=0x800,NXM_OF_IP_SRC[],load:NXM_OF_IP_DST[0..1]->NXM_NX_REG1[0..1],load:5->NXM_NX_REG2[]),resubmit(,1),goto_table:2
table=0,priority=1,actions=learn(table=3,in_port=2,NXM_OF_ETH_TYPE[],output:NXM_OF_IN_PORT[]),resubmit(,3)
table=2,reg2=5,actions=output:NXM_NX_REG1[],LOCAL
table=3,priority=1,actions=4`,
  },
  {
    name: "learn up to a limit",
    learns: true,
    flows: `table=0,actions=learn(table=1,cookie=0x77,limit=4,result_dst=NXM_NX_REG0[0],NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),goto_table:2
table=2,reg0=1,actions=2
table=2,reg0=0,actions=3,resubmit(,1)`,
  },
];

const newSwitch = (flows: string): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
  sw.setPort({ number: PORT.LOCAL });
  for (const flow of parseFlows(flows)) sw.add(carryFlow(flow, "OpenFlow15") ?? flow, 0);
  return sw;
};

const executor = new Executor();

const outputsOf = (sw: Switch, inPort: number, packet: Uint8Array): OvsOutput[] => {
  const flow = newFlow();
  extract(packet, packet.length, inPort, flow);
  const translation = translate(sw, flow);
  const outputs: OvsOutput[] = [];
  executor.execute(packet, translation.actions, {
    output: (port, bytes) => outputs.push({ port, packet: bytes.slice() }),
    controller: () => undefined,
  });
  learnFrom(sw, translation, 0);
  return outputs;
};

/** Order among ports does not count; order within a port does. */
const shape = (outputs: readonly OvsOutput[]): string[] =>
  [...outputs].sort((a, b) => a.port - b.port).map(({ port, packet }) => `${port}: ${toHex(packet)}`);

/** Lines that are ours alone, or different on purpose: docs/ovs-differences.md. */
const OWN = /^(Megaflow|Datapath actions|Carried by|This flow is handled| {2}- )/;

const shown = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !OWN.test(line))
    .join("\n")
    .trim();

describe("actions against Open vSwitch", function () {
  this.timeout(600_000);
  let ovs: Ovs;
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    ovs = await Ovs.start({ ports: N_PORTS });
  });
  after(() => ovs?.stop());

  for (const { name, flows, learns } of SCENARIOS) {
    it(`translate() does as OVS with ${name}`, async () => {
      // What is cached must not teach the new tables.
      await ovs.appctl("revalidator/purge");
      await ovs.setFlows(flows);
      const sw = newSwitch(flows);
      const r = new Random(name.length);
      for (let i = 0; i < N_PACKETS; i++) {
        const packet = randomPacket(r);
        if (packet.length < 14) continue;
        const inPort = 1 + r.below(N_PORTS);
        // What a cached megaflow teaches, OVS learns some time later.
        if (learns) await ovs.appctl("revalidator/purge");
        const explain = `packet ${i} from ${inPort}: ${toHex(packet)}`;
        const have = shape(outputsOf(sw, inPort, packet));
        let want = shape(await ovs.forward(inPort, packet));
        let isSame = have.join() === want.join();
        if (!isSame && !learns) {
          // OVS forgets that it hashes the L2 header of what is no IP packet; it is asked again without its cache.
          await ovs.appctl("revalidator/purge");
          want = shape(await ovs.forward(inPort, packet));
          isSame = have.join() === want.join();
        }
        assert.deepEqual(have, want, isSame ? "" : `${explain}\n${await ovs.trace(inPort, packet)}`);
        if (learns) continue;
        const flow = newFlow();
        extract(packet, packet.length, inPort, flow);
        // Parsed by OVS further than here.
        if ([0x8847, 0x8848, 0x894f].includes(get(flow, "dl_type"))) continue;
        assert.equal(shown(traceFlow(sw, flow).text), shown(await ovs.trace(inPort, packet)), explain);
      }
    });
  }
});
