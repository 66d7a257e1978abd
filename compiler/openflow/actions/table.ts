// The action table: one row per kind of action. Parser, printer, checks and versions are driven from here.

import type { Action, ActionKind, ActionOf } from "../action.js";
import { CONNECTION } from "./connection.js";
import { CONTROL } from "./control.js";
import { ENCAP } from "./encap.js";
import { FIELD_ACTIONS } from "./fields.js";
import { HEADERS } from "./headers.js";
import { INSTRUCTIONS } from "./instructions.js";
import { LEARN } from "./learn.js";
import { MPLS } from "./mpls.js";
import { OUTPUT } from "./output.js";
import type { ActionRow, Parse, Rows } from "./row.js";
import { SELECT } from "./select.js";
import { VLAN } from "./vlan.js";

export const ACTIONS: Rows<ActionKind> = {
  ...OUTPUT,
  ...SELECT,
  ...HEADERS,
  ...FIELD_ACTIONS,
  ...VLAN,
  ...MPLS,
  ...ENCAP,
  ...CONTROL,
  ...LEARN,
  ...CONNECTION,
  ...INSTRUCTIONS,
};

/** The row of an action, for whoever does not care which it is. */
export const rowOf = <K extends ActionKind>(action: ActionOf<K>): ActionRow<Action> =>
  ACTIONS[action.kind] as unknown as ActionRow<Action>;

/** Parsers by name in lower case. */
export const PARSERS: ReadonlyMap<string, Parse> = new Map(
  Object.values(ACTIONS).flatMap(({ parse }) => Object.entries(parse)),
);
