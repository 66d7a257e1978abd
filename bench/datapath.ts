// Runs the datapath cases: for each number of flows, ours and the rivals are loaded side by side and measured at each hook.

import { Scope } from "ebpf-assembler";
import type { Hook } from "#compiler";
import type { Case } from "./cases.js";
import { ours, rival } from "./contestant.js";
import { measure, type MeasureOptions } from "./measure.js";
import { datapathResult, type DatapathResult } from "./report.js";

export interface DatapathOptions extends MeasureOptions {
  readonly hooks: readonly Hook[];
  /** In place of the sizes of the case. */
  readonly sizes?: readonly number[];
}

/** Measures one case; a result per number of flows and hook, as they come. */
export function* runCase(row: Case, options: DatapathOptions): Generator<DatapathResult> {
  for (const flows of options.sizes ?? row.sizes) {
    using scope = new Scope();
    const contestants = [scope.use(ours(row, flows)), ...row.rivals.map((spec) => scope.use(rival(row, spec, flows)))];
    for (const hook of options.hooks)
      yield datapathResult(row, flows, hook, measure(row, flows, hook, contestants, options));
  }
}
