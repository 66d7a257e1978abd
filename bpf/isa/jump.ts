// Jumps, calls and the end of the program. A jump names a Label; the assembler finds the distance, however far.

import type { Insn, Label, Reg } from "./insn.js";
import { imm32s, imm32u, inRange, insn, type Operand } from "./make.js";
import { CALL, CLASS, JMP, OP, SOURCE } from "./opcode.js";
import { HELPERS, type HelperName } from "./helpers.js";

type Op = Exclude<keyof typeof JMP, "ja" | "call" | "exit" | "jcond">;

/** Makes the builder of one comparison in one width. */
const jump = (name: string, op: Op, wide: boolean) => {
  const code = (wide ? CLASS.jmp : CLASS.jmp32) | JMP[op];
  return (r: Reg, by: Operand, to: Label): Insn =>
    typeof by === "number"
      ? insn(code | SOURCE.k, { dst: r.n, imm: wide ? imm32s(name, by) : imm32u(name, by), to })
      : insn(code | SOURCE.x, { dst: r.n, src: by.n, to });
};

/** `if (r == by) goto to` (64-bit compare; a number is sign-extended) */
export const jeq = jump("jeq", "jeq", true);
/** `if (r != by) goto to` */
export const jne = jump("jne", "jne", true);
/** `if (r > by) goto to`, unsigned */
export const jgt = jump("jgt", "jgt", true);
/** `if (r >= by) goto to`, unsigned */
export const jge = jump("jge", "jge", true);
/** `if (r < by) goto to`, unsigned */
export const jlt = jump("jlt", "jlt", true);
/** `if (r <= by) goto to`, unsigned */
export const jle = jump("jle", "jle", true);
/** `if (r & by) goto to` */
export const jset = jump("jset", "jset", true);
/** `if ((s64)r > by) goto to` */
export const jsgt = jump("jsgt", "jsgt", true);
/** `if ((s64)r >= by) goto to` */
export const jsge = jump("jsge", "jsge", true);
/** `if ((s64)r < by) goto to` */
export const jslt = jump("jslt", "jslt", true);
/** `if ((s64)r <= by) goto to` */
export const jsle = jump("jsle", "jsle", true);

/** `if ((u32)r == (u32)by) goto to`. The 32-bit jumps need Linux 5.1 */
export const jeq32 = jump("jeq32", "jeq", false);
/** `if ((u32)r != (u32)by) goto to` */
export const jne32 = jump("jne32", "jne", false);
/** `if ((u32)r > (u32)by) goto to` */
export const jgt32 = jump("jgt32", "jgt", false);
/** `if ((u32)r >= (u32)by) goto to` */
export const jge32 = jump("jge32", "jge", false);
/** `if ((u32)r < (u32)by) goto to` */
export const jlt32 = jump("jlt32", "jlt", false);
/** `if ((u32)r <= (u32)by) goto to` */
export const jle32 = jump("jle32", "jle", false);
/** `if ((u32)r & (u32)by) goto to` */
export const jset32 = jump("jset32", "jset", false);
/** `if ((s32)r > (s32)by) goto to` */
export const jsgt32 = jump("jsgt32", "jsgt", false);
/** `if ((s32)r >= (s32)by) goto to` */
export const jsge32 = jump("jsge32", "jsge", false);
/** `if ((s32)r < (s32)by) goto to` */
export const jslt32 = jump("jslt32", "jslt", false);
/** `if ((s32)r <= (s32)by) goto to` */
export const jsle32 = jump("jsle32", "jsle", false);

/** `goto to` */
export const ja = (to: Label): Insn => insn(OP.ja, { to });
/** `goto to` with a 32-bit distance. Rarely needed: the assembler lengthens other jumps itself. Needs Linux 6.6 */
export const gotol = (to: Label): Insn => insn(OP.gotol, { to });
/** Goes to `to` once the program has looped for too long (8 Mi times or 250 ms), else on. Needs Linux 6.9 */
export const mayGoto = (to: Label): Insn => insn(OP.mayGoto, { to });

/** `r0 = helper(r1, r2, r3, r4, r5)`; r1-r5 are lost. A helper newer than the table can be given by number. */
export const call = (helper: HelperName | number): Insn =>
  insn(OP.call, {
    src: CALL.helper,
    imm: typeof helper === "string" ? HELPERS[helper] : inRange("call", "helper", helper, 0, 0x7fff_ffff),
  });

/**
 * `r0 = kfunc(r1, ...)`. Needs Linux 5.13
 * @param btfId - type id of the function in the BTF of the running kernel (or of the module `fdIndex`)
 * @param fdIndex - 0 for vmlinux, otherwise the index of the module's BTF in the fd array of the load
 */
export const callKfunc = (btfId: number, fdIndex = 0): Insn =>
  insn(OP.call, {
    src: CALL.kfunc,
    imm: inRange("callKfunc", "BTF id", btfId, 1, 0x7fff_ffff),
    off: inRange("callKfunc", "fd index", fdIndex, 0, 0x7fff),
  });

/** `r0 = subprogram(r1, ...)` at `to`, in the same program; it has its own 512-byte stack frame */
export const callLocal = (to: Label): Insn => insn(OP.call, { src: CALL.local, to });

/** `return r0` */
export const exit = (): Insn => insn(OP.exit);
