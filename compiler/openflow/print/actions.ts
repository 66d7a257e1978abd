// Actions in text, to the character as OVS's ofpacts_format() prints them.

import type { Action } from "../action.js";
import type { ActionFormat, PrintArgs } from "../actions/row.js";
import { rowOf } from "../actions/table.js";

export type { ActionFormat } from "../actions/row.js";
export { subfieldText } from "./subfield.js";

/** One action. */
export const formatAction = (action: Action, format: ActionFormat = {}): string => {
  const args: PrintArgs = { ...format, list: (actions) => formatActions(actions, format) };
  return rowOf(action).print(action, args);
};

/** A list of actions: what stands behind `actions=`. */
export const formatActions = (actions: readonly Action[], format: ActionFormat = {}): string =>
  actions.length === 0 ? "drop" : actions.map((action) => formatAction(action, format)).join(",");
