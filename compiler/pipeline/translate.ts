// The reference translator: the semantics of the whole product. It takes one packet's flow through the OpenFlow tables
// and says what the datapath must do with it, which bits of the flow mattered, and what else follows (statistics,
// learned addresses). It behaves as OVS 3.1 does (ofproto/ofproto-dpif-xlate.h); known differences are listed in
// docs/ovs-differences.md.
//
// It guarantees: any packet whose flow equals this one in the bits of the mask, on a switch of the same version, gets
// the same actions, rules, groups and sightings apart from the values that the mask covers. Translating has no side
// effect; credit.ts applies what a translation implies.

import {
  FLOW,
  get,
  getBits,
  INPUT_WORDS_AT,
  PACKET_WORDS_AT,
  set,
  setBits,
  type FlowWords,
  type Member,
} from "../openflow/flow.js";
import { VLAN_PRESENT } from "../openflow/numbers.js";
import { ETH_TYPE, IP_PROTO, isMplsType, NW_FRAG } from "../packet/headers.js";
import { PORT, type Action } from "../openflow/types.js";
import type { DpAction } from "./dp-action.js";
import type { Frozen, Step } from "./frozen.js";
import type { FinTimeout, LearnedFlow } from "./learned-flows.js";
import type { MacSighting } from "./mac-learning.js";
import type { Switch } from "./switch.js";
import type { Rule } from "./table.js";
import { isTunnelled, NO_TUNNEL_PORT } from "./tunnel/ports.js";
import { runActions } from "./xlate/actions.js";
import { runActionSet } from "./xlate/clone.js";
import { Context, type GroupCredit, type Trace, type XlateError } from "./xlate/context.js";
import { finishFreezing, thaw } from "./xlate/freeze.js";
import { missed } from "./xlate/output.js";
import { markTunnel, takeOverCongestion } from "./xlate/tunnel.js";
import { enterPipeline } from "./xlate/table-action.js";

export { MAX_DEPTH, MAX_RESUBMITS, XLATE_ERROR_TEXT } from "./xlate/context.js";
export type { GroupCredit, Trace, XlateError } from "./xlate/context.js";

export interface Translation {
  /** What the datapath does, in order; empty = drop. */
  readonly actions: readonly DpAction[];
  /** One bit per bit of the flow that influenced the result. A false 1 costs speed, a false 0 forwards wrongly. */
  readonly mask: FlowWords;
  /** Whether a rule or an action looked at whether the packet is a fragment; the mask of IP packets has the bits anyway. */
  readonly looksAtFrag: boolean;
  /** Rules that the packet passed, in order, a rule as often as it was passed. */
  readonly rules: readonly Rule[];
  readonly groups: readonly GroupCredit[];
  /** Source addresses that NORMAL saw. */
  readonly learns: readonly MacSighting[];
  /** Flows that learn actions made; more packets of this kind make them live longer. */
  readonly learned: readonly LearnedFlow[];
  /** Rules that a packet with FIN or RST shortens. */
  readonly finTimeouts: readonly FinTimeout[];
  /** Why the translation was given up, if it was; the packet is dropped. */
  readonly error: XlateError | undefined;
  /** The flow as the pipeline left it. */
  readonly final: FlowWords;
  /** {@link Switch.version} at the time. */
  readonly version: number;
}

export interface TranslateOptions {
  /** Carries out these actions instead of looking table 0 up: a packet-out. */
  readonly actions?: readonly Action[];
  /** Goes on where an earlier translation was broken off; the flow is of the packet as it is now. */
  readonly frozen?: Frozen;
  readonly trace?: Trace;
  /**
   * `mask` and `final` are working memory, valid until the next translation on this switch: for callers that translate
   * each packet and keep neither, since arrays of this size are what the garbage collector finds dearest.
   */
  readonly borrow?: boolean;
}

/** Ethernet type in flows of frames without one (OVS FLOW_DL_TYPE_NONE). */
const DL_TYPE_NONE = 0x05ff;

const NOTHING: readonly Step[] = [];

/** A copy that nothing comes after needs not be one. */
const unwrapLastClone = (actions: readonly DpAction[]): readonly DpAction[] => {
  const last = actions.at(-1);
  return last?.kind === "clone" ? [...actions.slice(0, -1), ...last.actions] : actions;
};

const contexts = new WeakMap<Switch, Context>();

const contextOf = (sw: Switch): Context => {
  let ctx = contexts.get(sw);
  if (ctx === undefined) contexts.set(sw, (ctx = new Context(sw, runActions)));
  return ctx;
};

/** Whether the port that the packet came in by takes packets. A port that is not there does: it may be the controller. */
const mayReceive = (ctx: Context): boolean => {
  if (ctx.port(ctx.inPort)?.config.noReceive !== true) return true;
  // Spanning tree frames have a flag of their own (no_recv_stp), which is never set here.
  ctx.markAll("dl_dst");
  const { at } = FLOW.dl_dst;
  return (
    ctx.dlType === DL_TYPE_NONE && getBits(ctx.flow, at, 16) === 0x0180 && getBits(ctx.flow, at + 16, 32) === 0xc2000000
  );
};

/** What is looked at before anything else. */
const startMask = (ctx: Context): void => {
  ctx.markAll("in_port");
  ctx.markAll("dl_type");
  markTunnel(ctx);
};

const VLAN_TCIS = [FLOW.vlan0_tci, FLOW.vlan1_tci] as const;

/** Leaves of both ports no more than `bits`. */
const keepOfPorts = (mask: FlowWords, bits: number): void => {
  for (const member of ["tp_src", "tp_dst"] as const) set(mask, member, get(mask, member) & bits);
};

/** What a packet without MPLS or NSH can have been given. */
const MPLS_MEMBERS: readonly Member[] = ["mpls_lse0", "mpls_lse1", "mpls_lse2"];
const NSH_MEMBERS: readonly Member[] = [
  ...(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np", "nsh_path", "nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const),
];

/** Marks of what was pushed mean nothing for a packet that came without. */
const forgetPushed = (mask: FlowWords, type: number): void => {
  if (!isMplsType(type)) for (const member of MPLS_MEMBERS) set(mask, member, 0);
  if (type !== ETH_TYPE.NSH) for (const member of NSH_MEMBERS) set(mask, member, 0);
};

/** Brings a mask to what a datapath can look at. */
const finishMask = (flow: FlowWords, mask: FlowWords, hasPushed: boolean): FlowWords => {
  // As OVS does, always; lookupMask() takes it back where it can.
  const type = get(flow, "dl_type");
  const isIp = type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;
  if (isIp) set(mask, "nw_frag", NW_FRAG.ANY | NW_FRAG.LATER);
  // Metadata and registers are always 0 when a packet comes in.
  // So is the tunnel of a packet that came by none, and the port tells the two apart.
  mask.fill(0, 1, isTunnelled(flow) ? INPUT_WORDS_AT : PACKET_WORDS_AT);
  if (hasPushed) forgetPushed(mask, type);
  if (isIp) {
    const proto = get(flow, "nw_proto");
    // Type and code are 8 bits in members of 16.
    if (proto === IP_PROTO.ICMP || proto === IP_PROTO.ICMPV6) keepOfPorts(mask, 0xff);
  }
  for (const { at, bits } of VLAN_TCIS) {
    const tci = getBits(mask, at, bits);
    if (tci !== 0) setBits(mask, at, bits, tci | VLAN_PRESENT);
  }
  // A later fragment has no ports.
  if ((get(flow, "nw_frag") & NW_FRAG.LATER) !== 0) keepOfPorts(mask, 0);
  return mask;
};

const NONE: readonly never[] = Object.freeze([]);

/** The context goes on with a list that is empty. */
const orNone = <T>(list: readonly T[]): readonly T[] => (list.length === 0 ? NONE : list);

/**
 * Translates one packet through the tables of `sw`.
 *
 * @param flow - the packet's headers, as `extract` gives them; not kept, not modified
 */
export const translate = (sw: Switch, flow: FlowWords, options: TranslateOptions = {}): Translation => {
  const ctx = contextOf(sw);
  ctx.start(flow);
  ctx.trace = options.trace;
  ctx.inPacketOut = options.actions !== undefined;
  set(ctx.flow, "actset_output", PORT.UNSET);
  startMask(ctx);
  const left = options.frozen === undefined ? NOTHING : thaw(ctx, options.frozen);
  const isTaken = ctx.tunnelDst === undefined || ctx.inPort !== NO_TUNNEL_PORT;
  if (isTaken && options.actions === undefined && left.length === 0) enterPipeline(ctx);
  if (isTaken && takeOverCongestion(ctx) && mayReceive(ctx)) {
    const isMiss = options.actions === undefined && left.length === 0 && ctx.rule === undefined;
    if (!isMiss || !missed(ctx))
      runActions(ctx, options.actions ?? (left.length > 0 ? left : (ctx.rule?.actions ?? [])), false);
    if (ctx.error === undefined && !ctx.freezing) runActionSet(ctx);
    if (ctx.error === undefined && ctx.freezing) finishFreezing(ctx);
  }
  const { error } = ctx;
  const actions = error === undefined ? unwrapLastClone(ctx.actions) : [];
  const looksAtFrag = get(ctx.mask, "nw_frag") !== 0;
  const own = (words: FlowWords): FlowWords => (options.borrow === true ? words : words.slice());
  return {
    actions,
    mask: finishMask(flow, own(ctx.mask), ctx.hasPushed),
    looksAtFrag,
    rules: ctx.rules,
    groups: orNone(ctx.groups),
    learns: orNone(ctx.learns),
    learned: orNone(ctx.learned),
    finTimeouts: orNone(ctx.finTimeouts),
    error,
    final: own(ctx.flow),
    version: sw.version,
  };
};
