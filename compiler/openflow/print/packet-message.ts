// Messages about packets, and those about a connection, in OVS's text.

import { OpenFlowError } from "../wire/errors.js";
import { ByteReader } from "../wire/bytes.js";
import {
  ASYNC_MESSAGES,
  BUNDLE_STEPS,
  decodeAsync,
  decodeBundleAdd,
  decodeBundleControl,
  decodeFlowFormat,
  decodePacketInFormat,
  decodeTableIds,
  NO_ASYNC,
  type AsyncMessage,
} from "../wire/connection-message.js";
import { decodeMessage, type Message } from "../wire/message.js";
import type { MessageKind } from "../wire/messages.js";
import { decodePacketIn, decodePacketOut, WIRE_REASONS } from "../wire/packet-message.js";
import { formatActions } from "./actions.js";
import { formatMatch } from "./match.js";
import { formatPacket } from "./packet.js";
import { hexPadded } from "./values.js";
import { alternateHex, bitNames, hexDump } from "./words.js";

/** OVS leaves out the names of its own reasons for misses. */
const MISSES: readonly number[] = [6, 7];

const reasonText = (reason: number): string => WIRE_REASONS[reason] ?? (MISSES.includes(reason) ? "" : String(reason));

const bytesText = (packet: Uint8Array, verbosity: number): string =>
  `${verbosity > 0 ? formatPacket(packet) : ""}${verbosity > 2 ? hexDump(packet, false) : ""}`;

export const packetInText = (message: Message, verbosity: number): string => {
  const { packet, totalBytes, reason, table, cookie, metadata, buffer, userdata } = decodePacketIn(message);
  const where = `${table === 0 ? "" : ` table_id=${table}`}${cookie === undefined ? "" : ` cookie=0x${cookie.toString(16)}`}`;
  const waits =
    buffer === undefined
      ? ` (unbuffered)${totalBytes === packet.length ? "" : " (***total_len != data_len***)"}`
      : ` buffer=${hexPadded(buffer, 8)}${totalBytes < packet.length ? " (***total_len < data_len***)" : ""}`;
  const data =
    userdata === undefined || userdata.length === 0
      ? ""
      : ` userdata=${Array.from(userdata, (byte) => byte.toString(16).padStart(2, "0")).join(".")}\n`;
  return (
    `${where} total_len=${totalBytes} ${formatMatch(metadata)} (via ${reasonText(reason)}) data_len=${packet.length}` +
    `${waits}\n${data}${bytesText(packet, verbosity)}`
  );
};

export const packetOutText = (message: Message, verbosity: number): string => {
  const { buffer, metadata, actions, packet } = decodePacketOut(message);
  const head = ` ${formatMatch(metadata)} actions=${formatActions(actions)}`;
  if (buffer !== undefined) return `${head} buffer=${hexPadded(buffer, 8)}`;
  const text = verbosity > 0 && packet.length > 0 ? `\n${formatPacket(packet)}` : "";
  return `${head} data_len=${packet.length}${text}${verbosity > 2 ? hexDump(packet, false) : ""}`;
};

const FLOW_REMOVED = ["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"] as const;

/** Names of reasons by message; the misses have none. */
const REASON_NAMES: Readonly<Record<AsyncMessage, readonly string[]>> = {
  PACKET_IN: WIRE_REASONS,
  PORT_STATUS: ["add", "delete", "modify"],
  FLOW_REMOVED,
  ROLE_STATUS: ["primary_request", "configuration_changed", "experimenter_data_changed"],
  TABLE_STATUS: ["", "", "", "vacancy_down", "vacancy_up"],
  REQUESTFORWARD: ["group_mod_request", "meter_mod_request"],
};

export const asyncText = (message: Message): string => {
  const config = decodeAsync(message, NO_ASYNC, message.row.name === "OFPT_GET_ASYNC_REPLY");
  const side = (name: "primary" | "secondary"): string => {
    const rows = ASYNC_MESSAGES.map(({ name: each }) => {
      const mask = config[name][each];
      const words = REASON_NAMES[each].flatMap((word, i) => ((mask >>> i) & 1 && word !== "" ? [` ${word}`] : []));
      return `${each.padStart(16)}:${words.join("")}${mask === 0 ? " (off)" : ""}\n`;
    });
    return `\n ${name}:\n${rows.join("")}`;
  };
  return `${side("primary")}${side("secondary")}`;
};

const BUNDLE_FLAG_NAMES: ReadonlyMap<number, string> = new Map([
  [1, "atomic"],
  [2, "ordered"],
]);

const flagsText = (flags: number): string => bitNames(flags, BUNDLE_FLAG_NAMES);

export const bundleControlText = (message: Message): string => {
  const { bundle, step, flags } = decodeBundleControl(message);
  return `\n bundle_id=${alternateHex(bundle)} type=${BUNDLE_STEPS[step] ?? ""} flags=${flagsText(flags)}`;
};

/** Messages that can be part of a bundle. */
const BUNDLED: ReadonlySet<MessageKind> = new Set<MessageKind>([
  ...(["flow_mod_10", "flow_mod_11", "flow_mod_nx", "group_mod", "port_mod", "packet_out"] as const),
]);

const refuseInner = (): never => {
  throw new OpenFlowError("OFPBFC_MSG_UNSUP", "Cannot read a message of a bundle");
};

/** @param format - prints the message inside */
export const bundleAddText = (message: Message, format: (inner: Uint8Array) => string): string => {
  const { bundle, flags, inner } = decodeBundleAdd(message);
  let kind: MessageKind;
  try {
    kind = decodeMessage(inner).row.kind;
  } catch {
    return refuseInner();
  }
  if (!BUNDLED.has(kind)) refuseInner();
  return `\n bundle_id=${alternateHex(bundle)} flags=${flagsText(flags)}\n${format(inner)}`;
};

export const flowFormatText = (message: Message): string => ` format=${decodeFlowFormat(message) ?? "(unknown)"}`;

export const tableIdsText = (message: Message): string => ` ${decodeTableIds(message) ? "enable" : "disable"}`;

export const packetInFormatText = (message: Message): string => ` format=${decodePacketInFormat(message)}`;

const lastOf8 = ({ body }: Message): number => new ByteReader(body).skip(6).u16();

export const controllerIdText = (message: Message): string => ` id=${lastOf8(message)}`;

export const zoneText = (message: Message): string => ` zone_id=${lastOf8(message)}`;

const TLV_COMMANDS = ["ADD", "DEL", "CLEAR"] as const;
const MAX_OPTION_BYTES = 124;
const TLV_FIELDS = 64;

/** The table of options, and the bytes that all of them take. */
const tlvRows = (reader: ByteReader, maxFields: number): { readonly text: string; readonly bytes: number } => {
  const rows: string[] = [];
  let bytes = 0;
  while (reader.left > 0) {
    const [cls, type, length, index] = [reader.u16(), reader.u8(), reader.u8(), reader.u16()];
    reader.skip(2);
    if (length % 4 !== 0 || length > MAX_OPTION_BYTES)
      throw new OpenFlowError("NXTTMFC_BAD_OPT_LEN", `Cannot map an option of ${length} bytes`);
    if (index >= maxFields) throw new OpenFlowError("NXTTMFC_BAD_FIELD_IDX", `Cannot map tun_metadata${index}`);
    bytes += length;
    const words = [alternateHex(cls).padStart(6), alternateHex(type).padStart(4), String(length).padStart(6)];
    rows.push(`\n ${words.join("  ")}  tun_metadata${index}`);
  }
  const head = " mapping table:\n  class  type  length  match field\n ------  ----  ------  --------------";
  return { text: head + rows.join(""), bytes };
};

export const tlvModText = ({ body }: Message): string => {
  const reader = new ByteReader(body);
  const number = reader.u16();
  const command = TLV_COMMANDS[number];
  if (command === undefined) throw new OpenFlowError("NXTTMFC_BAD_COMMAND", `Cannot map options: no command ${number}`);
  const { text } = tlvRows(reader.skip(6), TLV_FIELDS);
  return `\n ${command}${command === "CLEAR" ? "" : text}`;
};

export const tlvReplyText = ({ body }: Message): string => {
  const reader = new ByteReader(body);
  const space = reader.u32();
  const maxFields = reader.u16();
  const { text, bytes } = tlvRows(reader.skip(10), maxFields);
  return `\n max option space=${space} max fields=${maxFields}\n allocated option space=${bytes}\n\n${text}`;
};
