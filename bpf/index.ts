// ebpf-assembler: eBPF as a library. Knows no OpenFlow and no running kernel.

export { assemble, program, type Assembled, type AssembleOptions, type ProgramSource } from "./asm/assemble.js";
export { disassemble, type Disassemblable, type DisassembleOptions } from "./asm/disassemble.js";
export { assembleText, parseAssembly } from "./asm/text.js";
export * from "./base/index.js";
export * from "./isa/index.js";
export * from "./object/spec.js";
export * from "./vm/index.js";
