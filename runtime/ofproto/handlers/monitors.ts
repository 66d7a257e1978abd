// Flow monitors: `ovs-ofctl monitor BRIDGE watch:...`.

import {
  decodeFlowMonitors,
  decodeMonitorCancel,
  encodeFlowUpdate,
  MONITOR_FLAG,
  type MessageName,
  type Rule,
  type WireFlowMonitor,
} from "#compiler";
import { describeChange, filterOfMonitor } from "../flow-monitors.js";
import type { OfConn } from "../ofconn.js";
import type { Ofproto } from "../ofproto.js";
import { inSlices, type Handler } from "../request.js";

const ALL_TABLES = 0xff;

/** Flows that monitors begin with, each once, and whether their actions are wanted. */
const initialRules = ({ bridge: { sw } }: Ofproto, monitors: readonly WireFlowMonitor[]): Map<Rule, boolean> => {
  const rules = new Map<Rule, boolean>();
  for (const monitor of monitors) {
    if ((monitor.flags & MONITOR_FLAG.initial) === 0) continue;
    const tables = monitor.table === ALL_TABLES ? [...sw.tables()] : [sw.tableIfAny(monitor.table)];
    const filter = filterOfMonitor(monitor);
    const hasActions = (monitor.flags & MONITOR_FLAG.actions) !== 0;
    for (const table of tables)
      for (const rule of table?.collect(monitor.match, 0, false, filter) ?? [])
        rules.set(rule, hasActions || rules.get(rule) === true);
  }
  return rules;
};

/** Carries out requests one by one, and returns the monitors that are new. */
const configure = (conn: OfConn, requests: Iterable<WireFlowMonitor>): WireFlowMonitor[] => {
  const added: WireFlowMonitor[] = [];
  try {
    for (const monitor of requests) {
      const { command } = monitor;
      if (command === "modify" || command === "delete") conn.monitors.remove(monitor.id);
      if (command !== "add" && command !== "modify") continue;
      conn.monitors.add(monitor);
      added.push(monitor);
    }
  } catch (error) {
    for (const { id } of added) conn.monitors.remove(id);
    throw error;
  }
  return added;
};

const monitor: Handler = ({ ofproto, conn, message }) => {
  const rules = initialRules(ofproto, configure(conn, decodeFlowMonitors(message)));
  const reply = conn.multipart(message.row.name.replace("request", "reply") as MessageName, message.header.xid);
  return conn.monitors.hold(async () => {
    await inSlices(conn, rules, ([rule, hasActions]) =>
      reply.add(encodeFlowUpdate(describeChange(rule, "initial", hasActions), conn.minor)),
    );
    reply.end();
  });
};

const cancel: Handler = ({ conn, message }) => conn.monitors.remove(decodeMonitorCancel(message));

export const MONITOR_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  "NXST_FLOW_MONITOR request": monitor,
  "ONFST_FLOW_MONITOR request": monitor,
  "OFPST_FLOW_MONITOR request": monitor,
  NXT_FLOW_MONITOR_CANCEL: cancel,
  ONFT_FLOW_MONITOR_CANCEL: cancel,
};
