// Captures of real traffic that packages of Debian and npm ship, as samples for a switch of four ports: each station
// of a capture stands behind one of the first three, by the address that it sends from; port 4 is for what a test adds.
// The Debian packages python3-dpkt and golang-github-google-gopacket-dev are among what the tests need.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { readPcap } from "#compiler";
import { concatBytes, NotSupportedError, toHex } from "ebpf-assembler";
import type { Sample } from "./executions.js";

const DPKT = "/usr/share/doc/python3-dpkt/examples/data";
const GOPACKET = "/usr/share/gocode/src/github.com/google/gopacket/pcap";
const PCAP_PARSER = join(dirname(createRequire(import.meta.url).resolve("pcap-parser/package.json")), "test");

interface CaptureFile {
  readonly path: string;
  /** Install what has the file with this. */
  readonly from: string;
  /** Ethernet frames in it. */
  readonly nFrames: number;
  /** Whether its link type is BSD's loopback: 4 bytes of address family where Ethernet has its header. */
  readonly loopback?: boolean;
  /** Bytes with whole records, when something follows them. */
  readonly size?: number;
}

const file = (
  dir: string,
  from: string,
  name: string,
  nFrames: number,
  oddities: Pick<CaptureFile, "loopback" | "size"> = {},
): CaptureFile => ({ path: join(dir, name), from, nFrames, ...oddities });

const debian = (name: string): string => `apt-get install ${name}`;

/** The files, and how many frames each has. */
const FILES: readonly CaptureFile[] = [
  file(DPKT, debian("python3-dpkt"), "http.pcap", 43),
  file(DPKT, debian("python3-dpkt"), "nb6-http.pcap", 62),
  file(DPKT, debian("python3-dpkt"), "dns_icmp.pcap", 32),
  file(DPKT, debian("python3-dpkt"), "truncated_dns.pcap", 1),
  file(DPKT, debian("python3-dpkt"), "truncated_dns_2.pcap", 1, { size: 240 }),
  file(GOPACKET, debian("golang-github-google-gopacket-dev"), "test_dns.pcap", 10),
  file(GOPACKET, debian("golang-github-google-gopacket-dev"), "test_ethernet.pcap", 10),
  file(GOPACKET, debian("golang-github-google-gopacket-dev"), "test_loopback.pcap", 24, { loopback: true }),
  file(PCAP_PARSER, "npm install", "smtp.pcap", 60),
  file(PCAP_PARSER, "npm install", "be.pcap", 5),
];

/** Address families in BSD's loopback header, in the order of the machine that captured. */
const FAMILIES: Readonly<Record<number, number>> = { 2: 0x0800, 24: 0x86dd, 28: 0x86dd, 30: 0x86dd };
const TCP_PORTS_AT = 4 + 40;

/** Puts an Ethernet header in place of the loopback's; the two ends of its one connection get addresses by TCP port. */
const onEthernet = (packet: Uint8Array): Uint8Array => {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const type = FAMILIES[view.getUint32(0, true)];
  if (type === undefined)
    throw new NotSupportedError(`Address family ${view.getUint32(0, true)} in a loopback capture`);
  const toServer = view.getUint16(TCP_PORTS_AT, false) > view.getUint16(TCP_PORTS_AT + 2, false);
  const mac = (last: number): number[] => [2, 0, 0, 0, 0x10, last];
  const [dst, src] = toServer ? [1, 2] : [2, 1];
  return concatBytes(Uint8Array.of(...mac(dst), ...mac(src), type >>> 8, type & 0xff), packet.subarray(4));
};

const LINK_TYPE_AT = 20;

const framesOf = ({ path, from, nFrames, loopback, size }: CaptureFile): Uint8Array[] => {
  if (!existsSync(path)) throw new NotSupportedError(`The capture ${path}`, `run \`${from}\``);
  const bytes = Uint8Array.from(readFileSync(path).subarray(0, size));
  if (loopback === true) new DataView(bytes.buffer).setUint32(LINK_TYPE_AT, 1, true);
  const frames = readPcap(bytes).map(({ packet }) => (loopback === true ? onEthernet(packet) : packet.slice()));
  if (frames.length !== nFrames) {
    throw new NotSupportedError(`The capture ${path}`, `it has ${frames.length} frames, want ${nFrames}`);
  }
  return frames;
};

/** Ports that stations of captures stand behind. */
const N_STATION_PORTS = 3;
/** The port that no station stands behind. */
export const TRUNK = 4;
export const CAPTURE_PORTS: readonly number[] = [1, 2, 3, TRUNK];

/**
 * All frames of all captures, in order.
 *
 * @throws {@link NotSupportedError} that names the package when a file is missing
 */
export const captureSamples = (): Sample[] =>
  FILES.flatMap((capture) => {
    const ports = new Map<string, number>();
    return framesOf(capture).map((packet) => {
      const station = toHex(packet.subarray(6, 12));
      const inPort = ports.get(station) ?? 1 + (ports.size % N_STATION_PORTS);
      ports.set(station, inPort);
      return { inPort, packet };
    });
  });

/** The frame with an 802.1Q or 802.1ad tag in front of its type. */
export const withTag = (packet: Uint8Array, tpid: number, tci: number): Uint8Array =>
  concatBytes(
    packet.subarray(0, 12),
    Uint8Array.of(tpid >>> 8, tpid & 0xff, tci >>> 8, tci & 0xff),
    packet.subarray(12),
  );

const LEARNING = "priority=0,actions=NORMAL";

/** VLAN admission, ACL, routing with rewrites, and a learning switch. */
const CAMPUS = `
# Admission: stations send untagged, the trunk tagged.
table=0,priority=100,in_port=4,vlan_tci=0x1000/0x1000,actions=move:NXM_OF_VLAN_TCI[0..11]->NXM_NX_REG0[0..11],strip_vlan,goto_table:1
table=0,priority=90,in_port=4,actions=drop
table=0,priority=80,vlan_tci=0x0000/0x1fff,actions=load:0x1->NXM_NX_REG0[0..11],goto_table:1
table=0,priority=0,actions=CONTROLLER:96
# ACL
table=1,priority=200,arp,actions=goto_table:3
table=1,priority=190,tcp,tcp_flags=+rst,actions=drop
table=1,priority=180,tcp,tp_dst=25,actions=load:0x19->NXM_NX_REG1[],goto_table:2
table=1,priority=180,tcp,tp_src=25,actions=goto_table:2
table=1,priority=170,tcp,tp_dst=0x50/0xfff0,actions=goto_table:2
table=1,priority=170,tcp,nw_src=65.208.0.0/16,actions=goto_table:2
table=1,priority=160,udp,tp_dst=53,actions=goto_table:2
table=1,priority=160,udp,tp_src=53,nw_dst=192.168.0.0/16,actions=goto_table:2
table=1,priority=150,icmp,icmp_type=8,actions=goto_table:2
table=1,priority=150,icmp,icmp_type=0,actions=write_actions(mod_nw_tos:32),goto_table:2
table=1,priority=140,tcp6,tp_dst=8080,actions=goto_table:2
table=1,priority=140,tcp6,ipv6_src=::1,actions=goto_table:2
table=1,priority=130,dl_type=0x8864,actions=goto_table:3
table=1,priority=120,ip_frag=later,ip,actions=drop
table=1,priority=10,ip,nw_ttl=1,actions=CONTROLLER
table=1,priority=0,actions=drop
# Routing: to the servers with their addresses rewritten, to others through a group.
table=2,priority=300,tcp,reg1=0x19,actions=dec_ttl,set_field:02:00:00:00:aa:01->eth_src,set_field:02:00:00:00:bb:01->eth_dst,set_field:10.99.0.25->ip_dst,set_field:2525->tcp_dst,output:4
table=2,priority=250,ip,nw_dst=192.168.43.0/24,actions=dec_ttl,mod_dl_src:02:00:00:00:aa:02,goto_table:3
table=2,priority=240,ip,nw_dst=8.0.0.0/8,actions=dec_ttl,mod_nw_src:203.0.113.7,group:2
table=2,priority=230,udp,nw_dst=95.211.92.0/24,actions=dec_ttl,mod_tp_dst:5353,group:1
table=2,priority=220,tcp6,actions=dec_ttl,set_field:2001:db8::80->ipv6_dst,set_field:0x12345->ipv6_label,group:3
table=2,priority=0,actions=goto_table:3
table=3,priority=10,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=FLOOD
table=3,priority=5,ip,nw_proto=6,nw_src=10.0.0.0/8,actions=NORMAL,mod_nw_tos:8,IN_PORT
table=3,priority=0,actions=NORMAL
`;

const CAMPUS_GROUPS = `
group_id=1,type=select,selection_method=hash,fields(ip_src,udp_src),bucket=bucket_id:1,weight:2,actions=output:1,bucket=bucket_id:2,weight:1,actions=mod_nw_tos:16,output:2,bucket=bucket_id:3,weight:1,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:4
group_id=2,type=indirect,bucket=bucket_id:1,actions=push_vlan:0x8100,set_field:4196->vlan_vid,set_field:5->vlan_pcp,output:4
group_id=3,type=all,bucket=bucket_id:1,actions=output:2,bucket=bucket_id:2,actions=set_field:443->tcp_dst,output:4
`;

/** Access ports in VLAN 10 to 12, a trunk that carries them, and a second tag for one of them. */
const VLANS = `
priority=100,in_port=1,vlan_tci=0x0000/0x1fff,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:4
priority=100,in_port=2,vlan_tci=0x0000/0x1fff,actions=push_vlan:0x8100,set_field:4107->vlan_vid,set_field:3->vlan_pcp,output:4,strip_vlan,output:3
priority=100,in_port=3,actions=push_vlan:0x88a8,set_field:4108->vlan_vid,output:4
priority=100,in_port=4,dl_vlan=10,actions=strip_vlan,output:1
priority=100,in_port=4,dl_vlan=11,actions=mod_vlan_vid:21,output:2,strip_vlan,output:3
priority=100,in_port=4,dl_vlan=12,actions=pop_vlan,output:3,IN_PORT
priority=0,actions=drop
`;

export interface CaptureTable {
  readonly name: string;
  readonly flows: string;
  readonly groups: string;
}

/** Flow tables that have something to do for every capture. */
export const CAPTURE_TABLES: readonly CaptureTable[] = [
  { name: "a learning switch", flows: LEARNING, groups: "" },
  { name: "a campus network", flows: CAMPUS, groups: CAMPUS_GROUPS },
  { name: "VLANs pushed and popped", flows: VLANS, groups: "" },
];

/** Every frame as captured, and then all again through the trunk: with one tag of three VLANs, or two. */
export const captureRun = (): Sample[] => {
  const samples = captureSamples();
  const tagged = samples.map(({ packet }, i) => {
    const inner = withTag(packet, 0x8100, 10 + (i % 3));
    return { inPort: TRUNK, packet: i % 4 === 3 ? withTag(inner, 0x88a8, 0x6000 | 12) : inner };
  });
  return [...samples, ...tagged];
};
