// Tunnels in the datapath programs: outer headers put in front and taken off, by the interpreter and by the kernel, as the reference
// does it. Port 9 is the uplink.

import assert from "node:assert/strict";
import {
  buildOuter,
  decapsulate,
  encapsulate,
  parseFlows,
  parseTunnelConfig,
  sourcePortOf,
  Switch,
  TNL_F,
  type Hop,
  type Hook,
  type TunnelKey,
} from "#compiler";
import { buildPacket } from "../../support/packet-builder.js";
import { Executions, type Sample } from "../../support/executions.js";

const UPLINK = 9;
const PORTS = [1, 2, 3, UPLINK] as const;
const ETHERNET = { dst: "02:00:00:00:00:02", src: "02:00:00:00:00:01", snap: false } as const;
const UDP = { kind: "udp", src: 1000, dst: 53, payload: new Uint8Array(20) } as const;

const v4 = (text: string): Uint8Array => Uint8Array.from(text.split(".").map(Number));
const v6 = (last: number): Uint8Array => Uint8Array.of(0xfd, ...new Array<number>(14).fill(0), last);
const [LOCAL4, REMOTE4, LOCAL6, REMOTE6] = [v4("192.0.2.1"), v4("192.0.2.2"), v6(1), v6(2)];
const ADDRESSES = [LOCAL4, LOCAL6];

const ip = (src = "10.0.0.1", tos = 0, size = 20): Uint8Array =>
  buildPacket({
    ...ETHERNET,
    vlans: [],
    l3: {
      kind: "ipv4",
      src,
      dst: "10.0.0.2",
      tos,
      ttl: 64,
      dontFragment: false,
      l4: { ...UDP, payload: new Uint8Array(size) },
    },
  });
const ip6 = (): Uint8Array => {
  const payload = new Uint8Array(48);
  payload.set([0x60, 0, 0, 0, 0, 8, 17, 64, ...v6(7), ...v6(8), 0, 9, 0, 10, 0, 8, 0, 0]);
  return buildPacket({ ...ETHERNET, vlans: [], l3: { kind: "raw", type: 0x86dd, payload } });
};
const arp = (): Uint8Array => {
  const payload = Uint8Array.of(0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2);
  return buildPacket({ ...ETHERNET, vlans: [], l3: { kind: "raw", type: 0x0806, payload } });
};
const INNER = [ip(), ip("10.0.0.9", 0x2a), ip6(), arp(), ip("10.0.0.3", 1, 1000)];

const HOP: Omit<Hop, "src" | "ifindex"> = {
  srcMac: Uint8Array.of(2, 0, 0, 0, 1, 1),
  dstMac: Uint8Array.of(2, 0, 0, 0, 1, 2),
  mtu: 1500,
};

interface Case {
  readonly name: string;
  readonly tunnel: string;
  /** What the other end sends; by default with the tunnel's first key. */
  readonly key: Partial<TunnelKey> & Pick<TunnelKey, "type" | "dstPort" | "src" | "dst">;
  readonly flows?: readonly string[];
}

const V4 = { src: REMOTE4, dst: LOCAL4 } as const;
const V6 = { src: REMOTE6, dst: LOCAL6 } as const;
const CASES: readonly Case[] = [
  { name: "VXLAN", tunnel: "type=vxlan,remote_ip=192.0.2.2,key=5", key: { type: "vxlan", dstPort: 4789, ...V4 } },
  {
    name: "VXLAN over IPv6, TOS and TTL inherited",
    tunnel: "type=vxlan,remote_ip=fd00::2,local_ip=fd00::1,key=5,tos=inherit,ttl=inherit",
    key: { type: "vxlan", dstPort: 4789, ...V6 },
  },
  {
    name: "VXLAN with group policy",
    tunnel: "type=vxlan,remote_ip=192.0.2.2,key=5,exts=gbp",
    key: { type: "vxlan", dstPort: 4789, ...V4, gbp: { id: 77, flags: 8 } },
    flows: ["in_port=5,tun_gbp_id=77,actions=output:2", "in_port=1,actions=set_field:99->tun_gbp_id,output:5"],
  },
  { name: "Geneve", tunnel: "type=geneve,remote_ip=192.0.2.2,key=5", key: { type: "geneve", dstPort: 6081, ...V4 } },
  {
    name: "Geneve over IPv6",
    tunnel: "type=geneve,remote_ip=fd00::2,key=5,dst_port=7000",
    key: { type: "geneve", dstPort: 7000, ...V6 },
  },
  { name: "GRE", tunnel: "type=gre,remote_ip=192.0.2.2,key=5", key: { type: "gre", dstPort: 0, ...V4 } },
  {
    name: "GRE without a key",
    tunnel: "type=gre,remote_ip=192.0.2.2",
    key: { type: "gre", dstPort: 0, ...V4, tunId: 0n, flags: TNL_F.DF },
  },
  { name: "GRE over IPv6", tunnel: "type=gre,remote_ip=fd00::2,key=5", key: { type: "gre", dstPort: 0, ...V6 } },
  {
    name: "any remote and key, set by flows",
    tunnel: "type=vxlan,remote_ip=flow,key=flow",
    key: { type: "vxlan", dstPort: 4789, ...V4 },
    flows: [
      "in_port=5,tun_src=192.0.2.2,tun_id=5,ip,actions=dec_ttl,output:2",
      "in_port=5,actions=output:2,output:3",
      "in_port=1,actions=set_field:0x77->tun_id,set_field:192.0.2.2->tun_dst,output:5",
    ],
  },
  {
    name: "copies to a port and a tunnel",
    tunnel: "type=vxlan,remote_ip=192.0.2.2,key=5",
    key: { type: "vxlan", dstPort: 4789, ...V4 },
    flows: ["in_port=1,actions=output:5,output:2,output:3", "in_port=5,actions=mod_vlan_vid:7,output:2"],
  },
];

const DEFAULT_FLOWS = ["in_port=5,actions=output:2", "in_port=1,actions=output:5"];

const keyOf = ({ key }: Case): TunnelKey => ({
  tunId: 5n,
  tos: 0,
  ttl: 64,
  flags: TNL_F.DF | TNL_F.KEY,
  ...key,
});

const switchOf = ({ tunnel, flows = DEFAULT_FLOWS }: Case, ifindexOf: (port: number) => number): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of [1, 2, 3]) sw.setPort({ number });
  sw.setPort({ number: 5, tunnel: parseTunnelConfig(tunnel) });
  sw.underlay = {
    hop: (dst) => ({ ...HOP, ifindex: ifindexOf(UPLINK), src: dst.length === 4 ? LOCAL4 : LOCAL6 }),
  };
  for (const flow of parseFlows(flows.join("\n"))) sw.add(flow, 0);
  return sw;
};

/** The same numbers every time (MINSTD). */
const newRandom = (): ((below: number) => number) => {
  let state = 20_261_122;
  return (below) => (state = (state * 48_271) % 0x7fff_ffff) % below;
};

const OTHER_HOP: Hop = { ...HOP, ifindex: 0, src: REMOTE4 };

const samplesOf = (one: Case): Sample[] => {
  const header = buildOuter(keyOf(one), OTHER_HOP);
  const samples: Sample[] = INNER.flatMap((inner) => [
    { inPort: 1, packet: inner },
    { inPort: UPLINK, packet: encapsulate(header, inner) },
  ]);
  const odd = encapsulate(header, ip());
  const elsewhere = buildOuter({ ...keyOf(one), dst: one.key.dst.map((byte) => byte ^ 1) }, OTHER_HOP);
  const otherKey = buildOuter({ ...keyOf(one), tunId: 6n }, OTHER_HOP);
  // The host's own packets, packets of others, and what is cut off.
  samples.push(
    { inPort: UPLINK, packet: ip() },
    { inPort: UPLINK, packet: arp() },
    { inPort: UPLINK, packet: encapsulate(elsewhere, ip()) },
    { inPort: UPLINK, packet: encapsulate(otherKey, ip()) },
    ...[20, 40, 50, 60].map((size) => ({ inPort: UPLINK, packet: odd.slice(0, size) })),
    { inPort: 2, packet: ip() },
  );
  return samples;
};

describe("tunnels in datapath programs", function () {
  this.timeout(60_000);
  for (const hook of ["xdp", "tc"] as const satisfies readonly Hook[]) {
    let executions: Executions;
    before(() => (executions = new Executions(hook, PORTS, { uplinks: [UPLINK], addresses: ADDRESSES })));
    after(() => executions[Symbol.dispose]());

    for (const one of CASES) {
      it(`${one.name}: both ways at ${hook}, as the reference does it`, () => {
        const { hit, slow, rewritten } = executions.run(
          one.name,
          (ifindexOf) => switchOf(one, ifindexOf),
          samplesOf(one),
        );
        const isCopying = hook === "xdp" && one.flows?.some((flow) => flow.includes("output:2,output:3")) === true;
        assert.ok(isCopying ? slow > 0 : rewritten >= 10, JSON.stringify({ hit, slow, rewritten }));
      });
    }

    it(`damaged outer headers at ${hook}: taken or left to the host as the reference does it`, () => {
      const random = newRandom();
      for (const one of CASES.slice(0, 8)) {
        const whole = INNER.map((inner) => encapsulate(buildOuter(keyOf(one), OTHER_HOP), inner));
        const damaged = Array.from({ length: 30 }, (_, i) => {
          const packet = whole[i % whole.length]!.slice(0, i % 3 === 0 ? 14 + random(100) : undefined);
          for (let n = random(3); n >= 0; n--) packet[12 + random(Math.min(packet.length, 90) - 12)]! ^= 1 << random(8);
          return { inPort: UPLINK, packet };
        });
        executions.run(`${one.name}, damaged`, (ifindexOf) => switchOf(one, ifindexOf), damaged);
      }
    });
  }
});

describe("encapsulate() and decapsulate()", () => {
  const typeOf = (port: number): "vxlan" | "geneve" | undefined =>
    port === 4789 ? "vxlan" : port === 6081 || port === 7000 ? "geneve" : undefined;

  for (const one of CASES) {
    it(`are each other's opposites: ${one.name}`, () => {
      for (const csum of [0, TNL_F.CSUM]) {
        const key: TunnelKey = { ...keyOf(one), seq: one.key.type === "gre", flags: keyOf(one).flags | csum };
        const isV6 = key.dst.length === 16;
        for (const inner of INNER) {
          const packet = encapsulate(buildOuter(key, OTHER_HOP), inner);
          const found = decapsulate(packet, typeOf);
          assert.ok(found !== undefined);
          assert.deepEqual(packet.subarray(found.outerBytes), inner);
          const { seq, ...rest } = key;
          const flags = isV6 ? key.flags & ~TNL_F.DF : key.flags;
          assert.deepEqual(found.key, { ...rest, flags, ...(key.type === "gre" ? { seq } : {}) });
        }
      }
    });
  }

  it("sourcePortOf() differs between flows, stays the same within one, and is of the dynamic range", () => {
    const ports = new Set(Array.from({ length: 64 }, (_, i) => sourcePortOf(ip(`10.0.1.${i}`))));
    assert.ok(ports.size > 50, `${ports.size} of 64`);
    for (const port of ports) assert.ok(port >= 0xc000 && port <= 0xffff);
    assert.equal(sourcePortOf(ip("10.0.0.1", 0, 20)), sourcePortOf(ip("10.0.0.1", 4, 900)));
  });
});
