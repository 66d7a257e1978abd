// ebpf-assembler: eBPF as a library. Knows no OpenFlow and no running kernel.

export * from "./base/index.js";
export * from "./isa/insn.js";
export * from "./object/spec.js";
