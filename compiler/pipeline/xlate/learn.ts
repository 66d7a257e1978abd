// learn and fin_timeout. The flow that a learn action makes is computed here; it goes into its table after the packet,
// which does not meet it itself: OVS looks a packet up in the tables as they were when it came.

import { fromBytes, toBytes } from "../../openflow/big-endian.js";
import { FIELD_BYTES, FIELD_WIDTH, matchField, readField, readSubfield } from "../../openflow/field-access.js";
import { newFlow } from "../../openflow/flow.js";
import { formatActions } from "../../openflow/print/actions.js";
import { formatMatch } from "../../openflow/print/match.js";
import { hex } from "../../openflow/print/values.js";
import { IP_PROTO } from "../../packet/headers.js";
import {
  DEFAULT_PRIORITY,
  PORT,
  type Action,
  type ActionOf,
  type LearnSpec,
  type Match,
  type Subfield,
} from "../../openflow/types.js";
import { FlowModError } from "../table.js";
import type { LearnedFlow } from "../learned-flows.js";
import type { Context } from "./context.js";
import { loadResult, markSubfield } from "./set-field.js";

/** Demands that `dst` be `value`, beside what the match demands of the rest of the field. */
const matchSubfield = (match: Match, { field, lsb, bits }: Subfield, value: bigint): void => {
  const size = FIELD_BYTES[field];
  const here = ((1n << BigInt(bits)) - 1n) << BigInt(lsb);
  const ones = fromBytes(readField(match.mask, field)) | here;
  const joined = (fromBytes(readField(match.value, field)) & ~here) | (value << BigInt(lsb));
  const isWhole = ones === (1n << BigInt(FIELD_WIDTH[field])) - 1n;
  matchField(match, field, toBytes(joined, size), isWhole ? undefined : toBytes(ones, size));
};

/** Reserved ports that a learned flow may output to. */
const OUTPUTS: readonly number[] = [PORT.IN_PORT, PORT.FLOOD, PORT.LOCAL, PORT.ALL];

const outputTo = (value: bigint): Action[] => {
  if (value > 0xffffn) return [];
  const number = Number(value);
  const port = number < 0xff00 ? number : number + 0xffff0000;
  return port < 0xff00 || OUTPUTS.includes(port) ? [{ kind: "output", port, maxLen: 0 }] : [];
};

const valueOf = (ctx: Context, { src }: LearnSpec): bigint =>
  fromBytes(src instanceof Uint8Array ? src : readSubfield(ctx.flow, src));

const finTimeoutOf = ({ finIdleTimeout, finHardTimeout }: ActionOf<"learn">): Action[] =>
  finIdleTimeout === 0 && finHardTimeout === 0
    ? []
    : [{ kind: "fin_timeout", idleTimeout: finIdleTimeout, hardTimeout: finHardTimeout }];

/** The flow that `action` learns from the packet as it is now; notes the bits that it is made of. */
const learnedFlow = (ctx: Context, action: ActionOf<"learn">): LearnedFlow => {
  const match: Match = { value: newFlow(), mask: newFlow() };
  const actions: Action[] = finTimeoutOf(action);
  for (const spec of action.specs) {
    if (!(spec.src instanceof Uint8Array)) markSubfield(ctx, spec.src);
    const value = valueOf(ctx, spec);
    if (spec.to === "output") actions.push(...outputTo(value));
    else if (spec.to === "match") matchSubfield(match, spec.dst!, value);
    else actions.push({ kind: "reg_load", value: toBytes(value, (spec.bits + 7) >>> 3), dst: spec.dst! });
  }
  return {
    flow: {
      table: action.table,
      priority: action.priority,
      cookie: action.cookie,
      idleTimeout: action.idleTimeout,
      hardTimeout: action.hardTimeout,
      importance: 0,
      flags: action.sendFlowRem ? ["send_flow_rem"] : [],
      match,
      actions,
    },
    limit: action.limit,
  };
};

const describe = ({ flow }: LearnedFlow): string => {
  const match = formatMatch(flow.match, { priority: DEFAULT_PRIORITY });
  const parts = [
    `table=${flow.table}`,
    ...(match === "" ? [] : [match]),
    `priority=${flow.priority}`,
    ...(flow.cookie === 0n ? [] : [`cookie=${hex(flow.cookie)}`]),
    ...(flow.idleTimeout === 0 ? [] : [`idle=${flow.idleTimeout}`]),
    ...(flow.hardTimeout === 0 ? [] : [`hard=${flow.hardTimeout}`]),
    ...flow.flags,
    `actions=${formatActions(flow.actions)}`,
  ];
  return parts.join(" ");
};

export const learn = (ctx: Context, action: ActionOf<"learn">): void => {
  const learned = learnedFlow(ctx, action);
  ctx.trace?.note(describe(learned));
  const { sw } = ctx;
  try {
    const isLearned = sw.mayLearn(learned, ctx.learned);
    if (action.resultDst !== undefined) loadResult(ctx, action.resultDst, isLearned ? 1 : 0);
    if (isLearned) ctx.learned.push(learned);
    else ctx.trace?.note("Limit exceeded, learn failed");
  } catch (error) {
    if (!(error instanceof FlowModError)) throw error;
    ctx.trace?.note(`LEARN action execution failed (${error.problem}).`, "error");
  }
};

const FIN = 0x001;
const RST = 0x004;

/**
 * `fin_timeout`: a packet that ends a connection shortens the life of the rule. OVS learns later which flags the packets of
 * a megaflow had; here such packets have a megaflow of their own.
 */
export const finTimeout = (ctx: Context, { idleTimeout, hardTimeout }: ActionOf<"fin_timeout">): void => {
  if (!ctx.isIp || ctx.look("nw_proto") !== IP_PROTO.TCP || ctx.rule === undefined) return;
  ctx.mark("tcp_flags", FIN | RST);
  if ((ctx.get("tcp_flags") & (FIN | RST)) === 0) return;
  ctx.finTimeouts.push({ rule: ctx.rule, idleTimeout, hardTimeout });
};
