// For engines of mode auto: the program of the tables before that of the megaflows, as the daemon puts it there.

import type { ObjectSpec } from "ebpf-assembler";
import { CONTROL, MAPS } from "../datapath/abi.js";
import type { DatapathPlan } from "../datapath/plan.js";
import { STATS } from "../direct/abi.js";
import { DirectRefusal } from "../direct/analyse.js";
import { compileDirect, type DirectProgram } from "../direct/compile.js";
import { CountReader, creditCounts } from "../direct/counts.js";
import { tablesOf, type SwitchTables } from "../direct/tables.js";
import type { Hook } from "../ir/types.js";
import type { Switch } from "../pipeline/switch.js";
import type { Backend } from "./datapath-engine.js";

export class DirectFront {
  readonly #tables: SwitchTables;
  readonly #made: DirectProgram | undefined;
  #counts: CountReader | undefined;

  /** @param ifindexOf - interface index of an OpenFlow port */
  constructor(sw: Switch, hook: Hook, { portSlots, shapes }: DatapathPlan, ifindexOf: (port: number) => number) {
    this.#tables = tablesOf(sw);
    try {
      this.#made = compileDirect(this.#tables, hook, {
        behind: "megaflows",
        hasMarkers: true,
        hasMeters: shapes.some(({ example }) => example.some(({ kind }) => kind === "meter")),
        ifindexOf,
        portSlots,
      });
    } catch (error) {
      if (!(error instanceof DirectRefusal)) throw error;
    }
  }

  /** A datapath object with this program in it, if the tables have one. */
  before(object: ObjectSpec): ObjectSpec {
    if (this.#made === undefined) return object;
    const names = new Set(object.maps.map(({ name }) => name));
    const { maps, programs } = this.#made.object;
    return {
      ...object,
      maps: [...object.maps, ...maps.filter(({ name }) => !names.has(name))],
      programs: [...object.programs, ...programs],
    };
  }

  /** Turns the program on, which runs now. */
  start(backend: Backend): void {
    if (this.#made === undefined) return;
    new Uint32Array(backend.memory(MAPS.control), CONTROL.direct, 1)[0] = 1;
    this.#counts = new CountReader(this.#made.analysis, backend.memory(STATS.map));
  }

  /** Reads what the program has counted since, and credits it. */
  settle(nowMs: number): void {
    if (this.#made !== undefined && this.#counts !== undefined)
      creditCounts(this.#made.analysis, this.#counts.read(), this.#tables, nowMs);
  }
}
