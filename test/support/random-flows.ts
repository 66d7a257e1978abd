// Random flows and flow tables in the syntax of ovs-ofctl, every one of them valid. Values come from POOLS, so that
// random packets hit them and flows overlap. The same seed gives the same text. All can be added with OpenFlow 1.3.

import { POOLS } from "./pools.js";
import type { Random } from "./random.js";

export interface RandomFlowOptions {
  /** Ports to output to and to match. Default: POOLS.ports. */
  readonly ports?: readonly number[];
  /** Groups that group actions may name. Default: none. */
  readonly groups?: readonly number[];
  /** Most actions of a flow. Default: 4. */
  readonly nActions?: number;
  /** Whether the NORMAL action (MAC learning) may occur. Default: true. */
  readonly normal?: boolean;
  /**
   * What recirculates may occur: labels and service headers popped. Then there are no action sets, and no lists inside lists
   * that go on to tables: OVS 3.1 dies of either. Default: false.
   */
  readonly recirculates?: boolean;
  /** Whether learn actions may occur. Default: false. */
  readonly learns?: boolean;
  /** Whether controller actions may occur. Default: true. */
  readonly controller?: boolean;
}

export interface RandomTableOptions extends RandomFlowOptions {
  readonly nTables: number;
  readonly nFlows: number;
}

/** What is known of the packets that a match lets through: it decides which fields can be set. */
interface Facts {
  type: "any" | "ip" | "ipv6" | "arp" | "mpls" | "nsh" | "other";
  proto: "any" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6" | "nd_solicit" | "nd_advert";
  later: boolean;
  /** Number of VLAN tags known to be there. */
  tags: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

const MAC_MASKS = ["ff:ff:ff:00:00:00", "01:00:00:00:00:00", "00:00:00:00:00:0f"] as const;
const IPV4_MASKS = ["/8", "/16", "/24", "/31", "/255.0.255.0", "/0.0.0.3"] as const;
const IPV6_MASKS = ["/16", "/48", "/64", "/127", "/ffff::ffff"] as const;
const PORT_MASKS = ["/0xfff0", "/0xff00", "/0x1"] as const;

const mac = (r: Random): string => r.pick(POOLS.macs);

const masked = (r: Random, value: string, masks: readonly string[]): string =>
  r.oneIn(3) ? `${value}${r.pick(masks)}` : value;

/** A value written with bits outside of the mask set is the same match; OVS clears them. */
const l4port = (r: Random, name: string): string =>
  r.oneIn(5) ? `${name}=${hex(r.pick(POOLS.l4ports))}${r.pick(PORT_MASKS)}` : `${name}=${r.pick(POOLS.l4ports)}`;

const FLAG_MATCHES = ["+syn-ack", "+syn+ack", "-rst", "syn|ack", "ack", "0x12/0x17", "+psh+ack-fin"] as const;

const transport = (r: Random, facts: Facts, names: readonly [src: string, dst: string], words: string[]): void => {
  if (facts.later) return;
  if (r.oneIn(3)) words.push(l4port(r, names[0]));
  if (!r.oneIn(3)) words.push(l4port(r, names[1]));
};

const matchIp = (r: Random, facts: Facts, words: string[]): void => {
  if (r.oneIn(4)) words.push(r.pick(["nw_tos=0", "nw_tos=16", "ip_dscp=4", "ip_dscp=46"]));
  if (r.oneIn(8)) words.push(`nw_ecn=${r.below(4)}`);
  if (r.oneIn(8)) words.push(`nw_ttl=${r.pick([1, 2, 64, 255])}`);
  if (!r.oneIn(6)) return;
  const frag = r.pick(["no", "yes", "first", "later", "not_later"]);
  facts.later = frag === "later";
  words.push(`${r.pick(["ip_frag", "nw_frag"])}=${frag}`);
};

const matchProtocol = (r: Random, facts: Facts, words: string[]): void => {
  const six = facts.type === "ipv6";
  const suffix = six ? "6" : "";
  const proto = r.pick(["any", "tcp", "tcp", "udp", "sctp", "icmp", "number"] as const);
  switch (proto) {
    case "any":
      words.unshift(six ? "ipv6" : "ip");
      break;
    case "number":
      words.unshift(six ? "ipv6" : "ip", `nw_proto=${r.pick([2, 47, 89])}`);
      break;
    case "icmp":
      words.unshift(`icmp${suffix}`);
      facts.proto = six ? "icmp6" : "icmp";
      if (six && r.oneIn(2)) {
        facts.proto = r.pick(["nd_solicit", "nd_advert"] as const);
        words.push(`icmpv6_type=${facts.proto === "nd_solicit" ? 135 : 136}`);
        if (r.oneIn(2)) words.push(`nd_target=${masked(r, r.pick(POOLS.ipv6s), IPV6_MASKS)}`);
        if (r.oneIn(3)) words.push(`${facts.proto === "nd_solicit" ? "nd_sll" : "nd_tll"}=${mac(r)}`);
        // Both names stand for the same bits of the flow.
        words.push(r.pick(["icmpv6_code=0", "icmp_code=0"]));
      } else {
        const v = six ? "icmpv6" : "icmp";
        if (r.oneIn(2)) words.push(`${v}_type=${r.pick(six ? [128, 129] : [0, 3, 8])}`);
        if (r.oneIn(4)) words.push(`${v}_code=${r.below(2)}`);
      }
      break;
    default: {
      words.unshift(`${proto}${suffix}`);
      facts.proto = proto;
      transport(r, facts, [`${proto}_src`, `${proto}_dst`], words);
      if (proto === "tcp" && !facts.later && r.oneIn(4)) words.push(`tcp_flags=${r.pick(FLAG_MATCHES)}`);
    }
  }
};

const matchVlan = (r: Random, facts: Facts, words: string[]): void => {
  const vid = r.pick(POOLS.vlans);
  facts.tags = 1;
  switch (r.below(7)) {
    case 0:
      words.push(r.pick(["vlan_tci=0", "vlan_tci=0x0000/0x1fff", "dl_vlan=0xffff"]));
      facts.tags = 0;
      break;
    case 1:
      words.push("vlan_tci=0x1000/0x1000");
      break;
    case 2:
      words.push(`vlan_vid=${hex(0x1000 | vid)}`);
      break;
    case 3:
      words.push(`vlan_vid=${hex(0x1000 | (vid & 0xf))}/0x100f`);
      break;
    case 4:
      words.push(`dl_vlan=${vid}`, `dl_vlan_pcp=${r.pick([0, 3, 7])}`);
      break;
    default:
      words.push(`dl_vlan=${vid}`);
  }
};

const matchArp = (r: Random, words: string[]): void => {
  words.unshift(r.pick(["arp", "arp", "rarp"]));
  if (r.oneIn(2)) words.push(`arp_op=${r.pick([1, 2])}`);
  if (r.oneIn(3)) words.push(`arp_spa=${masked(r, r.pick(POOLS.ipv4s), IPV4_MASKS)}`);
  if (r.oneIn(3)) words.push(`arp_tpa=${masked(r, r.pick(POOLS.ipv4s), IPV4_MASKS)}`);
  if (r.oneIn(5)) words.push(`arp_sha=${mac(r)}`);
  if (r.oneIn(5))
    words.push(
      `arp_tha=${masked(
        r,
        mac(r),
        MAC_MASKS.map((m) => `/${m}`),
      )}`,
    );
};

const matchMpls = (r: Random, facts: Facts, words: string[]): void => {
  facts.type = "mpls";
  words.unshift(r.pick(["mpls", "mpls", "mplsm"]));
  if (r.oneIn(3)) words.push(`mpls_label=${r.pick([0, 16])}`);
  if (r.oneIn(4)) words.push(`mpls_tc=${r.below(8)}`);
  if (r.oneIn(3)) words.push(`mpls_bos=${r.below(2)}`);
  if (r.oneIn(4)) words.push(`mpls_ttl=${r.pick([1, 64])}`);
};

const matchNsh = (r: Random, facts: Facts, words: string[]): void => {
  facts.type = "nsh";
  words.push("dl_type=0x894f");
  if (r.oneIn(3)) words.push(`nsh_np=${r.between(1, 5)}`);
  if (r.oneIn(4)) words.push(`nsh_mdtype=${r.pick([1, 2])}`);
  if (r.oneIn(4)) words.push(`nsh_ttl=${r.pick([1, 63])}`);
};

const matchOther = (r: Random, facts: Facts, words: string[]): void => {
  facts.type = "other";
  words.push(`dl_type=${r.pick(["0x88cc", "0x88b5"])}`);
};

const matchMetadata = (r: Random, words: string[]): void => {
  if (r.oneIn(6))
    words.push(`metadata=${r.pick(["0", "1", "0x2/0x3", "0x100000000", "0xff00000000000000/0xff00000000000000"])}`);
  if (r.oneIn(6)) words.push(`reg${r.pick([0, 1, 2, 15])}=${r.pick(["0", "1", "5", "0x1/0x3", "0xffffffff"])}`);
};

/** Words of a match, and what is known of the packets behind it. */
const randomMatch = (r: Random, ports: readonly number[], hasShims = false): { words: string[]; facts: Facts } => {
  const facts: Facts = { type: "any", proto: "any", later: false, tags: 0 };
  const words: string[] = [];
  if (r.oneIn(2)) words.push(`in_port=${r.pick(ports)}`);
  matchMetadata(r, words);
  const masks = MAC_MASKS.map((mask) => `/${mask}`);
  if (r.oneIn(4)) words.push(`${r.pick(["dl_src", "eth_src"])}=${masked(r, mac(r), masks)}`);
  if (r.oneIn(3)) words.push(`${r.pick(["dl_dst", "eth_dst"])}=${masked(r, mac(r), masks)}`);
  if (r.oneIn(4)) matchVlan(r, facts, words);
  // Of tables that are to recirculate, every other flow is for what can.
  switch (hasShims && r.oneIn(2) ? 6 : r.below(8)) {
    case 0:
    case 1:
    case 2:
      facts.type = "ip";
      if (r.oneIn(2)) words.push(`${r.pick(["nw_src", "ip_src"])}=${masked(r, r.pick(POOLS.ipv4s), IPV4_MASKS)}`);
      if (!r.oneIn(3)) words.push(`${r.pick(["nw_dst", "ip_dst"])}=${masked(r, r.pick(POOLS.ipv4s), IPV4_MASKS)}`);
      matchIp(r, facts, words);
      matchProtocol(r, facts, words);
      break;
    case 3:
    case 4:
      facts.type = "ipv6";
      if (r.oneIn(2)) words.push(`ipv6_src=${masked(r, r.pick(POOLS.ipv6s), IPV6_MASKS)}`);
      if (!r.oneIn(3)) words.push(`ipv6_dst=${masked(r, r.pick(POOLS.ipv6s), IPV6_MASKS)}`);
      if (r.oneIn(6)) words.push(`ipv6_label=${r.pick(["0", "0x12345", "0x345/0xfff"])}`);
      matchIp(r, facts, words);
      matchProtocol(r, facts, words);
      break;
    case 5:
      facts.type = "arp";
      matchArp(r, words);
      break;
    case 6:
      r.pick([matchMpls, hasShims ? matchMpls : matchNsh, matchNsh, matchOther, () => undefined])(r, facts, words);
      break;
    default:
      break;
  }
  return { words, facts };
};

/** Fields that may be set behind a match, each with a value. */
const settable = (r: Random, facts: Facts): string[] => {
  const ip = facts.type === "ip" || facts.type === "ipv6";
  const ports = ["tcp", "udp", "sctp"].includes(facts.proto) && ip && !facts.later;
  const nd = facts.proto === "nd_solicit" || facts.proto === "nd_advert";
  const icmp = facts.proto === "icmp" ? "icmp" : "icmpv6";
  return [
    `${mac(r)}->eth_src`,
    `${mac(r)}->eth_dst`,
    `${mac(r)}/ff:ff:ff:00:00:00->eth_dst`.replace(/^(..:..:..):..:..:../, "$1:00:00:00"),
    `${hex(r.below(1 << 16))}->reg${r.below(16)}`,
    `${hex(r.below(16))}/0xf->reg1`,
    `${hex(r.below(16))}->metadata`,
    ...(facts.tags > 0 ? [`${0x1000 | r.pick(POOLS.vlans)}->vlan_vid`, `${r.below(8)}->vlan_pcp`] : []),
    ...(facts.type === "ip" ? [`${r.pick(POOLS.ipv4s)}->ip_src`, `${r.pick(POOLS.ipv4s)}->nw_dst`] : []),
    ...(facts.type === "ipv6"
      ? [`${r.pick(POOLS.ipv6s)}->ipv6_src`, `${r.pick(POOLS.ipv6s)}->ipv6_dst`, `${hex(r.below(1 << 20))}->ipv6_label`]
      : []),
    ...(ip ? [`${r.below(64)}->ip_dscp`, `${r.below(4)}->nw_ecn`, `${r.pick([1, 2, 64])}->nw_ttl`] : []),
    ...(ports ? [`${r.pick(POOLS.l4ports)}->${facts.proto}_src`, `${r.pick(POOLS.l4ports)}->${facts.proto}_dst`] : []),
    ...(facts.proto === "icmp" || facts.proto === "icmp6" ? [`${r.below(256)}->${icmp}_type`] : []),
    ...(facts.proto === "icmp" || facts.proto === "icmp6" || nd ? [`${r.below(2)}->${icmp}_code`] : []),
    ...(nd ? [`${r.pick(POOLS.ipv6s)}->nd_target`] : []),
    ...(facts.proto === "nd_solicit" ? [`${mac(r)}->nd_sll`] : []),
    ...(facts.proto === "nd_advert" ? [`${mac(r)}->nd_tll`] : []),
    // Nothing that could make an entry 0: OVS 3.1 miscounts it and dies.
    ...(facts.type === "mpls"
      ? [`${r.pick([5, 16])}->mpls_label`, `${r.between(1, 7)}->mpls_tc`, `${r.pick([1, 64])}->mpls_ttl`]
      : []),
    ...(facts.type === "nsh"
      ? [`${r.below(4)}->nsh_flags`, `${r.pick([1, 63])}->nsh_ttl`, `${r.below(9)}->nsh_si`, `${hex(r.u32())}->nsh_c2`]
      : []),
    ...(facts.type === "arp"
      ? [
          `${r.pick([1, 2])}->arp_op`,
          `${r.pick(POOLS.ipv4s)}->arp_spa`,
          `${r.pick(POOLS.ipv4s)}->arp_tpa`,
          `${mac(r)}->arp_sha`,
          `${mac(r)}->arp_tha`,
        ]
      : []),
  ];
};

/** `mod_*` and relatives that fit a match. */
const modifications = (r: Random, facts: Facts): string[] => {
  const ip = facts.type === "ip" || facts.type === "ipv6";
  const ports = ["tcp", "udp", "sctp"].includes(facts.proto) && ip && !facts.later;
  return [
    `mod_dl_src:${mac(r)}`,
    `mod_dl_dst:${mac(r)}`,
    `mod_vlan_vid:${r.pick(POOLS.vlans)}`,
    `mod_vlan_pcp:${r.below(8)}`,
    ...(facts.tags < 2 ? [`push_vlan:${r.pick(["0x8100", "0x88a8"])}`] : []),
    ...(facts.tags > 0 ? [r.pick(["strip_vlan", "pop_vlan"])] : []),
    ...(facts.type === "ip" ? [`mod_nw_src:${r.pick(POOLS.ipv4s)}`, `mod_nw_dst:${r.pick(POOLS.ipv4s)}`] : []),
    ...(ip ? [`mod_nw_tos:${4 * r.below(64)}`, `mod_nw_ecn:${r.below(4)}`, `mod_nw_ttl:${r.pick([1, 2, 64])}`] : []),
    ...(ip ? ["dec_ttl", "dec_ttl"] : []),
    ...(ports ? [`mod_tp_src:${r.pick(POOLS.l4ports)}`, `mod_tp_dst:${r.pick(POOLS.l4ports)}`] : []),
    ...(r.oneIn(4) ? [`push_mpls:${r.pick(["0x8847", "0x8848"])}`] : []),
    ...(facts.type === "mpls" ? ["dec_mpls_ttl", `set_mpls_ttl(${r.pick([1, 9])})`, "push_mpls:0x8847"] : []),
    ...(facts.type === "nsh" ? ["dec_nsh_ttl"] : []),
    ...(r.oneIn(12)
      ? [r.pick(["encap(nsh(md_type=1)),encap(ethernet)", "encap(nsh),set_field:5->nsh_si,encap(ethernet)"])]
      : []),
  ];
};

/** Takes labels off; what was behind them must be parsed before anything is done with it. */
const pops = (r: Random): string[] => [`pop_mpls:${r.pick(["0x0800", "0x0800", "0x86dd", "0x8847"])}`];

const registers = (r: Random, facts: Facts): string[] => [
  `load:${hex(r.below(256))}->NXM_NX_REG${r.below(4)}[0..7]`,
  `load:${hex(r.below(1 << 16))}->NXM_NX_REG2[]`,
  `load:${r.below(2)}->NXM_NX_REG3[${r.below(32)}]`,
  "move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31]",
  "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
  "move:OXM_OF_METADATA[0..31]->NXM_NX_REG15[]",
  "load:0->NXM_OF_IN_PORT[]",
  ...(facts.type === "ip" ? ["move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]", "load:0x7->NXM_OF_IP_SRC[0..7]"] : []),
  ...(facts.type === "ipv6" ? ["move:NXM_NX_IPV6_SRC[0..31]->NXM_NX_REG0[]", "load:0x1->NXM_NX_IPV6_DST[0..63]"] : []),
  ...(facts.type === "arp"
    ? ["move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]", "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]"]
    : []),
];

const outputs = (r: Random, options: RandomFlowOptions, ports: readonly number[]): string[] => [
  `output:${r.pick(ports)}`,
  `output:${r.pick(ports)}`,
  `${r.pick(ports)}`,
  r.pick(["IN_PORT", "ALL", "FLOOD", "LOCAL", "output:all", "flood"]),
  ...(options.normal === false ? [] : ["NORMAL"]),
  ...(options.controller === false
    ? []
    : [r.pick(["CONTROLLER", "CONTROLLER:128", "controller(reason=no_match,id=3)"])]),
  ...(options.groups ?? []).map((group) => `group:${group}`),
];

/** Actions that copy, choose, remember or stop. */
const steering = (r: Random, options: RandomFlowOptions, ports: readonly number[]): string[] => [
  `push:${r.pick(["NXM_OF_ETH_SRC[]", "NXM_NX_REG0[]", "NXM_OF_IN_PORT[]"])}`,
  `pop:${r.pick(["NXM_OF_ETH_DST[]", "NXM_NX_REG1[]", "NXM_NX_REG0[3..9]"])}`,
  `multipath(${r.pick(["symmetric_l4", "eth_src", "nw_dst"])},${r.below(99)},${r.pick(["hrw", "modulo_n"])},4,0,NXM_NX_REG1[0..2])`,
  `bundle(${r.pick(["symmetric_l3l4", "nw_src"])},${r.below(99)},hrw,ofport,members:${ports.join(",")})`,
  `output:NXM_NX_REG${r.below(2)}[0..2]`,
  `output(port=${r.pick(ports)},max_len=${r.between(14, 100)})`,
  `clone(output:${r.pick(ports)},mod_dl_src:00:00:00:00:00:0${r.below(9)},output:${r.pick(ports)})`,
  r.pick(["exit", "note:01.02.03.04.05.06", "note:00.00.00.00.00.01"]),
  ...(options.recirculates === true
    ? []
    : [`check_pkt_larger(${r.between(60, 120)})->NXM_NX_REG${r.below(3)}[${r.below(4)}]`]),
];

/** Flows of table 250 learned from packets, and going there. */
const learning = (r: Random): string[] => [
  `learn(table=250,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,250)`,
  `learn(table=250,priority=${r.below(3)},limit=${r.pick([0, 3])},NXM_OF_IN_PORT[],load:${r.below(9)}->NXM_NX_REG0[0..7],output:NXM_OF_IN_PORT[])`,
  "learn(table=250,NXM_OF_ETH_SRC[0..7]=NXM_OF_ETH_DST[0..7],load:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]),resubmit(,250)",
];

/** Keeps what is known up to date, as OVS does when it checks the actions that follow. */
const noteEffect = (facts: Facts, action: string): void => {
  const popped = /^pop_mpls:(.*)/.exec(action)?.[1];
  if (/^encap/.test(action)) Object.assign(facts, { type: "nsh", proto: "any", tags: 0 });
  else if (action.startsWith("push_mpls")) Object.assign(facts, { type: "mpls", proto: "any" });
  else if (popped !== undefined) facts.type = popped === "0x0800" ? "ip" : popped === "0x86dd" ? "ipv6" : "mpls";
  else if (action.startsWith("push_vlan")) facts.tags++;
  else if (/^(strip|pop)_vlan/.test(action)) facts.tags--;
  else if (action.startsWith("mod_vlan")) facts.tags = Math.max(facts.tags, 1);
};

const applied = (
  r: Random,
  facts: Facts,
  options: RandomFlowOptions,
  ports: readonly number[],
  n: number,
  forbidden?: RegExp,
): string[] => {
  const actions: string[] = [];
  for (let i = 0; i < n; i++) {
    const kinds = [
      () => outputs(r, options, ports),
      () => outputs(r, options, ports),
      () => modifications(r, facts),
      () => settable(r, facts).map((set) => `set_field:${set}`),
      () => registers(r, facts),
      ...(r.oneIn(14) ? [() => steering(r, options, ports)] : []),
      ...(options.recirculates === true && facts.type === "mpls" ? [() => pops(r)] : []),
      ...(options.learns === true && r.oneIn(6) ? [() => learning(r)] : []),
    ];
    const action = r.pick(r.pick(kinds)());
    // What is not there has no effect on what may follow.
    if (forbidden?.test(action) === true) continue;
    noteEffect(facts, action);
    actions.push(action);
  }
  return actions;
};

/** Instructions behind the actions; `next` are the tables that may follow. */
const instructions = (
  r: Random,
  facts: Facts,
  options: RandomFlowOptions,
  ports: readonly number[],
  next: number[],
): string[] => {
  const set = { ...facts };
  const forbidden =
    /^(move|load|resubmit|push:|pop:|multipath|bundle|output:NXM|output\(|clone|exit|note|check|learn|encap|debug)/;
  const written = (): string[] => applied(r, set, { ...options, controller: false }, ports, r.between(1, 3), forbidden);
  return [
    ...(r.oneIn(12) ? ["clear_actions"] : []),
    ...(r.oneIn(6) && options.recirculates !== true ? [`write_actions(${written().join(",") || "drop"})`] : []),
    ...(r.oneIn(8) ? [`write_metadata:${r.pick(["0x1", "0x2/0x3", "0x100000000"])}`] : []),
    ...(next.length > 0 && r.oneIn(2) ? [`goto_table:${r.pick(next)}`] : []),
  ];
};

/**
 * One flow of a table. Tables after `table` and below `nTables` are where it may go on to.
 *
 * @param priority - as text before the match; the caller decides how flows compete
 */
export const randomFlow = (r: Random, table: number, nTables: number, options: RandomFlowOptions = {}): string => {
  const ports = options.ports ?? POOLS.ports;
  const { words, facts } = randomMatch(r, ports, options.recirculates);
  const next = Array.from({ length: nTables - table - 1 }, (_, i) => table + 1 + i);
  const actions = applied(r, facts, options, ports, r.below((options.nActions ?? 4) + 1));
  if (next.length > 0 && r.oneIn(5)) {
    actions.push(r.pick([`resubmit(,${r.pick(next)})`, `resubmit(${r.pick(ports)},${r.pick(next)})`]));
  }
  actions.push(...instructions(r, facts, options, ports, next));
  const list = actions.length === 0 ? "drop" : actions.join(",");
  const settings = [`table=${table}`, `priority=${r.pick([1, 10, 10, 100, 100, 1000, 32768])}`];
  return `${[...settings, ...words].join(",")},actions=${list}`;
};

/** Clauses of a conjunction of two or three, at a priority of their own, and what is done when all are met. */
const randomConjunction = (r: Random, table: number, options: RandomFlowOptions): string[] => {
  const ports = options.ports ?? POOLS.ports;
  const n = r.between(2, 3);
  const clauses = new Map<string, string>();
  for (let clause = 1; clause <= n; clause++) {
    for (let i = r.between(1, 4); i > 0; i--) {
      const match = [`table=${table}`, "priority=50", ...randomMatch(r, ports).words].join(",");
      clauses.set(match, `${match},actions=conjunction(7,${clause}/${n})`);
    }
  }
  const facts: Facts = { type: "any", proto: "any", later: false, tags: 0 };
  const met = applied(r, facts, options, ports, r.between(1, 3));
  return [...clauses.values(), `table=${table},priority=50,conj_id=7,actions=${met.join(",")}`];
};

/**
 * The flows of a small switch, a line each: overlapping flows with few values per field, spread over the tables with
 * most in the first, and mostly a flow of priority 0 in each table that lets nothing through unseen.
 */
export const randomTable = (r: Random, options: RandomTableOptions): string[] => {
  const ports = options.ports ?? POOLS.ports;
  const flows: string[] = [];
  const seen = new Set<string>();
  for (let tries = 0; flows.length < options.nFlows && tries < 10 * options.nFlows; tries++) {
    const table = Math.min(r.below(options.nTables), r.below(options.nTables));
    const flow = randomFlow(r, table, options.nTables, options);
    // A second flow of equal match and priority would replace the first.
    const key = flow.slice(0, flow.indexOf(",actions="));
    if (seen.has(key)) continue;
    seen.add(key);
    flows.push(flow);
  }
  if (r.oneIn(4)) flows.push(...randomConjunction(r, r.below(options.nTables), options));
  for (let table = 0; table < options.nTables; table++) {
    const next = table + 1 < options.nTables ? [`goto_table:${table + 1}`, `resubmit(,${table + 1})`] : [];
    const miss = r.pick([...next, ...next, `output:${r.pick(ports)}`, "FLOOD", "drop"]);
    if (!r.oneIn(5)) flows.push(`table=${table},priority=0,actions=${miss}`);
  }
  return flows;
};
