// The passes over the intermediate representation, and the order they run in.

import type { Program } from "../ir/types.js";
import { combineLoads } from "./combine-loads.js";
import { dropDead } from "./drop-dead.js";
import { dropMasks } from "./drop-masks.js";
import { foldConstants } from "./fold-constants.js";
import { forwardStores } from "./forward-stores.js";
import { mergeBoundsChecks } from "./merge-bounds-checks.js";
import type { Pass } from "./pass.js";
import { promoteSlots } from "./promote-slots.js";
import { propagateCopies } from "./propagate-copies.js";
import { shareExpressions } from "./share-expressions.js";
import { threadJumps } from "./thread-jumps.js";

export type { Pass } from "./pass.js";

/** All passes in order. One round feeds the next: straightened blocks give stores more loads to forward to. */
export const PIPELINE: readonly Pass[] = [
  foldConstants,
  threadJumps,
  shareExpressions,
  mergeBoundsChecks,
  promoteSlots,
  forwardStores,
  combineLoads,
  dropMasks,
  propagateCopies,
  dropDead,
];

/** Rounds after which further ones are not worth their time. */
const MAX_ROUNDS = 4;

export interface RunPassesOptions {
  /** Called after every pass that changed the program. */
  readonly after?: (pass: Pass, program: Program) => void;
  /** Passes to leave out. */
  readonly without?: readonly Pass[];
}

/** Passes that keep in registers what would lie on the stack anyhow: what finds no register costs more of it. */
export const STACK_PASSES: readonly Pass[] = [promoteSlots];

/** Runs {@link PIPELINE} until nothing changes, at most {@link MAX_ROUNDS} times. */
export const runPasses = (program: Program, options: RunPassesOptions = {}): Program => {
  const passes = PIPELINE.filter((pass) => options.without?.includes(pass) !== true);
  let now = program;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const before = now;
    for (const pass of passes) {
      const next = pass.run(now);
      if (next !== now) options.after?.(pass, next);
      now = next;
    }
    if (now === before) break;
  }
  return now;
};
