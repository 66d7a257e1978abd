// promote-slots: keeps words of the stack that are written in pieces in registers, and puts them together there.
//
//   before                                after
//   u64 [$key.0] = 0                      %key_0.7 = 0
//   u32 [$key.0] = %port.1                %key_0.7 = %port.1
//   u16 [$key.0 + 4] = %type.2            %high.8 = lsh %type.2, 32
//   %w.3 = u64 [$key.0]                   %key_0.7 = or %key_0.7, %high.8
//   call map_lookup_elem(map m, &$key.0)  %w.3 = %key_0.7
//                                         u64 [$key.0] = %key_0.7
//                                         call map_lookup_elem(map m, &$key.0)
//
// A word that is stored in pieces and loaded whole costs more than the stores and the load: the processor cannot forward
// the pieces and waits until they have reached the cache (5 ns). The key of a look-up is such a word. A word is 8 bytes at a
// multiple of 8; it is promoted when something smaller is stored to it and nobody but helpers that read gets its address. Before
// such a helper, words that have changed since the last one are stored whole.

import { constant, isConstant, pattern } from "../ir/constant.js";
import { ALL_ONES, ONES, onesOf } from "../ir/ones.js";
import { SIZE_BYTES } from "../ir/check.js";
import type { AluOp, Block, BlockId, Inst, Operand, Program, Size, Slot, VReg } from "../ir/types.js";
import { isReg, isSlot } from "../ir/types.js";
import { blocksById, defOf, isSlotArg, successorsOf, usesOf } from "../ir/visit.js";
import type { Pass } from "./pass.js";

const WORD = 8;

/** Words that are promoted, the first ones of the first slots: more would not find registers and go to the stack all the same. */
const MAX_WORDS = 6;

/** Helpers that only read what their arguments point to on the stack. */
const READERS: ReadonlySet<string> = new Set(["map_lookup_elem", "map_update_elem", "map_delete_elem", "csum_diff"]);

/** A promoted word of a slot. */
interface Word {
  readonly slot: Slot;
  /** Index of the word in the slot. */
  readonly index: number;
  readonly reg: VReg;
}

const wordKey = (slot: Slot, off: number): string => `${slot.slot}:${Math.floor(off / WORD)}`;

/** The words to promote, by {@link wordKey}. */
const chooseWords = (program: Program): ReadonlyMap<string, Word> => {
  const pieces = new Map<string, { slot: Slot; index: number }>();
  const pinned = new Set<number>();
  let lastReg = -1;
  for (const block of program.blocks)
    for (const inst of block.body) {
      for (const r of usesOf(inst)) lastReg = Math.max(lastReg, r.id);
      lastReg = Math.max(lastReg, defOf(inst)?.id ?? -1);
      if (inst.op === "call") {
        if (READERS.has(inst.helper)) continue;
        for (const arg of inst.args) if (typeof arg === "object" && isSlotArg(arg)) pinned.add(arg.at.slot);
      } else if ((inst.op === "store" || inst.op === "load") && isSlot(inst.base)) {
        const { base, off } = inst;
        const value = inst.op === "store" ? inst.src : inst.dst;
        if (base.size % WORD !== 0 || (isReg(value) && value.kind !== "scalar")) pinned.add(base.slot);
        else if (inst.op === "store" && inst.size !== "u64")
          pieces.set(wordKey(base, off), { slot: base, index: Math.floor(off / WORD) });
      }
    }
  const chosen = [...pieces]
    .filter(([, { slot }]) => !pinned.has(slot.slot))
    .sort(([, a], [, b]) => a.slot.slot - b.slot.slot || a.index - b.index)
    .slice(0, MAX_WORDS);
  return new Map(
    chosen.map(([key, { slot, index }]) => {
      const reg: VReg = { id: ++lastReg, kind: "scalar", hint: `${slot.hint}_${index}` };
      return [key, { slot, index, reg }];
    }),
  );
};

/** What is known of a promoted word at one point. */
interface Known {
  /** Bits that are zero. */
  readonly zero: bigint;
  /** Whether the register may hold something that the slot does not. */
  readonly changed: boolean;
}

type State = ReadonlyMap<string, Known>;

const span = (size: Size, off: number): bigint => ONES[size] << BigInt(8 * (off % WORD));

class Promoter {
  private readonly ones;
  private nextReg: number;

  constructor(
    private readonly program: Program,
    private readonly words: ReadonlyMap<string, Word>,
  ) {
    this.ones = onesOf(program);
    this.nextReg = 1 + Math.max(...[...words.values()].map(({ reg }) => reg.id));
  }

  private wordAt(base: VReg | Slot, off: number): { key: string; word: Word } | undefined {
    if (!isSlot(base)) return undefined;
    const key = wordKey(base, off);
    const word = this.words.get(key);
    return word === undefined ? undefined : { key, word };
  }

  /** Promoted words from byte `off` of `slot` on: what a helper with that address may read. */
  private wordsFrom(slot: Slot, off: number): string[] {
    return [...this.words]
      .filter(([, word]) => word.slot.slot === slot.slot && WORD * word.index + WORD > off)
      .map(([key]) => key);
  }

  private read(inst: Inst): string[] {
    if (inst.op !== "call") return [];
    return inst.args.flatMap((arg) =>
      typeof arg === "object" && isSlotArg(arg) ? this.wordsFrom(arg.at, arg.off) : [],
    );
  }

  /** What holds after `inst`. */
  private after(inst: Inst, state: State): State {
    const read = this.read(inst);
    if (read.length > 0) {
      const next = new Map(state);
      for (const key of read) next.set(key, { zero: state.get(key)!.zero, changed: false });
      return next;
    }
    const at = inst.op === "store" ? this.wordAt(inst.base, inst.off) : undefined;
    if (inst.op !== "store" || at === undefined) return state;
    const bits = span(inst.size, inst.off);
    const value = isConstant(inst.src) ? pattern(inst.src) : (this.ones.get(inst.src.id) ?? 0n);
    const ones = (value << BigInt(8 * (inst.off % WORD))) & bits;
    const zero = (state.get(at.key)!.zero & ~bits) | (bits & ~ones);
    return new Map(state).set(at.key, { zero, changed: true });
  }

  private states(): ReadonlyMap<BlockId, State> {
    const blocks = blocksById(this.program);
    const entry = this.program.blocks[0]!;
    const first: State = new Map([...this.words.keys()].map((key) => [key, { zero: ALL_ONES, changed: false }]));
    const states = new Map<BlockId, State>([[entry.id, first]]);
    const todo = [entry.id];
    for (let id; (id = todo.pop()) !== undefined;) {
      const block = blocks.get(id)!;
      const end = block.body.reduce((state, inst) => this.after(inst, state), states.get(id)!);
      for (const to of successorsOf(block.end)) {
        const before = states.get(to);
        let same = before !== undefined;
        const met = new Map(
          [...end].map(([key, known]) => {
            const old = before?.get(key);
            if (old === undefined) return [key, known];
            const now = { zero: old.zero & known.zero, changed: old.changed || known.changed };
            same &&= now.zero === old.zero && now.changed === old.changed;
            return [key, now];
          }),
        );
        if (same) continue;
        states.set(to, met);
        todo.push(to);
      }
    }
    return states;
  }

  private fresh(hint: string): VReg {
    return { id: this.nextReg++, kind: "scalar", hint };
  }

  private store(inst: Inst & { op: "store" }, { reg }: Word, { zero }: Known): Inst[] {
    const out: Inst[] = [];
    const common = inst.from === undefined ? {} : { from: inst.from };
    const alu = (op: AluOp, dst: VReg, a: Operand, b: Operand): VReg => {
      out.push({ op: "alu", alu: op, width: 64, dst, a, b, ...common });
      return dst;
    };
    const set = (src: Operand): Inst[] => [...out, { op: "mov", dst: reg, src, ...common }];
    const { size, src } = inst;
    if (size === "u64") return set(src);
    const shift = 8 * (inst.off % WORD);
    const bits = span(size, inst.off);
    const restIsZero = (zero | bits) === ALL_ONES;
    if (isConstant(src)) {
      const placed = (pattern(src) << BigInt(shift)) & bits;
      if (restIsZero) return set(constant(placed));
      if ((bits & ~zero) !== 0n) alu("and", reg, reg, constant(ALL_ONES & ~bits));
      if (placed !== 0n) alu("or", reg, reg, constant(placed));
      return out;
    }
    let value = src;
    const fits = ((this.ones.get(src.id) ?? 0n) & ~ONES[size]) === 0n;
    // What lies above the piece is shifted out when the piece is the top of the word.
    if (!fits && shift + 8 * SIZE_BYTES[size] < 64)
      value = alu("and", this.fresh("piece"), value, constant(ONES[size]));
    if (shift > 0) value = alu("lsh", this.fresh("placed"), value, shift);
    if (restIsZero) return set(value);
    if ((bits & ~zero) !== 0n) alu("and", reg, reg, constant(ALL_ONES & ~bits));
    alu("or", reg, reg, value);
    return out;
  }

  private load(inst: Inst & { op: "load" }, { reg }: Word): Inst[] {
    const common = inst.from === undefined ? {} : { from: inst.from };
    const { dst, size } = inst;
    const shift = 8 * (inst.off % WORD);
    const top = shift + 8 * SIZE_BYTES[size] === 64;
    if (size === "u64") return [{ op: "mov", dst, src: reg, ...common }];
    const shifted: Inst = { op: "alu", alu: "rsh", width: 64, dst, a: reg, b: shift, ...common };
    if (top) return [shifted];
    const mask = constant(ONES[size]);
    if (shift === 0) return [{ op: "alu", alu: "and", width: 64, dst, a: reg, b: mask, ...common }];
    return [shifted, { op: "alu", alu: "and", width: 64, dst, a: dst, b: mask, ...common }];
  }

  private rewrite(inst: Inst, state: State): readonly Inst[] {
    const at = inst.op === "store" || inst.op === "load" ? this.wordAt(inst.base, inst.off) : undefined;
    if (at !== undefined && inst.op === "store") return this.store(inst, at.word, state.get(at.key)!);
    if (at !== undefined && inst.op === "load") return this.load(inst, at.word);
    const written = this.read(inst).filter((key) => state.get(key)!.changed);
    const flush = [...new Set(written)].map((key): Inst => {
      const { slot, index, reg } = this.words.get(key)!;
      const common = inst.from === undefined ? {} : { from: inst.from };
      return { op: "store", size: "u64", base: slot, off: WORD * index, src: reg, ...common };
    });
    return [...flush, inst];
  }

  run(): Program {
    const states = this.states();
    const blocks = this.program.blocks.map((block, i): Block => {
      let state = states.get(block.id);
      // What nothing reaches is dropped by others.
      if (state === undefined) return block;
      const body: Inst[] = [];
      if (i === 0) for (const { reg } of this.words.values()) body.push({ op: "mov", dst: reg, src: 0 });
      for (const inst of block.body) {
        body.push(...this.rewrite(inst, state));
        state = this.after(inst, state);
      }
      return { ...block, body };
    });
    return { ...this.program, blocks };
  }
}

export const promoteSlots: Pass = {
  name: "promote-slots",
  doc: "puts stack words that are written in pieces together in registers",
  run: (program) => {
    const words = chooseWords(program);
    return words.size === 0 ? program : new Promoter(program, words).run();
  },
};
