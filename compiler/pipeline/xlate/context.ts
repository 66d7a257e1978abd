// The state of one translation, and what it reports. One context is reused for all translations of a switch, so that a
// packet costs no allocation beyond its result.

import { copyFlow, FLOW, get, newFlow, setOnes, unwildcard, type FlowWords, type Member } from "../../openflow/flow.js";
import { ETH_TYPE } from "../../packet/headers.js";
import type { Action, ActionOf, Subfield } from "../../openflow/types.js";
import type { DpAction } from "../dp-action.js";
import type { Step, Unroll } from "../frozen.js";
import type { BucketEntry, GroupEntry } from "../group-table.js";
import type { FinTimeout, LearnedFlow } from "../learned-flows.js";
import type { MacSighting } from "../mac-learning.js";
import type { Port } from "../ports.js";
import type { Switch } from "../switch.js";
import type { Rule } from "../table.js";

/** Backward resubmits and nested groups in one translation (OVS MAX_DEPTH). */
export const MAX_DEPTH = 64;

/** Table look-ups after the first in one translation (OVS MAX_RESUBMITS = MAX_DEPTH squared). */
export const MAX_RESUBMITS = MAX_DEPTH * MAX_DEPTH;

/** Bytes on the stack, with one more for each value, at which a translation ends. */
export const MAX_STACK = 65536;

/** Why a translation was given up; the packet is dropped then. Names of OVS `enum xlate_error`, and two of ours. */
export type XlateError =
  | "recursion_too_deep"
  | "too_many_resubmits"
  | "stack_too_deep"
  | "too_many_mpls_labels"
  | "unsupported_packet_type"
  | "unsupported_action"
  | "unsupported_field";

export const XLATE_ERROR_TEXT: Readonly<Record<XlateError, string>> = {
  recursion_too_deep: "Recursion too deep",
  too_many_resubmits: "Too many resubmits",
  stack_too_deep: "Stack too deep",
  too_many_mpls_labels: "Too many MPLS labels",
  unsupported_packet_type: "Unsupported packet type",
  unsupported_action: "Action not carried out yet",
  unsupported_field: "Field not written yet",
};

const NO_OPTIONS = new Uint8Array(0);

/** A group that a packet passed, and the bucket taken when one was chosen. */
export interface GroupCredit {
  readonly group: GroupEntry;
  readonly bucket: BucketEntry | undefined;
}

/** Listens to a translation step by step; `ofproto/trace` is made of this. */
export interface Trace {
  /** A table was looked up. What follows, up to the matching {@link end}, belongs to it. */
  table(id: number, rule: Rule | undefined): void;
  bucket(id: number): void;
  /** The action set begins to be carried out. */
  runActionSet(): void;
  /** The action set `is` now, or `was` before it was cleared. */
  actionSet(set: readonly Action[], verb: "is" | "was"): void;
  /** A `move` has written here; `flow` is what came of it. */
  moved(dst: Subfield, flow: FlowWords): void;
  end(): void;
  action(action: Action): void;
  drop(): void;
  /** `warning` and `error` as OVS tells them apart by `>>`; `action` as it shows actions. */
  note(text: string, kind?: "detail" | "warning" | "error" | "action"): void;
}

export class Context {
  /** As the pipeline sees the packet now. */
  readonly flow: FlowWords = newFlow();
  /** The packet as it came in; not to be changed. */
  original: FlowWords = this.flow;
  /** As the datapath would see it after the actions so far. */
  readonly base: FlowWords = newFlow();
  /** Bits of the packet as it came in that mattered. */
  readonly mask: FlowWords = newFlow();

  actions: DpAction[] = [];
  rules: Rule[] = [];
  groups: GroupCredit[] = [];
  learns: MacSighting[] = [];
  /** Flows learned, in order. */
  learned: LearnedFlow[] = [];
  finTimeouts: FinTimeout[] = [];
  /** What was pushed, the last at the end. */
  stack: Uint8Array[] = [];
  /** Nothing more is to be carried out. */
  exit = false;
  actionSet: Action[] = [];
  actionSetHasGroup = false;
  inActionSet = false;
  /** Nothing comes after the action in hand. */
  isLast = true;
  inPacketOut = false;
  /** A tag was pushed: tags that are equal are so by chance, not because nobody touched them. */
  vlanPushed = false;
  /** A tag was taken off the packet of the datapath. */
  vlanPopped = false;
  /** The last MPLS label was taken off: what is behind it has not been parsed yet. */
  wasMpls = false;
  /** A label or a service header was pushed. */
  hasPushed = false;
  /** A header that the next commit pushes or pops. */
  pending: "encap" | "decap" | undefined;
  /** Of an NSH header that is to be pushed: its options. */
  nshOptions: Uint8Array = NO_OPTIONS;
  /** The translation is being broken off (../frozen.ts): what is left to do, and the origin last noted in it. */
  freezing = false;
  steps: Step[] = [];
  unroll: Unroll | undefined;
  /** A controller is to take the packet up again. */
  pause: ActionOf<"controller"> | undefined;
  recirculations = 0;
  /** Of the tunnel that the packet came by: where it came to. */
  tunnelDst: Uint8Array | undefined;
  rule: Rule | undefined;
  cookie = 0n;
  table = 0;
  depth = 0;
  resubmits = 0;
  error: XlateError | undefined;
  trace: Trace | undefined;

  /**
   * @param run - translates a list of actions; the modules of single actions call back through this
   */
  constructor(
    readonly sw: Switch,
    readonly run: (ctx: Context, actions: readonly Step[], inBucket: boolean) => void,
  ) {}

  start(flow: FlowWords): void {
    this.original = flow;
    copyFlow(this.flow, flow);
    copyFlow(this.base, flow);
    this.mask.fill(0);
    this.actions = [];
    this.rules = [];
    // Mostly empty, and then not given to anybody.
    if (this.groups.length > 0) this.groups = [];
    if (this.learns.length > 0) this.learns = [];
    if (this.learned.length > 0) this.learned = [];
    if (this.finTimeouts.length > 0) this.finTimeouts = [];
    if (this.stack.length > 0) this.stack = [];
    this.exit = false;
    if (this.actionSet.length > 0) this.actionSet = [];
    this.actionSetHasGroup = false;
    this.inActionSet = false;
    this.isLast = true;
    this.vlanPushed = false;
    this.vlanPopped = false;
    this.wasMpls = false;
    this.hasPushed = false;
    this.pending = undefined;
    this.nshOptions = NO_OPTIONS;
    this.freezing = false;
    if (this.steps.length > 0) this.steps = [];
    this.unroll = undefined;
    this.pause = undefined;
    this.tunnelDst = undefined;
    this.recirculations = 0;
    this.rule = undefined;
    this.cookie = 0xffffffffffffffffn;
    this.table = 0;
    this.depth = 0;
    this.resubmits = 0;
    this.error = undefined;
  }

  get inPort(): number {
    return get(this.flow, "in_port");
  }

  port(number: number): Port | undefined {
    return this.sw.port(number);
  }

  /** Ethernet type; always un-wildcarded, so reading it marks nothing. */
  get dlType(): number {
    return get(this.flow, "dl_type");
  }

  get isIp(): boolean {
    const type = this.dlType;
    return type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;
  }

  /** A member of at most 32 bits; the caller notes which of its bits matter. */
  get(member: Member): number {
    return get(this.flow, member);
  }

  /** Reads a member of at most 32 bits, all of whose bits matter. */
  look(member: Member): number {
    unwildcard(this.mask, member);
    return get(this.flow, member);
  }

  /** Marks the bits of `bits` in a member of at most 32 bits as having mattered. */
  mark(member: Member, bits: number): void {
    const place = FLOW[member];
    const word = place.at >>> 5;
    this.mask[word]! |= bits << (32 - (place.at & 31) - place.bits);
  }

  markAll(member: Member): void {
    setOnes(this.mask, FLOW[member].at, FLOW[member].bits);
  }
}
