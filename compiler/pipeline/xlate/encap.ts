// Packet type aware actions: a header more around all that the packet is, or one less (OVS ofproto-dpif-xlate.h,
// xlate_generic_encap_action() and its neighbours). A header is pushed or popped by the next commit; what a popped NSH header
// or last label hid is known only when the packet has been parsed again.

import { etherPacketType, PACKET_TYPE, type ActionOf, type EncapProperty } from "../../openflow/action.js";
import { clearMember, get, PACKET_WORDS_AT, set, type Member } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import { ETH_TYPE, MAX_MPLS_LABELS, NSH_INSIDE, NSH_TYPE_1 } from "../../packet/headers.js";
import { commit } from "./commit.js";
import type { Context } from "./context.js";
import { triggerFreeze } from "./freeze.js";
import { forgetStack, lookAtLabels, pushLabel } from "./mpls-stack.js";
import { popLabel, tooManyLabels } from "./mpls.js";
import { MAX_CONTROLLER_BYTES, toController } from "./output.js";

/** What a new NSH header says. */
const NSH_DEFAULT = { ttl: 63, path: 255 } as const;
/** Bytes of options at most (OVS NSH_CTX_HDRS_MAX_LEN); a header with more goes without. */
const MAX_OPTIONS = 244;

/** Members of the inner packet that are not in the words of a packet. */
const INNER: readonly Member[] = [
  ...(["ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst", "ct_tp_src", "ct_tp_dst", "ct_nw_proto"] as const),
];

const packetType = (ctx: Context): number => get(ctx.flow, "packet_type");

const refuse = (ctx: Context, why: string): void => {
  ctx.trace?.note(`Dropping packet${why}`, "action");
  ctx.error = "unsupported_packet_type";
};

const clearAddresses = (ctx: Context): void => {
  clearMember(ctx.flow, "dl_src");
  clearMember(ctx.flow, "dl_dst");
};

const encapEthernet = (ctx: Context): void => {
  const type = packetType(ctx);
  if (type >>> 16 !== 1) {
    refuse(ctx, " as encap(ethernet) is not supported for packet type ethernet.");
    return;
  }
  set(ctx.flow, "packet_type", PACKET_TYPE.ETHERNET);
  clearAddresses(ctx);
  set(ctx.flow, "dl_type", type & 0xffff);
};

/** Options of metadata type 2, each filled up to whole words. */
const optionsOf = (properties: readonly EncapProperty[]): Uint8Array => {
  const bytes: number[] = [];
  for (const property of properties) {
    if (property.kind !== "tlv") continue;
    const { cls, type, value } = property;
    bytes.push(cls >>> 8, cls & 0xff, type, value.length, ...value);
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  return Uint8Array.from(bytes.length > MAX_OPTIONS ? [] : bytes);
};

const nextProtocol = (type: number): number | undefined => {
  const found = Object.entries(NSH_INSIDE).find(([, inside]) => inside === type);
  return found === undefined ? undefined : Number(found[0]);
};

const encapNsh = (ctx: Context, properties: readonly EncapProperty[]): void => {
  const { flow } = ctx;
  const type = packetType(ctx);
  const np = nextProtocol(type);
  if (np === undefined) {
    refuse(ctx, ` as encap(nsh) is not supported for packet type (${type >>> 16},0x${(type & 0xffff).toString(16)})`);
    return;
  }
  const mdType = properties.findLast((property) => property.kind === "md_type")?.mdType ?? NSH_TYPE_1.MDTYPE;
  ctx.hasPushed = true;
  flow.fill(0, PACKET_WORDS_AT);
  for (const member of INNER) clearMember(flow, member);
  set(flow, "packet_type", PACKET_TYPE.NSH);
  set(flow, "dl_type", ETH_TYPE.NSH);
  set(flow, "nsh_ttl", NSH_DEFAULT.ttl);
  set(flow, "nsh_np", np);
  set(flow, "nsh_path", NSH_DEFAULT.path);
  set(flow, "nsh_mdtype", mdType);
  ctx.nshOptions = mdType === NSH_TYPE_1.MDTYPE ? new Uint8Array(0) : optionsOf(properties);
};

const encapMpls = (ctx: Context, type: number): void => {
  const { flow, base } = ctx;
  const n = lookAtLabels(ctx);
  if (n >= MAX_MPLS_LABELS) {
    tooManyLabels(ctx, "an encap MPLS action", "would have");
    return;
  }
  // The labels of the packet inside are no part of the new stack. OVS 3.1 counts them all the same, and dies.
  const isBehindEthernet = packetType(ctx) === PACKET_TYPE.ETHERNET && ctx.dlType === ETH_TYPE.MPLS;
  if (isBehindEthernet) {
    forgetStack(flow);
    forgetStack(base);
  }
  set(flow, "packet_type", type);
  pushLabel(ctx, isBehindEthernet ? 0 : n, type & 0xffff);
  clearAddresses(ctx);
};

/** `encap`. What was to be done with the packet inside is done before. */
export const encap = (ctx: Context, { packetType: type, properties }: ActionOf<"encap">): void => {
  commit(ctx);
  if (type === PACKET_TYPE.ETHERNET) encapEthernet(ctx);
  else if (type === PACKET_TYPE.NSH) encapNsh(ctx, properties);
  else encapMpls(ctx, type);
  if (ctx.error === undefined) ctx.pending = "encap";
};

const decapEthernet = (ctx: Context): void => {
  ctx.mark("vlan0_tci", VLAN_PRESENT);
  if ((get(ctx.flow, "vlan0_tci") & VLAN_PRESENT) !== 0) {
    refuse(ctx, ", cannot decap Ethernet if VLAN is present.");
    return;
  }
  set(ctx.flow, "packet_type", etherPacketType(ctx.dlType));
  clearAddresses(ctx);
};

/** Returns whether the packet must be parsed again. */
const decapNsh = (ctx: Context): boolean => {
  const np = ctx.look("nsh_np");
  const inside = NSH_INSIDE[np];
  if (inside === undefined) {
    refuse(ctx, ` as NSH next protocol ${np} is not supported`);
    return false;
  }
  set(ctx.flow, "packet_type", inside);
  ctx.pending = "decap";
  return true;
};

/** Returns whether the packet must be parsed again: there was one label. */
const decapMpls = (ctx: Context, type: number): boolean => {
  set(ctx.flow, "packet_type", type);
  const labels = popLabel(ctx, type & 0xffff || ETH_TYPE.TEB, "an MPLS decap");
  if (labels === undefined) return false;
  ctx.pending = "decap";
  return labels === 1;
};

/** `decap`. The translation is broken off behind it when the packet must be parsed again. */
export const decap = (ctx: Context, { packetType: to = PACKET_TYPE.USE_NEXT_PROTO }: ActionOf<"decap">): "behind" => {
  commit(ctx);
  const type = packetType(ctx);
  let isHidden = false;
  if (type === PACKET_TYPE.ETHERNET) decapEthernet(ctx);
  else if (type === PACKET_TYPE.NSH) isHidden = decapNsh(ctx);
  else if (type === PACKET_TYPE.MPLS || type === PACKET_TYPE.MPLS_MULTICAST) isHidden = decapMpls(ctx, to);
  else {
    const text = `(${type >>> 16},0x${(type & 0xffff).toString(16)})`;
    refuse(ctx, ` as the decap() does not support packet type ${text}`);
  }
  if (isHidden && ctx.error === undefined) triggerFreeze(ctx);
  return "behind";
};

/** `dec_nsh_ttl`. Returns whether the TTL is used up, or there is none. */
export const decNshTtl = (ctx: Context): boolean => {
  if (packetType(ctx) === PACKET_TYPE.NSH || ctx.dlType === ETH_TYPE.NSH) {
    const ttl = ctx.look("nsh_ttl");
    if (ttl > 1) {
      set(ctx.flow, "nsh_ttl", ttl - 1);
      return false;
    }
    toController(ctx, MAX_CONTROLLER_BYTES, "invalid_ttl", 0);
  }
  ctx.trace?.note("NSH decrement TTL exception", "warning");
  return true;
};
