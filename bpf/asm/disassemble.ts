// From encoded slots to text, in the form of the verifier log and of `bpftool prog dump xlated`:
//
//      0: (61) r1 = *(u32 *)(r6 +4)
//      1: (55) if r1 != 0x8 goto pc+3
//      2: (18) r2 = map[flows]
//      4: (85) call bpf_map_lookup_elem#1
//
// No input is refused and nothing is lost: a slot that has no spelling (unknown opcode, stray bits, half a ld_imm64) is
// printed as `.8byte 0x…`, and the text assembler turns the text back into the same bytes.

import { CodecError } from "../base/errors.js";
import { helperName } from "../isa/helpers.js";
import { CALL, hasShortTarget, OP, PSEUDO, SLOT_BYTES } from "../isa/opcode.js";
import type { ProgramSpec, Relocation } from "../object/spec.js";
import { fill, formOf, pcTarget, type Slot, type Target } from "./forms.js";

/** What to print besides the instructions. */
export interface DisassembleOptions {
  /** Slot number and opcode before each instruction, as the kernel prints (default true). */
  readonly numbers?: boolean;
  /** Labels `L12` at jump targets and in jumps, instead of distances (default false). */
  readonly labels?: boolean;
  /** Lines `; text` wherever the origin changes (default true). */
  readonly origins?: boolean;
}

/** What {@link disassemble} reads: a program, or only its code. */
export type Disassemblable = Pick<ProgramSpec, "code"> & Partial<Pick<ProgramSpec, "relocations" | "lines">>;

/** The slots of encoded instructions. @throws {@link CodecError} if `code` is no whole number of slots */
export const decodeSlots = (code: Uint8Array): Slot[] => {
  if (code.length % SLOT_BYTES !== 0)
    throw new CodecError("decode instructions", code.length, `want a multiple of ${SLOT_BYTES} bytes`);
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  return Array.from({ length: code.length / SLOT_BYTES }, (_, i) => {
    const at = i * SLOT_BYTES;
    const regs = view.getUint8(at + 1);
    return {
      code: view.getUint8(at),
      dst: regs & 0x0f,
      src: regs >> 4,
      off: view.getInt16(at + 2, true),
      imm: view.getInt32(at + 4, true),
    };
  });
};

const hex = (n: number | bigint, digits = 0): string => n.toString(16).padStart(digits, "0");

/** Any slot, without interpretation. */
const raw = (s: Slot): string =>
  `.8byte 0x${hex(s.imm >>> 0, 8)}${hex(s.off & 0xffff, 4)}${hex((s.src << 4) | s.dst, 2)}${hex(s.code, 2)}`;

/** A `ld_imm64` whose second slot is `high`, or undefined if its spelling would lose something. */
const wide = (low: Slot, high: Slot | undefined, relocation: Relocation | undefined, target: Target) => {
  if (high === undefined || low.off !== 0 || low.dst > 10) return undefined;
  if (high.code !== 0 || high.dst !== 0 || high.src !== 0 || high.off !== 0) return undefined;
  if (relocation) return `r${low.dst} = ${mapText(relocation.map, relocation.kind, relocation.offset)}`;
  const value = (BigInt(high.imm >>> 0) << 32n) | BigInt(low.imm >>> 0);
  const refer = IMM64_TEXT[low.src];
  const text = low.src === PSEUDO.const ? `0x${hex(value)} ll` : refer?.(low.imm, high.imm, target);
  return text === undefined ? undefined : `r${low.dst} = ${text}`;
};

const mapText = (map: string, kind: Relocation["kind"], offset: number): string =>
  kind === "map" ? `map[${map}]` : `map[${map}][0]+${offset}`;

/** Spelling of references by `src`; undefined where the numbers do not fit it. */
const IMM64_TEXT: Readonly<Record<number, (low: number, high: number, target: Target) => string | undefined>> = {
  [PSEUDO.mapFd]: (low, high) => (high === 0 && low >= 0 ? mapText(`fd:${low}`, "map", 0) : undefined),
  [PSEUDO.mapValue]: (low, high) => (high >= 0 && low >= 0 ? mapText(`fd:${low}`, "map_value", high) : undefined),
  [PSEUDO.mapIdx]: (low, high) => (high === 0 && low >= 0 ? mapText(`idx:${low}`, "map", 0) : undefined),
  [PSEUDO.mapIdxValue]: (low, high) => (high >= 0 && low >= 0 ? mapText(`idx:${low}`, "map_value", high) : undefined),
  [PSEUDO.func]: (low, high, target) => (high === 0 ? `subprog[${target(low).replace(/^pc/, "")}]` : undefined),
};

const callText = (slot: Slot, target: Target): string | undefined => {
  if (slot.dst !== 0 || slot.off !== 0) return undefined;
  if (slot.src === CALL.local) return `call ${target(slot.imm)}`;
  if (slot.imm < 0) return undefined;
  if (slot.src === CALL.kfunc) return `call kernel-function#${slot.imm}`;
  if (slot.src !== CALL.helper) return undefined;
  const name = helperName(slot.imm);
  return `call ${name === undefined ? "unknown" : `bpf_${name}`}#${slot.imm}`;
};

/** One instruction found in the slots. */
interface Spelled {
  readonly at: number;
  readonly slots: number;
  readonly text: string;
}

const spellAt = (slots: readonly Slot[], at: number, relocation: Relocation | undefined, target: Target): Spelled => {
  const slot = slots[at]!;
  if (slot.code === OP.ldImm64) {
    const text = wide(slot, slots[at + 1], relocation, target);
    if (text !== undefined) return { at, slots: 2, text };
  }
  const form = formOf(slot);
  const text = slot.code === OP.call ? callText(slot, target) : form && fill(form, slot, target);
  return { at, slots: 1, text: text ?? raw(slot) };
};

/** The distance of the jump, local call or subprogram address in `slot`, if it is one. */
const distanceOf = (slot: Slot): number | undefined => {
  if (hasShortTarget(slot.code)) return slot.off;
  if (slot.code === OP.gotol || (slot.code === OP.call && slot.src === CALL.local)) return slot.imm;
  return slot.code === OP.ldImm64 && slot.src === PSEUDO.func ? slot.imm : undefined;
};

/**
 * The text of a program, one line an instruction, each with a line feed.
 *
 * @throws {@link CodecError} if the code is no whole number of slots; for nothing else
 */
export const disassemble = (program: Disassemblable, options: DisassembleOptions = {}): string => {
  const { numbers = true, labels = false, origins = true } = options;
  const slots = decodeSlots(program.code);
  const relocations = new Map((program.relocations ?? []).map((r) => [r.insn, r]));

  // First without labels: only what starts an instruction can carry one.
  const spelled: Spelled[] = [];
  for (let at = 0; at < slots.length; at += spelled.at(-1)!.slots)
    spelled.push(spellAt(slots, at, relocations.get(at), pcTarget));
  const starts = new Set(spelled.map((insn) => insn.at));
  const targets = new Set<number>();
  if (labels)
    for (const { at } of spelled) {
      const to = at + 1 + (distanceOf(slots[at]!) ?? NaN);
      if (starts.has(to)) targets.add(to);
    }

  const originAt = new Map(origins ? (program.lines ?? []).map((l) => [l.insn, l.origin.text]) : []);
  let text = "";
  for (const { at, text: plain } of spelled) {
    const origin = originAt.get(at);
    if (origin !== undefined) text += `; ${origin.replace(/\s+/g, " ")}\n`;
    if (targets.has(at)) text += `L${at}:\n`;
    const target: Target = (distance) =>
      targets.has(at + 1 + distance) ? `L${at + 1 + distance}` : pcTarget(distance);
    const prefix = numbers ? `${String(at).padStart(4)}: (${hex(slots[at]!.code, 2)}) ` : "";
    text += `${prefix}${targets.size > 0 ? spellAt(slots, at, relocations.get(at), target).text : plain}\n`;
  }
  return text;
};
