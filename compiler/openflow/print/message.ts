// OpenFlow messages in text, to the character as `ovs-ofctl ofp-print` writes them.

import { NotSupportedError } from "ebpf-assembler";
import { read16, read32 } from "../../packet/words.js";
import { portToText } from "../ports.js";
import { DEFAULT_PRIORITY, PORT } from "../types.js";
import { decodeInstructions } from "../wire/decode-actions.js";
import { ALL_GROUPS } from "../parse/groups.js";
import { errorName, OpenFlowError, type ErrorCode } from "../wire/errors.js";
import {
  ANY_GROUP,
  decodeFlowMod,
  decodeFlowRemoved,
  decodeFlowRequest,
  type WireFlowMod,
} from "../wire/flow-message.js";
import { MATCH_10_BYTES } from "../wire/fixed-match.js";
import { formatFields } from "../wire/match-text.js";
import { decodeGroupRequest } from "../wire/group-message.js";
import { decodePortRequest } from "../wire/port-message.js";
import { decodeRole } from "../wire/connection-message.js";
import { decodeMessage, HEADER_BYTES, minorOf, type Message } from "../wire/message.js";
import type { MessageKind } from "../wire/messages.js";
import { decodeConfig, decodeDescription, decodeFeatures } from "../wire/switch-message.js";
import { actionBitNames } from "./action-bits.js";
import { formatActions } from "./actions.js";
import { formatMatch } from "./match.js";
import { formatMatch10 } from "./match10.js";
import { flowUpdateText, monitorCancelText, monitorRequestText } from "./monitor-message.js";
import {
  asyncText,
  bundleAddText,
  bundleControlText,
  controllerIdText,
  flowFormatText,
  packetInFormatText,
  packetInText,
  packetOutText,
  tableIdsText,
  tlvModText,
  tlvReplyText,
  zoneText,
} from "./packet-message.js";
import { portDescText, portModText, portsText, portStatsText, portStatusText } from "./port-message.js";
import { queueConfigText, queueRequestText, queueStatsText } from "./queue-message.js";
import {
  aggregateText,
  flowStatsText,
  groupDescText,
  groupFeaturesText,
  groupModText,
  groupStatsText,
  meterConfigText,
  meterFeaturesText,
  meterModText,
  meterRequestText,
  meterStatsText,
  tableDescText,
  tableModText,
} from "./table-message.js";
import { hexPadded } from "./values.js";
import { durationText, hexDump, removalText } from "./words.js";

export interface MessageFormat {
  /** As `ovs-ofctl -m`: from 2 on the payload of echoes, from 3 on matches as they stand on the wire. Default: 4. */
  readonly verbosity?: number;
}

const versionText = (version: number): string =>
  version === 1 ? "" : version <= 6 ? ` (OF1.${version - 1})` : ` (OF ${hexPadded(version, 2)})`;

const VERSION_BITMAP = 1;

/** Bits that a bitmap of versions has; bit 0 stands for no version. */
const MAX_VERSION = 31;

/** Versions that a hello lists, and whether everything in it was understood. */
const helloVersions = (version: number, body: Uint8Array): { readonly versions: number[]; readonly ok: boolean } => {
  let versions = Array.from({ length: Math.min(version, MAX_VERSION) }, (_, i) => i + 1);
  let ok = true;
  for (let at = 0; at < body.length;) {
    const left = body.length - at;
    const length = left < 4 ? 0 : read16(body, at + 2);
    const padded = (length + 7) & ~7;
    if (length < 4 || padded > left) return { versions, ok: false };
    const bits = length >= 8 ? read32(body, at + 4) : 0;
    const listed = Array.from({ length: MAX_VERSION }, (_, i) => i + 1).filter((i) => ((bits >>> i) & 1) !== 0);
    if (read16(body, at) === VERSION_BITMAP && listed.length > 0) versions = listed;
    else ok = false;
    at += padded;
  }
  return { versions, ok };
};

const VENDOR_ERROR_TYPE = 0xb0c2;
const EXPERIMENTER_TYPE = 0xffff;

/** The error of an error message, and the bytes that follow it. */
const errorOf = (body: Uint8Array): { readonly code: ErrorCode; readonly payload: Uint8Array } | undefined => {
  const [type, code] = [read16(body, 0), read16(body, 2)];
  if (type === VENDOR_ERROR_TYPE && code === 0) {
    if (body.length < 12) return undefined;
    const vendor = { kind: "vendor", vendor: read32(body, 4), type: read16(body, 8), code: read16(body, 10) } as const;
    return { code: vendor, payload: body.subarray(12) };
  }
  if (type === EXPERIMENTER_TYPE) {
    if (body.length < 8) return undefined;
    return { code: { kind: "experimenter", vendor: read32(body, 4), code }, payload: body.subarray(8) };
  }
  return { code: { kind: "standard", type, code }, payload: body.subarray(4) };
};

/** Printable characters as they are, others escaped as C does. */
const printable = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) =>
    byte < 32 || byte > 126 || byte === 34 || byte === 92
      ? `\\${byte.toString(8).padStart(3, "0")}`
      : String.fromCharCode(byte),
  ).join("");

const COMMAND_WORDS = {
  add: "ADD",
  modify: "MOD",
  modify_strict: "MOD_STRICT",
  delete: "DEL",
  delete_strict: "DEL_STRICT",
} as const;

const actionsText = (mod: WireFlowMod, message: Message): string =>
  formatActions(decodeInstructions(mod.actions, minorOf(message)));

const flowMod: Print = (message, format) => {
  const mod = decodeFlowMod(message);
  const onWire = (format.verbosity ?? DEFAULT_VERBOSITY) >= 3;
  const { kind } = message.row;
  const raw =
    onWire && kind === "flow_mod_10"
      ? formatMatch10(message.body.subarray(0, MATCH_10_BYTES), format.verbosity ?? DEFAULT_VERBOSITY)
      : onWire && kind === "flow_mod_nx"
        ? formatFields(message.body.subarray(32, 32 + read16(message.body, 24)))
        : undefined;
  const match = raw ?? formatMatch(mod.match, { priority: mod.priority });
  return [
    ` ${COMMAND_WORDS[mod.command]}`,
    ...(mod.table === 0 ? [] : [`table:${mod.table}`]),
    ...(match === "" ? [] : [match]),
    ...(mod.newCookie === undefined || mod.newCookie === 0n ? [] : [`cookie:${hexPadded(mod.newCookie, 1)}`]),
    ...(mod.cookie.mask === 0n ? [] : [`cookie:${hexPadded(mod.cookie.value, 1)}/${hexPadded(mod.cookie.mask, 1)}`]),
    ...(mod.idleTimeout === 0 ? [] : [`idle:${mod.idleTimeout}`]),
    ...(mod.hardTimeout === 0 ? [] : [`hard:${mod.hardTimeout}`]),
    ...(mod.importance === 0 ? [] : [`importance:${mod.importance}`]),
    ...(raw === undefined || mod.priority === DEFAULT_PRIORITY ? [] : [`pri:${mod.priority}`]),
    ...(mod.buffer === undefined ? [] : [`buf:${hexPadded(mod.buffer, 1)}`]),
    ...(mod.outPort === PORT.NONE ? [] : [`out_port:${portToText(mod.outPort)}`]),
    ...mod.flags,
    `actions=${actionsText(mod, message)}`,
  ].join(" ");
};

const flowRemoved: Print = (message) => {
  const gone = decodeFlowRemoved(message);
  return [
    ` ${formatMatch(gone.match, { priority: gone.priority })}`,
    `reason=${removalText(gone.reason)}`,
    ...(gone.table === undefined ? [] : [`table_id=${gone.table}`]),
    ...(gone.cookie === 0n ? [] : [`cookie:${hexPadded(gone.cookie, 1)}`]),
    `duration${durationText(gone.durationS, gone.durationNs)}`,
    `idle${gone.idleTimeout}`,
    ...(gone.hardTimeout === 0 ? [] : [`hard${gone.hardTimeout}`]),
    `pkts${gone.packets} bytes${gone.bytes}\n`,
  ].join(" ");
};

const flowRequest: Print = (message) => {
  const { table, outPort, match } = decodeFlowRequest(message);
  const where = table === undefined ? "" : ` table=${table}`;
  const to = outPort === PORT.NONE ? "" : ` out_port=${portToText(outPort)}`;
  return `${where}${to} ${formatMatch(match)}`;
};

/** Parts of a text come one by one: those before an error are shown. */
type Print = (message: Message, format: MessageFormat) => string | Iterable<string>;

function* featuresText(message: Message): Generator<string> {
  const { datapathId, nTables, nBuffers, auxiliaryId, capabilities, actions, ports } = decodeFeatures(message);
  const auxiliary = auxiliaryId === 0 ? "" : `, auxiliary_id:${auxiliaryId}`;
  yield ` dpid:${datapathId.toString(16).padStart(16, "0")}\nn_tables:${nTables}, n_buffers:${nBuffers}${auxiliary}\n`;
  yield `capabilities: ${capabilities.length === 0 ? "0" : capabilities.join(" ")}\n`;
  if (actions !== 0) yield `actions: ${actionBitNames(actions, 0)}\n`;
  yield* portsText(ports);
}

const roleText = (message: Message): string => {
  const { role, generation } = decodeRole(message);
  // All ones stand for none.
  const isShown = generation !== undefined && generation !== 0xffffffffffffffffn;
  return ` role=${role}${isShown ? ` generation_id=${generation}` : ""}`;
};

const DEFAULT_VERBOSITY = 4;

const PRINT: Readonly<Partial<Record<MessageKind, Print>>> = {
  hello: ({ header, body }) => {
    const { versions, ok } = helloVersions(header.version, body);
    const list = versions.map((version) => hexPadded(version, 2)).join(", ");
    if (ok) return `\n version bitmap: ${list}`;
    const whole = new Uint8Array(HEADER_BYTES + body.length);
    whole.set([header.version, header.type, whole.length >>> 8, whole.length & 0xff]);
    for (let i = 0; i < 4; i++) whole[4 + i] = header.xid >>> (24 - 8 * i);
    whole.set(body, HEADER_BYTES);
    return `\n version bitmap: ${list}\n unknown data in hello:\n${hexDump(whole)}`;
  },
  error: (message, format) => {
    const found = errorOf(message.body);
    const name = found === undefined ? undefined : errorName(found.code, minorOf(message));
    if (found === undefined || name === undefined) {
      throw new OpenFlowError("OFPBRC_BAD_LEN", "Cannot read an error: there is no such type and code");
    }
    const isHello = name === "OFPHFC_INCOMPATIBLE" || name === "OFPHFC_EPERM";
    return ` ${name}\n${isHello ? printable(found.payload) : formatMessage(found.payload, { ...format, verbosity: 1 })}`;
  },
  echo: ({ body }, { verbosity = DEFAULT_VERBOSITY }) =>
    ` ${body.length} bytes of payload\n${verbosity > 1 ? hexDump(body) : ""}`,
  empty: () => "",
  config: (message) => {
    const { frag, invalidTtlToController, missSendLen } = decodeConfig(message);
    return ` frags=${frag}${invalidTtlToController ? " invalid_ttl_to_controller" : ""} miss_send_len=${missSendLen}\n`;
  },
  features: featuresText,
  role: roleText,
  nx_role: roleText,
  group_request: (message) => {
    const group = decodeGroupRequest(message);
    return ` group_id=${group === ALL_GROUPS ? "ALL" : group === ANY_GROUP ? "ANY" : group}`;
  },
  port_desc_request: (message) => ` port=${portToText(decodePortRequest(message))}`,
  port_stats_request: (message) => ` port_no=${portToText(decodePortRequest(message))}`,
  port_desc_reply: portDescText,
  port_status: portStatusText,
  port_mod: portModText,
  port_stats_reply: (message, { verbosity = DEFAULT_VERBOSITY }) => portStatsText(message, verbosity),
  queue_stats_request: queueRequestText,
  queue_config_request: queueRequestText,
  queue_desc_request: queueRequestText,
  queue_config_reply: queueConfigText,
  queue_desc_reply: queueConfigText,
  queue_stats_reply: (message, { verbosity = DEFAULT_VERBOSITY }) => queueStatsText(message, verbosity),
  desc_reply: (message) => {
    const text = decodeDescription(message);
    return [
      `\nManufacturer: ${text.manufacturer}`,
      `Hardware: ${text.hardware}`,
      `Software: ${text.software}`,
      `Serial Num: ${text.serialNumber}`,
      `DP Description: ${text.datapath}\n`,
    ].join("\n");
  },
  flow_reply: flowStatsText,
  aggregate_reply: aggregateText,
  table_mod: tableModText,
  table_desc_reply: tableDescText,
  group_mod: groupModText,
  group_desc_reply: groupDescText,
  group_stats_reply: groupStatsText,
  group_features_reply: groupFeaturesText,
  meter_mod: meterModText,
  meter_request: meterRequestText,
  meter_config_reply: meterConfigText,
  meter_stats_reply: meterStatsText,
  meter_features_reply: meterFeaturesText,
  packet_in: (message, { verbosity = DEFAULT_VERBOSITY }) => packetInText(message, verbosity),
  packet_in_nx: (message, { verbosity = DEFAULT_VERBOSITY }) => packetInText(message, verbosity),
  packet_in2: (message, { verbosity = DEFAULT_VERBOSITY }) => packetInText(message, verbosity),
  packet_out: (message, { verbosity = DEFAULT_VERBOSITY }) => packetOutText(message, verbosity),
  async: asyncText,
  bundle_control: bundleControlText,
  bundle_add: (message, format) => bundleAddText(message, (inner) => formatMessage(inner, format)),
  nx_flow_format: flowFormatText,
  nx_table_id: tableIdsText,
  nx_packet_in_format: packetInFormatText,
  nx_controller_id: controllerIdText,
  flow_monitor_cancel: monitorCancelText,
  flow_monitor_request: monitorRequestText,
  flow_monitor_reply: flowUpdateText,
  tlv_table_mod: tlvModText,
  tlv_table_reply: tlvReplyText,
  ct_flush_zone: zoneText,
  flow_mod_10: flowMod,
  flow_mod_nx: flowMod,
  flow_mod_11: flowMod,
  flow_removed_10: flowRemoved,
  flow_removed_nx: flowRemoved,
  flow_removed_11: flowRemoved,
  flow_removed_15: flowRemoved,
  flow_request_10: flowRequest,
  flow_request_nx: flowRequest,
  flow_request_11: flowRequest,
};

/** Whether more parts follow, of statistics. */
const statsFlags = ({ version, type, stat }: Message["header"], bytes: Uint8Array): string => {
  const flags = stat === undefined ? 0 : read16(bytes, 10);
  if (flags === 0) return "";
  const isReply = version === 1 ? type === 17 : type === 19;
  const hasMore = (isReply || version >= 4) && (flags & 1) !== 0;
  const rest = hasMore ? flags & ~1 : flags;
  return ` flags=${hasMore ? "[more]" : ""}${rest === 0 ? "" : `[***unknown flags ${hexPadded(rest, 4)}***]`}`;
};

const endLine = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);

/** What is wrong with the length of a message; undefined if nothing. */
const lengthProblem = (bytes: Uint8Array): string | undefined => {
  if (bytes.length === 0) return "OpenFlow message is empty\n";
  if (bytes.length < HEADER_BYTES) return `OpenFlow packet too short (only ${bytes.length} bytes):\n`;
  const length = read16(bytes, 2);
  if (length < bytes.length) return `(***only uses ${length} bytes out of ${bytes.length}***)\n`;
  return length > bytes.length ? `(***truncated to ${bytes.length} bytes from ${length}***)\n` : undefined;
};

/**
 * A message in OVS's text, ending in a line feed. What a switch would refuse is said with the name of the error and a dump.
 *
 * @throws {@link NotSupportedError} for a message that OVS prints and we do not
 */
export const formatMessage = (bytes: Uint8Array, format: MessageFormat = {}): string => {
  const problem = lengthProblem(bytes);
  if (problem !== undefined) return problem + hexDump(bytes);
  let head = "";
  let text = "";
  try {
    const message = decodeMessage(bytes);
    const { version, xid } = message.header;
    head = `${message.row.name}${versionText(version)} (xid=${hexPadded(xid, 1)}):`;
    text = statsFlags(message.header, bytes);
    const print = PRINT[message.row.kind];
    if (print === undefined) throw new NotSupportedError(`Printing ${message.row.name}`);
    const parts = print(message, format);
    for (const part of typeof parts === "string" ? [parts] : parts) text += part;
    text = head + text.replace(/ $/, "");
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
    const before = text === "" ? (head === "" ? "" : `${head} `) : endLine(`${head}${text.replace(/ $/, "")}`);
    return `${before}***decode error: ${error.error}***\n${hexDump(bytes)}`;
  }
  return endLine(text) + ((format.verbosity ?? DEFAULT_VERBOSITY) >= 5 ? hexDump(bytes) : "");
};
