// Parts that the text of several actions is made of: ports, tables, lists of words.

import { fieldSpec, matchMeetsPrerequisites } from "../field-access.js";
import type { FieldName, Prerequisite } from "../fields.js";
import type { ParseContext } from "../parse/context.js";
import { parseDecimal } from "../parse/numbers.js";
import type { Piece } from "../parse/source.js";
import { parseSubfield, requireWritable } from "../parse/subfield.js";
import { MAX_PORTS, portFromText, portToText } from "../ports.js";
import { PORT, type Subfield } from "../types.js";
import { CARRIED_BY } from "../versions.js";
import type { Checked } from "./row.js";

/** Length limit that stands for "the whole packet". */
export const NO_LIMIT = 0xffff;

export const parsePort = (context: ParseContext, piece: Piece, what: string): number =>
  portFromText(piece.text, context.ports) ??
  context.fail(piece.at, `Cannot ${what} "${piece.text}": want a port number, a reserved port or a port name`);

export const parseTable = (context: ParseContext, piece: Piece): number =>
  parseDecimal(piece.text, 255) ??
  context.fail(piece.at, `Cannot find table "${piece.text}": want a number from 0 to 255`);

/** A subfield and nothing behind it. */
export const wholeSubfield = (context: ParseContext, piece: Piece): { subfield: Subfield; name: Piece } => {
  const { subfield, name, rest } = parseSubfield(context, piece);
  if (rest.text !== "") context.fail(rest.at, `Cannot read "${rest.text}" after the field`);
  return { subfield, name };
};

/** {@link wholeSubfield} of a field that actions may write. */
export const writableSubfield = (context: ParseContext, piece: Piece): Subfield => {
  const { subfield, name } = wholeSubfield(context, piece);
  requireWritable(context, subfield.field, name);
  return subfield;
};

/** The words of `piece`, with any of `separators` between them. */
export const words = (piece: Piece, separators: RegExp): Piece[] => {
  const found: Piece[] = [];
  let at = 0;
  while (at < piece.text.length) {
    const length = piece.text.slice(at).search(separators);
    const to = length < 0 ? piece.text.length : at + length;
    if (to > at) found.push({ text: piece.text.slice(at, to), at: piece.at + at });
    at = to + 1;
  }
  return found;
};

/** A decimal number as C's atoi() reads it, cut down to `bits`: anything else at the end is left out, nothing is 0. */
export const atoi = (text: string, bits: number): number =>
  Number(BigInt.asUintN(bits, BigInt(/^[ \t]*[+-]?\d+/.exec(text)?.[0].replace("+", "").trim() ?? "0")));

/** Bytes written as pairs of hexadecimal digits with dots or spaces between them. */
export const hexBytes = (context: ParseContext, piece: Piece): Uint8Array => {
  const text = piece.text.replace(/[ .\t\r\n]+$/, "");
  if (!/^(?:[ .\t\r\n]*[0-9a-fA-F]{2})*$/.test(text)) {
    return context.fail(piece.at, `Cannot read "${piece.text}": want bytes like 00.11.22 in hexadecimal digits`);
  }
  return Uint8Array.from(text.match(/[0-9a-fA-F]{2}/g) ?? [], (pair) => Number.parseInt(pair, 16));
};

/** `00.11.22` */
export const dottedHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(".");

/** Ports that may stand in an output action, besides the ordinary ones. */
const OUTPUT_PORTS: ReadonlySet<number> = new Set([
  ...[PORT.IN_PORT, PORT.TABLE, PORT.NORMAL, PORT.FLOOD, PORT.ALL, PORT.CONTROLLER, PORT.LOCAL],
]);

/** Whether packets can be output to a port of this number. */
export const isOutputPort = (number: number): boolean => number < MAX_PORTS || OUTPUT_PORTS.has(number);

/** @throws CompileError for a number that stands for no port */
export const checkPort = (context: ParseContext, port: number, at: number): void => {
  if (!isOutputPort(port)) context.fail(at, `Cannot output to ${portToText(port)}: it is no port to send to`);
};

/** What to match so that a field means something. */
export const WANTED: Partial<Record<Prerequisite, string>> = {
  ethernet: "packets with an Ethernet header",
  mpls: "mpls or mplsm",
  nsh: "dl_type=0x894f",
  ct: "a valid connection (ct_state=+est, +new, +rel, +rpl, +snat, +dnat or +trk-inv)",
  vlan_vid: "a VLAN tag (vlan_tci=0x1000/0x1000, or a VLAN ID)",
  arp: "arp",
  ipv4: "ip",
  ipv6: "ipv6",
  ip_any: "ip or ipv6",
  tcp: "tcp or tcp6, not later fragments",
  udp: "udp or udp6, not later fragments",
  sctp: "sctp or sctp6, not later fragments",
  icmpv4: "icmp",
  icmpv6: "icmp6",
  nd: "icmp6 with icmp_type 135 or 136 and icmp_code 0",
  nd_solicit: "icmp6 with icmp_type 135 and icmp_code 0",
  nd_advert: "icmp6 with icmp_type 136 and icmp_code 0",
};

/** @throws CompileError unless the packets that come here have `field` */
export const needsField = (state: Checked, at: number, field: FieldName, verb: string): void => {
  if (matchMeetsPrerequisites({ value: state.flow, mask: state.mask }, field)) return;
  const { needs } = fieldSpec(field);
  state.context.fail(at, `Cannot ${verb} ${field}: the flow must match ${WANTED[needs] ?? needs}`);
};

/** Only OpenFlow 1.0 does without a match for what an action changes. */
export const needsMatch = (state: Checked, at: number, ok: boolean, what: string, match: string): void => {
  if (!ok && state.narrows) state.context.narrow(CARRIED_BY.openflow10, at, `${what} without a match on ${match}`);
};
