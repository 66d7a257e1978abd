// Register allocation by linear scan over live ranges with holes.
//
// Register plan: r10 frame pointer; r6..r9 what lives across calls, the context among it when a call or a context read
// comes after the first call; r0..r5 everything else, arguments preferably where the call wants them, results in r0.
//
// A round computes liveness, joins the two sides of copies that do not overlap, and walks the registers by start of life.
// One that finds no register free takes the place of whatever is cheapest to spill. Spilled registers are split into
// segments, spilled segments into registers that live around one instruction (or a constant is made again), and the next
// round starts over. Every round lowers the level of at least one register, the last level is never spilled: this ends. Spilled
// values that never live at one time share their slot.

import { IrError } from "../../ir/error.js";
import type { Slot } from "../../ir/types.js";
import { defOf, renameRegs, type LInst, type LProgram, type Reg } from "./lir.js";
import { liveness, type Liveness } from "./liveness.js";
import { bounds, contains, extent, intersects, union, type Ranges } from "./ranges.js";
import { dropDeadStores, shareSlots } from "./share-slots.js";
import { spill, type Level, type SpillState } from "./spill.js";

/** A machine register number 0..9. */
export type Phys = number;

const KEPT_BY_CALLS: readonly Phys[] = [6, 7, 8, 9];
/** Arguments and results want the low ones, so others start from the top. */
const LOST_BY_CALLS: readonly Phys[] = [5, 4, 3, 2, 1, 0];
const ALL: readonly Phys[] = [...LOST_BY_CALLS, ...KEPT_BY_CALLS];

/** A join that makes a register live across calls is worth it only if the other side is short: positions. */
const SHORT_LIFE = 64;

/** Result of {@link allocate}: the rewritten program and a machine register per virtual one. */
export interface Allocation {
  readonly program: LProgram;
  readonly physOf: (r: Reg) => Phys;
  /** Stack slots that spilling added, by the number of the slot that a value was given at first; several may be one. */
  readonly spillSlots: ReadonlyMap<number, Slot>;
}

/** What a register would like to share a machine register with. */
type Hint = { readonly phys: Phys } | { readonly reg: Reg };

interface Life {
  readonly reg: Reg;
  readonly ranges: Ranges;
  readonly crossesCall: boolean;
  /** Cost of spilling: uses per length. Infinite for what lives around one instruction. */
  readonly weight: number;
  readonly hints: readonly Hint[];
}

const crossesCall = (ranges: Ranges, calls: readonly number[]): boolean => {
  // Few calls lie within one life: find the first at or after its start, then look while inside its bounds.
  const [start, end] = bounds(ranges);
  let low = 0;
  let high = calls.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (calls[mid]! < start) low = mid + 1;
    else high = mid;
  }
  for (let i = low; i < calls.length && calls[i]! < end; i++) if (contains(ranges, calls[i]!)) return true;
  return false;
};

/** Union-find over registers, and the ranges of each group. */
class Groups {
  private readonly parent: Reg[];
  readonly ranges: Ranges[];
  readonly weights: number[];
  readonly levels: Level[];
  readonly homes: Map<Reg, Slot>;

  constructor(
    live: Liveness,
    state: SpillState,
    private readonly calls: readonly number[],
  ) {
    this.parent = live.ranges.map((_, r) => r);
    this.ranges = [...live.ranges];
    this.weights = [...live.weights];
    this.levels = live.ranges.map((_, r) => state.levels[r] ?? 0);
    this.homes = new Map(state.homes);
  }

  root(r: Reg): Reg {
    let at = r;
    while (this.parent[at] !== at) {
      this.parent[at] = this.parent[this.parent[at]!]!;
      at = this.parent[at]!;
    }
    return at;
  }

  crosses(root: Reg): boolean {
    return crossesCall(this.ranges[root]!, this.calls);
  }

  /** Makes `a` and `b` one register if they never hold different values at one time and joining does not cost more. */
  join(a: Reg, b: Reg): void {
    const x = this.root(a);
    const y = this.root(b);
    if (x === y || intersects(this.ranges[x]!, this.ranges[y]!)) return;
    const crossX = this.crosses(x);
    const crossY = this.crosses(y);
    if (crossX !== crossY && extent(this.ranges[crossX ? y : x]!) > SHORT_LIFE) return;
    this.parent[y] = x;
    this.ranges[x] = union(this.ranges[x]!, this.ranges[y]!);
    this.weights[x]! += this.weights[y]!;
    this.levels[x] = Math.min(this.levels[x]!, this.levels[y]!) as Level;
    if (this.homes.get(x) !== this.homes.get(y)) this.homes.delete(x);
    this.homes.delete(y);
  }
}

const eachInst = (program: LProgram, f: (inst: LInst) => void): void => {
  for (const block of program.blocks) for (const inst of block.insts) f(inst);
};

/** Joins copies, renames every register to its group and drops copies that became empty. */
const coalesce = (program: LProgram, groups: Groups): LProgram => {
  eachInst(program, (inst) => {
    if (inst.op === "mov" && inst.width === 64) groups.join(inst.dst, inst.src);
  });
  const root = (r: Reg): Reg => groups.root(r);
  const blocks = program.blocks.map((block) => ({
    ...block,
    insts: block.insts
      .map((inst) => renameRegs(inst, root))
      .filter((inst) => !(inst.op === "mov" && inst.width === 64 && inst.dst === inst.src)),
  }));
  return { ...program, blocks };
};

const hintsOf = (program: LProgram): Hint[][] => {
  const hints: Hint[][] = Array.from({ length: program.nRegs }, () => []);
  eachInst(program, (inst) => {
    if (inst.op === "entry") hints[inst.dst]!.push({ phys: 1 });
    else if (inst.op === "mov") {
      hints[inst.dst]!.push({ reg: inst.src });
      hints[inst.src]!.push({ reg: inst.dst });
    } else if (inst.op === "call" || inst.op === "tail_call") {
      inst.args.forEach((arg, i) => {
        if ("reg" in arg) hints[arg.reg]!.push({ phys: i + 1 });
      });
      const dst = defOf(inst);
      if (dst !== undefined) hints[dst]!.unshift({ phys: 0 });
    } else if (inst.op === "return" && "reg" in inst.value) hints[inst.value.reg]!.push({ phys: 0 });
  });
  return hints;
};

/** One linear scan. @returns the assignment, or the registers to spill */
const scan = (lives: readonly Life[], nRegs: number): { assigned: Int8Array; spilled: Reg[] } => {
  const assigned = new Int8Array(nRegs).fill(-1);
  const spilled: Reg[] = [];
  const holders: Life[][] = Array.from({ length: 10 }, () => []);

  const blockers = (life: Life, phys: Phys): readonly Life[] => {
    const start = bounds(life.ranges)[0];
    const still = holders[phys]!.filter((h) => bounds(h.ranges)[1] > start);
    holders[phys] = still;
    return still.filter((h) => intersects(h.ranges, life.ranges));
  };
  const choices = (life: Life): readonly Phys[] => {
    const allowed = life.crossesCall ? KEPT_BY_CALLS : ALL;
    const wanted = life.hints
      .map((h) => ("phys" in h ? h.phys : assigned[h.reg]!))
      .filter((p) => p >= 0 && allowed.includes(p));
    return [...new Set([...wanted, ...allowed])];
  };

  for (const life of lives) {
    let cheapest: { phys: Phys; victims: readonly Life[]; cost: number } | undefined;
    let found: Phys | undefined;
    for (const phys of choices(life)) {
      const victims = blockers(life, phys);
      if (victims.length === 0) {
        found = phys;
        break;
      }
      const cost = victims.reduce((sum, v) => sum + v.weight, 0);
      if (cheapest === undefined || cost < cheapest.cost) cheapest = { phys, victims, cost };
    }
    if (found === undefined && (cheapest === undefined || cheapest.cost >= life.weight)) {
      spilled.push(life.reg);
      continue;
    }
    if (found === undefined && cheapest !== undefined) {
      for (const victim of cheapest.victims) {
        spilled.push(victim.reg);
        assigned[victim.reg] = -1;
      }
      holders[cheapest.phys] = holders[cheapest.phys]!.filter((h) => !cheapest.victims.includes(h));
      found = cheapest.phys;
    }
    assigned[life.reg] = found!;
    holders[found!]!.push(life);
  }
  return { assigned, spilled };
};

/**
 * Assigns machine registers.
 * @param firstSlot - number for the first stack slot that spilling adds
 */
export const allocate = (source: LProgram, firstSlot: number): Allocation => {
  let program = source;
  let state: SpillState = { levels: [], homes: new Map(), slots: [] };
  for (;;) {
    const live = liveness(program);
    const groups = new Groups(live, state, live.calls);
    program = coalesce(program, groups);
    const hints = hintsOf(program);
    const lives: Life[] = [];
    for (let reg = 0; reg < program.nRegs; reg++) {
      const ranges = groups.ranges[reg]!;
      if (groups.root(reg) !== reg || ranges.length === 0) continue;
      lives.push({
        reg,
        ranges,
        crossesCall: groups.crosses(reg),
        weight: groups.levels[reg] === 2 ? Infinity : groups.weights[reg]! / extent(ranges),
        hints: hints[reg]!,
      });
    }
    lives.sort((a, b) => a.ranges[0]! - b.ranges[0]! || a.reg - b.reg);
    const { assigned, spilled } = scan(lives, program.nRegs);
    if (spilled.length === 0) {
      const lean = dropDeadStores(program, state.slots);
      return { program: lean, physOf: (r) => assigned[r]!, spillSlots: shareSlots(lean, state.slots) };
    }
    const stuck = spilled.find((r) => groups.levels[r] === 2);
    if (stuck !== undefined)
      throw new IrError({ program: program.name }, `no machine register is left for %${program.hints[stuck]}`);
    const now = { levels: groups.levels, homes: groups.homes, slots: state.slots };
    ({ program, state } = spill(program, new Set(spilled), now, firstSlot));
  }
};
