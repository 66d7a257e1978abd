// Carrying out the lines of a flow file: adding flows, and where a line says so, modifying and deleting them.

import type { FlowCommand, FlowMod } from "../openflow/parse/flows.js";
import type { Flow } from "../openflow/types.js";
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

/** The table of a flow that is meant wherever it is. */
const inTable = (flow: Flow, table: number): Flow => (flow.table === table ? flow : { ...flow, table });

/** A modify that does not select by cookie adds the flow when there is none (OpenFlow 1.0, modify_may_add_flow). */
const modify =
  (strict: boolean): Apply =>
  (sw, mod, nowMs) => {
    const { flow, table, cookie, addIfMissing = cookie === undefined, newCookie = false } = mod;
    const options = { strict, newCookie, ...(cookie === undefined ? {} : { cookie }) };
    if (table !== undefined) return sw.modify(flow, nowMs, { ...options, addIfMissing });
    const changed = [...sw.tables()].flatMap(({ id }) => sw.modify(inTable(flow, id), nowMs, options));
    return changed.length === 0 && addIfMissing ? [sw.add(flow, nowMs)] : changed;
  };

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
