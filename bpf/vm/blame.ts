// Names the place of an error: the instruction in the disassembler's words and the text it was produced from.

import { disassemble } from "../asm/disassemble.js";
import type { ProgramSpec } from "../object/spec.js";
import { VmError } from "./errors.js";

const SLOT_BYTES = 8;
const LD_IMM64 = 0x18;

/** The instruction at a slot as the verifier's log would print it. */
const insnText = (spec: ProgramSpec, slot: number): string => {
  const at = slot * SLOT_BYTES;
  const nSlots = spec.code[at] === LD_IMM64 ? 2 : 1;
  const code = spec.code.subarray(
    at,
    Math.min(at + nSlots * SLOT_BYTES, spec.code.length - (spec.code.length % SLOT_BYTES)),
  );
  const relocations = spec.relocations.filter((r) => r.insn === slot).map((r) => ({ ...r, insn: 0 }));
  return code.length === 0
    ? "no instruction"
    : disassemble({ code, relocations }, { numbers: false, origins: false }).trim();
};

/** A {@link VmError} for slot `slot` of a program. */
export const errorAt = (
  spec: ProgramSpec,
  slot: number,
  reason: string,
  registers: readonly string[] = [],
  cause?: unknown,
): VmError => {
  const line = spec.lines.findLast((entry) => entry.insn <= slot);
  return new VmError(spec.name, slot, insnText(spec, slot), line?.origin.text, reason, registers, cause);
};
