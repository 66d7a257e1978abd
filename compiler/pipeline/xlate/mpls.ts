// The MPLS actions (OVS ofproto-dpif-xlate.h compose_mpls_push_action() and its neighbours).

import { isMplsType, MAX_MPLS_LABELS } from "../../packet/headers.js";
import { commit } from "./commit.js";
import type { Context } from "./context.js";
import {
  canPop,
  entry,
  LABEL_SHIFT,
  lookAtLabels,
  markLabels,
  pushLabel,
  setEntry,
  shiftOut,
  TC_SHIFT,
  TTL_BITS,
} from "./mpls-stack.js";
import { MAX_CONTROLLER_BYTES, toController } from "./output.js";

const TC_BITS = 7 << TC_SHIFT;
const LABEL_BITS = 0xfffff << LABEL_SHIFT;

export const tooManyLabels = (ctx: Context, what: string, would: string): void => {
  ctx.trace?.note(
    `dropping packet on which ${what} can't be performed as it ${would} more MPLS LSEs than the ` +
      `${MAX_MPLS_LABELS} supported.`,
    "error",
  );
  ctx.error = "too_many_mpls_labels";
};

/** `push_mpls`. The packet is brought up to date before its headers are hidden. */
export const pushMpls = (ctx: Context, ethertype: number): void => {
  const n = lookAtLabels(ctx);
  if (n >= MAX_MPLS_LABELS) {
    tooManyLabels(ctx, "an MPLS push action", "would have");
    return;
  }
  if (n === 0) commit(ctx);
  pushLabel(ctx, n, ethertype);
};

/** Takes a label off the flow in hand. @returns how many there were, or undefined if none could be taken off */
export const popLabel = (ctx: Context, ethertype: number, what: string): number | undefined => {
  const n = lookAtLabels(ctx);
  if (!canPop(ctx.flow, n)) {
    if (n < MAX_MPLS_LABELS) return undefined;
    tooManyLabels(ctx, what, "has");
    // OVS takes back what it has sent.
    ctx.actions.length = 0;
    return undefined;
  }
  markLabels(ctx, 1, n);
  shiftOut(ctx.flow, n, ethertype);
  return n;
};

/** `pop_mpls`. What the packet is then is known only when it is parsed again. */
export const popMpls = (ctx: Context, ethertype: number): void => {
  if (popLabel(ctx, ethertype, "an MPLS pop action") !== undefined && !isMplsType(ethertype)) ctx.wasMpls = true;
};

const setPart = (ctx: Context, bits: number, value: number): void => {
  if (!isMplsType(ctx.dlType)) return;
  ctx.mark("mpls_lse0", bits);
  setEntry(ctx.flow, 0, (entry(ctx.flow, 0) & ~bits) | value);
};

export const setMplsLabel = (ctx: Context, label: number): void => setPart(ctx, LABEL_BITS, label << LABEL_SHIFT);
export const setMplsTc = (ctx: Context, tc: number): void => setPart(ctx, TC_BITS, tc << TC_SHIFT);
export const setMplsTtl = (ctx: Context, ttl: number): void => setPart(ctx, TTL_BITS, ttl);

/** `dec_mpls_ttl`. Returns whether the TTL is used up, or there is none. */
export const decMplsTtl = (ctx: Context): boolean => {
  if (isMplsType(ctx.dlType)) {
    const ttl = entry(ctx.flow, 0) & TTL_BITS;
    ctx.mark("mpls_lse0", TTL_BITS);
    if (ttl > 1) {
      setMplsTtl(ctx, ttl - 1);
      return false;
    }
    toController(ctx, MAX_CONTROLLER_BYTES, "invalid_ttl", 0);
  }
  ctx.trace?.note("MPLS decrement TTL exception", "warning");
  return true;
};
