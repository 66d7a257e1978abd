// Bundle files in the syntax of `ovs-ofctl bundle`: a line is a flow, a group or a packet to send, by its first word;
// `flow add table=1,ip,actions=drop`, `group delete group_id=3`, `packet-out in_port=1 packet=0a0b… actions=output:2`.

import { fromHex } from "ebpf-assembler";
import { fieldByName, matchField } from "../field-access.js";
import type { FieldName } from "../fields.js";
import { newFlow } from "../flow.js";
import { MAX_PORTS, portFromText } from "../ports.js";
import { PORT, type Action, type Match } from "../types.js";
import { exactProtocols, maskedProtocols } from "../versions.js";
import { parseActionList } from "./actions.js";
import { checkActions } from "./check.js";
import { ParseContext } from "./context.js";
import { parseFlowLine, type FlowMod, type ParseOptions } from "./flows.js";
import { parseGroupLine, type GroupMod } from "./groups.js";
import { contentLines, parseEach, requireAll, type LineResult } from "./lines.js";
import { fail, pairs, type Line, type Pair } from "./source.js";
import { isPrefixMask, parseFieldValue } from "./values.js";

/** A packet that the controller sends. */
export interface PacketOut {
  readonly packet: Uint8Array;
  readonly inPort: number;
  /** Pipeline fields that the packet begins with: metadata, registers. */
  readonly metadata: Match;
  readonly actions: readonly Action[];
  /** {@link PROTOCOL} bits of the versions that can carry it. */
  readonly protocols: number;
  readonly source: { readonly file: string; readonly line: number };
}

export type BundleMod =
  | { readonly kind: "flow"; readonly mod: FlowMod }
  | { readonly kind: "group"; readonly mod: GroupMod }
  | { readonly kind: "packet_out"; readonly mod: PacketOut };

/** Fields that a packet can begin with (OVS mf_is_pipeline_field). */
const isPipelineField = (field: FieldName): boolean =>
  /^(x{0,2}reg\d+|metadata|in_port(_oxm)?|packet_type|tun_(?!ttl|tos).*)$/.test(field);

const PACKET_OUT_PORTS: readonly number[] = [PORT.LOCAL, PORT.NONE, PORT.CONTROLLER];

interface Draft {
  packet: Uint8Array | undefined;
  inPort: number;
  readonly metadata: Match;
}

const readPacket = (context: ParseContext, { value }: Pair): Uint8Array => {
  const digits = value.text.replace(/[ \t:.]/g, "");
  const bytes = /^(?:[0-9a-fA-F]{2})+$/.test(digits) ? fromHex(digits) : undefined;
  return bytes !== undefined && bytes.length >= 14
    ? bytes
    : context.fail(value.at, "Cannot read the packet: want the hex digits of at least 14 bytes");
};

const readInPort = (context: ParseContext, { value }: Pair): number => {
  const port = portFromText(value.text, context.ports);
  const known = port !== undefined && (port <= MAX_PORTS || PACKET_OUT_PORTS.includes(port));
  return known
    ? port
    : context.fail(value.at, `Cannot send from port "${value.text}": want a port, LOCAL or CONTROLLER`);
};

const readField = (context: ParseContext, { key, value }: Pair, { metadata }: Draft): void => {
  const field = fieldByName(key.text);
  if (field === undefined || !isPipelineField(field)) {
    context.fail(key.at, `Cannot find "${key.text}": want in_port, packet, a register or metadata`);
  }
  const read = parseFieldValue(context.line, value, field, context.ports);
  matchField(metadata, field, read.value, read.mask);
  const whole = read.mask === undefined;
  context.narrow(whole ? exactProtocols(field) : maskedProtocols(field, isPrefixMask(read.mask)), key.at, key.text);
};

const parsePacketOut = (line: Line, options: ParseOptions, start: number): PacketOut => {
  const context = new ParseContext(line, options.ports);
  const { text } = line;
  const at = text.indexOf("action", start);
  const equals = at < 0 ? -1 : text.indexOf("=", at);
  const draft: Draft = {
    packet: undefined,
    inPort: PORT.CONTROLLER,
    metadata: { value: newFlow(), mask: newFlow() },
  };
  for (const pair of pairs({ text: text.slice(start, at < 0 ? undefined : at), at: start })) {
    const { key, value } = pair;
    if (value.text === "") context.fail(key.at, `Cannot read ${key.text}: want a value`);
    if (key.text === "packet") draft.packet = readPacket(context, pair);
    else if (key.text === "in_port") draft.inPort = readInPort(context, pair);
    else readField(context, pair, draft);
  }
  const packet = draft.packet ?? context.fail(start, "Cannot find the packet: want packet=");
  const located = equals < 0 ? [] : parseActionList(context, { text: text.slice(equals + 1), at: equals + 1 });
  checkActions(context, located, draft.metadata, 0);
  return {
    packet,
    inPort: draft.inPort,
    metadata: draft.metadata,
    actions: located.map(({ action }) => action),
    protocols: context.protocols,
    source: { file: line.file, line: line.number },
  };
};

type Parse = (line: Line, options: ParseOptions, start: number) => BundleMod;

/** By the word that a line begins with, in the order in which OVS tries whether it is a beginning of theirs. */
const KINDS: readonly (readonly [word: string, parse: Parse])[] = [
  ["flow", (line, { ports }, start) => ({ kind: "flow", mod: parseFlowLine(line, ports, start) })],
  ["group", (line, options, start) => ({ kind: "group", mod: parseGroupLine(line, options, start) })],
  ["packet-out", (line, options, start) => ({ kind: "packet_out", mod: parsePacketOut(line, options, start) })],
];

const parseLine = (line: Line, options: ParseOptions): BundleMod => {
  const from = line.text.search(/[^ \t\r\n]/);
  const word = /^[^, \t\r\n]*/.exec(line.text.slice(from))![0];
  const kind = KINDS.find(([name]) => name.startsWith(word));
  return kind === undefined
    ? fail(line, from, `Cannot put "${word}" into a bundle: want flow, group or packet-out`)
    : kind[1](line, options, from + word.length);
};

const DEFAULT_FILE = "<bundle>";

/** Every line of a bundle file, each with its change or its error. */
export const parseBundleLines = (text: string, options: ParseOptions = {}): LineResult<BundleMod>[] =>
  parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => parseLine(line, options));

/**
 * Parses a bundle file.
 *
 * @throws CompileError with one complaint per wrong line
 */
export const parseBundle = (text: string, options: ParseOptions = {}): BundleMod[] =>
  requireAll(parseBundleLines(text, options));
