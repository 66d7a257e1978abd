// What a BPF instruction is before assembly: plain frozen data. Builders make them, the assembler turns a list of
// instructions and labels into encoded slots of 8 bytes.

/** A BPF register number 0..10. `WReg` excludes r10, the read-only frame pointer. */
export interface Reg {
  readonly n: number;
}

declare const writable: unique symbol;
/** A register that instructions may write: r0..r9. */
export interface WReg extends Reg {
  readonly [writable]: true;
}

/** A jump target. Identity, not spelling, decides: two labels with one hint never collide. */
export class Label {
  constructor(readonly hint: string) {}
}

/** Where an instruction comes from, for verifier errors and `.BTF.ext` line info. */
export interface Origin {
  /** The text that produced it, e.g. the flow `table=1,priority=9,tcp actions=drop`. */
  readonly text: string;
  readonly file?: string;
  /** Counts from 1. */
  readonly line?: number;
}

/** What the 64-bit immediate of a `ld_imm64` refers to. Map names refer to the maps of the object spec. */
export type Imm64 =
  | { readonly kind: "const"; readonly value: bigint }
  /** Address of the map object (BPF_PSEUDO_MAP_FD). */
  | { readonly kind: "map"; readonly map: string }
  /** Address of byte `offset` of the value of a one-entry array map (BPF_PSEUDO_MAP_VALUE). */
  | { readonly kind: "map_value"; readonly map: string; readonly offset: number }
  /** Address of a subprogram of the same program (BPF_PSEUDO_FUNC). */
  | { readonly kind: "func"; readonly label: Label };

/**
 * One instruction; two slots when {@link Insn.imm64} is set, otherwise one.
 * Field names and value ranges are those of `struct bpf_insn` (uapi/linux/bpf.h).
 */
export interface Insn {
  /** Opcode byte. */
  readonly code: number;
  readonly dst: number;
  readonly src: number;
  /** Signed 16 bit. Ignored when `to` is set and the jump is a 16-bit one. */
  readonly off: number;
  /** Signed 32 bit. Ignored when `to` is set and the jump is `gotol` or a local call. */
  readonly imm: number;
  readonly imm64?: Imm64;
  /** Jump or local call target. */
  readonly to?: Label;
  readonly from?: Origin;
}

/** Input of the assembler: instructions with labels between them, each label standing before its instruction. */
export type Code = readonly (Insn | Label)[];
