// The order of instructions. OVS keeps instructions and actions in one list; actions between instructions are part of
// apply_actions.

import type { ActionKind } from "./types.js";

/** Instructions in the order in which they may stand; every other action is part of apply_actions. */
const INSTRUCTION_ORDER = [
  "meter",
  "apply_actions",
  "clear_actions",
  "write_actions",
  "write_metadata",
  "goto_table",
] as const;

type Instruction = (typeof INSTRUCTION_ORDER)[number];

/** The instruction that an action is, or is part of. */
export const instructionOf = (kind: ActionKind): Instruction =>
  INSTRUCTION_ORDER.find((name) => name === kind) ?? "apply_actions";

/** Index of the first action that must not follow the one before it, and why; undefined if the order is right. */
export const misplaced = (kinds: readonly ActionKind[]): { index: number; message: string } | undefined => {
  for (let i = 1; i < kinds.length; i++) {
    const before = instructionOf(kinds[i - 1]!);
    const now = instructionOf(kinds[i]!);
    if (now === before && now !== "apply_actions") return { index: i, message: `Cannot use ${now} twice` };
    if (INSTRUCTION_ORDER.indexOf(now) < INSTRUCTION_ORDER.indexOf(before)) {
      const what = now === "apply_actions" ? kinds[i]! : now;
      return { index: i, message: `Cannot use ${what} after ${before}: want it before` };
    }
  }
  return undefined;
};
