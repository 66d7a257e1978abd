// Going to a table: looking it up as OVS does, and carrying out the rule found. Limits of depth and number are OVS's.

import { FLOW, get, set } from "../../openflow/flow.js";
import { NW_FRAG } from "../../packet/headers.js";
import type { Rule } from "../table.js";
import { triggerFreeze } from "./freeze.js";
import { MAX_DEPTH, MAX_RESUBMITS, MAX_STACK, type Context } from "./context.js";

/**
 * The rule of `table` for the packet as it is now, as if it had come in by `inPort`; nothing on a miss, which drops.
 * What becomes of fragments is for {@link Switch.fragMode} to say: the ports count as 0, also those of a first one (`normal`), they
 * are dropped, or matched as they are (`nx-match`).
 */
export const lookUp = (ctx: Context, table: number, inPort: number): Rule | undefined => {
  const { flow, sw } = ctx;
  // That a packet is no fragment matters then, whatever is looked up.
  if (sw.fragMode === "drop" && ctx.isIp && (ctx.look("nw_frag") & NW_FRAG.ANY) !== 0) return sw.dropRule;
  const standalone = sw.standaloneRule;
  if (standalone !== undefined && table === 0) return standalone;
  const rules = sw.tableIfAny(table)?.rules;
  if (rules === undefined) return undefined;
  const savedPort = flow[IN_PORT_WORD]!;
  flow[IN_PORT_WORD] = inPort;
  let rule: Rule | undefined;
  if ((get(flow, "nw_frag") & NW_FRAG.ANY) === 0 || sw.fragMode === "nx-match") {
    rule = rules.lookup(flow, ctx.mask);
  } else {
    const source = get(flow, "tp_src");
    const destination = get(flow, "tp_dst");
    set(flow, "tp_src", 0);
    set(flow, "tp_dst", 0);
    rule = rules.lookup(flow, ctx.mask);
    set(flow, "tp_src", source);
    set(flow, "tp_dst", destination);
  }
  flow[IN_PORT_WORD] = savedPort;
  return rule;
};

/** Notes that `rule` handles the packet; its actions are to be run next. */
const enter = (ctx: Context, rule: Rule | undefined): void => {
  ctx.rule = rule;
  ctx.cookie = rule?.cookie ?? 0n;
  if (rule !== undefined) ctx.rules.push(rule);
};

const stackSize = ({ stack }: Context): number => stack.reduce((size, value) => size + value.length + 1, 0);

/** Whether another look-up or group is within the limits; if not, the translation fails. */
export const checkResources = (ctx: Context): boolean => {
  if (ctx.depth >= MAX_DEPTH) {
    ctx.trace?.note(`over max translation depth ${MAX_DEPTH}`, "error");
    ctx.error = "recursion_too_deep";
  } else if (ctx.resubmits >= MAX_RESUBMITS) {
    ctx.trace?.note(`over ${MAX_RESUBMITS} resubmit actions`, "error");
    ctx.error = "too_many_resubmits";
  } else if (ctx.stack.length > 0 && stackSize(ctx) >= MAX_STACK) {
    ctx.trace?.note("resubmits yielded over 64 kB of stack", "error");
    ctx.error = "stack_too_deep";
  } else return true;
  return false;
};

/**
 * `resubmit`, `goto_table`, output to TABLE: looks `table` up and carries out what it says, then comes back.
 *
 * @param onMiss - what to do when nothing matches, and whether it was done; default: nothing
 */
export const tableAction = (ctx: Context, inPort: number, table: number, onMiss?: (ctx: Context) => boolean): void => {
  if (ctx.wasMpls) {
    // Rules may match what was behind the labels.
    triggerFreeze(ctx);
    return;
  }
  if (!checkResources(ctx)) return;
  const { table: oldTable, rule: oldRule, cookie: oldCookie } = ctx;
  const deepens = table <= oldTable ? 1 : 0;
  ctx.table = table;
  const rule = lookUp(ctx, table, inPort);
  ctx.trace?.table(table, rule);
  ctx.resubmits++;
  ctx.depth += deepens;
  enter(ctx, rule);
  if (rule !== undefined || onMiss?.(ctx) !== true) ctx.run(ctx, rule?.actions ?? [], false);
  ctx.depth -= deepens;
  ctx.trace?.end();
  ctx.table = oldTable;
  ctx.rule = oldRule;
  ctx.cookie = oldCookie;
};

/** The first look-up of a packet: table 0. Leaves the rule and its cookie in the context. */
export const enterPipeline = (ctx: Context): void => {
  const rule = lookUp(ctx, 0, ctx.inPort);
  ctx.trace?.table(0, rule);
  enter(ctx, rule);
};

const IN_PORT_WORD = FLOW.in_port.at >>> 5;
