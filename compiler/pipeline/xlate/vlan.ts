// VLAN tags of the flow in hand: counting, pushing, popping, and the datapath actions that bring the packet's tags to
// what the flow says. A tag is looked at as one 32-bit value, TPID over TCI.
//
// OVS can leave the presence of a tag out of a mask because its megaflow keys imply it; here a wildcarded tag may be
// there or not, so everything that depends on the number of tags marks the "present" bits.

import { FLOW, get, getBits, set, setBits, type FlowWords } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import { ETH_TYPE } from "../../packet/headers.js";
import type { Context } from "./context.js";

const TAGS = [
  { tpid: "vlan0_tpid", tci: "vlan0_tci", at: FLOW.vlan0_tpid.at },
  { tpid: "vlan1_tpid", tci: "vlan1_tci", at: FLOW.vlan1_tpid.at },
] as const;

const tagOf = (flow: FlowWords, i: number): number => getBits(flow, TAGS[i]!.at, 32);
const setTag = (flow: FlowWords, i: number, tag: number): void => setBits(flow, TAGS[i]!.at, 32, tag);

const markTag = (ctx: Context, i: number): void => {
  ctx.markAll(TAGS[i]!.tpid);
  ctx.markAll(TAGS[i]!.tci);
};

const countTags = (flow: FlowWords): number =>
  (get(flow, "vlan0_tci") & VLAN_PRESENT) === 0 ? 0 : (get(flow, "vlan1_tci") & VLAN_PRESENT) === 0 ? 1 : 2;

/** The number of tags of the flow in hand; marks the bits that say so. */
const lookAtCount = (ctx: Context): number => {
  ctx.mark("vlan0_tci", VLAN_PRESENT);
  const n = countTags(ctx.flow);
  if (n > 0) ctx.mark("vlan1_tci", VLAN_PRESENT);
  return n;
};

/** `strip_vlan`, `pop_vlan`. */
export const popVlan = (ctx: Context): void => {
  const n = lookAtCount(ctx);
  if (n === 0) return;
  if (n > 1) {
    markTag(ctx, 1);
    setTag(ctx.flow, 0, tagOf(ctx.flow, 1));
  }
  setTag(ctx.flow, n - 1, 0);
};

/** `push_vlan`: a tag of priority and VLAN 0 outside the others; a third tag pushes the innermost out, as in OVS. */
export const pushVlan = (ctx: Context, tpid: number): void => {
  const n = lookAtCount(ctx);
  for (let i = 0; i < n; i++) markTag(ctx, i);
  setTag(ctx.flow, 1, tagOf(ctx.flow, 0));
  set(ctx.flow, "vlan0_tpid", tpid);
  set(ctx.flow, "vlan0_tci", VLAN_PRESENT);
  ctx.vlanPushed = true;
};

/**
 * `mod_vlan_vid` (bits 0x0fff) and `mod_vlan_pcp` (bits 0xe000): these bits of the outer tag. Without `push` a packet that
 * has no tag gets none, as `set_vlan_vid` wants it.
 */
export const setVlan = (ctx: Context, bits: number, value: number, push: boolean): void => {
  ctx.mark("vlan0_tci", bits | VLAN_PRESENT);
  const { flow } = ctx;
  const tci = get(flow, "vlan0_tci");
  if ((tci & VLAN_PRESENT) === 0 && !push) return;
  if (get(flow, "vlan0_tpid") === 0) set(flow, "vlan0_tpid", ETH_TYPE.VLAN);
  set(flow, "vlan0_tci", (tci & ~bits) | value | VLAN_PRESENT);
};

/** Pops the packet's tags from the outermost down to the last that differs, and pushes the flow's. */
export const commitVlans = (ctx: Context): void => {
  const { flow, base } = ctx;
  if (tagOf(flow, 0) === tagOf(base, 0) && tagOf(flow, 1) === tagOf(base, 1)) {
    if (ctx.vlanPushed) for (let i = 0; i < countTags(base); i++) markTag(ctx, i);
    return;
  }
  let have = countTags(base) - 1;
  let want = countTags(flow) - 1;
  // Writing vlan_tci can take the outer tag away, and all that are inside it.
  if (have >= 0 && want < 0) ctx.mark("vlan1_tci", VLAN_PRESENT);
  for (; have >= 0 && want >= 0; have--, want--) {
    const equal = tagOf(base, have) === tagOf(flow, want);
    if (!equal || ctx.vlanPushed) markTag(ctx, have);
    if (!equal) break;
  }
  if (have >= 0) ctx.vlanPopped = true;
  for (; have >= 0; have--) ctx.actions.push({ kind: "pop_vlan" });
  // What was popped for a copy comes back as it was: behind a group, the flow is that of before.
  if (want >= 0 && ctx.vlanPopped) for (const i of TAGS.keys()) markTag(ctx, i);
  for (; want >= 0; want--) {
    const tag = tagOf(flow, want);
    ctx.actions.push({ kind: "push_vlan", tpid: tag >>> 16, tci: tag & 0xffff & ~VLAN_PRESENT });
  }
  for (const i of TAGS.keys()) setTag(base, i, tagOf(flow, i));
};
