// combine-loads: loads and compares neighbouring bytes at once.
//
//   before                                  after
//   %a.1 = u16 [%p.0 + 12]                  %a.1 = u16 [%p.0 + 12]
//   %b.2 = u16 [%p.0 + 14]                  %b.2 = u16 [%p.0 + 14]
//   %c.3 = lsh %b.2, 16                     %c.3 = lsh %b.2, 16
//   %d.4 = or %a.1, %c.3                    %d.4 = u32 [%p.0 + 12]
//
//   %a.1 = u16 [%p.0 + 12]                  %a.1 = u16 [%p.0 + 12]
//   if ne %a.1, 8 then @9 else @1           %w.3 = u32 [%p.0 + 12]
//   @1:                                     if ne32 %w.3, 0x60008 then @9 else @2
//   %b.2 = u16 [%p.0 + 14]
//   if ne %b.2, 6 then @9 else @2
//
// For registers written by one instruction, loads in one block with nothing between them that writes memory, and compares of
// which the second block does nothing else. Both loads have been allowed before, so the wide one is, too; on the stack it
// must be aligned. What nothing reads any more is dropped by others.

import { SIZE_BYTES } from "../ir/check.js";
import { constant, isConstant, pattern } from "../ir/constant.js";
import { ONES } from "../ir/ones.js";
import type { Block, Inst, Program, Size, Slot, Terminator, VReg } from "../ir/types.js";
import { isReg, isSlot } from "../ir/types.js";
import {
  blocksById,
  countDefs,
  defOf,
  dropUnreached,
  endUsesOf,
  mapBlocks,
  successorsOf,
  usesOf,
} from "../ir/visit.js";
import type { Pass } from "./pass.js";

type Load = Inst & { readonly op: "load" };

const WIDER: Readonly<Partial<Record<Size, Size>>> = { u8: "u16", u16: "u32", u32: "u64" };

const sameBase = (a: VReg | Slot, b: VReg | Slot): boolean =>
  isSlot(a) ? isSlot(b) && a.slot === b.slot : !isSlot(b) && a.id === b.id;

/** The size of one load for both, where `high` is the neighbour above `low`. */
const joined = (low: Load, high: Load): Size | undefined => {
  const wide = low.size === high.size ? WIDER[low.size] : undefined;
  if (wide === undefined || !sameBase(low.base, high.base) || low.off + SIZE_BYTES[low.size] !== high.off)
    return undefined;
  if (!isSlot(low.base)) return low.base.kind === "packet" ? wide : undefined;
  return low.base.align >= SIZE_BYTES[wide] && low.off % SIZE_BYTES[wide] === 0 ? wide : undefined;
};

const writesMemory = (inst: Inst): boolean => inst.op === "store" || inst.op === "atomic_add" || inst.op === "call";

class Combiner {
  private readonly stable: (r: VReg) => boolean;
  private readonly blocks;
  private readonly nIn = new Map<number, number>();
  /** Blocks in which a register is read. */
  private readonly readIn = new Map<number, Set<number>>();
  private nextReg = 0;

  constructor(private readonly program: Program) {
    const defs = countDefs(program);
    this.stable = (r) => defs.get(r.id) === 1;
    this.blocks = blocksById(program);
    for (const { id, body, end } of program.blocks) {
      for (const to of successorsOf(end)) this.nIn.set(to, (this.nIn.get(to) ?? 0) + 1);
      for (const r of [...body.flatMap(usesOf), ...endUsesOf(end)]) {
        this.nextReg = Math.max(this.nextReg, r.id + 1);
        const where = this.readIn.get(r.id);
        if (where) where.add(id);
        else this.readIn.set(r.id, new Set([id]));
      }
      for (const inst of body) this.nextReg = Math.max(this.nextReg, (defOf(inst)?.id ?? -1) + 1);
    }
  }

  private stableLoad(inst: Inst | undefined): Load | undefined {
    if (inst?.op !== "load" || !this.stable(inst.dst)) return undefined;
    return isSlot(inst.base) || this.stable(inst.base) ? inst : undefined;
  }

  /** `low | high << n` of two loads as one load. */
  private sums(body: readonly Inst[]): readonly Inst[] {
    /** Loads since memory was last written, and shifts of them, by register. */
    const loads = new Map<number, Load>();
    const shifts = new Map<number, { readonly load: Load; readonly by: number }>();
    return body.map((inst): Inst => {
      if (writesMemory(inst)) {
        loads.clear();
        shifts.clear();
        return inst;
      }
      const load = this.stableLoad(inst);
      if (load !== undefined) loads.set(load.dst.id, load);
      if (inst.op !== "alu" || inst.width !== 64 || !isReg(inst.a)) return inst;
      const { a, b, dst } = inst;
      const shifted = loads.get(a.id);
      if (inst.alu === "lsh" && shifted !== undefined && typeof b === "number" && this.stable(dst))
        shifts.set(dst.id, { load: shifted, by: b });
      if (inst.alu !== "or" || !isReg(b)) return inst;
      for (const [x, y] of [
        [a, b],
        [b, a],
      ] as const) {
        const [low, high] = [loads.get(x.id), shifts.get(y.id)];
        if (low === undefined || high === undefined || high.by !== 8 * SIZE_BYTES[low.size]) continue;
        const size = joined(low, high.load);
        if (size === undefined) continue;
        const common = inst.from === undefined ? {} : { from: inst.from };
        return { op: "load", size, dst, base: low.base, off: low.off, ...common };
      }
      return inst;
    });
  }

  /** A compare of the block's last load, and one of its neighbour right behind it, as one. */
  private compares(block: Block): Block {
    const { body, end } = block;
    const first = this.compared(body, end);
    if (first === undefined || end.op !== "branch") return block;
    const next = this.blocks.get(end.else);
    if (next === undefined || this.nIn.get(next.id) !== 1 || next.body.length !== 1 || next.end.op !== "branch")
      return block;
    const second = this.compared(next.body, next.end);
    if (second === undefined || next.end.then !== end.then || next.end.else === end.then) return block;
    // The second value is loaded by the block that goes: nobody else may want it.
    if ([...(this.readIn.get(second.load.dst.id) ?? [])].some((id) => id !== next.id)) return block;
    const [low, high] = first.load.off < second.load.off ? [first, second] : [second, first];
    const size = joined(low.load, high.load);
    if (size === undefined) return block;
    const dst: VReg = { id: this.nextReg++, kind: "scalar", hint: "pair" };
    const want = constant(low.want | (high.want << BigInt(8 * SIZE_BYTES[low.load.size])));
    const common = end.from === undefined ? {} : { from: end.from };
    const wide: Load = { op: "load", size, dst, base: low.load.base, off: low.load.off, ...common };
    const width = size === "u64" ? 64 : 32;
    return { ...block, body: [...body, wide], end: { ...end, width, a: dst, b: want, else: next.end.else } };
  }

  /** The load whose value `end` leaves for `then` unless it is `want`; nothing may write memory behind it. */
  private compared(body: readonly Inst[], end: Terminator): { readonly load: Load; readonly want: bigint } | undefined {
    if (end.op !== "branch" || end.cond !== "ne" || !isConstant(end.b)) return undefined;
    for (let i = body.length - 1; i >= 0; i--) {
      const inst = body[i]!;
      if (writesMemory(inst)) return undefined;
      if (defOf(inst)?.id !== end.a.id) continue;
      const load = this.stableLoad(inst);
      const want = pattern(end.b) & (end.width === 32 ? ONES.u32 : ONES.u64);
      return load === undefined || want > ONES[load.size] ? undefined : { load, want };
    }
    return undefined;
  }

  run(): Program {
    const combined = mapBlocks(this.program, (block) => {
      const body = this.sums(block.body);
      const same = body.every((inst, i) => inst === block.body[i]);
      return this.compares(same ? block : { ...block, body });
    });
    return combined === this.program ? combined : dropUnreached(combined);
  }
}

export const combineLoads: Pass = {
  name: "combine-loads",
  doc: "loads and compares neighbouring bytes at once",
  run: (program) => new Combiner(program).run(),
};
