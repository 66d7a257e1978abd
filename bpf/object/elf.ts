// Names and numbers of ELF64 and of BPF object files, shared by writer and reader. Sources: the ELF gABI, uapi/linux/elf.h,
// the kernel's Documentation/bpf/llvm_reloc.rst and the section names of libbpf.

import type { ProgramSpec, ProgType } from "./spec.js";

export const EM_BPF = 247;
export const ET_REL = 1;
export const EHDR_BYTES = 64;
export const SHDR_BYTES = 64;
export const SYM_BYTES = 24;
export const REL_BYTES = 16;

/** Section types. */
export const SHT = { null: 0, progbits: 1, symtab: 2, strtab: 3, rela: 4, nobits: 8, rel: 9 } as const;
/** Section flags. */
export const SHF = { write: 1, alloc: 2, execinstr: 4, infoLink: 0x40 } as const;
/** Symbol types and bindings. */
export const STT = { notype: 0, object: 1, func: 2, section: 3 } as const;
export const STB = { local: 0, global: 1, weak: 2 } as const;
export const SHN_UNDEF = 0;
/** Section numbers from here on are special. */
export const SHN_LORESERVE = 0xff00;

/** Relocation types: the 64-bit immediate of a ld_imm64, the 32-bit one of a call. */
export const R_BPF = { imm64: 1, call: 10 } as const;

/** BPF_F_SLEEPABLE and BPF_F_XDP_HAS_FRAGS. */
export const PROG_FLAGS = { SLEEPABLE: 1 << 4, XDP_HAS_FRAGS: 1 << 5 } as const;

/** What a section name says about its programs. A name matches exactly, or with something behind a slash. */
interface SectionKind {
  readonly section: string;
  readonly type: ProgType;
  readonly flags: number;
}

/** The first row that fits is the one that the writer uses; loaders know these names. */
const SECTION_KINDS: readonly SectionKind[] = [
  { section: "xdp.frags", type: "xdp", flags: PROG_FLAGS.XDP_HAS_FRAGS },
  { section: "xdp", type: "xdp", flags: 0 },
  { section: "tc", type: "sched_cls", flags: 0 },
  { section: "classifier", type: "sched_cls", flags: 0 },
  { section: "tcx", type: "sched_cls", flags: 0 },
  { section: "socket", type: "socket_filter", flags: 0 },
  { section: "syscall", type: "syscall", flags: PROG_FLAGS.SLEEPABLE },
];

/** The section that makes loaders give a program its type and flags, or undefined: nothing says it in ELF. */
export const sectionOf = (program: Pick<ProgramSpec, "type" | "flags">): string | undefined =>
  SECTION_KINDS.find((kind) => kind.type === program.type && kind.flags === program.flags)?.section;

/** Type and flags that a section name means. */
export const sectionKind = (name: string): SectionKind | undefined =>
  SECTION_KINDS.find(({ section }) => name === section || name.startsWith(`${section}/`));

/** Sections that are global variables: each becomes a one-entry array. */
export const DATA_SECTION = /^\.(rodata|data|bss)(?:\.(.+))?$/;
