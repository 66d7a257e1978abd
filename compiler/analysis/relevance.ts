// Which members of the flow can ever matter to a switch's tables: what its rules match, what its actions read or write (a
// written field is un-wildcarded, since the merged value goes into the packet), and what must be known for those to mean
// anything. The key of a datapath program holds these and no others.
//
// The set is a forecast: translation may un-wildcard less, and if it ever un-wildcards a member outside of it, the
// program is built anew with that member. So a missing member costs a rebuild, never a wrong packet.

import type { FieldName } from "../openflow/fields.js";
import { PREREQUISITES, fieldSpec } from "../openflow/field-access.js";
import { FLOW, getBits, type FlowWords, type Member } from "../openflow/flow.js";
import { nestedActions, PORT, type Action, type ActionKind } from "../openflow/types.js";
import { INPUT_MEMBERS, PACKET_MEMBERS, TUNNEL_MEMBERS } from "../datapath/key.js";
import { HASH_MEMBERS, HASH_NAMES } from "../packet/dp-hash.js";
import type { Switch } from "../pipeline/switch.js";
import type { TunnelPorts } from "../pipeline/tunnel/ports.js";

const VLAN: readonly Member[] = ["vlan0_tci", "vlan0_tpid", "vlan1_tci", "vlan1_tpid"];

const MPLS: readonly Member[] = ["mpls_lse0", "mpls_lse1", "mpls_lse2"];

/** What NORMAL looks at. */
const NORMAL: readonly Member[] = ["dl_src", "dl_dst", "vlan0_tci"];

/** What the hash of a select group looks at (OVS's default: addresses and ports of the layers that are there). */
const HASH: readonly Member[] = [
  "dl_src",
  "dl_dst",
  "vlan0_tci",
  "vlan1_tci",
  "nw_proto",
  "nw_frag",
  "nw_src",
  "nw_dst",
  "ipv6_src",
  "ipv6_dst",
  "tp_src",
  "tp_dst",
];

/** Members of a field and of its prerequisites. */
const membersOf = (field: FieldName): readonly Member[] => {
  const row = fieldSpec(field);
  return [row.in, ...PREREQUISITES[row.needs].flat().map((constraint) => constraint.member)];
};

/** Members that writing a field looks at. Above L2 one is the protocol: it says whether there is a header to write. */
const writtenBy = (field: FieldName): readonly Member[] => {
  const members = membersOf(field);
  return PACKET_MEMBERS.has(fieldSpec(field).in) && members.includes("dl_type") ? [...members, "nw_proto"] : members;
};

type Handlers = { readonly [K in ActionKind]?: (action: Extract<Action, { kind: K }>) => readonly Member[] };

/** Members per action; actions that are not listed look at nothing. */
const BY_ACTION: Handlers = {
  output: ({ port }) => (port === PORT.NORMAL ? NORMAL : []),
  set_field: ({ field }) => writtenBy(field),
  reg_load: ({ dst }) => writtenBy(dst.field),
  reg_move: ({ src, dst }) => [...membersOf(src.field), ...writtenBy(dst.field)],
  set_vlan_vid: () => VLAN,
  set_vlan_pcp: () => VLAN,
  strip_vlan: () => VLAN,
  push_vlan: () => VLAN,
  set_eth_src: () => ["dl_src"],
  set_eth_dst: () => ["dl_dst"],
  set_ipv4_src: () => ["nw_src", "nw_proto"],
  set_ipv4_dst: () => ["nw_dst", "nw_proto"],
  set_ip_dscp: () => ["nw_tos", "nw_proto"],
  set_ip_ecn: () => ["nw_tos", "nw_proto"],
  set_ip_ttl: () => ["nw_ttl", "nw_proto"],
  set_l4_src_port: () => ["nw_proto", "nw_frag", "tp_src"],
  set_l4_dst_port: () => ["nw_proto", "nw_frag", "tp_dst"],
  push_mpls: () => [...MPLS, "nw_tos", "nw_ttl"],
  pop_mpls: () => MPLS,
  set_mpls_label: () => MPLS,
  set_mpls_tc: () => MPLS,
  set_mpls_ttl: () => MPLS,
  dec_mpls_ttl: () => MPLS,
  encap: () => [...MPLS, "nw_tos", "nw_ttl"],
  decap: () => ["vlan0_tci", "nsh_np"],
  dec_nsh_ttl: () => ["nsh_ttl"],
  dec_ttl: () => ["nw_ttl", "nw_proto"],
  output_reg: ({ src }) => membersOf(src.field),
  stack_push: ({ src }) => membersOf(src.field),
  stack_pop: ({ dst }) => writtenBy(dst.field),
  multipath: ({ dst }) => [...HASH, ...writtenBy(dst.field)],
  bundle: ({ dst }) => (dst === undefined ? HASH : [...HASH, ...writtenBy(dst.field)]),
  learn: ({ specs, resultDst }) => [
    ...specs.flatMap(({ src }) => (src instanceof Uint8Array ? [] : membersOf(src.field))),
    ...(resultDst === undefined ? [] : writtenBy(resultDst.field)),
  ],
  fin_timeout: () => ["nw_proto", "tcp_flags"],
};

/**
 * What was found out about masks, of which a table's rules share a few, and lists of actions. Neither ever changes, and tables
 * are looked at often.
 */
const known = new WeakMap<FlowWords | readonly Action[], readonly Member[]>();

const remembered = <T extends FlowWords | readonly Action[]>(
  of: T,
  find: (of: T) => readonly Member[],
): readonly Member[] => {
  let members = known.get(of);
  if (members === undefined) known.set(of, (members = find(of)));
  return members;
};

const matched = (mask: FlowWords): readonly Member[] =>
  [...INPUT_MEMBERS].filter((member) => {
    const { at, bits } = FLOW[member];
    for (let done = 0; done < bits; done += 8) if (getBits(mask, at + done, 8) !== 0) return true;
    return false;
  });

/** Adds what `actions` look at, nested ones included. */
const visit = (actions: readonly Action[], into: Set<Member>): void => {
  for (const action of actions) {
    const handler = BY_ACTION[action.kind] as ((action: Action) => readonly Member[]) | undefined;
    for (const member of handler?.(action) ?? []) into.add(member);
    visit(nestedActions(action), into);
  }
};

const lookedAtBy = (actions: readonly Action[]): readonly Member[] => {
  const members = new Set<Member>();
  visit(actions, members);
  return [...members];
};

/** What says by which tunnel a packet came, and what goes from a packet into its outer headers. */
const lookedAtByTunnels = ({ configs }: TunnelPorts): readonly Member[] =>
  [...configs].flatMap(({ remote, local, ttl, gbp }): Member[] => {
    const addresses = [remote, local].filter((address) => typeof address === "object");
    return [
      ...(["tun_id", "tun_flags", "tun_tos", "nw_tos"] as const),
      ...(addresses.every(({ length }) => length === 4) ? (["tun_src", "tun_dst"] as const) : []),
      ...(addresses.some(({ length }) => length === 16) ? (["tun_ipv6_src", "tun_ipv6_dst"] as const) : []),
      ...(ttl === "inherit" ? (["nw_ttl"] as const) : []),
      ...(gbp ? (["tun_gbp_id", "tun_gbp_flags"] as const) : []),
    ];
  });

/**
 * Members that packets can have and the tables of `sw` can care for; in_port and dl_type always.
 * @returns a subset of {@link INPUT_MEMBERS}
 */
export const relevantMembers = (sw: Switch): Set<Member> => {
  const members = new Set<Member>(["in_port", "dl_type"]);
  if (sw.standaloneRule !== undefined) visit(sw.standaloneRule.actions, members);
  for (const { rules } of sw.tables())
    for (const mask of rules.distinctMasks) for (const member of remembered(mask, matched)) members.add(member);
  // Rules that came together mostly do the same.
  let last: readonly Action[] | undefined;
  for (const { actions } of sw.rules()) {
    if (actions === last) continue;
    last = actions;
    for (const member of remembered(actions, lookedAtBy)) members.add(member);
  }
  for (const { group, buckets, selection } of sw.groups()) {
    if (group.type === "select") for (const member of HASH) members.add(member);
    if (selection.method === "dp_hash") {
      for (const member of HASH_MEMBERS) if (HASH_NAMES[member] === selection.algorithm) members.add(member);
    }
    for (const { bucket } of buckets) visit(bucket.actions, members);
  }
  if (sw.tunnels.size === 0) for (const member of TUNNEL_MEMBERS) members.delete(member);
  else for (const member of lookedAtByTunnels(sw.tunnels)) members.add(member);
  for (const member of members) if (!INPUT_MEMBERS.has(member)) members.delete(member);
  return members;
};
