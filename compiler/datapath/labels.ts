// Emits pushing, popping and rewriting of MPLS labels, where they stand right behind the Ethernet header: frames with a tag in
// their bytes or an 802.3 length are left to user space before anything is changed. What a list may hold besides is in
// pipeline/carriers.ts; TC pushes only, for it has no helper that takes bytes off an MPLS packet.

import type { VReg } from "../ir/types.js";
import { ETH_TYPE, ethernet, mpls } from "../packet/headers.js";
import type { DpAction } from "../pipeline/dp-action.js";
import { be16 } from "./emit.js";
import { at, moveMacs, reload, type Rewrite } from "./rewrite.js";

/** First byte of the label stack. */
const LABELS = ethernet.minBytes;
const TYPE = ethernet.fields.type.byteOffset;

const isLabel = (action: DpAction): boolean =>
  action.kind === "push_mpls" || action.kind === "pop_mpls" || (action.kind === "set" && action.target === "mpls_lse");

/** Goes to `slow` with frames whose labels would lie elsewhere, or that have fewer than `actions` pop. */
export const checkLabels = (w: Rewrite, actions: readonly DpAction[]): void => {
  const first = actions.find(isLabel);
  if (first === undefined) return;
  const { b } = w;
  // Labels to be taken off or rewritten are there, one behind the other; those pushed come before.
  let pushed = 0;
  let needed = 0;
  for (const action of actions.filter(isLabel)) {
    needed = Math.max(needed, action.kind === "push_mpls" ? 0 : 1 - pushed);
    if (action.kind !== "set") pushed += action.kind === "push_mpls" ? 1 : -1;
  }
  const head = at(w, 0, LABELS + needed * mpls.minBytes, w.slow);
  const type = b.load("u16", head, TYPE, "eth_type");
  for (const tag of [ETH_TYPE.VLAN, ETH_TYPE.QINQ]) b.unless("eq", type, be16(tag), w.slow);
  b.unless("lt", b.swap(16, type, "eth_type"), ETH_TYPE.MIN, w.slow);
  // The kernel cuts segments by where the headers were.
  if (b.hook === "tc" && actions.some(({ kind }) => kind === "push_mpls")) {
    b.unless("ne", b.ctx("gso_size"), 0, w.slow);
  }
};

const putMacs = (w: Rewrite, macs: readonly VReg[], bytes: number): VReg => {
  const p = at(w, 0, bytes);
  macs.forEach((word, i) => w.b.store("u32", p, 4 * i, word));
  return p;
};

/** @param arg - the entry, then the Ethernet type, both in network order */
export const pushLabel = (w: Rewrite, arg: number): void => {
  const { b } = w;
  const result =
    b.hook === "tc"
      ? b.call("skb_change_head", ["ctx", mpls.minBytes, 0])
      : b.call("xdp_adjust_head", ["ctx", -mpls.minBytes]);
  b.unless("ne", result, 0, w.drop);
  reload(w);
  const p = putMacs(w, moveMacs(w, mpls.minBytes), LABELS + mpls.minBytes);
  b.store("u16", p, TYPE, b.load("u16", w.args, arg + 4, "eth_type"));
  b.store("u32", p, LABELS, b.load("u32", w.args, arg, "label"));
  w.len = b.hook === "tc" ? b.ctx("packet_len") : b.alu("add", w.len, mpls.minBytes, "len");
};

/** At XDP. @param arg - the Ethernet type in network order */
export const popLabel = (w: Rewrite, arg: number): void => {
  const { b } = w;
  const macs = moveMacs(w, 0);
  b.unless("ne", b.call("xdp_adjust_head", ["ctx", mpls.minBytes]), 0, w.drop);
  reload(w);
  const p = putMacs(w, macs, LABELS);
  b.store("u16", p, TYPE, b.load("u16", w.args, arg, "eth_type"));
  w.len = b.alu("sub", w.len, mpls.minBytes, "len");
};

export const setLabel = (w: Rewrite, arg: number): void => {
  const p = at(w, LABELS, mpls.minBytes);
  w.b.store("u32", p, 0, w.b.load("u32", w.args, arg, "label"));
};
