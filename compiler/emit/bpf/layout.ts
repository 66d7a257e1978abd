// The order in which blocks are written out. What follows a block costs no jump, so the likely way follows. The
// kernel's verifier explores what follows first and puts the jump target on a stack of at most 8192: where nothing is
// said to be likely, the side that ends sooner follows, so that long chains of rules keep that stack short.

import type { Block, BlockId, Program } from "../../ir/types.js";
import { blocksById, successorsOf } from "../../ir/visit.js";

/** Conditional jumps in a program above which the likely side gives way to the side that ends at once. */
const CROWDED = 4096;

/** Jumps to the nearest end of the program, per block; ends themselves are 0. */
const distances = (program: Program): ReadonlyMap<BlockId, number> => {
  const predecessors = new Map<BlockId, BlockId[]>();
  for (const block of program.blocks)
    for (const to of successorsOf(block.end)) {
      const list = predecessors.get(to);
      if (list) list.push(block.id);
      else predecessors.set(to, [block.id]);
    }
  const distance = new Map<BlockId, number>();
  let wave = program.blocks.filter((b) => b.end.op === "return" || b.end.op === "tail_call").map((b) => b.id);
  for (let n = 0; wave.length > 0; n++) {
    const next: BlockId[] = [];
    for (const id of wave) {
      if (distance.has(id)) continue;
      distance.set(id, n);
      next.push(...(predecessors.get(id) ?? []));
    }
    wave = next;
  }
  return distance;
};

/**
 * Orders the blocks of `program`, the entry first. Each block is followed by its preferred successor unless that one has
 * been placed; when a run ends, the latest way not taken goes on.
 */
export const layOut = (program: Program): readonly Block[] => {
  const blocks = blocksById(program);
  const distance = distances(program);
  const crowded = program.blocks.filter((b) => b.end.op === "branch").length > CROWDED;

  /** Successors, the preferred one first. */
  const preferred = (block: Block): readonly BlockId[] => {
    const { end } = block;
    if (end.op !== "branch") return successorsOf(end);
    const far = (id: BlockId): number => distance.get(id) ?? Infinity;
    const thenFirst: readonly BlockId[] = [end.then, end.else];
    const elseFirst: readonly BlockId[] = [end.else, end.then];
    // `set` has no opposite jump, so its `then` can only be jumped to.
    if (end.cond === "set") return elseFirst;
    if (crowded && (far(end.then) === 0) !== (far(end.else) === 0)) return far(end.then) === 0 ? thenFirst : elseFirst;
    if (end.likely !== undefined) return end.likely === "then" ? thenFirst : elseFirst;
    return far(end.then) < far(end.else) ? thenFirst : elseFirst;
  };

  const order: Block[] = [];
  const placed = new Set<BlockId>();
  const waiting: BlockId[] = program.blocks.slice(0, 1).map((b) => b.id);
  for (let id; (id = waiting.pop()) !== undefined;) {
    for (let at: BlockId | undefined = id; at !== undefined && !placed.has(at);) {
      const block: Block = blocks.get(at)!;
      placed.add(at);
      order.push(block);
      const [first, ...rest] = preferred(block).filter((to) => !placed.has(to));
      waiting.push(...rest);
      at = first;
    }
  }
  return order;
};
