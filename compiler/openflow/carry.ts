// A flow as it arrives at the other end of an OpenFlow connection: each version says some things in its own words and
// cannot say others. `ovs-ofctl parse-flow` prints flows in this form, and so do switches that got them that way.

import type { Carrying } from "./actions/row.js";
import { rowOf } from "./actions/table.js";
import { matchesField } from "./field-access.js";
import { FLOW, get, getBytes, set, type FlowWords } from "./flow.js";
import { VLAN_PRESENT } from "./numbers.js";
import { IP_PROTO } from "../packet/headers.js";
import { misplaced } from "./order.js";
import { applyToTags } from "./tags.js";
import type { Action, Flow, FlowFlag, Match } from "./types.js";
import { PROTOCOL, type Protocol } from "./versions.js";

/** Minor version numbers: 0 for OpenFlow 1.0. */
export const minorVersion = (protocol: Protocol): number =>
  PROTOCOL[protocol] < PROTOCOL.OpenFlow11 ? 0 : Number(protocol.slice(-1));

const carryEach = (actions: readonly Action[], minor: number, flow: FlowWords): Action[] | undefined => {
  const state: Carrying = { minor, flow, nested: (inner) => carryEach(inner, minor, flow.slice()) };
  const carried: Action[] = [];
  for (const action of actions) {
    const { carry } = rowOf(action);
    const arrived = carry === undefined ? [action] : carry(action, state);
    if (arrived === undefined) return undefined;
    carried.push(...arrived);
    applyToTags(flow, action);
  }
  return carried;
};

/**
 * Actions in the words of a version.
 *
 * @param match - of their flow
 * @returns undefined if a switch of that version refuses one of them
 */
export const carryActions = (
  actions: readonly Action[],
  match: Match,
  protocol: Protocol,
): readonly Action[] | undefined => {
  const minor = minorVersion(protocol);
  const carried = carryEach(actions, minor, match.value.slice());
  if (carried === undefined || minor === 0) return carried;
  const written = carried.flatMap((action) => (action.kind === "write_actions" ? action.actions : []));
  return written.every((action) => rowOf(action).inSet !== undefined) ? carried : undefined;
};

const withTci = (match: Match, value: number, mask: number): Match => {
  const carried = { ...match, value: match.value.slice(), mask: match.mask.slice() };
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
  if (actions === undefined || misplaced(actions.map((a) => a.kind)) !== undefined) return undefined;
  // OpenFlow 1.2 and later match a priority only with the "present" bit, and an ID without it is possible.
  const tci = get(flow.match.value, "vlan0_tci");
  const isOddTag = (tci & 0xfff) !== 0 && (tci & VLAN_PRESENT) === 0 && get(flow.match.mask, "vlan0_tci") >>> 13 !== 0;
  if (minor >= 2 && isOddTag) return undefined;
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
