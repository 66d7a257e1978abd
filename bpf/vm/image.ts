// A decoded program: what the decoder makes and the interpreter's loop reads.

import type { ProgramSpec } from "../object/spec.js";

/** Register file index of the constant operand: where instructions with an immediate read their source from. */
export const CONSTANT = 2 * 11;
/** A program ready to run. All arrays have one element per slot. */
export interface Image {
  readonly spec: ProgramSpec;
  readonly op: Uint8Array;
  /** Twice the register number. */
  readonly dst: Uint8Array;
  /** Twice the register number, or {@link CONSTANT}. */
  readonly src: Uint8Array;
  readonly off: Int16Array;
  readonly imm: Int32Array;
  /** High word of the source constant: the sign of `imm`, or the upper half of a ld_imm64. */
  readonly immHigh: Int32Array;
  /** Slot to go on at when the jump is taken. */
  readonly target: Int32Array;
}
