// Select groups over many connections in reference, interpreter and kernel: each connection has its bucket, the same in all
// three, and a few megaflows carry all connections of a group that picks by a hash of the datapath.

import assert from "node:assert/strict";
import { applyGroupMod, parseFlows, parseGroupMods, Switch } from "#compiler";
import { Executions, type Sample } from "../support/executions.js";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { buildPacket, type L3Spec, type L4Spec } from "../support/packet-builder.js";
import { Random } from "../support/random.js";

const PORTS = [1, 2, 3, 4];
const N_PACKETS = 250;

const port = (r: Random): number => r.between(1, 65535);

const l4 = (r: Random): L4Spec =>
  r.pick<() => L4Spec>([
    () => ({ kind: "tcp", src: port(r), dst: 80, flags: 2 }),
    () => ({ kind: "udp", src: port(r), dst: 53 }),
    () => ({ kind: "sctp", src: port(r), dst: port(r) }),
    () => ({ kind: "icmp", type: r.pick([0, 8]), code: 0 }),
    () => ({ kind: "icmpv6", type: r.pick([128, 129]), code: 0 }),
    () => ({ kind: "igmp", type: 0x16, code: 0 }),
    () => ({ kind: "raw", proto: 47, payload: r.bytes(20) }),
  ])();

const fragment = (r: Random) => ({ offset: r.pick([0, 0, 3]), more: true });

/** A packet of a connection that no other has: in both versions of IP, whole and in fragments, with and without tag. */
const connection = (r: Random): Uint8Array => {
  const isFragment = r.oneIn(6);
  const l3: L3Spec = r.oneIn(3)
    ? {
        kind: "ipv6",
        src: Uint8Array.of(0xfd, ...r.bytes(15)),
        dst: "fd00::2",
        l4: l4(r),
        ...(isFragment && { ext: [{ kind: "fragment", ...fragment(r) }] }),
      }
    : {
        kind: "ipv4",
        src: Uint8Array.of(10, ...r.bytes(3)),
        dst: "10.0.0.2",
        l4: l4(r),
        ...(isFragment && { fragment: fragment(r) }),
      };
  const vlans = r.oneIn(5) ? [{ tci: r.below(8) }] : [];
  return buildPacket({ dst: "02:00:00:00:00:02", src: "02:00:00:00:00:01", vlans, l3, minSize: 60 });
};

const BUCKETS =
  "bucket=weight=3,output:2,bucket=weight=1,set_field:02:00:00:00:00:33->eth_dst,dec_ttl,output:3,bucket=weight=2,watch_port=4,output:4";

/** How groups pick, and whether by hashes that a packet's flow has. */
const METHODS: readonly (readonly [method: string, byHash: boolean])[] = [
  ["", true],
  ["selection_method=dp_hash,", true],
  ["selection_method=dp_hash,selection_method_param=0x100000000,", true],
  ["selection_method=dp_hash,selection_method_param=7,", false],
  ["selection_method=hash,", false],
  ["selection_method=hash,fields(ip_src,ipv6_src),", false],
];

/** Of 100 connections that come twice, a second time all hit; a first time only if others of their hash have come. */
const HITS_OF_REPEATED = 100;

/** Tables: the group alone; before and behind changes of what is hashed; two groups that hash alike and not. */
const TABLES = [
  "actions=group:1",
  "actions=set_field:02:00:00:00:00:77->eth_src,dec_ttl,group:1",
  "priority=2,ip,actions=set_field:10.9.9.9->ip_dst,group:1\npriority=1,actions=group:1",
  "priority=2,ip,nw_src=10.0.0.0/9,actions=group:2\npriority=1,actions=group:1",
  "priority=2,tcp,actions=group:2\npriority=1,actions=strip_vlan,group:1",
];

describe("select groups", () => {
  for (const hook of ["xdp", "tc"] as const) {
    it(`pick the same bucket in reference, interpreter and kernel at ${hook}, by ${METHODS.length} methods`, function () {
      this.timeout(timeLimit(300_000));
      using executions = new Executions(hook, PORTS);
      for (const seed of seeds(1)) {
        for (const [i, [method, byHash]] of METHODS.entries()) {
          const table = TABLES[(i + seed - 1) % TABLES.length]!;
          const groups = [
            `group_id=1,type=select,${method}${BUCKETS}`,
            `group_id=2,type=select,selection_method=dp_hash,${BUCKETS}`,
          ];
          const makeSwitch = (): Switch => {
            const sw = new Switch();
            for (const number of PORTS) sw.setPort({ number, up: number !== 4 || seed % 2 === 0 });
            for (const mod of parseGroupMods(groups.join("\n"))) applyGroupMod(sw, mod, 0);
            for (const flow of parseFlows(table)) sw.add(flow, 0);
            return sw;
          };
          const r = new Random(seed * 100 + i);
          const samples: Sample[] = Array.from({ length: N_PACKETS }, () => ({ inPort: 1, packet: connection(r) }));
          const name = `seed ${seed}: ${method}${table}`;
          const { hit, miss, slow } = executions.run(name, makeSwitch, samples, seed % 2 === 0 ? "hash" : "table");
          const ofOthers = byHash && !table.includes("ip_dst") ? 20 : -HITS_OF_REPEATED;
          assert.ok(hit > HITS_OF_REPEATED + ofOthers, `${name}: ${hit} hits, ${miss} misses, ${slow} slow`);
        }
      }
    });
  }
});
