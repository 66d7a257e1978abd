// ebpf-assembler: eBPF as a library. Knows no OpenFlow and no running kernel.

export { assemble, program, type Assembled, type AssembleOptions, type ProgramSource } from "./asm/assemble.js";
export { disassemble, type Disassemblable, type DisassembleOptions } from "./asm/disassemble.js";
export { assembleText, parseAssembly } from "./asm/text.js";
export * from "./base/index.js";
export * from "./isa/index.js";
export { BTF_KIND, BtfBuilder, LINKAGE, type TypeId } from "./object/btf.js";
export {
  functionsOf,
  kernelTypes,
  type DescribedMap,
  type FunctionRange,
  type KernelTypes,
} from "./object/describe.js";
export { readElf } from "./object/elf-read.js";
export { writeElf } from "./object/elf-write.js";
export * from "./object/spec.js";
export * from "./vm/index.js";
