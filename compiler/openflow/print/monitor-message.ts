// Flow monitors and their reports in text.

import { portToText } from "../ports.js";
import { PORT } from "../types.js";
import { ANY_GROUP } from "../wire/flow-message.js";
import {
  decodeFlowMonitors,
  decodeFlowUpdates,
  decodeMonitorCancel,
  MONITOR_FLAG,
  type WireFlowMonitor,
  type WireFlowUpdate,
} from "../wire/flow-monitor.js";
import type { Message } from "../wire/message.js";
import { formatActions } from "./actions.js";
import { formatMatch } from "./match.js";
import { bitNames, removalText } from "./words.js";

export const monitorCancelText = (message: Message): string => ` id=${decodeMonitorCancel(message)}`;

const FLAG_NAMES = new Map<number, string>(
  Object.entries({ ...MONITOR_FLAG, "no-abbrev": MONITOR_FLAG.noAbbrev }).map(([name, bit]) => [bit, name]),
);

const monitorText = ({ id, command, flags, table, match, outPort, outGroup }: WireFlowMonitor): string => {
  if (command === "delete") return `\n id=${id} command=delete`;
  const parts = [
    `\n id=${id} flags=${bitNames(flags, FLAG_NAMES, ",")}`,
    ...(outPort === PORT.NONE ? [] : [`out_port=${portToText(outPort)}`]),
    ...(outGroup === 0 || outGroup === ANY_GROUP ? [] : [`out_group=${outGroup | 0}`]),
    ...(table === 0xff ? [] : [`table=${table}`]),
    formatMatch(match),
  ];
  return parts.join(" ").replace(/ +$/, "");
};

export function* monitorRequestText(message: Message): Generator<string> {
  for (const monitor of decodeFlowMonitors(message)) yield monitorText(monitor);
}

const updateText = (update: WireFlowUpdate): string => {
  if (update.event === "abbrev") return `ABBREV xid=0x${update.xid.toString(16)}`;
  if (!("match" in update)) return update.event.toUpperCase();
  const { event, reason, table, idleTimeout, hardTimeout, cookie, match, actions } = update;
  const head = [
    event === "removed" ? `DELETED reason=${removalText(reason)}` : event.toUpperCase(),
    `table=${table}`,
    ...(idleTimeout === 0 ? [] : [`idle_timeout=${idleTimeout}`]),
    ...(hardTimeout === 0 ? [] : [`hard_timeout=${hardTimeout}`]),
    `cookie=${cookie === 0n ? "0" : `0x${cookie.toString(16)}`} `,
  ].join(" ");
  const matched = formatMatch(match);
  if (actions.length === 0) return head + matched;
  return `${head}${matched}${matched === "" ? "" : " "}actions=${formatActions(actions)}`;
};

export function* flowUpdateText(message: Message): Generator<string> {
  for (const update of decodeFlowUpdates(message)) yield `\n event=${updateText(update)}`;
}
