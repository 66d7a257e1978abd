// Whether actions fit each other and the match, as OVS's ofpacts_verify() and ofpacts_check() decide it: the order of
// instructions, ports that exist, prerequisites of the fields that are set, tables that goto_table may go to.

import { fieldSpec, meetsPrerequisites } from "../field-access.js";
import type { FieldName, Prerequisite } from "../fields.js";
import { get, type FlowWords } from "../flow.js";
import { ETH_TYPE, IP_PROTO, NW_FRAG } from "../../packet/headers.js";
import { portToText } from "../ports.js";
import { instructionOf, misplaced } from "../order.js";
import { applyToTags, hasTag, hasTwoTags } from "../tags.js";
import type { Action, ActionKind, Match } from "../types.js";
import { CARRIED_BY } from "../versions.js";
import { isOutputPort, type LocatedAction } from "./actions.js";
import type { ParseContext } from "./context.js";

/** What to match so that a field means something. */
const WANTED: Readonly<Record<Prerequisite, string>> = {
  none: "anything",
  vlan_vid: "a VLAN tag (vlan_tci=0x1000/0x1000, or a VLAN ID)",
  arp: "arp",
  ipv4: "ip",
  ipv6: "ipv6",
  ip_any: "ip or ipv6",
  tcp: "tcp or tcp6, not later fragments",
  udp: "udp or udp6, not later fragments",
  sctp: "sctp or sctp6, not later fragments",
  icmpv4: "icmp",
  icmpv6: "icmp6",
  nd: "icmp6 with icmp_type 135 or 136 and icmp_code 0",
  nd_solicit: "icmp6 with icmp_type 135 and icmp_code 0",
  nd_advert: "icmp6 with icmp_type 136 and icmp_code 0",
};

interface Checked {
  readonly context: ParseContext;
  /** The value part of the match, changed as the actions before would change it. */
  readonly flow: FlowWords;
  /** Table of the flow. */
  readonly table: number;
  /** Whether versions may be narrowed: not within an action set, whose order is not known. */
  readonly narrows: boolean;
}

type Check<K extends ActionKind> = (
  state: Checked,
  action: Extract<Action, { kind: K }>,
  located: LocatedAction,
) => void;

type CheckAny = (state: Checked, action: Action, located: LocatedAction) => void;

const isIp = (flow: FlowWords): boolean => {
  const type = get(flow, "dl_type");
  return type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;
};

const hasPorts = (flow: FlowWords): boolean => {
  const proto = get(flow, "nw_proto");
  const known = proto === IP_PROTO.TCP || proto === IP_PROTO.UDP || proto === IP_PROTO.SCTP;
  return isIp(flow) && known && (get(flow, "nw_frag") & NW_FRAG.LATER) === 0;
};

/** Only OpenFlow 1.0 does without a match for what an action changes. */
const needsMatch = (state: Checked, at: number, ok: boolean, what: string, match: string): void => {
  if (!ok && state.narrows) state.context.narrow(CARRIED_BY.openflow10, at, `${what} without a match on ${match}`);
};

const needsField = (state: Checked, at: number, field: FieldName, verb: string): void => {
  if (meetsPrerequisites(state.flow, field)) return;
  state.context.fail(at, `Cannot ${verb} ${field}: the flow must match ${WANTED[fieldSpec(field).needs]}`);
};

const setsField = (state: Checked, at: number, field: FieldName): void => {
  if (field === "vlan_vid" && !hasTag(state.flow)) {
    state.context.fail(at, `Cannot set ${field}: the flow must match ${WANTED.vlan_vid}, or push one before`);
  }
  needsField(state, at, field, "set");
};

const setsTag: CheckAny = (s, a, { at }) => {
  const optional = (a.kind === "set_vlan_vid" || a.kind === "set_vlan_pcp") && a.pushIfNeeded;
  if (!optional) needsMatch(s, at, hasTag(s.flow), a.kind, "a VLAN tag");
};

const isIpv4 = (flow: FlowWords): boolean => get(flow, "dl_type") === ETH_TYPE.IPV4;

const free = (): void => {};
const onIpv4: CheckAny = (s, a, { at }) => needsMatch(s, at, isIpv4(s.flow), a.kind, "ip");
const onIp: CheckAny = (s, a, { at }) => needsMatch(s, at, isIp(s.flow), a.kind, "ip or ipv6");
const onPorts: CheckAny = (s, a, { at }) => needsMatch(s, at, hasPorts(s.flow), a.kind, "tcp, udp or sctp");

const checkPort = (context: ParseContext, port: number, at: number): void => {
  if (!isOutputPort(port)) context.fail(at, `Cannot output to ${portToText(port)}: it is no port to send to`);
};

const CHECKS: { readonly [K in ActionKind]: Check<K> } = {
  output: (s, a, { at }) => checkPort(s.context, a.port, at),
  controller: free,
  group: free,
  set_field: (s, a, { at }) => setsField(s, at, a.field),
  reg_load: (s, a, { at }) => setsField(s, at, a.dst.field),
  reg_move: (s, a, { at }) => {
    needsField(s, at, a.src.field, "move from");
    needsField(s, at, a.dst.field, "move to");
  },
  set_vlan_vid: setsTag,
  set_vlan_pcp: setsTag,
  strip_vlan: setsTag,
  push_vlan: (s, _a, { at }) => {
    if (hasTwoTags(s.flow)) s.context.fail(at, "Cannot push a third VLAN tag: want at most two");
  },
  set_eth_src: free,
  set_eth_dst: free,
  set_ipv4_src: onIpv4,
  set_ipv4_dst: onIpv4,
  set_ip_dscp: onIp,
  set_ip_ecn: onIp,
  set_ip_ttl: onIp,
  set_l4_src_port: onPorts,
  set_l4_dst_port: onPorts,
  dec_ttl: onIp,
  resubmit: free,
  write_metadata: free,
  clear_actions: free,
  write_actions: (s, _a, { nested }) => {
    onlyActions(s.context, nested ?? [], "write_actions");
    // An action set is checked in the order it was written, but on the packet as it is at this place.
    checkEach({ ...s, flow: s.flow, narrows: false }, nested ?? []);
  },
  goto_table: (s, a, { at }) => {
    if (a.table <= s.table || a.table === 255) {
      const want = s.table < 254 ? `a table from ${s.table + 1} to 254` : "no goto_table here";
      s.context.fail(at, `Cannot go to table ${a.table} from table ${s.table}: want ${want}`);
    }
  },
};

/** @throws CompileError at an instruction */
const onlyActions = (context: ParseContext, actions: readonly LocatedAction[], within: string): void => {
  for (const { action, at } of actions) {
    if (instructionOf(action.kind) === "apply_actions") continue;
    context.fail(at, `Cannot use ${action.kind} within ${within}: want actions only`);
  }
};

/**
 * Checks the actions of a bucket. A group does not know what packets it will get: prerequisites are left to the time
 * when a packet comes.
 *
 * @throws CompileError at the action that does not fit
 */
export const checkBucketActions = (context: ParseContext, actions: readonly LocatedAction[]): void => {
  onlyActions(context, actions, "a bucket");
  for (const { action, at } of actions) {
    if (action.kind === "output") checkPort(context, action.port, at);
  }
};

const checkEach = (state: Checked, actions: readonly LocatedAction[]): void => {
  for (const located of actions) {
    const check = CHECKS[located.action.kind] as CheckAny;
    check(state, located.action, located);
    applyToTags(state.flow, located.action);
  }
};

/**
 * Checks a list of actions.
 *
 * @param match - of the flow; of a bucket, anything
 * @throws CompileError at the action that does not fit
 */
export const checkActions = (
  context: ParseContext,
  actions: readonly LocatedAction[],
  match: Match,
  table: number,
): void => {
  const wrong = misplaced(actions.map((a) => a.action.kind));
  if (wrong !== undefined) context.fail(actions[wrong.index]!.at, wrong.message);
  checkEach({ context, flow: match.value.slice(), table, narrows: true }, actions);
  context.requireVersion();
};
