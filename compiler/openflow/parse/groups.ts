// Group text in the syntax of `ovs-ofctl add-groups`: `group_id=1,type=all,bucket=output:1,bucket=output:2`, a line may
// begin with the name of a command. What OVS refuses is refused here too, also what only the switch would refuse.

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
import { fail, pairs, type Line, type Pair, type Piece } from "./source.js";
import { requireField } from "./subfield.js";
import { isPrefixMask, parseFieldValue } from "./values.js";

export const GROUP_COMMANDS = ["add", "delete", "modify", "add_or_mod", "insert_bucket", "remove_bucket"] as const;

export type GroupCommand = (typeof GROUP_COMMANDS)[number];

/** Which bucket an insert or a removal is about. */
export type BucketPlace = number | "first" | "last" | "all";

/** A group and what to do with it. */
export interface GroupMod {
  readonly command: GroupCommand;
  /** To delete or to change the buckets of: its number alone counts, {@link ALL_GROUPS} deletes every group. */
  readonly group: Group;
  /** Insert: before all, behind all, or behind this bucket. Remove: this bucket. Otherwise `all`. */
  readonly place: BucketPlace;
  /** {@link PROTOCOL} bits of the versions that can carry it. */
  readonly protocols: number;
  /** Where it was written. */
  readonly source?: { readonly file: string; readonly line: number };
}

/** Number that stands for every group (OFPG_ALL). */
export const ALL_GROUPS = 0xfffffffc;

/** Largest number of a group (OFPG_MAX) and of a bucket (OFPG15_BUCKET_MAX). */
const MAX_NUMBER = 0xffffff00;

/** Numbers of buckets that stand for others (OFPG15_BUCKET_*). */
const PLACES: ReadonlyMap<string, BucketPlace> = new Map([
  ["first", "first"],
  ["last", "last"],
  ["all", "all"],
  [String(0xfffffffd), "first"],
  [String(0xfffffffe), "last"],
  [String(0xffffffff), "all"],
]);

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

/** What a command takes beside the number of the group. */
interface Takes {
  readonly type: boolean;
  readonly buckets: boolean;
  /** Places that a bucket command can be about. */
  readonly places?: readonly ("one" | "all")[];
}

const WHOLE_GROUP: Takes = { type: true, buckets: true };

const TAKES: Readonly<Record<GroupCommand, Takes>> = {
  add: WHOLE_GROUP,
  modify: WHOLE_GROUP,
  add_or_mod: WHOLE_GROUP,
  delete: { type: false, buckets: false },
  insert_bucket: { type: false, buckets: true, places: ["one"] },
  remove_bucket: { type: false, buckets: false, places: ["one", "all"] },
};

interface Draft {
  readonly command: GroupCommand;
  id: number | undefined;
  place: BucketPlace | undefined;
  type: GroupType | undefined;
  method: { readonly name: (typeof METHODS)[number]; readonly at: number } | undefined;
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

/** Settings that say what a whole group is. */
const OF_WHOLE_GROUPS: ReadonlySet<string> = new Set(["type", "selection_method", "selection_method_param", "fields"]);

const SETTINGS: Readonly<Record<string, Setting>> = {
  group_id: (context, { value }, draft) => {
    const all = value.text === "all" || value.text === String(ALL_GROUPS);
    if (all && draft.command !== "delete") context.fail(value.at, `Cannot ${draft.command} all groups: want a number`);
    draft.id = all ? ALL_GROUPS : numberIn(context.line, value, "group_id", MAX_NUMBER);
  },
  command_bucket_id: (context, { key, value }, draft) => {
    const { places } = TAKES[draft.command];
    if (places === undefined) return context.fail(key.at, `Cannot use command_bucket_id with ${draft.command}`);
    draft.place = PLACES.get(value.text) ?? numberIn(context.line, value, "command_bucket_id", MAX_NUMBER);
    if (draft.place === "all" && !places.includes("all")) {
      context.fail(value.at, `Cannot ${draft.command} at all buckets: want first, last or a number`);
    }
  },
  type: (context, { value }, draft) => {
    const known = Object.hasOwn(TYPES, value.text) ? TYPES[value.text] : undefined;
    draft.type = known ?? context.fail(value.at, `Cannot find type "${value.text}": want all, select, indirect or ff`);
  },
  selection_method: (context, { key, value }, draft) => {
    const name =
      METHODS.find((method) => method === value.text) ??
      context.fail(value.at, `Cannot find selection method "${value.text}": want ${METHODS.join(" or ")}`);
    draft.method = { name, at: value.at };
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

type DraftBucket = Omit<Bucket, "id"> & { readonly id?: number };

const parseBucket = (context: ParseContext, piece: Piece, type: GroupType, command: GroupCommand): DraftBucket => {
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
        if (weight !== 0 && type !== "select" && command !== "insert_bucket") {
          context.fail(key.at, `Cannot give a bucket of type ${type} a weight`);
        }
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
    const where = command === "insert_bucket" ? "a bucket that is inserted" : `a group of type ${type}`;
    context.fail(piece.at, `Cannot watch a port or group in ${where}: want select or ff`);
  }
  context.beginActions();
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

/**
 * Buckets without a number get the lowest that no bucket behind the first of them has; a clash with one before it is
 * refused, as it is by OVS.
 */
const numberBuckets = (context: ParseContext, found: readonly DraftBucket[], pieces: readonly Piece[]): Bucket[] => {
  const first = found.findIndex((bucket) => bucket.id === undefined);
  const reserved = new Set(first < 0 ? [] : found.slice(first).map((bucket) => bucket.id));
  const taken = new Set<number>();
  let next = 0;
  return found.map((bucket, i) => {
    while (reserved.has(next)) next++;
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
  if (method !== undefined && draft.type !== "select") {
    context.fail(method.at, `Cannot select a bucket of a group of type ${draft.type}: want type=select`);
  }
  if (fields !== undefined && fields.list.length > 0 && method?.name !== "hash") {
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
    method: method.name,
    param: param?.value ?? 0n,
    fields: fields?.list ?? [],
    ...(Object.keys(masks).length === 0 ? {} : { masks }),
  };
};

/** The command that a line begins with; any beginning of its name will do. */
const splitCommand = (text: string, from: number): { command: GroupCommand; from: number } => {
  const first = from + text.slice(from).search(/[^ \t\r\n]|$/);
  const word = /^[^, \t\r\n]*/.exec(text.slice(first))![0];
  const command = GROUP_COMMANDS.find((name) => name.startsWith(word));
  return command === undefined ? { command: "add", from: first } : { command, from: first + word.length };
};

const readSettings = (context: ParseContext, piece: Piece, draft: Draft): void => {
  for (const pair of pairs(piece)) {
    const { key } = pair;
    const setting = Object.hasOwn(SETTINGS, key.text) ? SETTINGS[key.text] : undefined;
    if (setting === undefined) {
      context.fail(key.at, `Cannot find "${key.text}": want a setting of a group, or bucket=`);
    }
    if (OF_WHOLE_GROUPS.has(key.text) && !TAKES[draft.command].type) {
      context.fail(key.at, `Cannot use ${key.text} with ${draft.command}: want group_id alone`);
    }
    setting(context, pair, draft);
  }
};

const placeOf = (context: ParseContext, { command, place }: Draft, at: number): BucketPlace => {
  if (place !== undefined) return place;
  const { places } = TAKES[command];
  return places === undefined || places.includes("all")
    ? "all"
    : context.fail(at, `Cannot ${command} without a place: want command_bucket_id=first, last or a number`);
};

/** Parses a group and its command from offset `start` of a line on. */
export const parseGroupLine = (line: Line, options: ParseOptions, start = 0): GroupMod => {
  const context = new ParseContext(line, options.ports);
  const { text } = line;
  const { command, from } = splitCommand(text, start);
  const takes = TAKES[command];
  const source = { file: line.file, line: line.number };
  const draft: Draft = {
    command,
    id: command === "delete" && from === text.length ? ALL_GROUPS : undefined,
    place: undefined,
    type: undefined,
    method: undefined,
    param: undefined,
    fields: undefined,
  };
  const buckets = text.indexOf("bucket=", from);
  if (buckets >= 0 && !takes.buckets) context.fail(buckets, `Cannot use bucket= with ${command}`);
  if (takes.places !== undefined) context.narrow(WITH_PROPERTIES, from, command);
  readSettings(context, { text: text.slice(from, buckets < 0 ? undefined : buckets), at: from }, draft);
  const id = draft.id ?? context.fail(from, "Cannot find the number of the group: want group_id=");
  if (takes.type && draft.type === undefined) context.fail(from, "Cannot find the type of the group: want type=");
  // A group that is not whole counts as one of type all, in OVS too.
  const type = draft.type ?? "all";
  const selection = selectionOf(context, draft);
  const place = placeOf(context, draft, from);
  const pieces = bucketPieces(text, from);
  const found = pieces.map((piece) => parseBucket(context, piece, type, command));
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
  return { command, group, place, protocols: context.protocols, source };
};

const DEFAULT_FILE = "<groups>";

/** Every line of group text, each with its group and command or its error. */
export const parseGroupLines = (text: string, options: ParseOptions = {}): LineResult<GroupMod>[] =>
  parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => parseGroupLine(line, options));

/**
 * Parses group text with commands.
 *
 * @throws CompileError with one complaint per wrong line
 */
export const parseGroupMods = (text: string, options: ParseOptions = {}): GroupMod[] =>
  requireAll(parseGroupLines(text, options));

const addedBy = (line: Line, options: ParseOptions): Group => {
  const { command, group } = parseGroupLine(line, options);
  if (command !== "add")
    fail(line, line.text.search(/\S/), `Cannot ${command} groups here: want lines that add groups`);
  return group;
};

/**
 * Parses group text that only adds groups.
 *
 * @throws CompileError with one complaint per wrong line, or line with another command
 */
export const parseGroups = (text: string, options: ParseOptions = {}): Group[] =>
  requireAll(parseEach(contentLines(text, options.file ?? DEFAULT_FILE), (line) => addedBy(line, options)));

/** Parses one group that is added. @throws CompileError */
export const parseGroup = (text: string, options: ParseOptions = {}): Group =>
  addedBy({ file: options.file ?? DEFAULT_FILE, number: 1, text }, options);
