// Tunnel ports against a real Open vSwitch: which port a packet is for that came by a tunnel, what its outer headers leave in the
// megaflow, and which outer headers packets get that leave by one.

import assert from "node:assert/strict";
import {
  formatOdpActions,
  get,
  parseFlows,
  parseMatch,
  parseTunnelConfig,
  PORT,
  putTunnel,
  Switch,
  TNL_F,
  translate,
  type DpAction,
  type FlowWords,
  type TunnelKey,
} from "#compiler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { skip } from "../../support/skip.js";

/** Numbers from 11 on. */
const TUNNELS = [
  "type=vxlan,remote_ip=1.1.1.1",
  "type=vxlan,remote_ip=1.1.1.1,local_ip=2.2.2.2",
  "type=vxlan,remote_ip=1.1.1.1,key=5,ttl=inherit,tos=inherit",
  "type=vxlan,remote_ip=flow,key=flow,df_default=false,csum=true",
  "type=vxlan,remote_ip=fd00::1,local_ip=fd00::2,key=7,tos=0x20,ttl=3",
  "type=geneve,remote_ip=1.1.1.1,in_key=flow,out_key=9",
  "type=geneve,remote_ip=flow,local_ip=flow,key=flow",
  "type=gre,remote_ip=1.1.1.1",
  "type=gre,remote_ip=1.1.1.1,key=0x12345678,csum=true",
  "type=gre,remote_ip=3.3.3.3,key=flow",
  "type=vxlan,remote_ip=1.1.1.1,key=flow,exts=gbp,dst_port=4790",
] as const;

const FLOWS = [
  ...TUNNELS.map(
    (_, i) =>
      `table=0,in_port=1,reg0=0,vlan_tci=0,dl_src=02:00:00:00:00:${(11 + i).toString(16)},actions=output:${11 + i}`,
  ),
  "table=0,in_port=1,dl_src=02:00:00:00:01:01,actions=set_field:0x33->tun_id,set_field:9.9.9.9->tun_dst,output:14",
  "table=0,in_port=1,dl_src=02:00:00:00:01:02,actions=set_field:0x44->tun_id,set_field:9.9.9.9->tun_dst,set_field:8.8.8.8->tun_src,set_field:oam->tun_flags,output:17",
  "table=0,in_port=1,dl_src=02:00:00:00:01:03,actions=set_field:0x55->tun_id,set_field:77->tun_gbp_id,set_field:8->tun_gbp_flags,output:21",
  "table=0,in_port=1,dl_src=02:00:00:00:01:04,actions=set_field:fd00::9->tun_ipv6_dst,set_tunnel:3,output:14",
  "table=0,in_port=1,dl_src=02:00:00:00:01:05,ip,actions=mod_nw_tos:32,set_field:77->nw_ttl,output:13",
  "table=0,priority=1,in_port=11,actions=output:2",
  "table=0,priority=1,in_port=14,tun_id=6,actions=output:3",
  "table=0,priority=1,in_port=14,actions=IN_PORT",
  "table=0,priority=0,in_port=16,actions=output:13,output:2",
  "table=0,priority=0,actions=output:4",
];

const PACKETS = [
  "ip,nw_tos=0,nw_ttl=9",
  "ip,nw_tos=32,nw_ecn=1,nw_ttl=9",
  "ip,nw_ecn=2,nw_ttl=1",
  "ip,nw_ecn=3,nw_ttl=200",
  "ipv6,nw_ecn=1",
  "arp",
];

interface Case {
  readonly key: TunnelKey;
  readonly inner: string;
}

const v4 = (text: string): Uint8Array => Uint8Array.from(text.split(".").map(Number));
const v6 = (last: number): Uint8Array => Uint8Array.of(0xfd, ...new Array<number>(14).fill(0), last);

const received = (
  type: TunnelKey["type"],
  dstPort: number,
  src: Uint8Array,
  dst: Uint8Array,
  tunId: bigint,
  more: Partial<TunnelKey> = {},
): TunnelKey => ({ type, dstPort, src, dst, tunId, tos: 0, ttl: 64, flags: TNL_F.KEY, ...more });

const KEYS: readonly TunnelKey[] = [
  received("vxlan", 4789, v4("1.1.1.1"), v4("2.2.2.2"), 0n),
  received("vxlan", 4789, v4("1.1.1.1"), v4("2.2.2.3"), 0n),
  received("vxlan", 4789, v4("1.1.1.1"), v4("2.2.2.3"), 5n, { flags: TNL_F.KEY | TNL_F.DF }),
  received("vxlan", 4789, v4("1.1.1.1"), v4("2.2.2.3"), 6n, { flags: TNL_F.KEY | TNL_F.CSUM }),
  received("vxlan", 4789, v4("9.9.9.9"), v4("2.2.2.3"), 0n, { tos: 3 }),
  received("vxlan", 4789, v6(1), v6(2), 7n),
  received("vxlan", 4789, v6(1), v6(3), 7n),
  received("vxlan", 4790, v4("1.1.1.1"), v4("2.2.2.2"), 70n),
  received("geneve", 6081, v4("1.1.1.1"), v4("2.2.2.2"), 70n),
  received("geneve", 6081, v4("1.1.1.2"), v4("2.2.2.2"), 70n),
  received("gre", 0, v4("1.1.1.1"), v4("2.2.2.2"), 0n, { flags: 0 }),
  received("gre", 0, v4("1.1.1.1"), v4("2.2.2.2"), 0x12345678n),
  received("gre", 0, v4("3.3.3.3"), v4("2.2.2.2"), 0x99n, { tos: 3, flags: TNL_F.KEY | TNL_F.CSUM }),
  received("gre", 0, v4("4.3.3.3"), v4("2.2.2.2"), 0x99n),
];

const hexText = (bytes: Uint8Array): string =>
  bytes.length === 4 ? bytes.join(".") : `fd00::${bytes[15]!.toString(16)}`;

const FLAG_WORDS: readonly (readonly [number, string])[] = [
  [TNL_F.DF, "df"],
  [TNL_F.CSUM, "csum"],
  [TNL_F.KEY, "key"],
];

/** As a datapath flow of OVS. */
const tunnelText = ({ src, dst, tunId, tos, ttl, flags, dstPort }: TunnelKey): string => {
  const v = src.length === 4 ? "" : "ipv6_";
  const words = FLAG_WORDS.filter(([bit]) => (flags & bit) !== 0).map(([, word]) => word);
  return (
    `tunnel(tun_id=0x${tunId.toString(16)},${v}src=${hexText(src)},${v}dst=${hexText(dst)},tos=${tos},ttl=${ttl},` +
    `${dstPort === 0 ? "" : `tp_src=0,tp_dst=${dstPort},`}flags(${words.join("|")}))`
  );
};

const INNER: Readonly<Record<string, string>> = {
  "ip,nw_tos=0,nw_ttl=9": "eth_type(0x0800),ipv4(src=0.0.0.0,dst=0.0.0.0,proto=0,tos=0,ttl=9,frag=no)",
  "ip,nw_tos=32,nw_ecn=1,nw_ttl=9": "eth_type(0x0800),ipv4(src=0.0.0.0,dst=0.0.0.0,proto=0,tos=33,ttl=9,frag=no)",
  arp: "eth_type(0x0806),arp(sip=0.0.0.0,tip=0.0.0.0,op=0,sha=00:00:00:00:00:00,tha=00:00:00:00:00:00)",
};

const line = (trace: string, name: string): string => new RegExp(`^${name}: (.*)$`, "m").exec(trace)?.[1] ?? "";

describe("tunnel ports against Open vSwitch", function () {
  this.timeout(60_000);
  let ovs: Ovs;
  let sw: Switch;
  /** Of the datapath, by OpenFlow port. */
  const datapathPorts = new Map<number, string>();
  const odpText = (actions: readonly DpAction[]): string =>
    formatOdpActions(actions, { port: (port) => datapathPorts.get(port) ?? String(port) });
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    const columns = (text: string): string =>
      text
        .split(",")
        .map((part) => (part.startsWith("type=") ? part : `options:${part}`))
        .join(" ");
    ovs = await Ovs.start({
      ports: 4,
      interfaces: TUNNELS.map((text, i) => [`t${11 + i}`, 11 + i, columns(text)] as const),
    });
    await ovs.appctl("dpif/set-dp-features", "br0", "tnl_push_pop", "false");
    await ovs.setFlows(FLOWS.join("\n"));
    sw = new Switch();
    for (const number of [1, 2, 3, 4, PORT.LOCAL]) sw.setPort({ number });
    TUNNELS.forEach((text, i) => sw.setPort({ number: 11 + i, name: `t${11 + i}`, tunnel: parseTunnelConfig(text) }));
    for (const flow of parseFlows(FLOWS.join("\n"))) sw.add(flow, 0);
    const shown = await ovs.appctl("dpif/show");
    for (const [, number, odp] of shown.matchAll(/\w+ (\d+)\/(\d+):/g)) datapathPorts.set(Number(number), odp!);
  });
  after(() => ovs?.stop());

  it("translate() sends packets out with the outer headers that OVS gives them", async () => {
    const sources = [...TUNNELS.keys()].map((i) => `02:00:00:00:00:${(11 + i).toString(16)}`);
    sources.push(...[1, 2, 3, 4, 5].map((i) => `02:00:00:00:01:0${i}`));
    for (const source of sources) {
      for (const packet of PACKETS) {
        const text = `in_port=1,dl_src=${source},${packet}`;
        const flow = parseMatch(text).value;
        const have = odpText(translate(sw, flow).actions);
        const want = line(await ovs.appctl("ofproto/trace", "br0", text), "Datapath actions");
        assert.equal(have, want, text);
      }
    }
  });

  it("TunnelPorts.receive() finds the port that OVS finds, and translate() marks what OVS does of the tunnel", async () => {
    const cases: Case[] = KEYS.flatMap((key) => Object.keys(INNER).map((inner) => ({ key, inner })));
    for (const { key, inner } of cases) {
      const number = sw.tunnels.receive(key);
      const vport = [...TUNNELS.keys()].find((i) => {
        const config = parseTunnelConfig(TUNNELS[i]!);
        return config.type === key.type && config.dstPort === key.dstPort;
      })!;
      const text = `${tunnelText(key)},in_port(${datapathPorts.get(11 + vport)}),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),${INNER[inner]}`;
      const trace = await ovs.appctl("ofproto/trace", "ovs-dummy", text).catch((error: Error) => error.message);
      if (number === undefined) {
        assert.match(trace, /no OpenFlow tunnel port/, text);
        continue;
      }
      const flow: FlowWords = parseMatch(
        `in_port=${number},dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,${inner}`,
      ).value;
      putTunnel(flow, key);
      const { actions, mask } = translate(sw, flow);
      const megaflow = line(trace, "Megaflow");
      const port = sw.port(number)!;
      assert.ok(
        megaflow.includes(`in_port=${port.name}`) || megaflow.includes(`in_port=${number}`),
        `${text}: want ${number} in ${trace}`,
      );
      // A masked set there, a whole one here.
      const want = line(trace, "Datapath actions").replaceAll(/set\(ipv4\(tos=0x3\/0x3\)\)/g, "set(ipv4(tos=0x23))");
      assert.equal(odpText(actions), want, text);
      assert.equal(get(mask, "tun_tos"), 0xff);
      assert.equal(get(mask, "tun_flags"), TNL_F.DF | TNL_F.CSUM | TNL_F.KEY);
      assert.equal(get(mask, "tun_src"), key.src.length === 4 ? 0xffffffff : 0);
    }
  });
});
