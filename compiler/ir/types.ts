// The intermediate representation between flow analysis and BPF: basic blocks over typed virtual registers.
//
// Virtual registers are mutable 64-bit cells (not SSA), as many as wanted; stack memory is named slots; everything that
// differs between XDP and TC is an abstract context field, lowered by the hook's target table. A program is plain frozen
// data: passes are pure functions from program to program.

import type { Origin } from "ebpf-assembler";

/** What a virtual register holds. Pointers keep the verifier's view: a packet pointer is used only after a bounds check. */
export type Kind = "scalar" | "ctx" | "packet" | "packet_end" | "map_value";

/** A virtual register; identity is `id`, `hint` is for people. */
export interface VReg {
  readonly id: number;
  readonly kind: Kind;
  readonly hint: string;
}

/** A named piece of the stack frame. `align` is 1, 2, 4 or 8 bytes. */
export interface Slot {
  readonly slot: number;
  readonly size: number;
  readonly align: 1 | 2 | 4 | 8;
  readonly hint: string;
}

/** A register or a constant; constants beyond 32 signed bits are bigint (64-bit pattern, unsigned). */
export type Operand = VReg | number | bigint;

/** Fields of the hook's context that programs may read, by the hook-independent name; u32 unless pointers. */
export type CtxField =
  | "data"
  | "data_end"
  | "ingress_ifindex"
  | "packet_len" // TC: skb->len; XDP: data_end - data, see targets
  | "vlan_present" // TC only
  | "vlan_tci" // TC only
  | "vlan_proto" // TC only, network byte order
  | "gso_size" // TC only
  | "gso_segs"; // TC only

export type Size = "u8" | "u16" | "u32" | "u64";
export type AluOp = "add" | "sub" | "mul" | "div" | "mod" | "and" | "or" | "xor" | "lsh" | "rsh" | "arsh";
export type Cond = "eq" | "ne" | "gt" | "ge" | "lt" | "le" | "sgt" | "sge" | "slt" | "sle" | "set";

/** Argument of a helper call. */
export type Arg =
  | Operand
  /** Address of byte `off` of a stack slot. */
  | { readonly at: Slot; readonly off: number }
  | { readonly map: string }
  /** The hook's context. */
  | "ctx";

interface Common {
  readonly from?: Origin;
}

export type Inst = Common &
  (
    | { readonly op: "mov"; readonly dst: VReg; readonly src: Operand }
    /** `dst = a OP b`; width 32 zero-extends the result, as BPF does. */
    | {
        readonly op: "alu";
        readonly alu: AluOp;
        readonly width: 32 | 64;
        readonly dst: VReg;
        readonly a: Operand;
        readonly b: Operand;
      }
    /** Byte swap between network and host order of the low `bits` bits; upper bits become zero. */
    | { readonly op: "swap"; readonly bits: 16 | 32 | 64; readonly dst: VReg; readonly src: VReg }
    /** Memory in little-endian host order; `base` is a pointer register or a stack slot. */
    | { readonly op: "load"; readonly size: Size; readonly dst: VReg; readonly base: VReg | Slot; readonly off: number }
    | {
        readonly op: "store";
        readonly size: Size;
        readonly base: VReg | Slot;
        readonly off: number;
        readonly src: Operand;
      }
    /** Atomic `*(base + off) += src` without fetch; size u32 or u64. */
    | {
        readonly op: "atomic_add";
        readonly size: "u32" | "u64";
        readonly base: VReg;
        readonly off: number;
        readonly src: VReg;
      }
    | { readonly op: "ctx"; readonly dst: VReg; readonly field: CtxField }
    /**
     * `dst` = the low half of `src`, by way of the stack, so that the verifier forgets where it came from: an offset that is
     * added to a pointer must be known exactly, and with it all that it was computed from, on every path.
     */
    | { readonly op: "forget"; readonly dst: VReg; readonly src: VReg; readonly slot: Slot }
    /** Address of byte `off` of the one-entry array map's value, an immediate. */
    | { readonly op: "map_value"; readonly dst: VReg; readonly map: string; readonly off: number }
    /**
     * Helper call by its name without `bpf_`. After calls that move packet data (adjust_head, vlan_push ...) packet
     * pointers are dead and must be read from the context again.
     */
    | { readonly op: "call"; readonly helper: string; readonly args: readonly Arg[]; readonly dst: VReg }
  );

export type BlockId = number;

export type Terminator = Common &
  (
    | { readonly op: "jump"; readonly to: BlockId }
    | {
        readonly op: "branch";
        readonly cond: Cond;
        readonly width: 32 | 64;
        readonly a: VReg;
        readonly b: Operand;
        readonly then: BlockId;
        readonly else: BlockId;
        /** Which way packets mostly go, for block layout. */
        readonly likely?: "then" | "else";
      }
    | { readonly op: "return"; readonly value: Operand }
    /** Leaves for `prog_array[index]`; control goes on at `else` when the slot is empty. */
    | { readonly op: "tail_call"; readonly map: string; readonly index: Operand; readonly else: BlockId }
  );

export interface Block {
  readonly id: BlockId;
  readonly hint: string;
  readonly body: readonly Inst[];
  readonly end: Terminator;
}

export type Hook = "xdp" | "tc";

/** One program for one hook. `blocks[0]` is the entry. */
export interface Program {
  readonly name: string;
  readonly hook: Hook;
  readonly blocks: readonly Block[];
}

export const isReg = (x: unknown): x is VReg => typeof x === "object" && x !== null && "kind" in x;
export const isSlot = (x: unknown): x is Slot => typeof x === "object" && x !== null && "slot" in x;
