// The object spec: programs and maps as plain data. This is what the compiler produces, what the ELF writer and reader
// translate, what the interpreter runs and what the loader puts into a kernel. It knows no file and no kernel.

import type { Origin } from "../isa/insn.js";

/** BPF_MAP_TYPE_* by their kernel names, as far as the project uses them. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  cpumap: 16,
  xskmap: 17,
  queue: 22,
  stack: 23,
  devmap_hash: 25,
  ringbuf: 27,
  bloom_filter: 30,
  user_ringbuf: 31,
  arena: 33,
} as const;
export type MapType = keyof typeof MAP_TYPES;

/** Map creation flags (uapi/linux/bpf.h). */
export const MAP_FLAGS = {
  NO_PREALLOC: 1 << 0,
  RDONLY_PROG: 1 << 7,
  WRONLY_PROG: 1 << 8,
  MMAPABLE: 1 << 10,
} as const;

/** A map to create. Sizes in bytes. */
export interface MapSpec {
  /** At most 15 characters of [A-Za-z0-9_.]: the kernel's BPF_OBJ_NAME_LEN. */
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** MAP_FLAGS or-ed together. */
  readonly flags: number;
  /** Entries to put in after creation, raw bytes of keySize and valueSize. */
  readonly entries?: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
  /** C-like names for the BTF of keys and values: field name and byte size in order; absent = opaque byte arrays. */
  readonly keyFields?: readonly Member[];
  readonly valueFields?: readonly Member[];
}

/** One named member of a key or value, for BTF: 1, 2, 4, 8 bytes become integers, other sizes byte arrays. */
export interface Member {
  readonly name: string;
  readonly size: number;
}

/** BPF_PROG_TYPE_* the project uses. */
export const PROG_TYPES = { socket_filter: 1, sched_cls: 3, xdp: 6, syscall: 31 } as const;
export type ProgType = keyof typeof PROG_TYPES;

/** Patch of a ld_imm64 that needs a map. */
export interface Relocation {
  /** Index of the instruction slot (8 bytes each). */
  readonly insn: number;
  readonly kind: "map" | "map_value";
  readonly map: string;
  /** For map_value: byte offset into the value. */
  readonly offset: number;
}

/**
 * A program: encoded instructions, 8 bytes a slot, little endian. A reference to a map is a `ld_imm64` whose `src` is
 * BPF_PSEUDO_MAP_FD or BPF_PSEUDO_MAP_VALUE (second slot: the offset), with zero where the descriptor goes.
 */
export interface ProgramSpec {
  /** At most 15 characters. */
  readonly name: string;
  readonly type: ProgType;
  readonly code: Uint8Array;
  readonly relocations: readonly Relocation[];
  /** Ascending by `insn`; each entry holds from its slot to the next entry. */
  readonly lines: readonly { readonly insn: number; readonly origin: Origin }[];
  /** BPF_F_XDP_HAS_FRAGS (1 << 5) and the like; 0 for none. */
  readonly flags: number;
}

/** Everything of one object file. */
export interface ObjectSpec {
  /** Kernel license string, e.g. "GPL" or "Dual BSD/GPL". */
  readonly license: string;
  readonly maps: readonly MapSpec[];
  readonly programs: readonly ProgramSpec[];
}
