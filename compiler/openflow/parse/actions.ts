// Lists of actions and instructions in text, as OVS's ofp-actions.c reads them. What an action is called and what its value
// looks like is in its row of the action table; whether the actions fit each other and the match, in check.ts.

import type { Action } from "../action.js";
import type { LocatedAction, Outer, ParseArgs } from "../actions/row.js";
import { PARSERS } from "../actions/table.js";
import { portFromText } from "../ports.js";
import { verifyList } from "./check.js";
import type { ParseContext } from "./context.js";
import { pairs, type Pair, type Piece } from "./source.js";

export type { LocatedAction } from "../actions/row.js";

/** Nesting that OVS allows (MAX_OFPACT_PARSE_DEPTH). */
const MAX_DEPTH = 100;

/** Names that OVS knows and accepts from nobody. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ["apply_actions", "Cannot use apply_actions: it is what actions are without it"],
  ["output_trunc", "Cannot use output_trunc: want output(port=PORT,max_len=BYTES)"],
  ["unroll_xlate", "Cannot use unroll_xlate: it is internal"],
]);

const isLocated = (result: Action | LocatedAction): result is LocatedAction => "action" in result;

const bareOutput = (context: ParseContext, name: Piece): Action => {
  const number = portFromText(name.text, context.ports);
  return number === undefined
    ? context.fail(name.at, `Cannot find action "${name.text}": want an action, or a port to output to`)
    : { kind: "output", port: number, maxLen: 0 };
};

const parseList = (
  context: ParseContext,
  list: readonly Pair[],
  depth: number,
  outer: Outer | undefined,
): readonly LocatedAction[] => {
  const args: ParseArgs = {
    context,
    list: (text, inside) => {
      if (depth + 1 >= MAX_DEPTH) context.fail(text.at, `Cannot nest actions deeper than ${MAX_DEPTH} times`);
      return parseList(context, pairs(text), depth + 1, inside);
    },
  };
  const found: LocatedAction[] = [];
  let drop: Piece | undefined;
  for (const { key, value } of list) {
    const name = key.text.toLowerCase();
    const parse = PARSERS.get(name);
    if (parse !== undefined) {
      const result = parse(args, value, key);
      found.push(isLocated(result) ? result : { action: result, at: key.at });
    } else if (name === "drop") {
      drop = key;
    } else {
      const refused = REFUSED.get(name);
      if (refused !== undefined) context.fail(key.at, refused);
      found.push({ action: bareOutput(context, key), at: key.at });
    }
  }
  if (drop !== undefined && found.length > 0) {
    context.fail(drop.at, 'Cannot use "drop" with other actions: want it alone, or not at all');
  }
  verifyList(context, found, outer);
  return found;
};

/**
 * Parses the elements of a list of actions and instructions.
 *
 * @throws CompileError at the first part that is wrong
 */
export const parseActionPairs = (context: ParseContext, list: readonly Pair[]): readonly LocatedAction[] =>
  parseList(context, list, 0, undefined);

/** {@link parseActionPairs} of a text. */
export const parseActionList = (context: ParseContext, list: Piece): readonly LocatedAction[] =>
  parseActionPairs(context, pairs(list));
