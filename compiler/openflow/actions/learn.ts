// The learn action: adds a flow made of bits of the packet in hand.

import type { ActionOf, LearnSpec, Subfield } from "../action.js";
import { fromBytes, toBytes } from "../big-endian.js";
import {
  FIELD_BYTES,
  FIELD_WIDTH,
  fieldByCodeName,
  fieldSpec,
  meetsPrerequisites,
  writeSubfield,
} from "../field-access.js";
import { newFlow } from "../flow.js";
import type { ParseContext } from "../parse/context.js";
import { parseUnsigned } from "../parse/numbers.js";
import { cut, pairs, type Pair, type Piece } from "../parse/source.js";
import { parseSubfield, requireWritable } from "../parse/subfield.js";
import { parseFieldValue } from "../parse/values.js";
import { subfieldText } from "../print/subfield.js";
import { fieldValueText, hex } from "../print/values.js";
import { DEFAULT_PRIORITY } from "../types.js";
import { atoi, needsField, parseTable, wholeSubfield, writableSubfield } from "./common.js";
import type { ActionFormat, Checked, LocatedAction, Parse, Rows } from "./row.js";

type Learn = ActionOf<"learn">;

interface Draft {
  table: number;
  priority: number;
  cookie: bigint;
  idleTimeout: number;
  hardTimeout: number;
  finIdleTimeout: number;
  finHardTimeout: number;
  sendFlowRem: boolean;
  deleteLearned: boolean;
  limit: number;
  resultDst?: Subfield;
}

const nameOf = (text: string): string => text.replace(/\[.*$/s, "").replace(/_W$/, "");

const namesField = (text: string): boolean => fieldByCodeName(nameOf(text)) !== undefined;

/** A constant for `dst`, in ceil(dst.bits / 8) bytes. */
const constant = (context: ParseContext, piece: Piece, dst: Subfield): Uint8Array => {
  const size = (dst.bits + 7) >>> 3;
  if (dst.lsb === 0 && dst.bits === FIELD_WIDTH[dst.field]) {
    const { value, mask } = parseFieldValue(context.line, piece, dst.field, context.ports);
    if (mask !== undefined) context.fail(piece.at, `Cannot learn part of a value (${piece.text}): want all of it`);
    return value.slice(value.length - size);
  }
  const number = parseUnsigned(piece.text) ?? context.fail(piece.at, `Cannot read "${piece.text}": want a number`);
  if (number >> BigInt(dst.bits) !== 0n) {
    context.fail(piece.at, `Cannot learn ${piece.text}: it does not fit into ${dst.bits} bits`);
  }
  return toBytes(number, size);
};

/** `FIELD[..]=VALUE`, `FIELD[..]=SOURCE[..]`, `FIELD[..]`. */
const matchSpec = (context: ParseContext, { key, value }: Pair): LearnSpec => {
  const dst = wholeSubfield(context, key).subfield;
  if (value.text === "") return { bits: dst.bits, src: dst, to: "match", dst };
  if (!namesField(value.text)) return { bits: dst.bits, src: constant(context, value, dst), to: "match", dst };
  const src = wholeSubfield(context, value).subfield;
  if (src.bits !== dst.bits) {
    context.fail(value.at, `Cannot match ${dst.bits} bits with ${src.bits}: want equal widths`);
  }
  return { bits: dst.bits, src, to: "match", dst };
};

/** `load:VALUE->DST[..]`, `load:SOURCE[..]->DST[..]`. */
const loadSpec = (context: ParseContext, value: Piece): LearnSpec => {
  const [before, after] = cut(value, "->");
  if (after === undefined || before.text === "") {
    return context.fail(value.at, `Cannot read "${value.text}": want VALUE->FIELD[..] or SOURCE[..]->FIELD[..]`);
  }
  const number = parseUnsigned(before.text);
  if (number !== undefined) {
    const dst = writableSubfield(context, after);
    if (number >> BigInt(dst.bits) !== 0n) {
      context.fail(before.at, `Cannot load ${before.text}: it does not fit into ${dst.bits} bits`);
    }
    return { bits: dst.bits, src: toBytes(number, (dst.bits + 7) >>> 3), to: "load", dst };
  }
  const { subfield: src, rest } = parseSubfield(context, value);
  if (!rest.text.startsWith("->")) context.fail(rest.at, `Cannot read "${value.text}": want SOURCE[..]->FIELD[..]`);
  const dst = writableSubfield(context, after);
  if (src.bits !== dst.bits) {
    context.fail(value.at, `Cannot load ${src.bits} bits into ${dst.bits}: want equal widths`);
  }
  return { bits: src.bits, src, to: "load", dst };
};

type Setting = (draft: Draft, context: ParseContext, value: Piece) => void;

const SETTINGS: Readonly<Record<string, Setting>> = {
  table: (draft, context, value) => {
    draft.table = parseTable(context, value);
    if (draft.table === 255) context.fail(value.at, "Cannot learn in table 255: want a table from 0 to 254");
  },
  priority: (draft, _context, value) => (draft.priority = atoi(value.text, 16)),
  idle_timeout: (draft, _context, value) => (draft.idleTimeout = atoi(value.text, 16)),
  hard_timeout: (draft, _context, value) => (draft.hardTimeout = atoi(value.text, 16)),
  fin_idle_timeout: (draft, _context, value) => (draft.finIdleTimeout = atoi(value.text, 16)),
  fin_hard_timeout: (draft, _context, value) => (draft.finHardTimeout = atoi(value.text, 16)),
  cookie: (draft, _context, value) => {
    draft.cookie = BigInt.asUintN(64, parseUnsigned(value.text) ?? 0n);
  },
  send_flow_rem: (draft) => (draft.sendFlowRem = true),
  delete_learned: (draft) => (draft.deleteLearned = true),
  limit: (draft, _context, value) => (draft.limit = atoi(value.text, 32)),
  result_dst: (draft, context, value) => {
    const { subfield, name } = wholeSubfield(context, value);
    requireWritable(context, subfield.field, name);
    if (subfield.bits !== 1) context.fail(value.at, `Cannot write the result into ${value.text}: want a single bit`);
    draft.resultDst = subfield;
  },
};

const learn: Parse = ({ context }, value) => {
  const draft: Draft = {
    table: 1,
    priority: DEFAULT_PRIORITY,
    cookie: 0n,
    idleTimeout: 0,
    hardTimeout: 0,
    finIdleTimeout: 0,
    finHardTimeout: 0,
    sendFlowRem: false,
    deleteLearned: false,
    limit: 0,
  };
  const specs: LearnSpec[] = [];
  for (const pair of pairs(value)) {
    const { key, value: part } = pair;
    if (Object.hasOwn(SETTINGS, key.text)) SETTINGS[key.text]!(draft, context, part);
    else if (namesField(key.text)) specs.push(matchSpec(context, pair));
    else if (key.text === "load") specs.push(loadSpec(context, part));
    else if (key.text === "output") {
      const src = wholeSubfield(context, part).subfield;
      specs.push({ bits: src.bits, src, to: "output" });
    } else context.fail(key.at, `Cannot learn "${key.text}": want a setting of a flow, a field, load or output`);
  }
  return { kind: "learn", ...draft, specs };
};

const constantText = ({ src, dst }: LearnSpec, format: ActionFormat): string => {
  const bytes = src as Uint8Array;
  if (dst!.lsb !== 0 || dst!.bits !== FIELD_WIDTH[dst!.field]) return `${subfieldText(dst!)}=${hex(fromBytes(bytes))}`;
  const whole = new Uint8Array(FIELD_BYTES[dst!.field]);
  whole.set(bytes, whole.length - bytes.length);
  return `${dst!.field}=${fieldValueText(dst!.field, whole, undefined, format.ports)}`;
};

const specText = (spec: LearnSpec, format: ActionFormat): string => {
  const { src, dst, to } = spec;
  if (to === "output") return `output:${subfieldText(src as Subfield)}`;
  if (src instanceof Uint8Array) {
    return to === "match" ? constantText(spec, format) : `load:${hex(fromBytes(src))}->${subfieldText(dst!)}`;
  }
  if (to === "load") return `load:${subfieldText(src)}->${subfieldText(dst!)}`;
  const same = src.field === dst!.field && src.lsb === dst!.lsb;
  return same ? subfieldText(dst!) : `${subfieldText(dst!)}=${subfieldText(src)}`;
};

const print = (a: Learn, format: ActionFormat): string => {
  const settings: readonly (readonly [name: string, value: number])[] = [
    ["idle_timeout", a.idleTimeout],
    ["hard_timeout", a.hardTimeout],
    ["fin_idle_timeout", a.finIdleTimeout],
    ["fin_hard_timeout", a.finHardTimeout],
  ];
  const parts = [
    `table=${a.table}`,
    ...settings.flatMap(([name, value]) => (value === 0 ? [] : [`${name}=${value}`])),
    ...(a.priority === DEFAULT_PRIORITY ? [] : [`priority=${a.priority}`]),
    ...(a.sendFlowRem ? ["send_flow_rem"] : []),
    ...(a.deleteLearned ? ["delete_learned"] : []),
    ...(a.cookie === 0n ? [] : [`cookie=${hex(a.cookie)}`]),
    ...(a.limit === 0 ? [] : [`limit=${a.limit}`]),
    ...(a.resultDst === undefined ? [] : [`result_dst=${subfieldText(a.resultDst)}`]),
    ...a.specs.map((spec) => specText(spec, format)),
  ];
  return `learn(${parts.join(",")})`;
};

/** Sources must be in the packet; what is learned must have the fields that it matches, as far as constants tell. */
const check = (state: Checked, { specs }: Learn, { at }: LocatedAction): void => {
  const learned = newFlow();
  for (const { src, dst, to } of specs) {
    if (!(src instanceof Uint8Array)) needsField(state, at, src.field, "learn from");
    if (dst === undefined) continue;
    if (!meetsPrerequisites(learned, dst.field)) {
      const { needs } = fieldSpec(dst.field);
      state.context.fail(at, `Cannot learn ${dst.field}: want a constant before it that makes the flow ${needs}`);
    }
    if (to === "match" && src instanceof Uint8Array) writeSubfield(learned, dst, src);
  }
};

export const LEARN: Rows<"learn"> = { learn: { parse: { learn }, print, check } };
