// Random flow tables in `ovs-ofctl add-flows` text, over the fields and actions that translation carries out: small, and
// with values of POOLS, so that packets of random-packets.ts meet them. The same seed gives the same table.

import { parseFlowMods } from "#compiler";
import { CompileError } from "ebpf-assembler";
import { POOLS } from "../../support/pools.js";
import type { Random } from "../../support/random.js";

/** What the table may use: OpenFlow 1.0 with Nicira extensions, 1.1 instructions too, groups ({@link GROUPS}) too. */
export type Version = "openflow10" | "instructions" | "groups";

const N_TABLES = 4;
const N_PORTS = 4;
/** Groups of {@link GROUPS}. */
const GROUP_IDS = [1, 2, 3, 4, 5] as const;

/** One group of each kind; 3 is a select group as OVS spreads it by itself, 4 by score. */
export const GROUPS = `
group_id=1,type=all,bucket=bucket_id:1,actions=set_field:02:00:00:00:aa:01->eth_src,output:1,bucket=bucket_id:2,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2,bucket=bucket_id:3,actions=output:3
group_id=2,type=indirect,bucket=bucket_id:1,actions=dec_ttl,output:4
group_id=3,type=select,bucket=bucket_id:1,weight:3,actions=output:1,bucket=bucket_id:2,weight:1,actions=output:2,bucket=bucket_id:3,weight:2,actions=mod_nw_tos:16,output:3
group_id=4,type=select,selection_method=hash,fields(ip_src,ip_dst,tcp_src),bucket=bucket_id:1,weight:1,actions=output:2,bucket=bucket_id:2,weight:5,actions=output:3,bucket=bucket_id:3,weight:0,actions=output:4
group_id=5,type=ff,bucket=bucket_id:1,watch_port:2,actions=output:2,bucket=bucket_id:2,watch_port:3,actions=output:3
`.trim();

const cidr = (r: Random, address: string): string =>
  r.oneIn(3) ? address : `${address}/${r.pick([1, 8, 15, 16, 20, 24, 25, 30, 32])}`;
const cidr6 = (r: Random, address: string): string =>
  r.oneIn(3) ? address : `${address}/${r.pick([3, 16, 32, 48, 64, 100, 127, 128])}`;

const ip4 = (r: Random): string[] => {
  const out: string[] = [];
  if (r.oneIn(2)) out.push(`nw_src=${cidr(r, r.pick(POOLS.ipv4s))}`);
  if (r.oneIn(2)) out.push(`nw_dst=${cidr(r, r.pick(POOLS.ipv4s))}`);
  return out;
};
const ip6 = (r: Random): string[] => {
  const out: string[] = [];
  if (r.oneIn(2)) out.push(`ipv6_src=${cidr6(r, r.pick(POOLS.ipv6s))}`);
  if (r.oneIn(2)) out.push(`ipv6_dst=${cidr6(r, r.pick(POOLS.ipv6s))}`);
  if (r.oneIn(6)) out.push(`ipv6_label=0x${r.below(16).toString(16)}/0xf`);
  return out;
};
const ip = (r: Random): string[] => {
  const out: string[] = [];
  if (r.oneIn(6)) out.push(`nw_tos=${r.below(64) * 4}`);
  if (r.oneIn(8)) out.push(`nw_ecn=${r.below(4)}`);
  if (r.oneIn(8)) out.push(`nw_ttl=${r.pick([0, 1, 2, 64, 255])}`);
  if (r.oneIn(6)) out.push(`ip_frag=${r.pick(["no", "yes", "first", "later", "not_later"])}`);
  return out;
};
const ports = (r: Random): string[] => {
  const port = (): string => {
    const value = r.pick(POOLS.l4ports);
    return r.oneIn(4)
      ? `0x${value.toString(16)}/0x${r.pick([0xff00, 0xf000, 0x8000, 0x0001]).toString(16)}`
      : String(value);
  };
  const out: string[] = [];
  if (r.oneIn(2)) out.push(`tp_src=${port()}`);
  if (r.oneIn(2)) out.push(`tp_dst=${port()}`);
  return out;
};

const protocol = (r: Random): string[] => {
  switch (r.below(14)) {
    case 0:
      return ["tcp", ...ip4(r), ...ip(r), ...ports(r), ...(r.oneIn(4) ? ["tcp_flags=+syn-ack"] : [])];
    case 1:
      return ["udp", ...ip4(r), ...ip(r), ...ports(r)];
    case 2:
      return ["sctp", ...ip4(r), ...ports(r)];
    case 3:
      return ["icmp", ...ip4(r), ...(r.oneIn(2) ? [`icmp_type=${r.pick([0, 3, 8])}`] : [])];
    case 4:
      return ["ip", ...ip4(r), ...ip(r)];
    case 5:
      return ["tcp6", ...ip6(r), ...ip(r), ...ports(r)];
    case 6:
      return ["udp6", ...ip6(r), ...ports(r)];
    case 7:
      return [`icmp6,icmp_type=${r.pick([128, 135, 136])}`, ...ip6(r)];
    case 8:
      return [`icmp6,icmp_type=135,icmp_code=0`, `nd_target=${r.pick(POOLS.ipv6s)}`];
    case 9:
      return ["ipv6", ...ip6(r), ...ip(r)];
    case 10:
      return [
        "arp",
        ...(r.oneIn(2) ? [`arp_op=${r.pick([1, 2])}`] : []),
        ...(r.oneIn(2) ? [`arp_tpa=${cidr(r, r.pick(POOLS.ipv4s))}`] : []),
      ];
    default:
      return [];
  }
};

const match = (r: Random): string => {
  const out: string[] = [];
  if (r.oneIn(3)) out.push(`in_port=${1 + r.below(N_PORTS)}`);
  if (r.oneIn(5)) out.push(`dl_src=${r.pick(POOLS.macs)}`);
  if (r.oneIn(5)) out.push(r.oneIn(2) ? `dl_dst=${r.pick(POOLS.macs)}` : "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00");
  if (r.oneIn(5))
    out.push(
      r.pick(["vlan_tci=0", "vlan_tci=0x1000/0x1000", `dl_vlan=${r.pick(POOLS.vlans)}`, `dl_vlan_pcp=${r.below(8)}`]),
    );
  if (r.oneIn(6)) out.push(`reg${r.below(3)}=${r.below(3)}`);
  if (r.oneIn(10)) out.push(`metadata=${r.below(3)}`);
  // A later fragment has no ports; OVS refuses to match or set both.
  const parts = [...out, ...protocol(r)];
  const ported = parts.some((part) => /^(tcp|udp|sctp)6?$/.test(part));
  return parts.map((part) => (ported && part === "ip_frag=later" ? "ip_frag=first" : part)).join(",");
};

const mac = (r: Random): string => `02:00:00:00:bb:0${r.below(8)}`;

type Make = (r: Random) => string;

const SETS: readonly Make[] = [
  (r) => `mod_dl_src:${mac(r)}`,
  (r) => `mod_dl_dst:${mac(r)}`,
  (r) => `set_field:02:00:00:00:00:0${r.below(8)}/ff:ff:00:00:00:0f->eth_dst`,
  (r) => `push_vlan:${r.pick(["0x8100", "0x88a8"])}`,
  (r) => `load:0x${r.below(3).toString(16)}->NXM_NX_REG${r.below(3)}[]`,
  (r) => `load:0x${r.below(256).toString(16)}->NXM_OF_ETH_SRC[${r.pick(["0..7", "4..11", "40..47"])}]`,
  () => "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
  () => "move:NXM_OF_ETH_DST[0..15]->NXM_NX_REG1[0..15]",
  () => "move:NXM_NX_REG1[0..7]->NXM_OF_ETH_SRC[0..7]",
  (r) => `set_field:${r.below(3)}->metadata`,
  (r) => `load:0x${r.pick([0, 0x1005, 0x3001]).toString(16)}->NXM_OF_VLAN_TCI[]`,
];

const TAG_SETS: readonly Make[] = [
  () => "strip_vlan",
  (r) => `mod_vlan_vid:${r.pick(POOLS.vlans)}`,
  (r) => `mod_vlan_pcp:${r.below(8)}`,
];

const IP_SETS: readonly Make[] = [
  (r) => `mod_nw_tos:${r.below(64) * 4}`,
  (r) => `mod_nw_ecn:${r.below(4)}`,
  (r) => `mod_nw_ttl:${r.pick([1, 2, 64])}`,
  () => "dec_ttl",
];
const IPV4_SETS: readonly Make[] = [
  ...IP_SETS,
  (r) => `mod_nw_src:10.9.${r.below(4)}.${r.below(256)}`,
  (r) => `mod_nw_dst:10.9.${r.below(4)}.${r.below(256)}`,
  (r) => `set_field:10.8.0.0/255.255.${r.below(2) * 255}.0->ip_dst`,
  () => "move:NXM_OF_IP_SRC[0..7]->NXM_OF_IP_DST[0..7]",
  () => "move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]",
];
const IPV6_SETS: readonly Make[] = [
  ...IP_SETS,
  (r) => `set_field:2001:db8:ffff::${r.below(16)}->ipv6_dst`,
  (r) => `set_field:2001:db8:ffff::${r.below(16)}->ipv6_src`,
  (r) => `set_field:0x${r.below(0xfffff).toString(16)}->ipv6_label`,
];
const PORT_SETS: readonly Make[] = [
  (r) => `mod_tp_src:${r.pick(POOLS.l4ports)}`,
  (r) => `mod_tp_dst:${r.pick(POOLS.l4ports)}`,
];
const TCP_SETS: readonly Make[] = [
  ...PORT_SETS,
  (r) => `set_field:${r.pick(POOLS.l4ports)}->tcp_dst`,
  () => "move:NXM_OF_TCP_SRC[]->NXM_OF_TCP_DST[]",
];

/** Sets that a flow may only have with the protocol in its match. */
const BY_PROTOCOL: Readonly<Record<string, readonly Make[]>> = {
  tcp: [...IPV4_SETS, ...TCP_SETS],
  udp: [...IPV4_SETS, ...PORT_SETS, (r) => `set_field:${r.pick(POOLS.l4ports)}->udp_src`],
  sctp: [...IPV4_SETS, ...PORT_SETS, (r) => `set_field:${r.pick(POOLS.l4ports)}->sctp_dst`],
  icmp: [...IPV4_SETS, () => "set_field:0->icmp_type", (r) => `set_field:${r.below(4)}->icmp_code`],
  ip: IPV4_SETS,
  ipv6: IPV6_SETS,
  tcp6: [...IPV6_SETS, ...TCP_SETS],
  udp6: [...IPV6_SETS, ...PORT_SETS, (r) => `set_field:${r.pick(POOLS.l4ports)}->udp_dst`],
  arp: [
    (r) => `set_field:10.7.0.${r.below(256)}->arp_spa`,
    (r) => `set_field:${mac(r)}->arp_sha`,
    () => "set_field:2->arp_op",
    () => "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]",
    () => "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
  ],
};

/** What OpenFlow 1.0 lets any flow do: whether the packet has the field turns out on the packet. */
const ANY_PROTOCOL: readonly Make[] = [
  (r) => `mod_nw_src:10.9.${r.below(4)}.${r.below(256)}`,
  (r) => `mod_nw_dst:10.9.${r.below(4)}.${r.below(256)}`,
  (r) => `mod_nw_tos:${r.below(64) * 4}`,
  ...PORT_SETS,
];

const output = (r: Random, groups: boolean): string =>
  r.pick([
    ...Array.from({ length: 6 }, () => `output:${1 + r.below(N_PORTS)}`),
    "IN_PORT",
    "NORMAL",
    "FLOOD",
    "ALL",
    "LOCAL",
    ...(groups ? [`group:${r.pick(GROUP_IDS)}`] : []),
    "output:77",
  ]);

const onward = (r: Random, table: number, version: Version): string => {
  const next = table + 1 + r.below(N_TABLES - 1 - table);
  const resubmits = [`resubmit(,${next})`, `resubmit(${1 + r.below(N_PORTS)},${next})`];
  return r.pick(version === "openflow10" ? resubmits : [...resubmits, `goto_table:${next}`]);
};

const actions = (r: Random, table: number, matched: string, version: Version): string => {
  const groups = version === "groups";
  const out: string[] = [];
  const protocolWord = matched.split(",").find((part) => part in BY_PROTOCOL) ?? "";
  const own = version === "openflow10" ? ANY_PROTOCOL : (BY_PROTOCOL[protocolWord] ?? []);
  const sets =
    version === "openflow10"
      ? [...SETS.filter((make) => !make(r).startsWith("push") && !make(r).includes("->eth_dst")), ...own]
      : [...SETS, ...own, ...own];
  const few = (): void => {
    for (let n = r.below(3); n > 0; n--) {
      const set = r.pick(r.oneIn(4) ? TAG_SETS : sets)(r);
      // Of more than two tags, one matched and one pushed, OVS refuses to speak.
      if (!set.startsWith("push") || !out.some((other) => other.startsWith("push"))) out.push(set);
    }
  };
  few();
  if (r.oneIn(2)) out.push(output(r, groups));
  if (r.oneIn(2)) few();
  if (table < N_TABLES - 1 && r.oneIn(2)) {
    const last = onward(r, table, version);
    if (last.startsWith("goto") && r.oneIn(3)) {
      out.push(
        `write_actions(${[r.pick(["mod_dl_src:02:00:00:00:cc:01", "dec_ttl", "push_vlan:0x8100"]), output(r, groups)].join(",")})`,
      );
    }
    out.push(last);
  } else if (r.oneIn(2) || out.length === 0) {
    out.push(r.oneIn(8) ? "drop" : output(r, groups));
  }
  return out.includes("drop") ? "drop" : out.join(",");
};

/** Dialects of {@link Version}: "NXM+table_id", OpenFlow 1.5. */
const CARRIERS: Readonly<Record<Version, number>> = { openflow10: 0x008, instructions: 0x100, groups: 0x100 };

const isCarried = (text: string, version: Version): boolean => {
  try {
    return (parseFlowMods(text)[0]!.protocols & CARRIERS[version]) !== 0;
  } catch (error) {
    if (error instanceof CompileError) return false;
    throw error;
  }
};

/** A match and actions that the version can carry; what it cannot is thrown away. */
const flow = (r: Random, table: number, version: Version): string => {
  for (;;) {
    const matched = match(r);
    const text = `${matched === "" ? "" : `${matched},`}actions=${actions(r, table, matched, version)}`;
    if (isCarried(text, version)) return text;
  }
};

/** One flow per line. */
export const randomTable = (r: Random, version: Version): string => {
  const lines: string[] = [];
  for (let table = 0; table < N_TABLES; table++) {
    for (let n = 3 + r.below(8), i = 0; i < n; i++) {
      lines.push(`table=${table},priority=${10 * lines.length + 1},${flow(r, table, version)}`);
    }
    lines.push(
      `table=${table},priority=0,actions=${r.pick(["NORMAL", "FLOOD", "drop", "output:1", table < 3 ? `resubmit(,${table + 1})` : "output:2"])}`,
    );
  }
  return lines.join("\n");
};
