// Actions and instructions read from bytes, as OVS reads them: what it refuses is refused with its error. Instructions may
// come in any order, and are put into the one that lists of actions have here.

import type { Action } from "../action.js";
import type { Outer } from "../actions/row.js";
import { rowOf } from "../actions/table.js";
import type { FieldName, MinorVersion } from "../fields.js";
import { instructionOf, misplaced } from "../order.js";
import { ActionReader, refuse } from "./action-bytes.js";
import { decodeAction } from "./action-codes.js";

const decodeList = (bytes: Uint8Array, minor: MinorVersion): Action[] => {
  const actions: Action[] = [];
  for (let at = 0; at < bytes.length;) {
    const [action, next] = decodeAction(bytes, at, minor, (inner, outer) => decodeActions(inner, minor, outer));
    actions.push(action);
    at = next;
  }
  return actions;
};

const fieldSetBy = (action: Action): FieldName | undefined =>
  action.kind === "set_field"
    ? action.field
    : action.kind === "reg_load" || action.kind === "reg_move"
      ? action.dst.field
      : undefined;

const isOfConnection = (field: FieldName | undefined): boolean => field === "ct_mark" || field === "ct_label";

const verifyNested = (action: Action, outer: Outer | undefined): void => {
  const field = fieldSetBy(action);
  const unsettable = isOfConnection(field) || action.kind === "nat";
  if (unsettable && outer !== "ct") refuse("OFPBAC_BAD_SET_ARGUMENT", `Cannot use ${action.kind} outside of ct`);
  if (action.kind === "nat") return;
  if ((outer === "ct" && !isOfConnection(field)) || (outer !== undefined && action.kind === "meter")) {
    refuse("OFPBAC_BAD_ARGUMENT", `Cannot use ${action.kind} within ${outer}`);
  }
};

/** @param everything - whether instructions may stand in the list too */
const verify = (actions: readonly Action[], minor: MinorVersion, everything: boolean, outer?: Outer): void => {
  if (actions.some(({ kind }) => kind === "conjunction")) {
    const other = actions.find(({ kind }) => kind !== "conjunction" && kind !== "note");
    if (other !== undefined) refuse("NXBAC_BAD_CONJUNCTION", `Cannot use ${other.kind} with conjunction`);
    return;
  }
  for (const action of actions) verifyNested(action, outer);
  const asAction = (action: Action): Action["kind"] => (action.kind === "meter" && minor >= 5 ? "note" : action.kind);
  const wrong = misplaced(actions.map(asAction));
  if (wrong !== undefined) refuse("OFPBAC_UNSUPPORTED_ORDER", wrong.message);
  const instruction = actions.find((action) => !["apply_actions", "meter"].includes(instructionOf(action.kind)));
  if (!everything && instruction !== undefined) {
    refuse("OFPBIC_UNSUP_INST", `Cannot use ${instruction.kind} here: want actions only`);
  }
};

/**
 * Reads actions in a row: those of a bucket, a packet-out, or inside of another.
 *
 * @throws OpenFlowError with the error that a switch answers
 */
export const decodeActions = (bytes: Uint8Array, minor: MinorVersion, outer?: Outer): Action[] => {
  if (bytes.length % 8 !== 0)
    refuse("OFPBRC_BAD_LEN", `Cannot read ${bytes.length} bytes of actions: want a multiple of 8`);
  const actions = decodeList(bytes, minor);
  verify(actions, minor, false, outer);
  return actions;
};

/** Instructions by type: where they stand in the list of actions, and how long they are; undefined = as long as they like. */
const INSTRUCTIONS: Readonly<Record<number, { readonly order: number; readonly bytes?: number }>> = {
  1: { order: 5, bytes: 8 },
  2: { order: 4, bytes: 24 },
  3: { order: 3 },
  4: { order: 1 },
  5: { order: 2, bytes: 8 },
  6: { order: 0, bytes: 8 },
};

const decodeInstruction = (type: number, body: ActionReader, minor: MinorVersion): Action[] => {
  switch (type) {
    case 1:
      return [{ kind: "goto_table", table: body.u8() }];
    case 2:
      return [{ kind: "write_metadata", value: body.skip(4).u64(), mask: body.u64() }];
    case 3: {
      const actions = decodeList(body.skip(4).rest(), minor);
      const wrong = actions.find((action) => rowOf(action).inSet === undefined);
      if (wrong !== undefined) refuse("OFPBAC_BAD_TYPE", `Cannot write ${wrong.kind} into an action set`);
      return [{ kind: "write_actions", actions }];
    }
    case 4:
      return decodeList(body.skip(4).rest(), minor);
    case 5:
      return [{ kind: "clear_actions" }];
    default:
      return [{ kind: "meter", meter: body.u32() }];
  }
};

const EXPERIMENTER = 0xffff;

const readInstructions = (bytes: Uint8Array, minor: MinorVersion): Action[] => {
  if (minor === 0) {
    if (bytes.length % 8 !== 0) refuse("OFPBRC_BAD_LEN", `Cannot read ${bytes.length} bytes of actions`);
    const actions = decodeList(bytes, minor);
    verify(actions, minor, true);
    return actions;
  }
  const found: { order: number; type: number; body: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length;) {
    const reader = new ActionReader(bytes.subarray(at));
    if (reader.left < 8) refuse("OFPBIC_BAD_LEN", `Cannot read an instruction: want 8 bytes, got ${reader.left}`);
    const type = reader.u16();
    const length = reader.u16();
    if (length % 8 !== 0 || length < 8 || length > bytes.length - at) {
      refuse("OFPBIC_BAD_LEN", `Cannot read instruction ${type}: it says that it has ${length} bytes`);
    }
    if (type === EXPERIMENTER) refuse("OFPBIC_BAD_EXPERIMENTER", "Cannot carry out an instruction of an experimenter");
    const row = INSTRUCTIONS[type] ?? refuse("OFPBIC_UNKNOWN_INST", `Cannot find instruction ${type}`);
    if (row.bytes !== undefined && length !== row.bytes) {
      refuse("OFPBIC_BAD_LEN", `Cannot read instruction ${type}: want ${row.bytes} bytes, got ${length}`);
    }
    if (type === 6 && minor >= 5) refuse("OFPBIC_UNKNOWN_INST", "Cannot meter by an instruction: want the action");
    if (found.some((other) => other.type === type)) refuse("OFPBIC_DUP_INST", `Cannot use instruction ${type} twice`);
    found.push({ order: row.order, type, body: reader.take(length - 4) });
    at += length;
  }
  const actions = found
    .sort((a, b) => a.order - b.order)
    .flatMap(({ type, body }) => decodeInstruction(type, new ActionReader(body), minor));
  verify(actions, minor, true);
  return actions;
};

/** Lists that were read, by version and bytes: a controller says the same of many flows. */
const known = new Map<string, readonly Action[]>();
const MAX_KNOWN = 1024;
const MAX_KNOWN_BYTES = 128;

/**
 * Reads what stands behind the match of a flow: actions in OpenFlow 1.0, later instructions. Equal bytes may give the same list.
 *
 * @throws OpenFlowError with the error that a switch answers
 */
export const decodeInstructions = (bytes: Uint8Array, minor: MinorVersion): readonly Action[] => {
  if (bytes.length > MAX_KNOWN_BYTES) return readInstructions(bytes, minor);
  const key = `${minor}${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  // What is kept must not keep the message.
  const actions = readInstructions(bytes.slice(), minor);
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(key, actions);
  return actions;
};
