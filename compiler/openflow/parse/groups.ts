// Group text in the syntax of `ovs-ofctl add-groups`: `group_id=1,type=all,bucket=output:1,bucket=output:2`.

import { fieldSpec } from "../field-access.js";
import type { FieldName } from "../fields.js";
import { MAX_PORTS, portFromText } from "../ports.js";
import { PORT, type Bucket, type Group, type GroupType } from "../types.js";
import { CARRIED_BY, exactProtocols, maskedProtocols, PROTOCOL } from "../versions.js";
import { parseActionPairs } from "./actions.js";
import { checkBucketActions } from "./check.js";
import { ParseContext } from "./context.js";
import type { ParseOptions } from "./flows.js";
import { contentLines, parseEach, requireAll, type LineResult } from "./lines.js";
import { number64, numberIn } from "./numbers.js";
import { pairs, type Line, type Pair, type Piece } from "./source.js";
import { requireField } from "./subfield.js";
import { isPrefixMask, parseFieldValue } from "./values.js";

/** A group and the versions that can carry it. */
export interface GroupMod {
  readonly command: "add";
  readonly group: Group;
  /** {@link PROTOCOL} bits. */
  readonly protocols: number;
}

/** Largest number of a group (OFPG_MAX) and of a bucket (OFPG15_BUCKET_MAX). */
const MAX_NUMBER = 0xffffff00;

/** Only OpenFlow 1.5 and the Nicira groups of 1.0 have properties of groups and buckets. */
const WITH_PROPERTIES = CARRIED_BY.openflow10 | PROTOCOL.OpenFlow15;

const TYPES: Readonly<Record<string, GroupType>> = {
  all: "all",
  select: "select",
  indirect: "indirect",
  ff: "ff",
  fast_failover: "ff",
};

const METHODS = ["hash", "dp_hash"] as const;

const COMMANDS = ["add", "delete", "modify", "add_or_mod", "insert_bucket", "remove_bucket"] as const;

interface Draft {
  id: number | undefined;
  type: GroupType | undefined;
  method: (typeof METHODS)[number] | undefined;
  param: { readonly value: bigint; readonly at: number } | undefined;
  fields: { readonly list: readonly FieldName[]; readonly masks: Masks; readonly at: number } | undefined;
}

type Masks = Readonly<Partial<Record<FieldName, Uint8Array>>>;

const parseFields = (context: ParseContext, piece: Piece): { list: FieldName[]; masks: Masks } => {
  const list: FieldName[] = [];
  const masks: Partial<Record<FieldName, Uint8Array>> = {};
  for (const { key, value } of pairs(piece)) {
    const field = requireField(context, key);
    if (list.includes(field)) context.fail(key.at, `Cannot use field ${key.text} twice`);
    list.push(field);
    if (value.text === "") {
      context.narrow(exactProtocols(field), key.at, `a hash of ${key.text}`);
      continue;
    }
    // What stands where values do elsewhere is the mask of the field.
    const { value: mask, mask: wildcards } = parseFieldValue(context.line, value, field, context.ports);
    if (wildcards !== undefined) context.fail(value.at, `Cannot read "${value.text}": want a mask alone`);
    if (mask.every((byte) => byte === 0)) context.fail(value.at, `Cannot hash no bit of ${key.text}: want a mask`);
    if (mask.every((byte) => byte === 0xff)) continue;
    if (fieldSpec(field).mask === "exact") context.fail(value.at, `Cannot mask ${field}: want the whole field`);
    masks[field] = mask;
    context.narrow(maskedProtocols(field, isPrefixMask(mask)), key.at, `a hash of part of ${key.text}`);
  }
  return { list, masks };
};

type Setting = (context: ParseContext, pair: Pair, draft: Draft) => void;

const SETTINGS: Readonly<Record<string, Setting>> = {
  group_id: (context, { value }, draft) => {
    draft.id = numberIn(context.line, value, "group_id", MAX_NUMBER);
  },
  type: (context, { value }, draft) => {
    const known = Object.hasOwn(TYPES, value.text) ? TYPES[value.text] : undefined;
    draft.type = known ?? context.fail(value.at, `Cannot find type "${value.text}": want all, select, indirect or ff`);
  },
  selection_method: (context, { key, value }, draft) => {
    draft.method =
      METHODS.find((method) => method === value.text) ??
      context.fail(value.at, `Cannot find selection method "${value.text}": want ${METHODS.join(" or ")}`);
    context.narrow(WITH_PROPERTIES, key.at, "selection_method");
  },
  selection_method_param: (context, { key, value }, draft) => {
    draft.param = { value: number64(context.line, value, "selection_method_param"), at: key.at };
    context.narrow(WITH_PROPERTIES, key.at, "selection_method_param");
  },
  fields: (context, { key, value }, draft) => {
    draft.fields = { ...parseFields(context, value), at: key.at };
    context.narrow(WITH_PROPERTIES, key.at, "fields");
  },
};

const parseBucket = (context: ParseContext, piece: Piece, type: GroupType): Omit<Bucket, "id"> & { id?: number } => {
  let weight = type === "select" ? 1 : 0;
  let id: number | undefined;
  let watchPort: number | undefined;
  let watchGroup: number | undefined;
  const actionPairs: Pair[] = [];
  for (const pair of pairs(piece)) {
    const { key, value } = pair;
    switch (key.text.toLowerCase()) {
      case "weight":
        weight = numberIn(context.line, value, "weight", 0xffff);
        if (weight !== 0 && type !== "select") context.fail(key.at, `Cannot give a bucket of type ${type} a weight`);
        break;
      case "watch_port": {
        const port = portFromText(value.text, context.ports);
        const watchable = port !== undefined && (port < MAX_PORTS || port === PORT.NONE || port === PORT.CONTROLLER);
        if (!watchable) context.fail(value.at, `Cannot watch port "${value.text}": want an ordinary port`);
        watchPort = port === PORT.NONE ? undefined : port;
        break;
      }
      case "watch_group":
        watchGroup = numberIn(context.line, value, "watch_group", MAX_NUMBER);
        break;
      case "bucket_id":
        id = numberIn(context.line, value, "bucket_id", MAX_NUMBER);
        context.narrow(WITH_PROPERTIES, key.at, "bucket_id");
        break;
      case "action":
      case "actions":
        actionPairs.push(...pairs(value));
        break;
      default:
        actionPairs.push(pair);
    }
  }
  if (actionPairs.length === 0) context.fail(piece.at, "Cannot find the actions of the bucket: want some, or drop");
  const watches = watchPort !== undefined || watchGroup !== undefined;
  if (type === "ff" && !watches) context.fail(piece.at, "Cannot fail over without watch_port or watch_group");
  if ((type === "all" || type === "indirect") && watches) {
    context.fail(piece.at, `Cannot watch a port or group in a group of type ${type}: want select or ff`);
  }
  const actions = parseActionPairs(context, actionPairs);
  checkBucketActions(context, actions);
  return {
    ...(id === undefined ? {} : { id }),
    weight,
    ...(watchPort === undefined ? {} : { watchPort }),
    ...(watchGroup === undefined ? {} : { watchGroup }),
    actions: actions.map((a) => a.action),
  };
};

/** Buckets without a number are counted from 0, whatever numbers others have; OVS refuses the clash, and so do we. */
const numberBuckets = (
  context: ParseContext,
  found: readonly (Omit<Bucket, "id"> & { id?: number })[],
  pieces: readonly Piece[],
): Bucket[] => {
  const taken = new Set<number>();
  let next = 0;
  return found.map((bucket, i) => {
    const id = bucket.id ?? next++;
    if (taken.has(id)) context.fail(pieces[i]!.at, `Cannot number two buckets ${id}: want bucket_id in all of them`);
    taken.add(id);
    return { ...bucket, id };
  });
};

/** The parts of a line between `bucket=` and the next one. */
const bucketPieces = (text: string, from: number): Piece[] => {
  const pieces: Piece[] = [];
  const mark = "bucket=";
  for (let at = text.indexOf(mark, from); at >= 0;) {
    const next = text.indexOf(mark, at + mark.length);
    pieces.push({ text: text.slice(at + mark.length, next < 0 ? undefined : next), at: at + mark.length });
    at = next;
  }
  return pieces;
};

const selectionOf = (context: ParseContext, draft: Draft): Group["selection"] => {
  const { method, param, fields } = draft;
  if (fields !== undefined && fields.list.length > 0 && method !== "hash") {
    context.fail(fields.at, "Cannot use fields without selection_method=hash");
  }
  if (method === undefined) {
    if (param !== undefined && param.value !== 0n) {
      context.fail(param.at, "Cannot use selection_method_param without selection_method");
    }
    return undefined;
  }
  const masks = fields?.masks ?? {};
  return {
    method,
    param: param?.value ?? 0n,
    fields: fields?.list ?? [],
    ...(Object.keys(masks).length === 0 ? {} : { masks }),
  };
};

const parseLine = (line: Line, options: ParseOptions): GroupMod => {
  const context = new ParseContext(line, options.ports);
  const { text } = line;
  const first = text.search(/\S/);
  const word = /^[^, \t\r\n]*/.exec(text.slice(first))![0];
  const command = word === "" ? undefined : COMMANDS.find((name) => name.startsWith(word));
  if (command !== undefined && command !== "add")
    context.fail(first, `Command ${command} of groups is not supported yet`);
  const from = command === undefined ? first : first + word.length;
  const buckets = text.indexOf("bucket=", from);
  const draft: Draft = { id: undefined, type: undefined, method: undefined, param: undefined, fields: undefined };
  for (const pair of pairs({ text: text.slice(from, buckets < 0 ? undefined : buckets), at: from })) {
    const setting = Object.hasOwn(SETTINGS, pair.key.text) ? SETTINGS[pair.key.text]! : undefined;
    if (setting === undefined) {
      context.fail(pair.key.at, `Cannot find "${pair.key.text}": want a setting of a group, or bucket=`);
    } else {
      setting(context, pair, draft);
    }
  }
  const id = draft.id ?? context.fail(first, "Cannot find the number of the group: want group_id=");
  const type = draft.type ?? context.fail(first, "Cannot find the type of the group: want type=");
  const selection = selectionOf(context, draft);
  const pieces = bucketPieces(text, from);
  const found = pieces.map((piece) => parseBucket(context, piece, type));
  if (type === "indirect" && found.length !== 1) {
    context.fail(pieces[1]?.at ?? text.length, `Cannot use ${found.length} buckets in an indirect group: want one`);
  }
  context.requireVersion();
  const group: Group = {
    id,
    type,
    buckets: numberBuckets(context, found, pieces),
    ...(selection === undefined ? {} : { selection }),
  };
  return { command: "add", group, protocols: context.protocols };
};

const DEFAULT_FILE = "<groups>";

/** Every line of group text, each with its group or its error. */
export const parseGroupLines = (text: string, options: ParseOptions = {}): LineResult<GroupMod>[] =>
  parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => parseLine(line, options));

/**
 * Parses group text that adds groups.
 *
 * @throws CompileError with one complaint per wrong line
 */
export const parseGroups = (text: string, options: ParseOptions = {}): Group[] =>
  requireAll(parseGroupLines(text, options)).map((mod) => mod.group);

/** Parses one group. @throws CompileError */
export const parseGroup = (text: string, options: ParseOptions = {}): Group =>
  parseLine({ file: options.file ?? DEFAULT_FILE, number: 1, text }, options).group;
