// Atomic operations on memory: one CPU runs one program at a time, so reading and writing back is atomic.

import { Fault } from "./errors.js";
import { type Memory, SEGMENT_SHIFT, SEGMENTS } from "./memory.js";

/**
 * Applies an atomic operation to `size` bytes at the address in `d` plus `offset`, with the operand in `s`.
 * @param what - the `imm` of the instruction: operation, and bit 0 for the old value into `s` (or r0 for cmpxchg)
 * @throws {@link Fault} where the kernel allows no atomic operation, and for a bad access
 */
export const atomic = (
  R: Int32Array,
  memory: Memory,
  size: 4 | 8,
  d: number,
  s: number,
  offset: number,
  what: number,
): void => {
  const segment = R[d + 1]! >>> SEGMENT_SHIFT;
  if (segment === SEGMENTS.ctx || segment === SEGMENTS.packet)
    throw new Fault("atomic operation outside stack and maps");
  const at = memory.locate(R[d + 1]!, R[d]!, offset, size, false);
  memory.locate(R[d + 1]!, R[d]!, offset, size, true);
  const { view } = memory;
  const oldLo = view.getInt32(at, true);
  const oldHi = size === 8 ? view.getInt32(at + 4, true) : 0;
  const argLo = R[s]!;
  const argHi = size === 8 ? R[s + 1]! : 0;
  let lo: number;
  let hi: number;
  switch (what & 0xf0) {
    case 0x00: {
      const sum = (oldLo >>> 0) + (argLo >>> 0);
      lo = sum | 0;
      hi = oldHi + argHi + (sum > 0xffffffff ? 1 : 0);
      break;
    }
    case 0x40:
      lo = oldLo | argLo;
      hi = oldHi | argHi;
      break;
    case 0x50:
      lo = oldLo & argLo;
      hi = oldHi & argHi;
      break;
    case 0xa0:
      lo = oldLo ^ argLo;
      hi = oldHi ^ argHi;
      break;
    case 0xe0:
      lo = argLo;
      hi = argHi;
      break;
    default: {
      // Compare and exchange: r0 is compared and gets the old value.
      const isEqual = R[0] === oldLo && (size === 4 || R[1] === oldHi);
      lo = isEqual ? argLo : oldLo;
      hi = isEqual ? argHi : oldHi;
      R[0] = oldLo;
      R[1] = oldHi;
    }
  }
  view.setInt32(at, lo, true);
  if (size === 8) view.setInt32(at + 4, hi, true);
  if ((what & 0xf0) !== 0xf0 && (what & 1) !== 0) {
    R[s] = oldLo;
    R[s + 1] = oldHi;
  }
};
