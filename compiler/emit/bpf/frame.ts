// The stack frame: where each slot lies below the frame pointer r10. Larger alignments come first, so that padding is
// needed only after slots whose size is no multiple of the alignment.

import { IrError } from "../../ir/error.js";
import type { Slot } from "../../ir/types.js";

/** MAX_BPF_STACK of the kernel. */
export const STACK_BYTES = 512;

/** The stack does not suffice. */
export class FrameError extends IrError {}

/** Offset from r10 of byte 0 of each slot, by slot number; all negative. */
export type Frame = ReadonlyMap<number, number>;

/**
 * Packs `slots`.
 * @throws {@link FrameError} naming the largest slots when they exceed {@link STACK_BYTES}
 */
export const packFrame = (program: string, slots: readonly Slot[]): Frame => {
  const frame = new Map<number, number>();
  let used = 0;
  const order = [...slots].sort((a, b) => b.align - a.align || a.slot - b.slot);
  for (const slot of order) {
    used = Math.ceil((used + slot.size) / slot.align) * slot.align;
    frame.set(slot.slot, -used);
  }
  if (used > STACK_BYTES) {
    const largest = [...slots].sort((a, b) => b.size - a.size).slice(0, 8);
    const list = largest.map((s) => `$${s.hint}.${s.slot} ${s.size}`).join(", ");
    throw new FrameError(
      { program },
      `its stack slots need ${used} bytes, want at most ${STACK_BYTES}; the largest in bytes: ${list}`,
    );
  }
  return frame;
};
