// Whether actions fit each other and the match, as OVS's ofpacts_verify() and ofpacts_check() decide it: the order of
// instructions, what may stand inside of what, and what each action's row asks of the flow.

import { checkPort } from "../actions/common.js";
import type { Checked, LocatedAction, Outer } from "../actions/row.js";
import { rowOf } from "../actions/table.js";
import { type Action } from "../action.js";
import type { FieldName } from "../fields.js";
import type { FlowWords } from "../flow.js";
import { instructionOf, misplaced } from "../order.js";
import { applyToTags } from "../tags.js";
import type { Match } from "../types.js";
import type { ParseContext } from "./context.js";

/** The field that an action sets as a whole or in part, for those that may stand inside of ct. */
const fieldSetBy = (action: Action): FieldName | undefined =>
  action.kind === "set_field"
    ? action.field
    : action.kind === "reg_load" || action.kind === "reg_move"
      ? action.dst.field
      : undefined;

/** Fields that belong to a connection: set inside of ct, and nowhere else. */
const isOfConnection = (field: string): boolean => field === "ct_mark" || field === "ct_label";

const verifyNesting = (context: ParseContext, { action, at }: LocatedAction, outer: Outer | undefined): void => {
  const field = fieldSetBy(action);
  if (field !== undefined && isOfConnection(field) && outer !== "ct") {
    context.fail(at, `Cannot set ${field} outside of ct: want ct(commit,exec(...))`);
  }
  if (action.kind === "nat") {
    if (outer !== "ct") context.fail(at, "Cannot use nat outside of ct");
    return;
  }
  if (outer === "ct" && (field === undefined || !isOfConnection(field))) {
    context.fail(at, `Cannot use ${action.kind} within ct: want set_field or load of ct_mark or ct_label, or nat`);
  }
  if (outer !== undefined && action.kind === "meter") context.fail(at, `Cannot use meter within ${outer}`);
};

/**
 * Checks a list of actions that stands inside of `outer`, or by itself.
 *
 * @throws CompileError at the first action that must not stand where it does
 */
export const verifyList = (
  context: ParseContext,
  actions: readonly LocatedAction[],
  outer: Outer | undefined,
): void => {
  const conjunctive = actions.some(({ action }) => action.kind === "conjunction");
  if (conjunctive) {
    const other = actions.find(({ action }) => action.kind !== "conjunction" && action.kind !== "note");
    if (other !== undefined) {
      context.fail(other.at, `Cannot use ${other.action.kind} with conjunction: want note only beside it`);
    }
    return;
  }
  for (const located of actions) {
    verifyNesting(context, located, outer);
    if (outer !== undefined && !["apply_actions", "meter"].includes(instructionOf(located.action.kind))) {
      context.fail(located.at, `Cannot use ${located.action.kind} within ${outer}: want actions only`);
    }
  }
  const wrong = misplaced(actions.map(({ action }) => action.kind));
  if (wrong !== undefined) context.fail(actions[wrong.index]!.at, wrong.message);
};

/**
 * Checks the actions of a bucket. A group does not know what packets it will get: prerequisites are left to the time
 * when a packet comes.
 *
 * @throws CompileError at the action that does not fit
 */
export const checkBucketActions = (context: ParseContext, actions: readonly LocatedAction[]): void => {
  for (const { action, at } of actions) {
    if (!["apply_actions", "meter"].includes(instructionOf(action.kind))) {
      context.fail(at, `Cannot use ${action.kind} within a bucket: want actions only`);
    }
    if (action.kind === "output") checkPort(context, action.port, at);
  }
};

const checkEach = (state: Checked, actions: readonly LocatedAction[]): void => {
  for (const located of actions) {
    rowOf(located.action).check?.(state, located.action, located);
    applyToTags(state.flow, located.action);
  }
};

const stateOf = (context: ParseContext, flow: FlowWords, mask: FlowWords, table: number, narrows: boolean): Checked => {
  const state: Checked = {
    context,
    flow,
    mask,
    table,
    narrows,
    nested: (actions, narrowsToo) => checkEach(stateOf(context, flow.slice(), mask, table, narrowsToo), actions),
  };
  return state;
};

/**
 * Checks a list of actions.
 *
 * @param match - of the flow; of a bucket, anything
 * @throws CompileError at the action that does not fit
 */
export const checkActions = (
  context: ParseContext,
  actions: readonly LocatedAction[],
  match: Match,
  table: number,
): void => {
  checkEach(stateOf(context, match.value.slice(), match.mask, table, true), actions);
  context.requireVersion();
};
