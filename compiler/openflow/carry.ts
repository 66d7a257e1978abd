// A flow as it arrives at the other end of an OpenFlow connection: each version says some things in its own words and
// cannot say others. `ovs-ofctl parse-flow` prints flows in this form, and so do switches that got them that way.

import { FIELD_WIDTH, matchesField } from "./field-access.js";
import type { FieldName } from "./fields.js";
import { FLOW, get, getBytes, set } from "./flow.js";
import { fromBytes, toBytes } from "./big-endian.js";
import { VLAN_PRESENT } from "./numbers.js";
import { IP_PROTO, ETH_TYPE } from "../packet/headers.js";
import { misplaced } from "./order.js";
import { applyToTags, hasTag } from "./tags.js";
import { splitLoad } from "./print/actions.js";
import type { Action, ActionKind, Flow, FlowFlag, Match } from "./types.js";
import { PROTOCOL, type Protocol } from "./versions.js";

/** Minor version numbers: 0 for OpenFlow 1.0. */
export const minorVersion = (protocol: Protocol): number =>
  PROTOCOL[protocol] < PROTOCOL.OpenFlow11 ? 0 : Number(protocol.slice(-1));

interface State {
  readonly minor: number;
  /** Value part of the match, with the tags as the actions before leave them. */
  readonly flow: Match["value"];
}

type SetField = Extract<Action, { kind: "set_field" }>;
type Load = Extract<Action, { kind: "reg_load" }>;

const setField = (field: FieldName, value: number): SetField => ({
  kind: "set_field",
  field,
  value: toBytes(BigInt(value), (FIELD_WIDTH[field] + 7) >>> 3),
});

const load = (field: FieldName, lsb: number, bits: number, value: bigint): Load => ({
  kind: "reg_load",
  value: toBytes(value, (bits + 7) >>> 3),
  dst: { field, lsb, bits },
});

/** The bits that a set_field sets as loads: one for each run of ones in its mask. */
const asLoads = ({ field, value, mask }: SetField): Action[] => {
  const width = FIELD_WIDTH[field];
  const bits = fromBytes(value);
  const ones = mask === undefined ? (1n << BigInt(width)) - 1n : fromBytes(mask);
  const loads: Action[] = [];
  for (let from = 0; from < width; from++) {
    if (((ones >> BigInt(from)) & 1n) === 0n) continue;
    let to = from;
    while (to < width && ((ones >> BigInt(to)) & 1n) === 1n) to++;
    const run = (bits >> BigInt(from)) & ((1n << BigInt(to - from)) - 1n);
    loads.push(...splitLoad(load(field, from, to - from, run)));
    from = to;
  }
  return loads;
};

/** A load as the set_field of OpenFlow 1.5. */
const asSetField = ({ value, dst: { field, lsb, bits } }: Load): SetField => {
  const size = (FIELD_WIDTH[field] + 7) >>> 3;
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(lsb);
  const placed = toBytes(fromBytes(value) << BigInt(lsb), size);
  return bits === FIELD_WIDTH[field]
    ? { kind: "set_field", field, value: placed }
    : { kind: "set_field", field, value: placed, mask: toBytes(mask, size) };
};

/** OpenFlow 1.0 adds a tag where there is none, 1.1 leaves the packet alone. */
const vlanVid = (minor: number, vid: number): Action => ({ kind: "set_vlan_vid", vid, pushIfNeeded: minor === 0 });
const vlanPcp = (minor: number, pcp: number): Action => ({ kind: "set_vlan_pcp", pcp, pushIfNeeded: minor === 0 });
const stripVlan = (minor: number): Action => ({
  kind: "strip_vlan",
  spelling: minor === 0 ? "strip_vlan" : "pop_vlan",
});
const pushVlan: Action = { kind: "push_vlan", ethertype: ETH_TYPE.VLAN };

const ecn = (minor: number, value: number): Action =>
  minor === 0
    ? load("nw_ecn", 0, 2, BigInt(value))
    : minor === 1
      ? { kind: "set_ip_ecn", ecn: value }
      : setField("nw_ecn", value);

/** The action of OpenFlow 1.0 and 1.1 for setting a field, where it has one. It has no room for a mask. */
const LEGACY: Partial<Record<FieldName, (value: Uint8Array, state: State) => Action[]>> = {
  vlan_tci: (value, { minor, flow }) => {
    const tci = Number(fromBytes(value));
    if ((tci & VLAN_PRESENT) === 0) return [stripVlan(minor)];
    const push = minor === 0 || hasTag(flow) ? [] : [pushVlan];
    return [...push, vlanVid(minor, tci & 0xfff), vlanPcp(minor, tci >>> 13)];
  },
  vlan_vid: (value, { minor }) => [vlanVid(minor, Number(fromBytes(value)) & 0xfff)],
  vlan_pcp: (value, { minor }) => [vlanPcp(minor, value[0]!)],
  eth_src: (mac) => [{ kind: "set_eth_src", mac }],
  eth_dst: (mac) => [{ kind: "set_eth_dst", mac }],
  ip_src: (addr) => [{ kind: "set_ipv4_src", addr }],
  ip_dst: (addr) => [{ kind: "set_ipv4_dst", addr }],
  nw_tos: (value) => [{ kind: "set_ip_dscp", tos: value[0]! }],
  ip_dscp: (value) => [{ kind: "set_ip_dscp", tos: value[0]! << 2 }],
  nw_ecn: (value, { minor }) => [ecn(minor, value[0]!)],
  tcp_src: (value) => [{ kind: "set_l4_src_port", port: Number(fromBytes(value)) }],
  tcp_dst: (value) => [{ kind: "set_l4_dst_port", port: Number(fromBytes(value)) }],
  udp_src: (value) => [{ kind: "set_l4_src_port", port: Number(fromBytes(value)) }],
  udp_dst: (value) => [{ kind: "set_l4_dst_port", port: Number(fromBytes(value)) }],
};

const carrySetField = (action: SetField, state: State): Action[] => {
  if (state.minor >= 5) return [action];
  if (state.minor >= 2) return action.mask === undefined ? [action] : asLoads(action);
  return LEGACY[action.field]?.(action.value, state) ?? asLoads(action);
};

/** Fields that hold the port of a transport protocol. */
const PORT_FIELDS: ReadonlyMap<number, readonly [src: FieldName, dst: FieldName]> = new Map([
  [IP_PROTO.TCP, ["tcp_src", "tcp_dst"]],
  [IP_PROTO.UDP, ["udp_src", "udp_dst"]],
  [IP_PROTO.SCTP, ["sctp_src", "sctp_dst"]],
]);

const carryPort = (
  action: Extract<Action, { kind: "set_l4_src_port" | "set_l4_dst_port" }>,
  { minor, flow }: State,
): Action[] => {
  const fields = PORT_FIELDS.get(get(flow, "nw_proto"));
  if (minor < 2 || fields === undefined) return [action];
  return [setField(action.kind === "set_l4_src_port" ? fields[0] : fields[1], action.port)];
};

/** A tag is pushed first where the action adds one and the flow does not say that there is one. */
const needsPush = (pushIfNeeded: boolean, { minor, flow }: State): Action[] =>
  minor > 0 && pushIfNeeded && !hasTag(flow) ? [pushVlan] : [];

type Carry<K extends ActionKind> = (action: Extract<Action, { kind: K }>, state: State) => Action[];

const same = (action: Action): Action[] => [action];

const CARRY: { readonly [K in ActionKind]: Carry<K> } = {
  output: same,
  controller: same,
  group: same,
  set_field: carrySetField,
  reg_load: (a, { minor }) => (minor >= 5 ? [asSetField(a)] : splitLoad(a)),
  reg_move: same,
  set_vlan_vid: (a, s) => [
    ...needsPush(a.pushIfNeeded, s),
    s.minor < 2 ? vlanVid(s.minor, a.vid) : setField("vlan_vid", a.vid | VLAN_PRESENT),
  ],
  set_vlan_pcp: (a, s) => [
    ...needsPush(a.pushIfNeeded, s),
    s.minor < 2 ? vlanPcp(s.minor, a.pcp) : setField("vlan_pcp", a.pcp),
  ],
  strip_vlan: (_a, { minor }) => [stripVlan(minor)],
  push_vlan: (a, { minor }) => (minor === 0 ? [] : [a]),
  set_eth_src: (a, { minor }) => (minor < 2 ? [a] : [{ kind: "set_field", field: "eth_src", value: a.mac }]),
  set_eth_dst: (a, { minor }) => (minor < 2 ? [a] : [{ kind: "set_field", field: "eth_dst", value: a.mac }]),
  set_ipv4_src: (a, { minor }) => (minor < 2 ? [a] : [{ kind: "set_field", field: "ip_src", value: a.addr }]),
  set_ipv4_dst: (a, { minor }) => (minor < 2 ? [a] : [{ kind: "set_field", field: "ip_dst", value: a.addr }]),
  set_ip_dscp: (a, { minor }) => (minor < 2 ? [a] : [setField("ip_dscp", a.tos >>> 2)]),
  set_ip_ecn: (a, { minor }) => [ecn(minor, a.ecn)],
  set_ip_ttl: (a, { minor }) => (minor === 0 ? [load("nw_ttl", 0, 8, BigInt(a.ttl))] : [a]),
  set_l4_src_port: carryPort,
  set_l4_dst_port: carryPort,
  dec_ttl: same,
  resubmit: same,
  write_metadata: same,
  clear_actions: (a, { minor }) => (minor === 0 ? [] : [a]),
  // Nothing written is nothing on the wire.
  write_actions: (a, s) =>
    s.minor === 0 || a.actions.length === 0 ? [] : [{ kind: "write_actions", actions: carryEach(a.actions, s) }],
  goto_table: (a, { minor }) => (minor === 0 ? [{ kind: "resubmit", table: a.table }] : [a]),
};

const carryEach = (actions: readonly Action[], state: State): Action[] =>
  actions.flatMap((action) => {
    const carried = (CARRY[action.kind] as Carry<ActionKind>)(action, state);
    applyToTags(state.flow, action);
    return carried;
  });

/** Actions in the words of a version. @param match - of their flow */
export const carryActions = (actions: readonly Action[], match: Match, protocol: Protocol): readonly Action[] =>
  carryEach(actions, { minor: minorVersion(protocol), flow: match.value.slice() });

const withTci = (match: Match, value: number, mask: number): Match => {
  const carried = { value: match.value.slice(), mask: match.mask.slice() };
  set(carried.value, "vlan0_tci", value & mask);
  set(carried.mask, "vlan0_tci", mask);
  return carried;
};

/** OpenFlow 1.0 knows "no tag", an ID and a priority; 1.1 and later the ID with "present" bit, and a priority with it. */
const carryMatch = (match: Match, protocol: Protocol): Match => {
  const mask = get(match.mask, "vlan0_tci");
  const value = get(match.value, "vlan0_tci");
  if (mask === 0 || PROTOCOL[protocol] & (PROTOCOL["NXM-table_id"] | PROTOCOL["NXM+table_id"])) return match;
  if (PROTOCOL[protocol] <= PROTOCOL.OpenFlow11) {
    return mask & ~value & VLAN_PRESENT ? withTci(match, 0, 0xffff) : match;
  }
  const keepsPriority = (value & 0x1fff) !== 0 && mask >>> 13 !== 0;
  return withTci(match, value, (mask & 0x1fff) | (keepsPriority ? 0xe000 | VLAN_PRESENT : 0));
};

const ETHERNET_MEMBERS = ["in_port", "dl_src", "dl_dst", "dl_type", "vlan0_tci"] as const;
const IP_MEMBERS = ["nw_src", "nw_dst", "nw_proto", "tp_src", "tp_dst"] as const;

/** OpenFlow 1.0 gives flows that match all of its fields exactly the highest priority, whatever they say. */
const isExactInOpenflow10 = (match: Match): boolean =>
  [...ETHERNET_MEMBERS, ...IP_MEMBERS].every((member) => {
    const { at, bits } = FLOW[member];
    const bytes = getBytes(match.mask, at, bits);
    const icmp = (member === "tp_src" || member === "tp_dst") && get(match.value, "nw_proto") === IP_PROTO.ICMP;
    return bytes.every((byte, i) => byte === 0xff || (icmp && i === 0));
  }) && (get(match.mask, "nw_tos") & 0xfc) === 0xfc;

/** Minor version that first has a flag on the wire. */
const FLAGS_SINCE: Readonly<Record<FlowFlag, number>> = {
  send_flow_rem: 0,
  check_overlap: 0,
  reset_counts: 2,
  no_packet_counts: 3,
  no_byte_counts: 3,
};

/**
 * The flow as a switch gets it over `protocol`.
 *
 * @returns undefined if the switch would refuse it: some orders of actions are wrong in OpenFlow 1.0
 */
export const carryFlow = (flow: Flow, protocol: Protocol): Flow | undefined => {
  const minor = minorVersion(protocol);
  const actions = carryActions(flow.actions, flow.match, protocol);
  if (misplaced(actions.map((a) => a.kind)) !== undefined) return undefined;
  // OVS forgets a match on ECN bits in OpenFlow 1.1.
  if (minor === 1 && matchesField(flow.match, "nw_ecn")) return undefined;
  const standard = PROTOCOL[protocol] <= PROTOCOL["OpenFlow10+table_id"];
  return {
    ...flow,
    priority: standard && isExactInOpenflow10(flow.match) ? 0xffff : flow.priority,
    importance: minor < 4 ? 0 : flow.importance,
    flags: flow.flags.filter((flag) => minor >= FLAGS_SINCE[flag]),
    match: carryMatch(flow.match, protocol),
    actions,
  };
};
