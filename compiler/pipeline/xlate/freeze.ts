// Breaking a translation off and taking it up again; see ../frozen.ts. The order in which steps are kept, and when, is that
// of OVS (ofproto-dpif-xlate.h, "Freezing Translation"), for it can be seen: a list that ends early after thawing ends all
// lists around it, too.

import { fieldSpec } from "../../openflow/field-access.js";
import { copyMember, FLOW, PACKET_WORDS_AT, set, type Member } from "../../openflow/flow.js";
import type { FieldName } from "../../openflow/fields.js";
import { PORT, type ActionKind } from "../../openflow/types.js";
import type { Frozen, Step } from "../frozen.js";
import { commit } from "./commit.js";
import type { Context } from "./context.js";
import { writeActions } from "./write-actions.js";

/** The translation ends here and goes on behind a recirculation. */
export const triggerFreeze = (ctx: Context): void => {
  ctx.exit = true;
  ctx.freezing = true;
};

/** Actions that may show table and cookie to a controller, or count on the table. */
const SHOWS_ORIGIN: ReadonlySet<Step["kind"]> = new Set<Step["kind"]>([
  "output_reg",
  "output_trunc",
  "group",
  "output",
  "controller",
  "dec_mpls_ttl",
  "dec_nsh_ttl",
  "dec_ttl",
]);

const FORGOTTEN: ReadonlySet<Step["kind"]> = new Set<Step["kind"]>(["note", "conjunction"]);

const putOrigin = (ctx: Context): void => {
  const { unroll, table, cookie } = ctx;
  if (unroll?.table === table && unroll.cookie === cookie) return;
  ctx.unroll = { kind: "unroll", table, cookie };
  ctx.steps.push(ctx.unroll);
};

/** Keeps steps for later. */
export const freezeSteps = (ctx: Context, steps: readonly Step[]): void => {
  for (const step of steps) {
    if (FORGOTTEN.has(step.kind)) continue;
    if (SHOWS_ORIGIN.has(step.kind) || (step.kind === "resubmit" && step.table === undefined)) putOrigin(ctx);
    ctx.steps.push(step);
  }
};

/** Whether nothing has been kept since the translation was broken off: the action in hand is the first. */
export const isFirstFrozen = ({ freezing, exit, steps }: Context): boolean => freezing && exit && steps.length === 0;

/** Brings the packet up to date and sends it on its second way. */
export const finishFreezing = (ctx: Context): void => {
  commit(ctx);
  const { steps, actionSet, stack } = ctx;
  const metadata = ctx.flow.slice(0, PACKET_WORDS_AT);
  const frozen = { steps, actionSet, stack: [...stack], metadata };
  if (ctx.pause === undefined) ctx.actions.push({ kind: "recirc", frozen: { id: ++ctx.recirculations, ...frozen } });
  else {
    const { maxLen, reason, id, userdata } = ctx.pause;
    ctx.actions.push({
      kind: "controller",
      reason,
      maxLen,
      controllerId: id,
      table: ctx.table,
      cookie: ctx.cookie,
      metadata,
      ...(userdata === undefined ? {} : { userdata }),
      continuation: true,
      frozen: { id: 0, ...frozen },
    });
  }
  ctx.freezing = false;
  ctx.pause = undefined;
  ctx.steps = [];
  ctx.unroll = undefined;
};

/** Actions that need nothing of what a popped MPLS header hid. What a group's buckets need shows when they are run. */
const KEEPS_TO_L2: ReadonlySet<ActionKind> = new Set<ActionKind>([
  "output",
  "output_trunc",
  "enqueue",
  "output_reg",
  "set_vlan_vid",
  "set_vlan_pcp",
  "set_eth_src",
  "set_eth_dst",
  "set_tunnel",
  "set_queue",
  "group",
]);

/** Fields above L2 and MPLS: the packet must be parsed again before they are written. */
const isAboveL2 = (field: FieldName): boolean =>
  !["none", "ct", "ethernet", "vlan_vid", "mpls"].includes(fieldSpec(field).needs);

const needsParsing = (action: Step): boolean => {
  if (action.kind === "unroll") return true;
  if (action.kind === "set_field") return isAboveL2(action.field);
  if (action.kind === "reg_load") return isAboveL2(action.dst.field);
  return !KEEPS_TO_L2.has(action.kind);
};

/** Breaks off before an action that needs what was behind the last MPLS label. */
export const freezeForMpls = (ctx: Context, action: Step): void => {
  if (!ctx.exit && ctx.wasMpls && needsParsing(action)) triggerFreeze(ctx);
};

/** What a packet keeps beside its bytes. */
const KEPT: readonly Member[] = [
  ...(["in_port", "metadata", "pkt_mark", "skb_priority"] as const),
  ...(Object.keys(FLOW) as Member[]).filter((member) => /^(reg\d+|tun_)/.test(member)),
];

/** Takes a translation up again, on a packet parsed anew. @returns what is to be carried out; nothing: look table 0 up */
export const thaw = (ctx: Context, { steps, actionSet, stack, metadata }: Frozen): readonly Step[] => {
  for (const member of KEPT) copyMember(ctx.flow, metadata, member);
  ctx.stack = [...stack];
  set(ctx.flow, "actset_output", PORT.UNSET);
  writeActions(ctx, actionSet);
  return steps;
};
