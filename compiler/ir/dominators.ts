// Through which block every path to another one comes last (its immediate dominator), by the iterative algorithm of Cooper, Harvey and
// Kennedy over reverse postorder.

import type { Block, BlockId, Program } from "./types.js";
import { blocksById, successorsOf } from "./visit.js";

/** Blocks that the entry reaches, each before its successors unless a loop leads back. */
export const reversePostorder = (program: Program): readonly Block[] => {
  const blocks = blocksById(program);
  const entry = program.blocks[0];
  if (entry === undefined) return [];
  const seen = new Set<BlockId>([entry.id]);
  const order: Block[] = [];
  const path = [{ block: entry, turn: 0 }];
  for (let top; (top = path.at(-1)) !== undefined;) {
    const to = successorsOf(top.block.end)[top.turn++];
    if (to === undefined) {
      order.push(top.block);
      path.pop();
    } else if (!seen.has(to)) {
      seen.add(to);
      path.push({ block: blocks.get(to)!, turn: 0 });
    }
  }
  return order.reverse();
};

/** The immediate dominator of every reached block but the entry, and the order it was found in. */
export const dominators = (
  program: Program,
): { readonly order: readonly Block[]; readonly idom: ReadonlyMap<BlockId, BlockId> } => {
  const order = reversePostorder(program);
  const rank = new Map(order.map(({ id }, i) => [id, i]));
  const predecessors: number[][] = order.map(() => []);
  order.forEach(({ end }, i) => {
    for (const to of successorsOf(end)) predecessors[rank.get(to)!]!.push(i);
  });
  // By rank; -1 where nothing is known yet.
  const idom = order.map((_, i): number => (i === 0 ? 0 : -1));
  const common = (a: number, b: number): number => {
    while (a !== b) {
      while (a > b) a = idom[a]!;
      while (b > a) b = idom[b]!;
    }
    return a;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (let i = 1; i < order.length; i++) {
      let now = -1;
      for (const from of predecessors[i]!) if (idom[from] !== -1) now = now === -1 ? from : common(from, now);
      if (now === idom[i]) continue;
      idom[i] = now;
      changed = true;
    }
  }
  return { order, idom: new Map(order.slice(1).map(({ id }, i) => [id, order[idom[i + 1]!]!.id])) };
};
