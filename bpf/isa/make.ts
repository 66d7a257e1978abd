// What all builders share: a frozen instruction with its operands checked. A builder that returns has made something
// that encodes.

import { AssembleError } from "../base/errors.js";
import type { Insn, Reg } from "./insn.js";

/** An operand that may be a register or an immediate. */
export type Operand = Reg | number;

const ZERO = { dst: 0, src: 0, off: 0, imm: 0 } as const;

/** A frozen instruction of opcode `code`; fields not given are zero. */
export const insn = (code: number, fields: Omit<Partial<Insn>, "code"> = {}): Insn =>
  Object.freeze({ code, ...ZERO, ...fields });

/** `value` if it is an integer of `min..max`. @throws {@link AssembleError} naming `name`, the value and the range */
export const inRange = (name: string, what: string, value: number, min: number, max: number): number => {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new AssembleError(`Cannot build ${name}: ${what} is ${value}, want an integer of ${min}..${max}`);
};

/** A signed 16-bit offset. */
export const off16 = (name: string, off: number): number => inRange(name, "offset", off, -0x8000, 0x7fff);

/** An immediate that the machine sign-extends to 64 bits. */
export const imm32s = (name: string, imm: number): number => inRange(name, "immediate", imm, -0x8000_0000, 0x7fff_ffff);

/** An immediate of a 32-bit operation: signed and unsigned spelling mean the same bits. */
export const imm32u = (name: string, imm: number): number =>
  inRange(name, "immediate", imm, -0x8000_0000, 0xffff_ffff) | 0;
