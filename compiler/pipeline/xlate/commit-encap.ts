// The datapath actions that put a header around the packet, or take one off, as the actions encap and decap want it (OVS
// lib/odp-util.c commit_encap_decap_action()). The order of writing there is that of OVS; where OVS 3.1 aborts (a packet that
// lost its Ethernet header in one bucket of a group and has it in the next), the header is put back here.

import { PACKET_TYPE } from "../../openflow/action.js";
import { clearMember, copyMember, FLOW, get, getBytes, PACKET_WORDS_AT, set } from "../../openflow/flow.js";
import { NSH_TYPE_1, nsh } from "../../packet/headers.js";
import type { Context } from "./context.js";
import { commitMpls } from "./mpls-stack.js";

const CONTEXTS = ["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const;

const bytesOf = (ctx: Context, member: keyof typeof FLOW): Uint8Array =>
  getBytes(ctx.flow, FLOW[member].at, FLOW[member].bits);

const pushEthernet = (ctx: Context): void => {
  ctx.actions.push({ kind: "push_eth", src: bytesOf(ctx, "dl_src"), dst: bytesOf(ctx, "dl_dst") });
  for (const member of ["packet_type", "dl_src", "dl_dst"] as const) copyMember(ctx.base, ctx.flow, member);
};

const nshHeader = (ctx: Context): Uint8Array => {
  const { flow, nshOptions } = ctx;
  const mdtype = get(flow, "nsh_mdtype");
  const rest = mdtype === NSH_TYPE_1.MDTYPE ? CONTEXTS.flatMap((c) => [...bytesOf(ctx, c)]) : [...nshOptions];
  const words = (nsh.minBytes + rest.length) / nsh.length!.unit;
  const first = (get(flow, "nsh_flags") << 12) | (get(flow, "nsh_ttl") << 6) | words;
  return Uint8Array.from([
    ...[first >>> 8, first & 0xff, mdtype, get(flow, "nsh_np")],
    ...bytesOf(ctx, "nsh_path"),
    ...rest,
  ]);
};

const pushNsh = (ctx: Context): void => {
  ctx.actions.push({ kind: "push_nsh", header: nshHeader(ctx) });
  set(ctx.base, "packet_type", PACKET_TYPE.NSH);
  ctx.base.set(ctx.flow.subarray(PACKET_WORDS_AT), PACKET_WORDS_AT);
};

const commitEncap = (ctx: Context): void => {
  switch (get(ctx.flow, "packet_type")) {
    case PACKET_TYPE.ETHERNET:
      pushEthernet(ctx);
      return;
    case PACKET_TYPE.NSH:
      pushNsh(ctx);
      return;
    default:
      commitMpls(ctx, true);
      copyMember(ctx.base, ctx.flow, "packet_type");
  }
};

const commitDecap = (ctx: Context): void => {
  const { flow, base } = ctx;
  const [from, to] = [get(base, "packet_type"), get(flow, "packet_type")];
  if (from === PACKET_TYPE.ETHERNET && to >>> 16 === 1) {
    ctx.actions.push({ kind: "pop_eth" });
    set(base, "packet_type", to);
    clearMember(base, "dl_src");
    clearMember(base, "dl_dst");
  } else if (from === PACKET_TYPE.NSH) ctx.actions.push({ kind: "pop_nsh" });
  else if (from === PACKET_TYPE.MPLS || from === PACKET_TYPE.MPLS_MULTICAST) commitMpls(ctx);
  else if (to === PACKET_TYPE.ETHERNET) pushEthernet(ctx);
};

/** Carries out what is pending; a packet that is of another type than its flow without that lost its header elsewhere. */
export const commitEncapDecap = (ctx: Context): void => {
  const { pending } = ctx;
  ctx.pending = undefined;
  if (pending === "encap") commitEncap(ctx);
  else if (pending === "decap" || get(ctx.flow, "packet_type") !== get(ctx.base, "packet_type")) commitDecap(ctx);
};
