// Incremental Internet checksums (RFC 1624, equation 3) in BPF. The one's complement sum does not care about byte order,
// so all words are taken as loads see them, without swapping.

import type { IrBuilder } from "../ir/builder.js";
import type { VReg } from "../ir/types.js";

/** Folds a sum of less than 2^48 into 16 bits. Mutates `sum`. */
const fold = (b: IrBuilder, sum: VReg): void => {
  for (let i = 0; i < 3; i++) {
    const high = b.alu("rsh", sum, 16, "high");
    b.aluTo("and", sum, 0xffff);
    b.aluTo("add", sum, high);
  }
};

/**
 * Checksum after replacing words: `~(~check + sum of ~old + sum of new)`.
 * @param check - the 16-bit checksum as loaded
 * @param changes - old and new words of up to 32 bits, as loaded
 * @returns the new checksum in a new register
 */
export const updatedChecksum = (b: IrBuilder, check: VReg, changes: readonly (readonly [VReg, VReg])[]): VReg => {
  const sum = b.alu("xor", check, 0xffff, "sum");
  for (const [before, after] of changes) {
    const inverted = b.alu("xor", before, -1, "inverted", 32);
    b.aluTo("add", sum, inverted);
    b.aluTo("add", sum, after);
  }
  fold(b, sum);
  b.aluTo("xor", sum, 0xffff);
  return sum;
};
