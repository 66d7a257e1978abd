// Flow text in the syntax of `ovs-ofctl add-flows`: one flow per line, `#` starts a comment, a line may begin with the
// name of a command. What OVS refuses is refused here too, at the place and with the reason.

import { CompileError, type Diagnostic } from "ebpf-assembler";
import {
  FIELD_BYTES,
  FIELD_WIDTH,
  fieldByName,
  etherType,
  fieldSpec,
  matchesField,
  matchField,
  readField,
  tunMetadataSize,
  type DraftMatch,
} from "../field-access.js";
import { FIELD_NAMES, type FieldName } from "../fields.js";
import { isTunMetadata, TUN_METADATA_TOTAL_BYTES, type TunMetadataName } from "../fields/tun-metadata.js";
import { get, newFlow } from "../flow.js";
import { foreignAddress, normalizeMatch, unmetField } from "../normalize.js";
import { ETH_TYPE, IP_PROTO, NW_FRAG } from "../../packet/headers.js";
import { portFromText, type PortNames } from "../ports.js";
import { DEFAULT_PRIORITY, PORT, type Action, type Flow, type FlowFlag, type Match } from "../types.js";
import { CARRIED_BY, exactProtocols, maskedProtocols } from "../versions.js";
import { WANTED } from "../actions/common.js";
import { parseActionList } from "./actions.js";
import { checkActions } from "./check.js";
import { ParseContext } from "./context.js";
import { fromBytes, toBytes } from "../big-endian.js";
import { number64, numberIn, parseDecimal, parseUnsigned } from "./numbers.js";
import { contentLines, parseEach, requireAll, type LineResult } from "./lines.js";
import { cut, pairs, type Line, type Pair, type Piece } from "./source.js";
import { parseSubfield } from "./subfield.js";
import { isPrefixMask, parseFieldValue, type FieldValue } from "./values.js";

/** Group number that stands for "any" (OFPG_ANY). */
const ANY_GROUP = 0xffffffff;
const ALL_TABLES = 255;

export type FlowCommand = "add" | "modify" | "modify_strict" | "delete" | "delete_strict";

/** A flow and what to do with it. */
export interface FlowMod {
  readonly command: FlowCommand;
  /** For modify and delete: which flows are meant. A delete has no actions. */
  readonly flow: Flow;
  /** Absent = every table, for modify and delete; 0 for add. */
  readonly table?: number;
  /** Modify or delete only flows whose cookie equals this in the bits of the mask. */
  readonly cookie?: { readonly value: bigint; readonly mask: bigint };
  /** Delete only flows that send to this port or group. */
  readonly outPort?: number;
  readonly outGroup?: number;
  /** Modify: whether a flow is added when there is none. Default: as OpenFlow 1.0 has it, unless it selects by cookie. */
  readonly addIfMissing?: boolean;
  /** Modify: whether the flows get the cookie of this one. Default: no. */
  readonly newCookie?: boolean;
  /** {@link PROTOCOL} bits of the OpenFlow versions that can carry it. */
  readonly protocols: number;
  /** What OVS accepts and does without. */
  readonly warnings: readonly Diagnostic[];
}

export interface ParseOptions {
  /** Name of the file for messages. Default: `<flows>`. */
  readonly file?: string;
  /** Names that ports may be called by. */
  readonly ports?: PortNames;
  /**
   * Whether a line may begin with a command (`add`, `modify`, ...), as in files of `ovs-ofctl add-flows`. Without, as
   * `ovs-ofctl parse-flows` has it, all lines add. Default: true.
   */
  readonly commands?: boolean;
}

/** Protocol words: Ethernet type and, where it means one, IP protocol. */
const PROTOCOL_WORDS: Readonly<Record<string, readonly [type: number, proto?: number]>> = {
  ip: [ETH_TYPE.IPV4],
  ipv4: [ETH_TYPE.IPV4],
  ip4: [ETH_TYPE.IPV4],
  arp: [ETH_TYPE.ARP],
  rarp: [ETH_TYPE.RARP],
  icmp: [ETH_TYPE.IPV4, IP_PROTO.ICMP],
  tcp: [ETH_TYPE.IPV4, IP_PROTO.TCP],
  udp: [ETH_TYPE.IPV4, IP_PROTO.UDP],
  sctp: [ETH_TYPE.IPV4, IP_PROTO.SCTP],
  ipv6: [ETH_TYPE.IPV6],
  ip6: [ETH_TYPE.IPV6],
  icmp6: [ETH_TYPE.IPV6, IP_PROTO.ICMPV6],
  tcp6: [ETH_TYPE.IPV6, IP_PROTO.TCP],
  udp6: [ETH_TYPE.IPV6, IP_PROTO.UDP],
  sctp6: [ETH_TYPE.IPV6, IP_PROTO.SCTP],
  mpls: [ETH_TYPE.MPLS],
  mplsm: [ETH_TYPE.MPLS_MCAST],
};

const FLAGS: Readonly<Record<FlowFlag, number>> = {
  send_flow_rem: CARRIED_BY.any,
  check_overlap: CARRIED_BY.any,
  reset_counts: CARRIED_BY.openflow12Up,
  no_packet_counts: CARRIED_BY.openflow13Up,
  no_byte_counts: CARRIED_BY.openflow13Up,
};

/** Words of `dump-flows` output that mean nothing when a flow is added. */
const STATISTICS: ReadonlySet<string> = new Set(["duration", "n_packets", "n_bytes", "idle_age", "hard_age"]);
const IGNORED: ReadonlySet<string> = new Set(["no_readonly_table", "allow_hidden_fields"]);

/** Commands in the order in which OVS tries whether the first word is a beginning of theirs. */
const COMMANDS: readonly FlowCommand[] = ["add", "delete", "delete_strict", "modify", "modify_strict"];

/** A flow while it is being read. */
interface Draft {
  readonly match: DraftMatch;
  table: number;
  priority: number;
  newCookie: bigint | undefined;
  cookie: { readonly value: bigint; readonly mask: bigint } | undefined;
  idleTimeout: number;
  hardTimeout: number;
  importance: number;
  outPort: number | undefined;
  outGroup: number | undefined;
  readonly flags: Set<FlowFlag>;
}

type Setting = (context: ParseContext, value: Piece, draft: Draft, command: FlowCommand) => void;

const ALL_COMMANDS: readonly FlowCommand[] = COMMANDS;
const CHANGING: readonly FlowCommand[] = ["add", "modify", "modify_strict"];

/** Words that are neither fields nor flags: the commands that know them, and what they do. */
const SETTINGS: Readonly<Record<string, readonly [commands: readonly FlowCommand[], set: Setting]>> = {
  table: [
    ALL_COMMANDS,
    (context, value, draft) => {
      const table = parseDecimal(value.text, 255);
      if (table === undefined) context.fail(value.at, `Cannot find table "${value.text}": want a number from 0 to 255`);
      else draft.table = table;
      if (draft.table !== ALL_TABLES) context.narrow(CARRIED_BY.tableNumbers, value.at, "table");
    },
  ],
  out_port: [
    ["delete", "delete_strict"],
    (context, value, draft) => {
      draft.outPort =
        portFromText(value.text, context.ports) ??
        context.fail(value.at, `Cannot read out_port "${value.text}": want a port number or name`);
    },
  ],
  out_group: [
    ["delete", "delete_strict"],
    (context, value, draft) => {
      context.narrow(CARRIED_BY.openflow11Up, value.at, "out_group");
      const any = value.text.toLowerCase() === "any";
      draft.outGroup =
        (any ? ANY_GROUP : parseDecimal(value.text, ANY_GROUP)) ??
        context.fail(value.at, `Cannot read out_group "${value.text}": want a group number or "any"`);
    },
  ],
  priority: [
    ["add", "modify", "modify_strict", "delete_strict"],
    (context, value, draft) => {
      draft.priority = numberIn(context.line, value, "priority", 0xffff);
    },
  ],
  idle_timeout: [
    CHANGING,
    (context, value, draft) => {
      draft.idleTimeout = numberIn(context.line, value, "idle_timeout", 0xffff);
    },
  ],
  hard_timeout: [
    CHANGING,
    (context, value, draft) => {
      draft.hardTimeout = numberIn(context.line, value, "hard_timeout", 0xffff);
    },
  ],
  importance: [
    ["add"],
    (context, value, draft) => {
      draft.importance = numberIn(context.line, value, "importance", 0xffff);
    },
  ],
  cookie: [
    ALL_COMMANDS,
    (context, value, draft, command) => {
      const [before, after] = cut(value, "/");
      if (after === undefined) {
        if (!CHANGING.includes(command)) {
          context.fail(
            value.at,
            `Cannot set a cookie with ${command}: want a mask (cookie=${value.text}/-1) to match one`,
          );
        }
        draft.newCookie = number64(context.line, before, "cookie");
        return;
      }
      if (command === "add") context.fail(after.at - 1, "Cannot add a flow with a cookie mask: want a cookie alone");
      const mask = number64(context.line, after, "cookie mask");
      draft.cookie = { value: number64(context.line, before, "cookie"), mask };
      if (mask !== 0n) context.narrow(CARRIED_BY.nxmOrOpenflow11Up, value.at, "a match on the cookie");
    },
  ],
};

/** One demand on an option, and room for all of them. */
const checkTunMetadata = (
  context: ParseContext,
  field: TunMetadataName,
  key: Piece,
  { value, mask }: FieldValue,
  { match: { tunMetadata = new Map() } }: Draft,
): void => {
  if (tunMetadata.has(field)) context.fail(key.at, `Cannot match ${field} twice`);
  let size = tunMetadataSize(value, mask);
  for (const demand of tunMetadata.values()) size += demand.value.length;
  if (size > TUN_METADATA_TOTAL_BYTES) {
    context.fail(key.at, `Cannot match ${field}: want at most ${TUN_METADATA_TOTAL_BYTES} bytes of options in all`);
  }
};

const readFieldMatch = (context: ParseContext, field: FieldName, { key, value }: Pair, draft: Draft): void => {
  // A field alone matches anything, as in a match on the existence of a header.
  const piece = value.text === "" ? { text: "0/0", at: key.at } : value;
  const read = parseFieldValue(context.line, piece, field, context.ports, true);
  if (isTunMetadata(field)) checkTunMetadata(context, field, key, read, draft);
  matchField(draft.match, field, read.value, read.mask);
  if (read.mask?.every((byte) => byte === 0) === true && !isTunMetadata(field)) return;
  const protocols = read.mask === undefined ? exactProtocols(field) : maskedProtocols(field, isPrefixMask(read.mask));
  context.narrow(protocols, key.at, `a match on ${read.mask === undefined ? "" : "part of "}${key.text}`);
};

/** `FIELD[FIRST..LAST]=VALUE`: the bits join what the match demands of the field already. */
const readSubfieldMatch = (context: ParseContext, { key, value }: Pair, draft: Draft): void => {
  const { subfield, rest } = parseSubfield(context, key);
  if (rest.text !== "") context.fail(rest.at, `Cannot read "${rest.text}" after the field`);
  const { field, lsb, bits } = subfield;
  const number = parseUnsigned(value.text) ?? context.fail(value.at, `Cannot read "${value.text}": want a number`);
  if (number >> BigInt(bits) !== 0n)
    context.fail(value.at, `Cannot match ${value.text}: it does not fit into ${bits} bits`);
  const size = FIELD_BYTES[field];
  const here = ((1n << BigInt(bits)) - 1n) << BigInt(lsb);
  const mask = fromBytes(readField(draft.match.mask, field)) | here;
  const joined = (fromBytes(readField(draft.match.value, field)) & ~here) | (number << BigInt(lsb));
  const whole = mask === (1n << BigInt(FIELD_WIDTH[field])) - 1n;
  if (fieldSpec(field).mask === "exact" && !whole) context.fail(key.at, `Cannot mask ${field}: want all of its bits`);
  const maskBytes = toBytes(mask, size);
  matchField(draft.match, field, toBytes(joined, size), whole ? undefined : maskBytes);
  const protocols = whole ? exactProtocols(field) : maskedProtocols(field, isPrefixMask(maskBytes));
  context.narrow(protocols, key.at, `a match on ${key.text}`);
};

const readWord = (context: ParseContext, pair: Pair, draft: Draft, command: FlowCommand): void => {
  const { key, value } = pair;
  const name = key.text;
  if (Object.hasOwn(PROTOCOL_WORDS, name)) {
    const [type, proto] = PROTOCOL_WORDS[name]!;
    matchField(draft.match, "eth_type", toBytes(BigInt(type), 2));
    if (proto !== undefined) matchField(draft.match, "nw_proto", Uint8Array.of(proto));
    return;
  }
  if (CHANGING.includes(command) && Object.hasOwn(FLAGS, name)) {
    draft.flags.add(name as FlowFlag);
    context.narrow(FLAGS[name as FlowFlag], key.at, name);
    return;
  }
  if (IGNORED.has(name)) return;
  if (name === "eth") return matchField(draft.match, "packet_type", new Uint8Array(FIELD_BYTES.packet_type));
  const field = fieldByName(name);
  if (field !== undefined) return readFieldMatch(context, field, pair, draft);
  if (name.includes("[")) return readSubfieldMatch(context, pair, draft);
  const setting = Object.hasOwn(SETTINGS, name) ? SETTINGS[name]! : undefined;
  const known = STATISTICS.has(name) || setting?.[0].includes(command);
  if (!known) context.fail(key.at, `Cannot find "${name}": want a field, a protocol or a setting of a flow`);
  if (value.text === "") context.fail(value.at, `Cannot read ${name}: want a value`);
  setting?.[1](context, value, draft, command);
};

/** Ports of later fragments are never known, and OVS refuses a match on them. */
const refusePortsOfLaterFragments = (context: ParseContext, match: Match): void => {
  const demandsPorts = get(match.mask, "tp_src") | get(match.mask, "tp_dst") | get(match.mask, "tcp_flags");
  const proto = get(match.value, "nw_proto");
  const hasPorts = proto === IP_PROTO.TCP || proto === IP_PROTO.UDP || proto === IP_PROTO.SCTP;
  if (demandsPorts !== 0 && hasPorts && (get(match.value, "nw_frag") & NW_FRAG.LATER) !== 0) {
    context.fail(0, "Cannot match ports or TCP flags of later fragments: want ip_frag to be no, first or not_later");
  }
};

/** Values that a switch accepts of the fields that it looks at more closely than text does. */
const RANGED: readonly FieldName[] = FIELD_NAMES.filter((field) => fieldSpec(field).range !== undefined);

/** What OVS sends as it is written, and every switch refuses. */
const refuseUnmetFields = (context: ParseContext, match: Match, at: number): void => {
  const unmet = unmetField(match);
  if (unmet !== undefined)
    context.fail(at, `Cannot match ${unmet}: the flow must match ${WANTED[fieldSpec(unmet).needs]!}`);
  const foreign = foreignAddress(match);
  if (foreign !== undefined) {
    const want = foreign.startsWith("ct_ipv6") ? "ipv6" : "ip";
    context.fail(at, `Cannot match ${foreign}: the flow must match ${want}`);
  }
  for (const field of RANGED) {
    if (!matchesField(match, field)) continue;
    const [least, most] = fieldSpec(field).range!;
    const value = Number(fromBytes(readField(match.value, field)));
    if (value < least || value > most) context.fail(at, `Cannot match ${field} ${value}: want ${least} to ${most}`);
  }
};

const splitCommand = (text: string, start: number): { command: FlowCommand; from: number } => {
  const from = start + text.slice(start).search(/[^ \t\r\n]|$/);
  const word = /^[^, \t\r\n]*/.exec(text.slice(from))![0];
  const command = COMMANDS.find((name) => name.startsWith(word));
  return command === undefined ? { command: "add", from } : { command, from: from + word.length };
};

/** The end of the match and the actions, which follow the first "action...=". */
const splitActions = (text: string, from: number): { match: Piece; actions: Piece | undefined } => {
  const at = text.indexOf("action", from);
  if (at < 0) return { match: { text: text.slice(from), at: from }, actions: undefined };
  const equals = text.indexOf("=", at);
  const actions = equals < 0 ? undefined : { text: text.slice(equals + 1), at: equals + 1 };
  return { match: { text: text.slice(from, at), at: from }, actions };
};

/**
 * Parses a flow from offset `start` of a line on.
 *
 * @param commands - whether it may begin with its command
 */
export const parseFlowLine = (line: Line, ports: PortNames | undefined, start = 0, commands = true): FlowMod => {
  const context = new ParseContext(line, ports);
  const { command, from } = commands ? splitCommand(line.text, start) : ({ command: "add", from: start } as const);
  const draft: Draft = {
    match: { value: newFlow(), mask: newFlow() },
    table: ALL_TABLES,
    priority: DEFAULT_PRIORITY,
    newCookie: undefined,
    cookie: undefined,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    outPort: undefined,
    outGroup: undefined,
    flags: new Set(),
  };
  const acts = CHANGING.includes(command);
  const { match, actions } = acts
    ? splitActions(line.text, from)
    : { match: { text: line.text.slice(from), at: from }, actions: undefined };
  if (acts && actions === undefined) context.fail(line.text.length, "Cannot find the actions: want actions=...");
  for (const pair of pairs(match)) readWord(context, pair, draft, command);
  if (etherType(draft.match.value) === ETH_TYPE.IPV6) {
    const upper = (["nw_proto", "nw_tos", "tp_src", "tp_dst"] as const).some((m) => get(draft.match.mask, m) !== 0);
    if (upper) context.narrow(CARRIED_BY.nxmOrOxm, from, "a match within IPv6");
  }
  refusePortsOfLaterFragments(context, draft.match);
  const table = draft.table === ALL_TABLES ? 0 : draft.table;
  let list: readonly Action[] = [];
  if (actions !== undefined) {
    context.beginActions();
    const located = parseActionList(context, actions);
    checkActions(context, located, draft.match, table);
    list = located.map((a) => a.action);
  }
  refuseUnmetFields(context, draft.match, from);
  const dropped = normalizeMatch(draft.match);
  if (dropped.length > 0) {
    const names = dropped.join(", ");
    context.warn(from, `The flow does not match a header that has ${names}: OVS leaves that out, and so do we`);
  }
  const flow: Flow = {
    table,
    priority: draft.priority,
    cookie: draft.newCookie ?? 0n,
    idleTimeout: draft.idleTimeout,
    hardTimeout: draft.hardTimeout,
    importance: draft.importance,
    flags: (Object.keys(FLAGS) as FlowFlag[]).filter((flag) => draft.flags.has(flag)),
    match: draft.match,
    actions: list,
    source: { file: line.file, line: line.number, text: line.text.trim() },
  };
  return {
    command,
    flow,
    ...(command === "add" ? { table } : draft.table === ALL_TABLES ? {} : { table }),
    ...(draft.cookie === undefined ? {} : { cookie: draft.cookie }),
    ...(draft.outPort === undefined || draft.outPort === PORT.NONE ? {} : { outPort: draft.outPort }),
    ...(draft.outGroup === undefined || draft.outGroup === ANY_GROUP ? {} : { outGroup: draft.outGroup }),
    protocols: context.protocols,
    warnings: context.warnings,
  };
};

const DEFAULT_FILE = "<flows>";

/** Every line of flow text, each with its flow or its error. */
export const parseFlowLines = (text: string, options: ParseOptions = {}): LineResult<FlowMod>[] =>
  parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) =>
    parseFlowLine(line, options.ports, 0, options.commands),
  );

/**
 * Parses flow text with commands.
 *
 * @throws CompileError with one complaint per wrong line
 */
export const parseFlowMods = (text: string, options: ParseOptions = {}): FlowMod[] =>
  requireAll(parseFlowLines(text, options));

/**
 * Parses flow text that only adds flows: the tables of a switch.
 *
 * @throws CompileError with one complaint per wrong line, or line with another command
 */
export const parseFlows = (text: string, options: ParseOptions = {}): Flow[] =>
  requireAll(
    parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => {
      const mod = parseFlowLine(line, options.ports);
      if (mod.command !== "add") {
        throw new CompileError([
          {
            file: line.file,
            line: line.number,
            column: line.text.search(/\S/) + 1,
            message: `Cannot ${mod.command} flows here: want lines that add flows`,
          },
        ]);
      }
      return mod.flow;
    }),
  );

/** Parses one flow. @throws CompileError */
export const parseFlow = (text: string, options: ParseOptions = {}): Flow => {
  const line = { file: options.file ?? DEFAULT_FILE, number: 1, text };
  return parseFlowLine(line, options.ports).flow;
};

/**
 * Parses a match alone, without actions: `tcp,nw_src=10.0.0.0/8`.
 *
 * @throws CompileError
 */
export const parseMatch = (text: string, options: ParseOptions = {}): Match => {
  const line = { file: options.file ?? DEFAULT_FILE, number: 1, text: `${text} actions=` };
  return parseFlowLine(line, options.ports).flow.match;
};
