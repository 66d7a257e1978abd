// Flows: changes, dumps, sums.

import {
  ANY_GROUP,
  applyFlowMod,
  CARRIED_BY,
  checkWireActions,
  decodeFlowMod,
  decodeFlowRequest,
  decodeInstructions,
  encodeFlowStats,
  OpenFlowError,
  PORT,
  putAggregate,
  type FlowFlag,
  type FlowMod,
  type Message,
  type MessageName,
  type Rule,
  type RuleFilter,
} from "#compiler";
import { monotonicMs } from "../../clock.js";
import type { OfConn } from "../ofconn.js";
import type { Ofproto } from "../ofproto.js";
import { duration, inSlices, sourceOf, type Handler } from "../request.js";

const ALL_TABLES = 0xff;

/** Cookie of a flow that was added without one. */
const NO_COOKIE = 0xffffffffffffffffn;

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
  const { command, match, priority, newCookie, cookie, importance, idleTimeout, hardTimeout } = wire;
  // OpenFlow 1.0 and 1.1 have no flag for it: adding always resets counters.
  const flags: readonly FlowFlag[] = conn.minor < 2 && command === "add" ? [...wire.flags, "reset_counts"] : wire.flags;
  const table = wire.table === ALL_TABLES ? 0 : wire.table;
  const deletes = command.startsWith("delete");
  const decoded = decodeInstructions(wire.actions, conn.minor);
  const actions = deletes ? [] : decoded;
  checkWireActions(decoded, match, wire.table, conn.protocol);
  if (wire.buffer !== undefined && !deletes)
    throw new OpenFlowError("OFPBRC_BUFFER_UNKNOWN", `Cannot send packet ${wire.buffer}: none waits`);
  const flow = {
    ...{ table, priority, cookie: newCookie ?? (command === "add" ? NO_COOKIE : 0n) },
    ...{ idleTimeout, hardTimeout, importance, flags, match, actions },
  };
  const changes = command === "modify" || command === "modify_strict";
  return {
    command,
    flow,
    ...(wire.table === ALL_TABLES && command !== "add" ? {} : { table }),
    ...filterOf({ cookie, outPort: deletes ? wire.outPort : PORT.NONE, outGroup: deletes ? wire.outGroup : ANY_GROUP }),
    ...(changes
      ? { addIfMissing: cookie.mask === 0n && newCookie !== undefined, newCookie: newCookie !== undefined }
      : {}),
    protocols: CARRIED_BY.any,
    warnings: [],
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
  await inSlices(rules, (rule) => {
    const { table, priority, match, cookie, idleTimeout, hardTimeout, importance, flags, actions } = rule;
    reply.add(
      encodeFlowStats(
        {
          ...{ table, priority, match, cookie, idleTimeout, hardTimeout, importance, flags, actions },
          ...duration(nowMs - rule.createdMs),
          idleAge: ageS(nowMs, rule.usedMs),
          hardAge: ageS(nowMs, rule.modifiedMs),
          packets: BigInt(rule.packets),
          bytes: BigInt(rule.bytes),
        },
        conn.minor,
        format,
      ),
    );
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
