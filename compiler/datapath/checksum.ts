// Incremental Internet checksums (RFC 1624, equation 3) in BPF. The one's complement sum does not care about byte order,
// so all words are taken as loads see them, without swapping.

import type { IrBuilder } from "../ir/builder.js";
import type { VReg } from "../ir/types.js";

/** Times that all carries go back in before at most one is left, with the most changes of each size. */
const FOLDS = { 2: 1, 4: 2 } as const;

/**
 * Checksum after replacing words: `~(~check + sum of ~old + sum of new)`.
 * @param check - the 16-bit checksum as loaded
 * @param changes - old and new words of `size` bytes, as loaded; at most 8
 * @returns the new checksum in the low 16 bits of a new register; the bits above are anything
 */
export const updatedChecksum = (
  b: IrBuilder,
  check: VReg,
  changes: readonly (readonly [VReg, VReg])[],
  size: 2 | 4,
): VReg => {
  const sum = b.alu("xor", check, 0xffff, "sum");
  for (const [before, after] of changes) {
    const inverted = b.alu("xor", before, size === 2 ? 0xffff : -1, "inverted", 32);
    b.aluTo("add", sum, inverted);
    b.aluTo("add", sum, after);
  }
  for (let i = 0; i < FOLDS[size]; i++) {
    const high = b.alu("rsh", sum, 16, "high");
    b.aluTo("and", sum, 0xffff);
    b.aluTo("add", sum, high);
  }
  // Now at most 0x10012: adding the last carry makes no other.
  b.aluTo("add", sum, b.alu("rsh", sum, 16, "carry"));
  b.aluTo("xor", sum, 0xffff);
  return sum;
};
