// Where every instruction goes, and how jumps reach their targets. A jump has a signed 16-bit distance; targets farther
// away are reached in one of two ways, chosen by the caller:
//
//   gotol    `if c goto FAR`  →  `if !c goto +1; gotol FAR`       one more slot, Linux 6.6
//   islands  `if c goto FAR`  →  `if c goto STOP` … STOP: `goto FAR` (or the next stop)
//
// Islands stand between instructions every few thousand slots, are jumped over where the code before them falls through,
// and hold one `goto` (a stop) per far target that passes by. Every slot that is inserted is reached by some jump: the
// verifier refuses unreachable instructions.

import { AssembleError } from "../base/errors.js";
import type { Insn, Label } from "../isa/insn.js";
import { hasShortTarget, JMP, OP } from "../isa/opcode.js";

/**
 * Longest distance that is jumped, the same both ways: 16 bits hold 32,767, but the kernel puts instructions in between once a
 * program is verified (for fields of the context and look-ups in maps), and refuses one whose jumps then are too long.
 */
const SHORT_REACH = 0x7000;
/** Instructions between two places where an island may stand: three are in reach each way. */
const ISLAND_SPACING = 8192;
/** How many instructions an island is moved to stand where no `goto` over it is needed. */
const ISLAND_SLACK = 1024;

/** A place before instruction `at` for `goto`s on the way of far jumps. */
export interface Island {
  readonly at: number;
  /** Whether its first slot must jump over it. */
  readonly around: boolean;
  /** First slot. */
  slot: number;
  stops: Stop[];
}

/** One `goto` of an island: to the target, or to the next stop on the way. */
export interface Stop {
  readonly island: Island;
  readonly to: Label;
  next: Stop | undefined;
}

/** Result of {@link layOut}. */
export interface Layout {
  /** Slot of each instruction, then the number of slots. */
  readonly slots: Uint32Array;
  /** Per instruction: 1 if it reaches its target by `gotol`. */
  readonly far: Uint8Array;
  readonly islands: readonly Island[];
  /** Per instruction: where its jump goes first, when not straight to the target. */
  readonly via: readonly (Stop | undefined)[];
}

/** Jump operation bits to those of the opposite jump. `jset` and `may_goto` have none. */
export const OPPOSITE: Readonly<Record<number, number>> = Object.freeze(
  Object.fromEntries(
    (
      [
        [JMP.jeq, JMP.jne],
        [JMP.jgt, JMP.jle],
        [JMP.jge, JMP.jlt],
        [JMP.jsgt, JMP.jsle],
        [JMP.jsge, JMP.jslt],
      ] as const
    ).flatMap(([a, b]) => [
      [a, b],
      [b, a],
    ]),
  ),
);

/** Slot of a stop. */
export const stopSlot = (stop: Stop): number =>
  stop.island.slot + (stop.island.around ? 1 : 0) + stop.island.stops.indexOf(stop);

/** Whether nothing falls through past `insn`. */
const endsFlow = (insn: Insn): boolean => insn.code === OP.exit || insn.code === OP.ja || insn.code === OP.gotol;

const isShortJump = (insn: Insn): insn is Insn & { readonly to: Label } =>
  insn.to !== undefined && hasShortTarget(insn.code);

const slotsOf = (insn: Insn, far: boolean): number => {
  if (insn.imm64 !== undefined) return 2;
  if (!far || insn.code === OP.ja) return 1;
  return OPPOSITE[insn.code & 0xf0] === undefined ? 3 : 2;
};

const inReach = (from: number, to: number): boolean => Math.abs(to - from - 1) <= SHORT_REACH;

/** Far jumps by `gotol`. Jumps only ever grow, so this ends. */
const layoutWithGotol = (insns: readonly Insn[], targets: ReadonlyMap<Label, number>): Layout => {
  const far = new Uint8Array(insns.length);
  const slots = new Uint32Array(insns.length + 1);
  for (let grew = true; grew;) {
    insns.forEach((insn, i) => (slots[i + 1] = slots[i]! + slotsOf(insn, far[i] === 1)));
    grew = false;
    insns.forEach((insn, i) => {
      if (far[i] === 1 || !isShortJump(insn) || inReach(slots[i]!, slots[targets.get(insn.to)!]!)) return;
      far[i] = 1;
      grew = true;
    });
  }
  return { slots, far, islands: [], via: [] };
};

/** The places where islands may stand, ascending, all empty. */
const islandSites = (insns: readonly Insn[]): Island[] => {
  const sites: Island[] = [];
  for (let want = ISLAND_SPACING; want < insns.length; want += ISLAND_SPACING) {
    const end = Math.min(want + ISLAND_SLACK, insns.length);
    let at = want;
    while (at < end && !endsFlow(insns[at - 1]!)) at++;
    const around = at === end;
    sites.push({ at: around ? want : at, around, slot: 0, stops: [] });
  }
  return sites;
};

/** Gives every instruction and island its slot. */
const place = (insns: readonly Insn[], islands: readonly Island[], slots: Uint32Array): void => {
  let slot = 0;
  let next = 0;
  insns.forEach((insn, i) => {
    for (let island = islands[next]; island?.at === i; island = islands[++next]) {
      island.slot = slot;
      if (island.stops.length > 0) slot += island.stops.length + (island.around ? 1 : 0);
    }
    slots[i] = slot;
    slot += slotsOf(insn, false);
  });
  slots[insns.length] = slot;
};

/** The island farthest on the way from slot `from` to slot `goal` whose (perhaps future) stop for `to` is in reach. */
const farthest = (islands: readonly Island[], from: number, goal: number, to: Label): Island => {
  let best: Island | undefined;
  let bestLeft = Infinity;
  for (const island of islands) {
    const known = island.stops.find((stop) => stop.to === to);
    const at = known ? stopSlot(known) : island.slot + (island.around ? 1 : 0) + island.stops.length;
    const onTheWay = goal > from ? at > from && at < goal : at < from && at > goal;
    const left = Math.abs(goal - at);
    if (!onTheWay || !inReach(from, at) || left >= bestLeft) continue;
    best = island;
    bestLeft = left;
  }
  if (best) return best;
  throw new AssembleError(
    `Cannot assemble a jump from slot ${from} to label "${to.hint}" at slot ${goal}: ` +
      "too many far targets to go by 16-bit jumps, want gotol",
  );
};

/** Far jumps over islands. Islands only grow until every jump is in reach, so this ends. */
const layoutWithIslands = (insns: readonly Insn[], targets: ReadonlyMap<Label, number>): Layout => {
  const islands = islandSites(insns);
  const slots = new Uint32Array(insns.length + 1);
  const via: (Stop | undefined)[] = [];
  let grew = true;

  const hop = (from: number, to: Label): Stop | undefined => {
    const goal = slots[targets.get(to)!]!;
    if (inReach(from, goal)) return undefined;
    const island = farthest(islands, from, goal, to);
    const known = island.stops.find((stop) => stop.to === to);
    if (known) return known;
    const stop: Stop = { island, to, next: undefined };
    island.stops.push(stop);
    grew = true;
    return stop;
  };
  while (grew) {
    place(insns, islands, slots);
    grew = false;
    insns.forEach((insn, i) => (via[i] = isShortJump(insn) ? hop(slots[i]!, insn.to) : undefined));
    for (const island of islands) for (const stop of island.stops) stop.next = hop(stopSlot(stop), stop.to);
  }

  // An earlier round may have left stops that no jump uses any more. Taking them out only shortens distances.
  const used = new Set<Stop>();
  for (const first of via) for (let stop = first; stop; stop = stop.next) used.add(stop);
  for (const island of islands) island.stops = island.stops.filter((stop) => used.has(stop));
  place(insns, islands, slots);
  return { slots, far: new Uint8Array(insns.length), islands, via };
};

/**
 * Places instructions.
 *
 * @param targets - instruction index of each label
 * @param gotol - whether far jumps may use `gotol`
 * @throws {@link AssembleError} if islands cannot carry all far jumps
 */
export const layOut = (insns: readonly Insn[], targets: ReadonlyMap<Label, number>, gotol: boolean): Layout => {
  const layout = layoutWithGotol(insns, targets);
  return gotol || !layout.far.includes(1) ? layout : layoutWithIslands(insns, targets);
};
