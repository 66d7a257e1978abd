// Adding to the action set.

import { set } from "../../openflow/flow.js";
import { PORT, type Action } from "../../openflow/types.js";
import type { Context } from "./context.js";

/** `actset_output` follows the action set: its output port, unless a group overrides it. */
export const writeActions = (ctx: Context, actions: readonly Action[]): void => {
  for (const action of actions) {
    if (ctx.actionSetHasGroup) break;
    if (action.kind === "output") set(ctx.flow, "actset_output", action.port);
    else if (action.kind === "group") {
      set(ctx.flow, "actset_output", PORT.UNSET);
      ctx.actionSetHasGroup = true;
    }
  }
  ctx.actionSet.push(...actions);
};
