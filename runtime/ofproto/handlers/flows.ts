// Flows: changes, dumps, sums.

import {
  ANY_GROUP,
  applyFlowMod,
  CARRIED_BY,
  checkWireActions,
  decodeFlowMod,
  decodeFlowRequest,
  decodeInstructions,
  OpenFlowError,
  PORT,
  putAggregate,
  putFlowStats,
  type Flow,
  type FlowMod,
  type Message,
  type MessageName,
  type Rule,
  type RuleFilter,
  type WireFlowStats,
} from "#compiler";
import { monotonicMs } from "../../clock.js";
import type { OfConn } from "../ofconn.js";
import type { Ofproto } from "../ofproto.js";
import { inSlices, sourceOf, type Handler } from "../request.js";

const ALL_TABLES = 0xff;

/** Cookie of a flow that was added without one. */
const NO_COOKIE = 0xffffffffffffffffn;

const NO_WARNINGS: FlowMod["warnings"] = [];

/** Only the parts of a filter that select something. */
const filterOf = ({
  cookie,
  outPort,
  outGroup,
}: Required<Pick<RuleFilter, "cookie" | "outPort" | "outGroup">>): RuleFilter => ({
  ...(cookie.mask === 0n ? {} : { cookie }),
  ...(outPort === PORT.NONE ? {} : { outPort }),
  ...(outGroup === ANY_GROUP ? {} : { outGroup }),
});

/**
 * A flow mod as the tables take it.
 *
 * @throws {@link OpenFlowError} for one that OVS refuses before it looks at the tables
 */
export const readFlowMod = (conn: OfConn, message: Message): FlowMod => {
  const wire = decodeFlowMod(message, conn.tableIds);
  const { command, match, newCookie, cookie } = wire;
  const isAdd = command === "add";
  const deletes = command === "delete" || command === "delete_strict";
  const decoded = decodeInstructions(wire.actions, conn.minor);
  checkWireActions(decoded, match, wire.table, conn.protocol);
  if (wire.buffer !== undefined && !deletes)
    throw new OpenFlowError("OFPBRC_BUFFER_UNKNOWN", `Cannot send packet ${wire.buffer}: none waits`);
  const isEverywhere = wire.table === ALL_TABLES;
  const flow: Flow = {
    table: isEverywhere ? 0 : wire.table,
    priority: wire.priority,
    cookie: newCookie ?? (isAdd ? NO_COOKIE : 0n),
    idleTimeout: wire.idleTimeout,
    hardTimeout: wire.hardTimeout,
    importance: wire.importance,
    // OpenFlow 1.0 and 1.1 have no flag for it: adding always resets counters.
    flags: conn.minor < 2 && isAdd ? [...wire.flags, "reset_counts"] : wire.flags,
    match,
    actions: deletes ? [] : decoded,
  };
  // Most are additions, at a rate that counts.
  if (isAdd) return { command, flow, table: flow.table, protocols: CARRIED_BY.any, warnings: NO_WARNINGS };
  return {
    command,
    flow,
    ...(isEverywhere ? {} : { table: flow.table }),
    ...filterOf({ cookie, outPort: deletes ? wire.outPort : PORT.NONE, outGroup: deletes ? wire.outGroup : ANY_GROUP }),
    ...(deletes
      ? {}
      : { addIfMissing: cookie.mask === 0n && newCookie !== undefined, newCookie: newCookie !== undefined }),
    protocols: CARRIED_BY.any,
    warnings: NO_WARNINGS,
  };
};

const flowMod: Handler = (request) => {
  const { ofproto, conn, message } = request;
  conn.requireChanges();
  const mod = readFlowMod(conn, message);
  ofproto.change(() => void applyFlowMod(ofproto.bridge.sw, mod, monotonicMs()), sourceOf(request));
};

/** The rules that a request for statistics is about. */
const asked = (ofproto: Ofproto, message: Message): Rule[] => {
  const request = decodeFlowRequest(message);
  const { sw } = ofproto.bridge;
  const { match, table } = request;
  if (table !== undefined) sw.checkTable(table);
  const filter = filterOf(request);
  const tables = table === undefined ? [...sw.tables()] : [sw.tableIfAny(table)];
  return tables.flatMap((each) => each?.collect(match, 0, false, filter) ?? []);
};

const ageS = (nowMs: number, thenMs: number): number => Math.max(0, Math.floor((nowMs - thenMs) / 1000));

const flowStats: Handler = async ({ ofproto, conn, message }) => {
  const { xid } = message.header;
  const isNicira = message.header.vendor !== undefined;
  const rules = asked(ofproto, message);
  await ofproto.bridge.settle();
  const nowMs = monotonicMs();
  const reply = conn.multipart(isNicira ? "NXST_FLOW reply" : "OFPST_FLOW reply", xid);
  const format = isNicira ? "nxm" : "openflow10";
  await inSlices(conn, rules, (rule) => {
    const ageMs = Math.max(0, Math.floor(nowMs - rule.createdMs));
    const stats: WireFlowStats = {
      table: rule.table,
      priority: rule.priority,
      match: rule.match,
      cookie: rule.cookie,
      durationS: Math.floor(ageMs / 1000),
      durationNs: (ageMs % 1000) * 1_000_000,
      idleTimeout: rule.idleTimeout,
      hardTimeout: rule.hardTimeout,
      importance: rule.importance,
      flags: rule.flags,
      idleAge: ageS(nowMs, rule.usedMs),
      hardAge: ageS(nowMs, rule.modifiedMs),
      packets: rule.packets,
      bytes: rule.bytes,
      actions: rule.actions,
    };
    reply.write((writer) => putFlowStats(writer, stats, conn.minor, format));
  });
  reply.end();
};

const aggregate: Handler = async ({ ofproto, conn, message }) => {
  const rules = asked(ofproto, message);
  const { xid, vendor } = message.header;
  await ofproto.bridge.settle();
  const sum = (count: (rule: Rule) => number): bigint => BigInt(rules.reduce((total, rule) => total + count(rule), 0));
  const total = { packets: sum(({ packets }) => packets), bytes: sum(({ bytes }) => bytes), flows: rules.length };
  conn.reply(vendor === undefined ? "OFPST_AGGREGATE reply" : "NXST_AGGREGATE reply", xid, (writer) =>
    putAggregate(writer, total, conn.minor),
  );
};

export const FLOW_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_FLOW_MOD: flowMod,
  NXT_FLOW_MOD: flowMod,
  "OFPST_FLOW request": flowStats,
  "NXST_FLOW request": flowStats,
  "OFPST_AGGREGATE request": aggregate,
  "NXST_AGGREGATE request": aggregate,
};
