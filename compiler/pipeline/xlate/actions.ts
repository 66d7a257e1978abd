// What each OpenFlow action does to the flow in hand: one handler per kind.

import { FLOW, getBits, set, setBits, setBytes } from "../../openflow/flow.js";
import { portFrom16 } from "../../openflow/field-access.js";
import { NW_FRAG } from "../../packet/headers.js";
import { PORT, type Action, type ActionKind } from "../../openflow/types.js";
import type { Step } from "../frozen.js";
import type { Context } from "./context.js";
import { runGroup } from "./group.js";
import { checkPktLarger, clone } from "./clone.js";
import { decTtl, missed, output, outputTruncated, toController } from "./output.js";
import { decap, decNshTtl, encap } from "./encap.js";
import { freezeForMpls, freezeSteps, isFirstFrozen, triggerFreeze } from "./freeze.js";
import { finTimeout, learn } from "./learn.js";
import { decMplsTtl, popMpls, pushMpls, setMplsLabel, setMplsTc, setMplsTtl } from "./mpls.js";
import { bundle, multipath } from "./select.js";
import { load, markSubfield, move, numberIn, popStack, pushStack, setField } from "./set-field.js";
import { checkResources, tableAction } from "./table-action.js";
import { popVlan, pushVlan, setVlan } from "./vlan.js";
import { writeActions } from "./write-actions.js";

type ActionOf<K extends ActionKind> = Extract<Action, { readonly kind: K }>;

/** The list that an action stands in; the actions behind it begin at `next`. */
type Args<A extends Action> = [ctx: Context, action: A, inBucket: boolean, list: readonly Step[], next: number];

/**
 * Returned true when the rest of the action list is not to be carried out; `behind` when the translation is broken off and
 * goes on with the action behind this one, not with this one.
 */
type Outcome = boolean | "behind" | void;

type AnyHandler = (...args: Args<Action>) => Outcome;

type Handler<K extends ActionKind> = (...args: Args<ActionOf<K>>) => Outcome;

/** Bits of nw_tos. */
const DSCP = 0xfc;
const ECN = 0x03;

const setTos = (ctx: Context, bits: number, value: number): void => {
  if (!ctx.isIp) return;
  ctx.mark("nw_tos", bits);
  const { at } = FLOW.nw_tos;
  setBits(ctx.flow, at, 8, (getBits(ctx.flow, at, 8) & ~bits) | (value & bits));
};

const setPort = (ctx: Context, member: "tp_src" | "tp_dst", port: number): void => {
  if (!ctx.isIp || (ctx.look("nw_frag") & NW_FRAG.LATER) !== 0) return;
  ctx.markAll("nw_proto");
  ctx.markAll(member);
  set(ctx.flow, member, port);
};

const setMember = (ctx: Context, member: "dl_src" | "dl_dst" | "nw_src" | "nw_dst", value: Uint8Array): void => {
  ctx.markAll(member);
  setBytes(ctx.flow, FLOW[member].at, FLOW[member].bits, value);
};

const setAddress = (ctx: Context, member: "nw_src" | "nw_dst", addr: Uint8Array): void => {
  if (ctx.dlType === 0x0800) setMember(ctx, member, addr);
};

const writeMetadata = (ctx: Context, value: bigint, mask: bigint): void => {
  const { at } = FLOW.metadata;
  for (const [half, shift] of [
    [0, 32n],
    [32, 0n],
  ] as const) {
    const keep = ~Number((mask >> shift) & 0xffffffffn);
    const add = Number(((value & mask) >> shift) & 0xffffffffn);
    setBits(ctx.flow, at + half, 32, (getBits(ctx.flow, at + half, 32) & keep) | add);
  }
};

const setTunnel = (ctx: Context, tunId: bigint): void => {
  const { at } = FLOW.tun_id;
  setBits(ctx.flow, at, 32, Number(tunId >> 32n));
  setBits(ctx.flow, at + 32, 32, Number(tunId & 0xffffffffn));
};

/** Gives the packet up, and says why. */
const unsupported = (ctx: Context, what: string): true => {
  ctx.trace?.note(`action ${what} is not carried out yet`, "error");
  ctx.error = "unsupported_action";
  return true;
};

const HANDLERS: { readonly [K in ActionKind]?: Handler<K> } = {
  output: (ctx, { port, maxLen }, inBucket) => output(ctx, port, maxLen, inBucket, tableAction),
  controller: (ctx, action) => {
    const { maxLen, reason, id, userdata, pause } = action;
    if (pause !== true) {
      toController(ctx, maxLen, reason, id, userdata);
      return false;
    }
    ctx.pause = action;
    triggerFreeze(ctx);
    return "behind";
  },
  group: (ctx, { group }) => {
    if (!checkResources(ctx)) return false;
    const entry = ctx.sw.group(group);
    if (entry === undefined) {
      ctx.trace?.note(`output to nonexistent group ${group}`, "warning");
      return true;
    }
    runGroup(ctx, entry);
    return false;
  },
  output_trunc: (ctx, { port, maxLen }) => outputTruncated(ctx, port, maxLen, tableAction),
  enqueue: (ctx, { port, queue }, inBucket) => {
    const before = ctx.get("skb_priority");
    set(ctx.flow, "skb_priority", queue);
    output(ctx, port, 0, inBucket, tableAction);
    set(ctx.flow, "skb_priority", before);
  },
  // The priority of a queue is its number, as in OVS's user-space datapath.
  set_queue: (ctx, { queue }) => {
    set(ctx.flow, "skb_priority", queue);
  },
  pop_queue: (ctx) => {
    if (ctx.get("skb_priority") !== 0) ctx.trace?.note("queue = 0");
    set(ctx.flow, "skb_priority", 0);
  },
  clone,
  check_pkt_larger: (ctx, action, _inBucket, list, next) => {
    checkPktLarger(ctx, action, list.slice(next));
    return true;
  },
  debug_slow: () => {},
  output_reg: (ctx, { src, maxLen }, inBucket) => {
    const port = numberIn(ctx, src);
    if (port > 0xffffn) {
      ctx.trace?.note(`output port ${port} is out of range`, "warning");
      markSubfield(ctx, src);
      return;
    }
    ctx.trace?.note(`output port is ${port}`);
    markSubfield(ctx, src);
    output(ctx, portFrom16(Number(port)), maxLen, inBucket, tableAction);
  },
  bundle: (ctx, action, inBucket) => bundle(ctx, action, (port) => output(ctx, port, 0, inBucket, tableAction)),
  multipath,
  stack_push: (ctx, { src }) => pushStack(ctx, src),
  stack_pop: (ctx, { dst }) => popStack(ctx, dst),
  learn,
  fin_timeout: finTimeout,
  conjunction: (ctx) => ctx.trace?.note("executing no-op conjunction action", "error"),
  exit: (ctx) => {
    ctx.exit = true;
  },
  note: () => {},
  // Nobody collects samples here, and then OVS takes none either.
  sample: () => {},
  set_field: (ctx, { field, value, mask }) => setField(ctx, field, value, mask),
  reg_load: (ctx, { value, dst }) => load(ctx, value, dst),
  reg_move: (ctx, { src, dst }) => move(ctx, src, dst),
  set_vlan_vid: (ctx, { vid, pushIfNeeded }) => setVlan(ctx, 0x0fff, vid, pushIfNeeded),
  set_vlan_pcp: (ctx, { pcp, pushIfNeeded }) => setVlan(ctx, 0xe000, pcp << 13, pushIfNeeded),
  strip_vlan: (ctx) => popVlan(ctx),
  push_vlan: (ctx, { ethertype }) => pushVlan(ctx, ethertype),
  set_eth_src: (ctx, { mac }) => setMember(ctx, "dl_src", mac),
  set_eth_dst: (ctx, { mac }) => setMember(ctx, "dl_dst", mac),
  set_ipv4_src: (ctx, { addr }) => setAddress(ctx, "nw_src", addr),
  set_ipv4_dst: (ctx, { addr }) => setAddress(ctx, "nw_dst", addr),
  set_ip_dscp: (ctx, { tos }) => setTos(ctx, DSCP, tos),
  set_ip_ecn: (ctx, { ecn }) => setTos(ctx, ECN, ecn),
  set_ip_ttl: (ctx, { ttl }) => {
    if (!ctx.isIp) return;
    ctx.markAll("nw_ttl");
    set(ctx.flow, "nw_ttl", ttl);
  },
  set_l4_src_port: (ctx, { port }) => setPort(ctx, "tp_src", port),
  set_l4_dst_port: (ctx, { port }) => setPort(ctx, "tp_dst", port),
  push_mpls: (ctx, { ethertype }) => pushMpls(ctx, ethertype),
  pop_mpls: (ctx, { ethertype }) => popMpls(ctx, ethertype),
  set_mpls_label: (ctx, { label }) => setMplsLabel(ctx, label),
  set_mpls_tc: (ctx, { tc }) => setMplsTc(ctx, tc),
  set_mpls_ttl: (ctx, { ttl }) => setMplsTtl(ctx, ttl),
  dec_mpls_ttl: (ctx) => decMplsTtl(ctx),
  // No port here is a tunnel: what is written is for the tables behind.
  set_tunnel: (ctx, { tunId }) => setTunnel(ctx, tunId),
  // Options of tunnels have no bits in a flow, and no table maps any.
  delete_field: (ctx, { field }) => ctx.trace?.note(`delete ${field}`),
  encap,
  decap,
  dec_nsh_ttl: (ctx) => decNshTtl(ctx),
  debug_recirc: (ctx) => {
    triggerFreeze(ctx);
    return "behind";
  },
  dec_ttl: (ctx, { ids }) => decTtl(ctx, ids.length === 0 ? [0] : ids),
  resubmit: (ctx, { inPort, table, ct }) =>
    ct === true
      ? unsupported(ctx, "resubmit(ct)")
      : tableAction(ctx, inPort === undefined || inPort === PORT.IN_PORT ? ctx.inPort : inPort, table ?? ctx.table),
  write_metadata: (ctx, { value, mask }) => writeMetadata(ctx, value, mask),
  meter: (ctx, { meter }) => {
    const entry = ctx.sw.meters.get(meter);
    if (entry === undefined) return;
    const remarks = entry.meter.bands.some(({ type }) => type === "dscp_remark");
    ctx.actions.push({ kind: "meter", slot: entry.slot, remarks });
  },
  clear_actions: (ctx) => {
    ctx.trace?.actionSet(ctx.actionSet, "was");
    ctx.actionSet = [];
    ctx.actionSetHasGroup = false;
    set(ctx.flow, "actset_output", PORT.UNSET);
  },
  write_actions: (ctx, { actions }) => {
    writeActions(ctx, actions);
    ctx.trace?.actionSet(ctx.actionSet, "is");
  },
  goto_table: (ctx, { table }) => tableAction(ctx, ctx.inPort, table, missed),
};

/** Actions inside which a translation broken off has kept all that is left of them. */
const KEEPS_ITSELF: ReadonlySet<ActionKind> = new Set<ActionKind>(["resubmit", "goto_table"]);

/** Translates a list of actions; broken off, keeps what is left of it. */
export const runActions = (ctx: Context, actions: readonly Step[], inBucket: boolean): void => {
  const { isLast } = ctx;
  if (actions.length === 0) {
    ctx.trace?.drop();
    return;
  }
  for (let i = 0; i < actions.length; i++) {
    const action = actions[i]!;
    if (ctx.error !== undefined) return;
    freezeForMpls(ctx, action);
    if (ctx.exit) {
      if (ctx.freezing) freezeSteps(ctx, actions.slice(i));
      return;
    }
    if (action.kind === "unroll") {
      ctx.table = action.table;
      ctx.cookie = action.cookie;
      continue;
    }
    ctx.isLast = isLast && i === actions.length - 1 && ctx.actionSet.length === 0;
    ctx.trace?.action(action);
    const handler = HANDLERS[action.kind] as AnyHandler | undefined;
    if (handler === undefined) {
      unsupported(ctx, action.kind);
      return;
    }
    const outcome = handler(ctx, action, inBucket, actions, i + 1);
    if (outcome === true) return;
    if (ctx.error === undefined && isFirstFrozen(ctx) && !KEEPS_ITSELF.has(action.kind)) {
      freezeSteps(ctx, actions.slice(outcome === "behind" ? i + 1 : i));
      return;
    }
  }
};
