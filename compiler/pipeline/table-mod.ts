// Changes of tables of every kind in one list: what files and bundles are made of, carried out in order.

import { CompileError, OffloadError, unreachable } from "ebpf-assembler";
import type { FlowMod } from "../openflow/parse/flows.js";
import type { GroupMod } from "../openflow/parse/groups.js";
import type { MeterMod } from "../openflow/parse/meters.js";
import { applyFlowMod } from "./flow-mod.js";
import { applyGroupMod } from "./group-mod.js";
import { applyMeterMod } from "./meter-mod.js";
import type { Switch } from "./switch.js";

export type TableMod =
  | { readonly kind: "flow"; readonly mod: FlowMod }
  | { readonly kind: "group"; readonly mod: GroupMod }
  | { readonly kind: "meter"; readonly mod: MeterMod };

export const flowMods = (mods: readonly FlowMod[]): TableMod[] => mods.map((mod) => ({ kind: "flow", mod }));

export const groupMods = (mods: readonly GroupMod[]): TableMod[] => mods.map((mod) => ({ kind: "group", mod }));

export const meterMods = (mods: readonly MeterMod[]): TableMod[] => mods.map((mod) => ({ kind: "meter", mod }));

/**
 * Carries out one change.
 *
 * @throws FlowModError, GroupModError, MeterModError for what the switch refuses; nothing has changed then
 */
export const applyTableMod = (sw: Switch, change: TableMod, nowMs: number): void => {
  switch (change.kind) {
    case "flow":
      applyFlowMod(sw, change.mod, nowMs);
      return;
    case "group":
      applyGroupMod(sw, change.mod, nowMs);
      return;
    case "meter":
      applyMeterMod(sw, change.mod, nowMs);
      return;
    default:
      unreachable(change);
  }
};

const placeOf = (change: TableMod): { readonly file: string; readonly line: number } | undefined =>
  change.kind === "flow" ? change.mod.flow.source : change.mod.source;

/** Runs `apply`, which carries out a change. @throws CompileError with the place of the change that the switch refuses */
export const atPlace = (change: TableMod, apply: () => void): void => {
  try {
    apply();
  } catch (error) {
    if (!(error instanceof OffloadError)) throw error;
    const { file, line } = placeOf(change) ?? { file: "<text>", line: 1 };
    throw new CompileError([{ file, line, column: 1, message: error.message }]);
  }
};

/**
 * Carries out changes in order.
 *
 * @throws CompileError with file and line of the first change that the switch refuses; those before it are made
 */
export const applyTableMods = (sw: Switch, changes: readonly TableMod[], nowMs: number): void => {
  for (const change of changes) atPlace(change, () => applyTableMod(sw, change, nowMs));
};
