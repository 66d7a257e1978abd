// The MPLS label stack of the flow in hand, and the datapath actions that bring the packet's to what the flow says, as in OVS
// (lib/flow.c flow_push_mpls() and its neighbours; lib/odp-util.c commit_mpls_action()).
//
// A label stack entry is a 32-bit value: label (20), traffic class (3), bottom of stack (1), TTL (8). A commit writes whole
// entries, so it marks all entries that the packet came with; OVS marks only what actions looked at.

import { etherType } from "../../openflow/field-access.js";
import { clearMember, get, set, type FlowWords, type Member } from "../../openflow/flow.js";
import { ETH_TYPE, isMplsType, MAX_MPLS_LABELS } from "../../packet/headers.js";
import type { Context } from "./context.js";

const ENTRIES = ["mpls_lse0", "mpls_lse1", "mpls_lse2"] as const satisfies readonly Member[];

const BOTTOM = 0x100;
export const TTL_BITS = 0xff;
export const TC_SHIFT = 9;
export const LABEL_SHIFT = 12;

/** What a label says when an IP packet gets its first one: explicit null (RFC 3032 section 2.1). */
const EXPLICIT_NULL = { ipv4: 0, ipv6: 2 } as const;
const DEFAULT_TTL = 64;

export const entry = (flow: FlowWords, i: number): number => get(flow, ENTRIES[i]!);
export const setEntry = (flow: FlowWords, i: number, value: number): void => set(flow, ENTRIES[i]!, value);

/** Entries of a flow, up to the bottom of the stack; of a stack without a bottom, those that are not 0. */
const countLabels = (flow: FlowWords): number => {
  if (!isMplsType(get(flow, "dl_type"))) return 0;
  let n = 0;
  for (let i = 0; i < MAX_MPLS_LABELS; i++) {
    const value = entry(flow, i);
    if ((value & BOTTOM) !== 0) return i + 1;
    if (value !== 0) n++;
  }
  return n;
};

/** Marks entries `from` to `to`, without the latter. */
export const markLabels = (ctx: Context, from = 0, to: number = MAX_MPLS_LABELS): void => {
  for (let i = from; i < to; i++) ctx.markAll(ENTRIES[i]!);
};

/** {@link countLabels} of the flow in hand; marks what says so. */
export const lookAtLabels = (ctx: Context): number => {
  if (!isMplsType(ctx.dlType)) return 0;
  for (let i = 0; i < MAX_MPLS_LABELS; i++) {
    ctx.mark(ENTRIES[i]!, BOTTOM);
    if ((entry(ctx.flow, i) & BOTTOM) !== 0) return i + 1;
  }
  markLabels(ctx);
  return countLabels(ctx.flow);
};

/** Members above L2. */
export const ABOVE_L2: readonly Member[] = [
  ...(["nw_frag", "nw_proto", "nw_tos", "nw_ttl", "tp_src", "tp_dst", "tcp_flags", "nw_src", "nw_dst"] as const),
  ...(["ipv6_src", "ipv6_dst", "ipv6_label", "nd_target", "arp_sha", "arp_tha", "nd_reserved"] as const),
  ...(["nd_options_type", "nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np", "nsh_path"] as const),
  ...(["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4", "dp_hash"] as const),
  ...(["ct_nw_proto", "ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst", "ct_tp_src", "ct_tp_dst"] as const),
];

/** The first label of a packet: from its IP header if it has one, and if it is not to go around all that the packet is. */
const firstEntry = (ctx: Context): number => {
  let ttl = DEFAULT_TTL;
  let tc = 0;
  const type = etherType(ctx.flow);
  if (type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6) {
    ctx.mark("nw_tos", 0xfc);
    tc = (get(ctx.flow, "nw_tos") >>> 2) & 7;
    ttl = ctx.look("nw_ttl") || DEFAULT_TTL;
  }
  const label = ctx.dlType === ETH_TYPE.IPV6 ? EXPLICIT_NULL.ipv6 : EXPLICIT_NULL.ipv4;
  return (label << LABEL_SHIFT) | (tc << TC_SHIFT) | BOTTOM | ttl;
};

const shiftIn = (flow: FlowWords, n: number, value: number): void => {
  for (let i = n; i >= 1; i--) setEntry(flow, i, entry(flow, i - 1));
  setEntry(flow, 0, value);
};

/** A label more on the flow in hand, which has `n` < 3; behind the first nothing above L2 can be seen. */
export const pushLabel = (ctx: Context, n: number, ethertype: number): void => {
  const { flow } = ctx;
  ctx.hasPushed = true;
  if (n > 0) {
    markLabels(ctx, 0, n);
    shiftIn(flow, n, entry(flow, 0) & ~BOTTOM);
  } else {
    const value = firstEntry(ctx);
    for (const member of ABOVE_L2) clearMember(flow, member);
    setEntry(flow, 0, value);
  }
  set(flow, "dl_type", ethertype);
};

/** Whether a label of a flow that has `n` can be taken off: what comes after the third that is seen is unknown. */
export const canPop = (flow: FlowWords, n: number): boolean =>
  n > 0 && (n < MAX_MPLS_LABELS || (entry(flow, MAX_MPLS_LABELS - 1) & BOTTOM) !== 0);

export const shiftOut = (flow: FlowWords, n: number, ethertype: number): void => {
  for (let i = 1; i < n; i++) setEntry(flow, i - 1, entry(flow, i));
  setEntry(flow, n - 1, 0);
  set(flow, "dl_type", ethertype);
};

const word = (value: number): Uint8Array =>
  Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);

/** Labels that two flows have in common, from the innermost. */
const inCommon = (a: FlowWords, an: number, b: FlowWords, bn: number): number => {
  let n = 0;
  while (n < Math.min(an, bn) && entry(a, an - 1 - n) === entry(b, bn - 1 - n)) n++;
  return n;
};

/**
 * Brings the packet's label stack to that of the flow.
 *
 * @param encapsulates - labels pushed go in front of all that the packet is, not behind an Ethernet header
 */
export const commitMpls = (ctx: Context, encapsulates = false): void => {
  const { flow, base } = ctx;
  let have = countLabels(base);
  const want = countLabels(flow);
  if (have === 0 && want === 0) return;
  let same = inCommon(flow, want, base, have);
  if (have !== want || same !== have) markLabels(ctx);
  const type = get(flow, "dl_type");
  while (have > same) {
    if (have - 1 === same && want > same) {
      const value = entry(flow, want - have);
      ctx.actions.push({ kind: "set", target: "mpls_lse", bytes: word(value), family: "other", proto: 0 });
      setEntry(base, 0, value);
      same++;
    } else {
      // While labels are left the packet stays MPLS; the last one taken off gives the type that the flow has.
      const isLast = isMplsType(type) || have === 1;
      ctx.actions.push({ kind: "pop_mpls", ethertype: isLast ? type : ETH_TYPE.MPLS });
      shiftOut(base, have, type);
      have--;
    }
  }
  for (; have < want; have++) {
    const value = entry(flow, want - have - 1);
    ctx.actions.push({ kind: encapsulates ? "add_mpls" : "push_mpls", ethertype: type, lse: value });
    // What is behind the labels stays known: the flow may come back to it, behind a group.
    shiftIn(base, have, value);
    set(base, "dl_type", type);
  }
};

/** Makes all entries 0. */
export const forgetStack = (flow: FlowWords): void => {
  for (const member of ENTRIES) set(flow, member, 0);
};
