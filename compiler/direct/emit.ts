// What the parts of a direct program share while it is being emitted.
//
// Register plan: as in datapath programs (data, data_end, length, interface index live throughout); beside them `out` and
// `dirty`, both 0 at the start. Stack: the flow in hand (state.ts), the tags that came with the packet, and what the compiler
// spills.

import type { MapSpec } from "ebpf-assembler";
import { forget, type Emit } from "../datapath/emit.js";
import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Operand, Slot, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import type { KeyField } from "../datapath/key.js";
import type { Want } from "./state.js";

/** Groups of members that are written back together; bits of `dirty`. */
export const DIRTY = { l2: 1, address: 2, other: 4, arp: 8, l4: 16, tags: 32 } as const;

export interface Direct extends Emit {
  /** Interface index of an OpenFlow port. */
  readonly ifindexOf: (port: number) => number;
  /** Bytes of the packet as it came in, for statistics. */
  readonly bytes: VReg;
  /** Interface that the packet is to leave by, 0 while there is none. */
  readonly out: VReg;
  /** {@link DIRTY} bits of what actions have written. */
  readonly dirty: VReg;
  /** Output of the action set: 0 = none, {@link TO_IN_PORT}. */
  readonly actionSet: VReg | undefined;
  /** Whether rules can change while the program runs. */
  readonly isLive: boolean;
  /** At TC: further interfaces, and how many. */
  readonly more: { readonly slot: Slot; readonly n: VReg } | undefined;
  /** The tags that the packet came with, when they can change. */
  readonly baseTags: Slot | undefined;
  /** Numbers on the stack, 0 when the tables begin. */
  readonly cells: Cells;
  /**
   * Each 0 or 1 + number of a rule to count when the packet is through. Absent: rules are counted as they are matched.
   */
  readonly passed: Cell[] | undefined;
  /** 0 or 1 + slot of the meter that the packet is to pass. */
  meter: Cell | undefined;
  /** Everything that an operation writes. */
  readonly written: ReadonlySet<Member>;
  /** Tables as data. */
  readonly maps: MapSpec[];
  /** Ends a packet that came to nothing, or leaves. */
  readonly finish: BlockId;
}

/** A u32 on the stack: its slot and byte offset. */
export type Cell = readonly [Slot, number];

/** Cells, two to a slot, so that the verifier sees whole words. */
export interface Cells {
  readonly slots: Slot[];
  n: number;
}

/** Cells beyond which the stack does not suffice. */
const MAX_CELLS = 48;

/** A new cell, or undefined when there is no room for it. */
export const newCell = ({ b, cells }: Pick<Direct, "b" | "cells">): Cell | undefined => {
  if (cells.n >= MAX_CELLS) return undefined;
  if (cells.n % 2 === 0) cells.slots.push(b.slot("cells", 8));
  cells.n++;
  return [cells.slots.at(-1)!, 4 * ((cells.n - 1) & 1)];
};

/** Value of {@link Direct.actionSet} for "back out of where it came in". */
export const TO_IN_PORT = -1;

/** A constant that the verifier does not know, so that paths which differ only in it are verified once. */
export const hidden = (d: Pick<Direct, "b" | "len">, value: number, hint = "hidden"): VReg => {
  const made = d.b.alu("xor", d.len, value, hint);
  d.b.aluTo("xor", made, d.len);
  return made;
};

/** A copy to compare: what the verifier learns of the copy it does not learn of the register, and so keeps one state. */
export const guess = (d: Pick<Direct, "b" | "len">, value: VReg): VReg => {
  const made = d.b.alu("xor", value, d.len, "guess");
  d.b.aluTo("xor", made, d.len);
  return made;
};

/** {@link hidden} 0. */
export const hiddenZero = (b: IrBuilder, len: VReg, hint: string): VReg => {
  const made = b.value(hint, 0);
  forget({ b, len }, made);
  return made;
};

export const fieldOf = (d: Emit, member: Member): KeyField => {
  const field = d.plan.key.fields.find((f) => f.member === member);
  return field!;
};

/** One load and compare: bytes of the state at an offset. Value and mask as loaded. */
export interface Unit {
  readonly off: number;
  readonly size: 1 | 2 | 4;
  readonly value: number;
  readonly mask: number;
}

const little = (bytes: Uint8Array, at: number, size: number): number => {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
};

/** Cuts what a rule demands into compares of at most 32 bits, whose constants are immediates. */
export const unitsOf = ({ value, mask }: Want): Unit[] => {
  const units: Unit[] = [];
  for (let word = 0; word < mask.length; word += 4) {
    const used = [0, 1, 2, 3].filter((i) => mask[word + i] !== 0);
    if (used.length === 0) continue;
    const first = used[0]!;
    const last = used.at(-1)!;
    // The smallest aligned piece that holds all used bytes.
    const [off, size] =
      first === last
        ? ([word + first, 1] as const)
        : first >> 1 === last >> 1
          ? ([word + (first & 2), 2] as const)
          : ([word, 4] as const);
    units.push({ off, size, value: little(value, off, size), mask: little(mask, off, size) });
  }
  return units;
};

const SIZES = { 1: "u8", 2: "u16", 4: "u32" } as const;
const FULL = { 1: 0xff, 2: 0xffff, 4: 0xffffffff } as const;

/** The masked bytes of a unit in a register; compare them in 32 bits. */
export const loadUnit = (b: IrBuilder, state: Slot, { off, size, mask }: Omit<Unit, "value">): VReg => {
  const loaded = b.load(SIZES[size], state, off, "field");
  return mask === FULL[size] ? loaded : b.alu("and", loaded, mask | 0, "masked", 32);
};

/** Goes to `otherwise` unless the state is what `want` says. */
export const require = (d: Direct, want: Want, otherwise: BlockId): void => {
  for (const unit of unitsOf(want)) d.b.unless("ne", loadUnit(d.b, d.key, unit), unit.value | 0, otherwise, 32);
};

/** Jumps to one of `targets` by the number in `index`; what is beyond goes to the last. */
export const dispatch = (b: IrBuilder, index: VReg, targets: readonly BlockId[]): void => {
  const split = (from: number, to: number): void => {
    if (to - from === 1) {
      b.jump(targets[from]!);
      return;
    }
    const middle = (from + to) >>> 1;
    const low = b.block("low");
    const high = b.block("high");
    b.branch("lt", index, middle, low, high);
    b.place(low);
    split(from, middle);
    b.place(high);
    split(middle, to);
  };
  split(0, targets.length);
};

/** A one-entry array with these contents, for programs to read. */
export const rodata = (name: string, bytes: Uint8Array): MapSpec => ({
  name,
  type: "array",
  keySize: 4,
  valueSize: bytes.length,
  maxEntries: 1,
  flags: 1 << 7,
  entries: [[new Uint8Array(4), bytes]],
});

/** `base + index * stride` in a map's value; the verifier must know a bound of `index`. */
export const element = (b: IrBuilder, map: string, at: number, index: VReg, stride: number): VReg =>
  b.alu("add", b.mapValue(map, at), b.alu("mul", index, stride, "offset"), "element");

export type { Operand };
