// Copies of the packet that go a way of their own: clone, check_pkt_larger, and the action set at the end of each way
// (OVS ofproto-dpif-xlate.h, clone_xlate_actions and xlate_check_pkt_larger).

import type { ActionKind, ActionOf } from "../../openflow/types.js";
import { orderActionSet } from "../action-set.js";
import type { DpAction } from "../dp-action.js";
import type { Step } from "../frozen.js";
import { commit } from "./commit.js";
import type { Context } from "./context.js";
import { finishFreezing } from "./freeze.js";
import { writeResult } from "./set-field.js";

/** Actions after which the packet cannot be brought back by setting its fields again. */
const IRREVERSIBLE: readonly ActionKind[] = [
  ...(["ct", "meter", "nat", "output_trunc", "encap", "decap", "dec_nsh_ttl"] as const),
];

/** Carries out what stands in the action set, which is empty then. */
export const runActionSet = (ctx: Context): void => {
  if (ctx.actionSet.length === 0) return;
  const actions = orderActionSet(ctx.actionSet);
  ctx.actionSet = [];
  if (actions.length === 0) return;
  ctx.inActionSet = true;
  ctx.trace?.runActionSet();
  ctx.isLast = true;
  ctx.run(ctx, actions, false);
  ctx.trace?.end();
  ctx.inActionSet = false;
};

/** Runs `body` on a copy of stack, action set and flow. */
const aside = (ctx: Context, body: () => void): void => {
  const { stack, actionSet } = ctx;
  const flow = ctx.flow.slice();
  ctx.stack = [...stack];
  ctx.actionSet = [...actionSet];
  body();
  ctx.stack = stack;
  ctx.actionSet = actionSet;
  ctx.flow.set(flow);
};

/** What `body` does to the packet, as a list of its own: afterwards the datapath has the packet as it was before. */
const inside = (ctx: Context, body: () => void): readonly DpAction[] => {
  const { actions, wasMpls } = ctx;
  const base = ctx.base.slice();
  ctx.actions = [];
  body();
  const nested = ctx.actions;
  ctx.actions = actions;
  ctx.base.set(base);
  ctx.wasMpls = wasMpls;
  return nested;
};

const runToEnd = (ctx: Context, actions: readonly Step[], isLast: boolean): void => {
  ctx.isLast = isLast;
  ctx.run(ctx, actions, false);
  if (ctx.error === undefined && !ctx.freezing) runActionSet(ctx);
  if (ctx.freezing) finishFreezing(ctx);
};

export const clone = (ctx: Context, { actions }: ActionOf<"clone">): void => {
  const { isLast } = ctx;
  aside(ctx, () => {
    if (isLast || !actions.some(({ kind }) => IRREVERSIBLE.includes(kind))) return runToEnd(ctx, actions, isLast);
    commit(ctx);
    const nested = inside(ctx, () => runToEnd(ctx, actions, true));
    if (nested.length > 0) ctx.actions.push({ kind: "clone", actions: nested });
  });
};

/** @param rest - the actions behind it, which are carried out once for each answer */
export const checkPktLarger = (
  ctx: Context,
  { length, dst }: ActionOf<"check_pkt_larger">,
  rest: readonly Step[],
): void => {
  commit(ctx);
  const { exit } = ctx;
  const answer = (value: 0 | 1): readonly DpAction[] => {
    let nested: readonly DpAction[] = [];
    aside(ctx, () => {
      nested = inside(ctx, () => {
        writeResult(ctx, dst, value);
        runToEnd(ctx, rest, true);
      });
    });
    ctx.exit = exit;
    return nested;
  };
  const greater = answer(1);
  ctx.actions.push({ kind: "check_pkt_len", length, greater, lessEqual: answer(0) });
};
