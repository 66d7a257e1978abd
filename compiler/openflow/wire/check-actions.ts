// Whether the actions of a flow that came over the wire fit its match, by the same rules as those of flow text.

import type { LocatedAction } from "../actions/row.js";
import { nestedActions, type Action } from "../action.js";
import { checkActions } from "../parse/check.js";
import { ParseContext } from "../parse/context.js";
import type { Match } from "../types.js";
import { PROTOCOL, type Protocol } from "../versions.js";
import { OpenFlowError, type OpenFlowErrorName } from "./errors.js";

const LINE = { file: "<message>", number: 1, text: "" };

/** A row of the action table says what is wrong by where; here the place is the number of the action in the list. */
class WireContext extends ParseContext {
  constructor(private readonly actions: readonly Action[]) {
    super(LINE);
  }

  override fail(at: number, message: string): never {
    throw new OpenFlowError(errorOf(this.actions[at]), message);
  }
}

/** What a switch answers when an action does not fit. */
const errorOf = (action: Action | undefined): OpenFlowErrorName => {
  switch (action?.kind) {
    case "goto_table":
      return "OFPBIC_BAD_TABLE_ID";
    case "meter":
      return "OFPMMFC_INVALID_METER";
    case "output":
    case "output_trunc":
    case "enqueue":
    case "bundle":
      return "OFPBAC_BAD_OUT_PORT";
    default:
      return "OFPBAC_MATCH_INCONSISTENT";
  }
};

/** Actions with their places; those inside of others have the place of the outer one. */
const locate = (actions: readonly Action[], outer?: number): LocatedAction[] =>
  actions.map((action, i) => {
    const at = outer ?? i;
    const inner = nestedActions(action);
    return inner.length === 0 ? { action, at } : { action, at, nested: locate(inner, at) };
  });

/**
 * Checks actions against the match of their flow.
 *
 * @param protocol - the dialect in which they came
 * @throws {@link OpenFlowError} with the error that a switch answers
 */
export const checkWireActions = (actions: readonly Action[], match: Match, table: number, protocol: Protocol): void => {
  const context = new WireContext(actions);
  checkActions(context, locate(actions), match, table);
  if ((context.protocols & PROTOCOL[protocol]) === 0)
    throw new OpenFlowError("OFPBAC_MATCH_INCONSISTENT", `Cannot use these actions in ${protocol}`);
};
