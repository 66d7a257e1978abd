// The eleven registers. The kernel's calling convention: r0 result, r1-r5 arguments (lost by a call), r6-r9 kept by a
// call, r10 frame pointer, read only.

import type { Reg, WReg } from "./insn.js";

const reg = (n: number): Reg => Object.freeze({ n });
const writableReg = (n: number): WReg => reg(n) as WReg;

/** Result of calls and of the program. */
export const r0 = writableReg(0);
/** First argument; the context at the start of a program. */
export const r1 = writableReg(1);
/** Second argument. */
export const r2 = writableReg(2);
/** Third argument. */
export const r3 = writableReg(3);
/** Fourth argument. */
export const r4 = writableReg(4);
/** Fifth argument. */
export const r5 = writableReg(5);
/** Kept by calls. */
export const r6 = writableReg(6);
/** Kept by calls. */
export const r7 = writableReg(7);
/** Kept by calls. */
export const r8 = writableReg(8);
/** Kept by calls. */
export const r9 = writableReg(9);
/** Frame pointer r10: the stack is at fp-512..fp-1. Not assignable to {@link WReg}: the verifier rejects writes to it. */
export const fp = reg(10);

/** r0..r9 by number, for allocators and loops. */
export const WRITABLE_REGS: readonly WReg[] = Object.freeze([r0, r1, r2, r3, r4, r5, r6, r7, r8, r9]);
