// Carrying out the lines of a flow file: adding flows, and where a line says so, modifying and deleting them.

import type { FlowCommand, FlowMod } from "../openflow/parse/flows.js";
import type { Switch } from "./switch.js";
import type { Rule } from "./table.js";

type Apply = (sw: Switch, mod: FlowMod, nowMs: number) => readonly Rule[];

const remove =
  (strict: boolean): Apply =>
  (sw, { flow, table, cookie, outPort, outGroup }) =>
    sw.delete(flow.match, {
      strict,
      priority: flow.priority,
      ...(table === undefined ? {} : { table }),
      ...(cookie === undefined ? {} : { cookie }),
      ...(outPort === undefined ? {} : { outPort }),
      ...(outGroup === undefined ? {} : { outGroup }),
    });

/** A modify that does not select by cookie adds the flow when there is none (OpenFlow 1.0, modify_may_add_flow). */
const modify =
  (strict: boolean): Apply =>
  (sw, { flow, cookie }, nowMs) =>
    sw.modify(flow, nowMs, { strict, addIfMissing: cookie === undefined, ...(cookie === undefined ? {} : { cookie }) });

const APPLY: Readonly<Record<FlowCommand, Apply>> = {
  add: (sw, { flow }, nowMs) => [sw.add(flow, nowMs)],
  modify: modify(false),
  modify_strict: modify(true),
  delete: remove(false),
  delete_strict: remove(true),
};

/**
 * Carries out one flow-mod.
 *
 * @returns the rules that are new (add, modify) or gone (delete)
 * @throws FlowModError as {@link Switch.add} does
 */
export const applyFlowMod = (sw: Switch, mod: FlowMod, nowMs: number): readonly Rule[] =>
  APPLY[mod.command](sw, mod, nowMs);
