export * from "./alu.js";
export * from "./helpers.js";
export * from "./insn.js";
export * from "./jump.js";
export type { Operand } from "./make.js";
export * from "./memory.js";
export * from "./opcode.js";
export * from "./reg.js";
