// Actions and instructions in text, one parser per name, as OVS's ofp-actions.c reads them. What a name is and what
// its value looks like is decided here; whether the actions fit each other and the match, in check.ts.

import { PACKET_IN_REASONS, PORT, type Action, type PacketInReason } from "../types.js";
import { ETH_TYPE } from "../../packet/headers.js";
import { MAX_PORTS, portFromText } from "../ports.js";
import { CARRIED_BY, exactProtocols } from "../versions.js";
import type { ParseContext } from "./context.js";
import { toBytes } from "../big-endian.js";
import { number64, numberIn, parseDecimal, parseUnsigned } from "./numbers.js";
import { cut, pairs, type Pair, type Piece } from "./source.js";
import { parseSubfield, requireField, requireWritable } from "./subfield.js";
import { parseFieldValue, parseIpv4, parseMac } from "./values.js";

/** An action and where it was written. */
export interface LocatedAction {
  readonly action: Action;
  readonly at: number;
  /** The actions of a write_actions. */
  readonly nested?: readonly LocatedAction[];
}

/** Nesting that OVS allows (MAX_OFPACT_PARSE_DEPTH). */
const MAX_DEPTH = 100;

/** Length limit that stands for "the whole packet". */
const NO_LIMIT = 0xffff;

type Parse = (context: ParseContext, value: Piece, name: Piece, depth: number) => Action | LocatedAction;

const port = (context: ParseContext, piece: Piece, what: string): number =>
  portFromText(piece.text, context.ports) ??
  context.fail(piece.at, `Cannot ${what} "${piece.text}": want a port number, a reserved port or a port name`);

const table = (context: ParseContext, piece: Piece): number =>
  parseDecimal(piece.text, 255) ??
  context.fail(piece.at, `Cannot find table "${piece.text}": want a number from 0 to 255`);

const macAddress = (context: ParseContext, piece: Piece): Uint8Array =>
  parseMac(piece.text) ??
  context.fail(piece.at, `Cannot read "${piece.text}": want a MAC address like 00:11:22:33:44:55`);

const ipv4Address = (context: ParseContext, piece: Piece): Uint8Array =>
  parseIpv4(piece.text) ?? context.fail(piece.at, `Cannot read "${piece.text}": want an IPv4 address like 192.0.2.1`);

const output: Parse = (context, value) => {
  if (/port.*max_len|max_len.*port/.test(value.text)) {
    return context.fail(value.at, "Action output with port and max_len (output_trunc) is not supported yet");
  }
  const number = portFromText(value.text, context.ports);
  if (number === undefined && /^[A-Za-z0-9_]+\[/.test(value.text)) {
    return context.fail(value.at, `Action output to a field (${value.text}) is not supported yet`);
  }
  const to = number ?? port(context, value, "output to");
  return { kind: "output", port: to, maxLen: to === PORT.CONTROLLER ? NO_LIMIT : 0 };
};

const toController: Parse = (context, value) => {
  let maxLen: number = NO_LIMIT;
  let id = 0;
  let reason: PacketInReason = "action";
  if (/^[0-9]+$/.test(value.text)) {
    maxLen = numberIn(context.line, value, "max_len", NO_LIMIT);
  } else {
    for (const { key, value: part } of pairs(value)) {
      if (key.text === "max_len") maxLen = numberIn(context.line, part, "max_len", NO_LIMIT);
      else if (key.text === "id") id = numberIn(context.line, part, "id", 0xffff);
      else if (key.text === "reason") {
        const named = PACKET_IN_REASONS.find((r) => r === part.text.toLowerCase());
        const want = PACKET_IN_REASONS.join(", ");
        reason = named ?? context.fail(part.at, `Cannot read reason "${part.text}": want one of ${want}`);
      } else if (key.text === "userdata" || key.text === "pause" || key.text === "meter_id") {
        context.fail(key.at, `Option ${key.text} of controller is not supported yet`);
      } else context.fail(key.at, `Cannot read controller option "${key.text}": want max_len, reason or id`);
    }
  }
  return reason === "action" && id === 0
    ? { kind: "output", port: PORT.CONTROLLER, maxLen }
    : { kind: "controller", maxLen, reason, id };
};

const setField: Parse = (context, value) => {
  const arrow = value.text.indexOf("->");
  if (arrow < 0) return context.fail(value.at, `Cannot read "${value.text}": want VALUE[/MASK]->FIELD`);
  const name = { text: value.text.slice(arrow + 2), at: value.at + arrow + 2 };
  if (name.text === "") return context.fail(name.at, "Cannot find the field to set: want its name after ->");
  const field = requireField(context, name);
  requireWritable(context, field, name);
  context.narrow(exactProtocols(field), value.at, `set_field of ${name.text}`);
  const wanted = { text: value.text.slice(0, arrow), at: value.at };
  const { value: bytes, mask } = parseFieldValue(context.line, wanted, field, context.ports);
  return mask === undefined
    ? { kind: "set_field", field, value: bytes }
    : { kind: "set_field", field, value: bytes, mask };
};

const load: Parse = (context, value) => {
  const [number, target] = cut(value, "->");
  if (target === undefined)
    return context.fail(value.at, `Cannot read "${value.text}": want VALUE->FIELD[FIRST..LAST]`);
  if (target.text === "") return context.fail(target.at, "Cannot find the field to load: want its name after ->");
  const { subfield: dst, name, rest } = parseSubfield(context, target);
  if (rest.text !== "") context.fail(rest.at, `Cannot read "${rest.text}" after the field`);
  requireWritable(context, dst.field, name);
  const bits = parseUnsigned(number.text);
  if (bits === undefined) return context.fail(number.at, `Cannot read "${number.text}": want a number`);
  if (bits >> BigInt(dst.bits) !== 0n) {
    context.fail(number.at, `Cannot load ${number.text}: it does not fit into ${dst.bits} bits`);
  }
  return { kind: "reg_load", value: toBytes(bits, (dst.bits + 7) >>> 3), dst };
};

const move: Parse = (context, value) => {
  const from = parseSubfield(context, value);
  if (!from.rest.text.startsWith("->")) {
    return context.fail(from.rest.at, `Cannot read "${value.text}": want SOURCE[FIRST..LAST]->FIELD[FIRST..LAST]`);
  }
  const to = parseSubfield(context, { text: from.rest.text.slice(2), at: from.rest.at + 2 });
  if (to.rest.text !== "") context.fail(to.rest.at, `Cannot read "${to.rest.text}" after the field`);
  requireWritable(context, to.subfield.field, to.name);
  if (from.subfield.bits !== to.subfield.bits) {
    context.fail(value.at, `Cannot move ${from.subfield.bits} bits into ${to.subfield.bits}: want equal widths`);
  }
  return { kind: "reg_move", src: from.subfield, dst: to.subfield };
};

const vlanVid =
  (pushIfNeeded: boolean): Parse =>
  (context, value) => ({ kind: "set_vlan_vid", vid: numberIn(context.line, value, "VLAN ID", 0xfff), pushIfNeeded });

const vlanPcp =
  (pushIfNeeded: boolean): Parse =>
  (context, value) => ({ kind: "set_vlan_pcp", pcp: numberIn(context.line, value, "VLAN priority", 7), pushIfNeeded });

const pushVlan: Parse = (context, value) => {
  context.narrow(CARRIED_BY.openflow11Up, value.at, "push_vlan");
  const ethertype = numberIn(context.line, value, "Ethernet type", 0xffff);
  if (ethertype !== ETH_TYPE.VLAN && ethertype !== ETH_TYPE.QINQ) {
    context.fail(value.at, `Cannot push a tag of type ${value.text}: want 0x8100 or 0x88a8`);
  }
  return { kind: "push_vlan", ethertype };
};

const nwTos: Parse = (context, value) => {
  const tos = numberIn(context.line, value, "TOS", 255);
  if (tos & 3) context.fail(value.at, `Cannot use TOS ${value.text}: want the two low bits (ECN) to be 0`);
  return { kind: "set_ip_dscp", tos };
};

const ttl: Parse = (context, value) => ({ kind: "set_ip_ttl", ttl: numberIn(context.line, value, "TTL", 255) });

const decTtl: Parse = (context, value) => {
  if (value.text === "") return { kind: "dec_ttl", ids: [] };
  const ids = pairs(value).map(({ key }) => numberIn(context.line, key, "controller ID", 0xffff));
  if (ids.length === 0) context.fail(value.at, "Cannot read dec_ttl(): want at least one controller ID");
  return { kind: "dec_ttl", ids };
};

const resubmit: Parse = (context, value) => {
  const parts: Piece[] = [];
  let rest: Piece | undefined = value;
  while (rest !== undefined) {
    const [part, more]: readonly [Piece, Piece | undefined] = cut(rest, ",");
    parts.push(part);
    rest = more;
  }
  const [portPart, tablePart, ctPart, ...extra] = parts;
  if (ctPart?.text === "ct") context.fail(ctPart.at, "Option ct of resubmit is not supported yet");
  const unknown = ctPart !== undefined && ctPart.text !== "" ? ctPart : extra[0];
  if (unknown !== undefined) context.fail(unknown.at, `Cannot read "${unknown.text}": want resubmit(PORT,TABLE)`);
  const inPort = portPart === undefined || portPart.text === "" ? PORT.IN_PORT : port(context, portPart, "resubmit as");
  const to = tablePart === undefined || tablePart.text === "" ? 255 : table(context, tablePart);
  if (inPort === PORT.IN_PORT && to === 255) context.fail(value.at, "Cannot resubmit: want a port, a table or both");
  return {
    kind: "resubmit",
    ...(inPort === PORT.IN_PORT ? {} : { inPort }),
    ...(to === 255 ? {} : { table: to }),
  };
};

const writeMetadata: Parse = (context, value, name) => {
  context.narrow(CARRIED_BY.nxmOrOpenflow11Up, name.at, "write_metadata");
  const [before, after] = cut(value, "/");
  const mask = after === undefined ? 0xffffffffffffffffn : number64(context.line, after, "mask");
  return { kind: "write_metadata", value: number64(context.line, before, "metadata"), mask };
};

const writeActions: Parse = (context, value, name, depth) => {
  const nested = parseActionList(context, value, depth + 1);
  return { action: { kind: "write_actions", actions: nested.map((n) => n.action) }, at: name.at, nested };
};

/** Parsers by the name of the action in lower case. */
const PARSERS: Readonly<Record<string, Parse>> = {
  output,
  controller: toController,
  group: (context, value) => ({ kind: "group", group: numberIn(context.line, value, "group", 0xffffffff) }),
  set_field: setField,
  load,
  move,
  mod_vlan_vid: vlanVid(true),
  set_vlan_vid: vlanVid(false),
  mod_vlan_pcp: vlanPcp(true),
  set_vlan_pcp: vlanPcp(false),
  strip_vlan: () => ({ kind: "strip_vlan", spelling: "strip_vlan" }),
  pop_vlan: () => ({ kind: "strip_vlan", spelling: "pop_vlan" }),
  push_vlan: pushVlan,
  mod_dl_src: (context, value) => ({ kind: "set_eth_src", mac: macAddress(context, value) }),
  mod_dl_dst: (context, value) => ({ kind: "set_eth_dst", mac: macAddress(context, value) }),
  mod_nw_src: (context, value) => ({ kind: "set_ipv4_src", addr: ipv4Address(context, value) }),
  mod_nw_dst: (context, value) => ({ kind: "set_ipv4_dst", addr: ipv4Address(context, value) }),
  mod_nw_tos: nwTos,
  mod_nw_ecn: (context, value) => ({ kind: "set_ip_ecn", ecn: numberIn(context.line, value, "ECN", 3) }),
  mod_nw_ttl: ttl,
  set_nw_ttl: ttl,
  mod_tp_src: (context, value) => ({ kind: "set_l4_src_port", port: numberIn(context.line, value, "port", 0xffff) }),
  mod_tp_dst: (context, value) => ({ kind: "set_l4_dst_port", port: numberIn(context.line, value, "port", 0xffff) }),
  dec_ttl: decTtl,
  resubmit,
  write_metadata: writeMetadata,
  clear_actions: () => ({ kind: "clear_actions" }),
  write_actions: writeActions,
  goto_table: (context, value) => ({ kind: "goto_table", table: table(context, value) }),
};

/** Actions of OVS that are beyond this language. */
const OTHER_ACTIONS: ReadonlySet<string> = new Set([
  ...["enqueue", "output_reg", "bundle", "bundle_load", "push", "pop", "set_mpls_label", "set_mpls_tc", "set_mpls_ttl"],
  ...["dec_mpls_ttl", "push_mpls", "pop_mpls", "dec_nsh_ttl", "delete_field", "encap", "decap", "set_tunnel"],
  ...["set_tunnel64", "set_queue", "pop_queue", "fin_timeout", "learn", "conjunction", "multipath", "note", "exit"],
  ...["sample", "unroll_xlate", "ct", "ct_clear", "nat", "output_trunc", "clone", "check_pkt_larger", "meter"],
  ...["debug_recirc", "debug_slow"],
]);

const isLocated = (result: Action | LocatedAction): result is LocatedAction => "action" in result;

const bareOutput = (context: ParseContext, name: Piece): Action => {
  const number = portFromText(name.text, context.ports);
  return number === undefined
    ? context.fail(name.at, `Cannot find action "${name.text}": want an action, or a port to output to`)
    : { kind: "output", port: number, maxLen: 0 };
};

/**
 * Parses the elements of a list of actions and instructions.
 *
 * @throws CompileError at the first part that is wrong
 */
export const parseActionPairs = (context: ParseContext, list: readonly Pair[], depth = 0): readonly LocatedAction[] => {
  const found: LocatedAction[] = [];
  let drop: Piece | undefined;
  for (const { key, value } of list) {
    const name = key.text.toLowerCase();
    if (Object.hasOwn(PARSERS, name)) {
      const result = PARSERS[name]!(context, value, key, depth);
      found.push(isLocated(result) ? result : { action: result, at: key.at });
    } else if (name === "drop") {
      drop = key;
    } else if (OTHER_ACTIONS.has(name)) {
      context.fail(key.at, `Action ${name} is not supported yet`);
    } else if (name === "apply_actions") {
      context.fail(key.at, "Cannot use apply_actions: it is what actions are without it");
    } else {
      found.push({ action: bareOutput(context, key), at: key.at });
    }
  }
  if (drop !== undefined && found.length > 0) {
    context.fail(drop.at, 'Cannot use "drop" with other actions: want it alone, or not at all');
  }
  return found;
};

/** {@link parseActionPairs} of a text. */
export const parseActionList = (context: ParseContext, list: Piece, depth = 0): readonly LocatedAction[] => {
  if (depth >= MAX_DEPTH) context.fail(list.at, `Cannot nest actions deeper than ${MAX_DEPTH} times`);
  return parseActionPairs(context, pairs(list), depth);
};

/** Ports that may stand in an output action, besides the ordinary ones. */
const OUTPUT_PORTS: ReadonlySet<number> = new Set([
  ...[PORT.IN_PORT, PORT.TABLE, PORT.NORMAL, PORT.FLOOD, PORT.ALL, PORT.CONTROLLER, PORT.LOCAL],
]);

/** Whether packets can be output to a port of this number. */
export const isOutputPort = (number: number): boolean => number < MAX_PORTS || OUTPUT_PORTS.has(number);
