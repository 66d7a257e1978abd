// From instructions and labels to encoded slots. What comes out is what the kernel takes: 8 bytes a slot, little endian,
// every jump resolved, map references marked and listed as relocations.

import { AssembleError } from "../base/errors.js";
import type { Code, Imm64, Insn, Origin } from "../isa/insn.js";
import { Label } from "../isa/insn.js";
import { CALL, hasShortTarget, OP, PSEUDO, SLOT_BYTES } from "../isa/opcode.js";
import type { ProgramSpec, ProgType, Relocation } from "../object/spec.js";
import { layOut, OPPOSITE, stopSlot, type Island, type Layout } from "./layout.js";

/** What the kernel that will run the code can do. */
export interface AssembleOptions {
  /** Whether far jumps may use `gotol` (default true, Linux 6.6). Without, they hop over 16-bit jumps. */
  readonly gotol?: boolean;
}

/** The code part of a {@link ProgramSpec}. */
export type Assembled = Pick<ProgramSpec, "code" | "relocations" | "lines">;

/** The instructions of `code`, and the index of the one that each label stands before. */
const split = (code: Code): { insns: Insn[]; targets: Map<Label, number> } => {
  const insns: Insn[] = [];
  const targets = new Map<Label, number>();
  for (const item of code) {
    if (!(item instanceof Label)) insns.push(item);
    else if (targets.has(item))
      throw new AssembleError(
        `Cannot assemble: label "${item.hint}" is placed twice, at insn ${targets.get(item)} and insn ${insns.length}`,
      );
    else targets.set(item, insns.length);
  }
  insns.forEach((insn, i) => {
    const to = targetOf(insn);
    if (to === undefined) return;
    const at = targets.get(to);
    if (at === undefined) throw new AssembleError(`Cannot assemble insn ${i}: label "${to.hint}" was never placed`);
    if (at === insns.length)
      throw new AssembleError(`Cannot assemble insn ${i}: label "${to.hint}" stands after the last instruction`);
  });
  return { insns, targets };
};

const targetOf = (insn: Insn): Label | undefined =>
  insn.to ?? (insn.imm64?.kind === "func" ? insn.imm64.label : undefined);

/** Whether two origins say the same. */
export const sameOrigin = (a: Origin | undefined, b: Origin): boolean =>
  a === b || (a !== undefined && a.text === b.text && a.file === b.file && a.line === b.line);

/** Writes slots one after the other. */
class Emitter {
  private readonly view: DataView;
  readonly code: Uint8Array;
  readonly relocations: Relocation[] = [];
  readonly lines: { insn: number; origin: Origin }[] = [];
  slot = 0;

  constructor(slots: number) {
    this.code = new Uint8Array(slots * SLOT_BYTES);
    this.view = new DataView(this.code.buffer);
  }

  put(code: number, dst: number, src: number, off: number, imm: number): void {
    const at = this.slot++ * SLOT_BYTES;
    this.view.setUint8(at, code);
    this.view.setUint8(at + 1, dst | (src << 4));
    this.view.setInt16(at + 2, off, true);
    this.view.setInt32(at + 4, imm, true);
  }

  /** A `goto` to slot `to`. */
  ja(to: number): void {
    this.put(OP.ja, 0, 0, to - this.slot - 1, 0);
  }

  mark(origin: Origin | undefined): void {
    if (origin === undefined || sameOrigin(this.lines.at(-1)?.origin, origin)) return;
    this.lines.push({ insn: this.slot, origin });
  }
}

/** The two slots of a `ld_imm64`. */
const putWide = (out: Emitter, insn: Insn, imm: Imm64, slotOf: (to: Label) => number): void => {
  let low = 0;
  let high = 0;
  switch (imm.kind) {
    case "const":
      low = Number(BigInt.asIntN(32, imm.value));
      high = Number(BigInt.asIntN(32, imm.value >> 32n));
      break;
    case "func":
      low = slotOf(imm.label) - out.slot - 1;
      break;
    case "map":
      out.relocations.push({ insn: out.slot, kind: "map", map: imm.map, offset: 0 });
      break;
    case "map_value":
      out.relocations.push({ insn: out.slot, kind: "map_value", map: imm.map, offset: imm.offset });
      high = imm.offset;
      break;
  }
  out.put(insn.code, insn.dst, IMM64_SRC[imm.kind], 0, low);
  out.put(0, 0, 0, 0, high);
};

const IMM64_SRC = {
  const: PSEUDO.const,
  map: PSEUDO.mapFd,
  map_value: PSEUDO.mapValue,
  func: PSEUDO.func,
} as const;

/** A jump that reaches `to` by `gotol`: turned round over it, or beside it where it has no opposite. */
const putFar = (out: Emitter, insn: Insn, to: number): void => {
  const opposite = OPPOSITE[insn.code & 0xf0];
  if (insn.code === OP.ja) {
    // `goto` itself becomes `gotol`
  } else if (opposite !== undefined) out.put((insn.code & 0x0f) | opposite, insn.dst, insn.src, 1, insn.imm);
  else {
    out.put(insn.code, insn.dst, insn.src, 1, insn.imm);
    out.ja(out.slot + 2);
  }
  out.put(OP.gotol, 0, 0, 0, to - out.slot - 1);
};

const putIsland = (out: Emitter, island: Island, slotOf: (to: Label) => number): void => {
  if (island.stops.length === 0) return;
  if (island.around) out.ja(out.slot + 1 + island.stops.length);
  for (const stop of island.stops) out.ja(stop.next ? stopSlot(stop.next) : slotOf(stop.to));
};

const isLongTarget = (insn: Insn): boolean =>
  insn.code === OP.gotol || (insn.code === OP.call && insn.src === CALL.local);

const putInsn = (out: Emitter, insn: Insn, i: number, layout: Layout, slotOf: (to: Label) => number): void => {
  if (insn.imm64 !== undefined) putWide(out, insn, insn.imm64, slotOf);
  else if (insn.to === undefined) out.put(insn.code, insn.dst, insn.src, insn.off, insn.imm);
  else if (layout.far[i] === 1) putFar(out, insn, slotOf(insn.to));
  else if (hasShortTarget(insn.code)) {
    const via = layout.via[i];
    const to = via ? stopSlot(via) : slotOf(insn.to);
    out.put(insn.code, insn.dst, insn.src, to - out.slot - 1, insn.imm);
  } else if (isLongTarget(insn)) out.put(insn.code, insn.dst, insn.src, insn.off, slotOf(insn.to) - out.slot - 1);
  else throw new AssembleError(`Cannot assemble insn ${i}: opcode 0x${insn.code.toString(16)} takes no label`);
};

/**
 * Encodes instructions.
 *
 * Jumps reach their targets however far away they are. A map reference has `src` BPF_PSEUDO_MAP_FD or
 * BPF_PSEUDO_MAP_VALUE and a zero descriptor; it is listed in `relocations`. `lines` has an entry wherever the origin
 * of the instructions changes.
 *
 * @throws {@link AssembleError} naming the label that was never placed, placed twice or placed at the very end
 */
export const assemble = (code: Code, options: AssembleOptions = {}): Assembled => {
  const { insns, targets } = split(code);
  const layout = layOut(insns, targets, options.gotol ?? true);
  const slotOf = (to: Label): number => layout.slots[targets.get(to)!]!;
  const out = new Emitter(layout.slots[insns.length]!);
  let next = 0;
  insns.forEach((insn, i) => {
    for (let island = layout.islands[next]; island?.at === i; island = layout.islands[++next])
      putIsland(out, island, slotOf);
    out.mark(insn.from);
    putInsn(out, insn, i, layout, slotOf);
  });
  return { code: out.code, relocations: out.relocations, lines: out.lines };
};

/** The parts of a program before assembly. */
export interface ProgramSource extends AssembleOptions {
  readonly name: string;
  readonly type: ProgType;
  readonly code: Code;
  /** BPF_F_XDP_HAS_FRAGS and the like; default 0. */
  readonly flags?: number;
}

/** At most 15 characters of those the kernel takes: BPF_OBJ_NAME_LEN. */
const NAME = /^[A-Za-z0-9_.]{1,15}$/;

/** Assembles `source.code` into a program of an object spec. @throws {@link AssembleError} also for a bad name */
export const program = (source: ProgramSource): ProgramSpec => {
  const { name, type, code, flags = 0, ...options } = source;
  if (!NAME.test(name))
    throw new AssembleError(`Cannot name a program ${JSON.stringify(name)}: want 1..15 of A-Z a-z 0-9 _ .`);
  return { name, type, ...assemble(code, options), flags };
};
