// Registers: sixteen words, and the same bits in pairs and in fours. The first word of a group is its most significant.

import { code, type FieldSpec } from "./spec.js";
import type { Member } from "../flow.js";

const REGISTER = { lsb: 0, mask: "any", needs: "none", format: "hex", writable: true, aka: [] } as const;

const reg = <M extends Member>(n: number, member: M) =>
  ({
    ...REGISTER,
    in: member,
    bits: 32,
    codes: [code(`NXM_NX_REG${n}`, n)],
    doc: `Register ${n}, zero at the beginning of the pipeline`,
  }) as const satisfies FieldSpec;

/** @param last - the register with the low bits */
const xreg = <M extends Member>(n: number, last: M) =>
  ({
    ...REGISTER,
    in: last,
    bits: 64,
    codes: [code(`OXM_OF_PKT_REG${n}`, n, 3)],
    doc: `Registers ${2 * n} and ${2 * n + 1} as one of 64 bits`,
  }) as const satisfies FieldSpec;

const xxreg = <M extends Member>(n: number, last: M) =>
  ({
    ...REGISTER,
    in: last,
    bits: 128,
    codes: [code(`NXM_NX_XXREG${n}`, 111 + n)],
    doc: `Registers ${4 * n} to ${4 * n + 3} as one of 128 bits`,
  }) as const satisfies FieldSpec;

/** Registers in all three widths. */
export const REGISTER_FIELDS = {
  reg0: reg(0, "reg0"),
  reg1: reg(1, "reg1"),
  reg2: reg(2, "reg2"),
  reg3: reg(3, "reg3"),
  reg4: reg(4, "reg4"),
  reg5: reg(5, "reg5"),
  reg6: reg(6, "reg6"),
  reg7: reg(7, "reg7"),
  reg8: reg(8, "reg8"),
  reg9: reg(9, "reg9"),
  reg10: reg(10, "reg10"),
  reg11: reg(11, "reg11"),
  reg12: reg(12, "reg12"),
  reg13: reg(13, "reg13"),
  reg14: reg(14, "reg14"),
  reg15: reg(15, "reg15"),
  xreg0: xreg(0, "reg1"),
  xreg1: xreg(1, "reg3"),
  xreg2: xreg(2, "reg5"),
  xreg3: xreg(3, "reg7"),
  xreg4: xreg(4, "reg9"),
  xreg5: xreg(5, "reg11"),
  xreg6: xreg(6, "reg13"),
  xreg7: xreg(7, "reg15"),
  xxreg0: xxreg(0, "reg3"),
  xxreg1: xxreg(1, "reg7"),
  xxreg2: xxreg(2, "reg11"),
  xxreg3: xxreg(3, "reg15"),
} as const satisfies Record<string, FieldSpec>;
