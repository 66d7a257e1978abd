// drop-dead: drops what nothing uses.
//
//   before                     after
//   %a.0 = u16 [%data.5]       return 2
//   u64 [$unread.1] = 0
//   return 2
//
// Instructions without an effect beyond their result go when the result is not read before it is written again; stores to a
// slot go when nothing loads from it and no helper gets its address; blocks go when nothing reaches them. Calls stay.

import type { Block, BlockId, Inst, Program } from "../ir/types.js";
import { isSlot } from "../ir/types.js";
import {
  blocksById,
  defOf,
  dropUnreached,
  endUsesOf,
  isSlotArg,
  mapBlocks,
  successorsOf,
  usesOf,
} from "../ir/visit.js";
import type { Pass } from "./pass.js";

const readSlots = (program: Program): ReadonlySet<number> => {
  const read = new Set<number>();
  for (const block of program.blocks)
    for (const inst of block.body) {
      if (inst.op === "load" && isSlot(inst.base)) read.add(inst.base.slot);
      if (inst.op === "call")
        for (const arg of inst.args) if (typeof arg === "object" && isSlotArg(arg)) read.add(arg.at.slot);
    }
  return read;
};

/** Whether `inst` does nothing but write its result. */
const isPure = (inst: Inst): boolean => inst.op !== "store" && inst.op !== "atomic_add" && inst.op !== "call";

/** The block without dead instructions, and the registers live at its start. */
const sweep = (
  block: Block,
  liveOut: ReadonlySet<number>,
  read: ReadonlySet<number>,
): { block: Block; liveIn: Set<number> } => {
  const live = new Set(liveOut);
  for (const r of endUsesOf(block.end)) live.add(r.id);
  const kept: Inst[] = [];
  for (let i = block.body.length - 1; i >= 0; i--) {
    const inst = block.body[i]!;
    const dst = defOf(inst);
    if (dst !== undefined && isPure(inst) && !live.has(dst.id)) continue;
    if (inst.op === "mov" && inst.src === inst.dst) continue;
    if (inst.op === "store" && isSlot(inst.base) && !read.has(inst.base.slot)) continue;
    if (dst !== undefined) live.delete(dst.id);
    for (const r of usesOf(inst)) live.add(r.id);
    kept.push(inst);
  }
  const swept = kept.length === block.body.length ? block : { ...block, body: kept.reverse() };
  return { block: swept, liveIn: live };
};

const run: Pass["run"] = (program) => {
  const alive = dropUnreached(program);
  const read = readSlots(alive);
  const blocks = blocksById(alive);
  const predecessors = new Map<BlockId, BlockId[]>();
  for (const block of alive.blocks)
    for (const to of successorsOf(block.end)) {
      const list = predecessors.get(to);
      if (list) list.push(block.id);
      else predecessors.set(to, [block.id]);
    }
  const liveIn = new Map<BlockId, Set<number>>();
  const liveOut = (block: Block): Set<number> => {
    const out = new Set<number>();
    for (const to of successorsOf(block.end)) for (const id of liveIn.get(to) ?? []) out.add(id);
    return out;
  };
  const todo = alive.blocks.map((b) => b.id);
  const queued = new Set(todo);
  for (let id; (id = todo.pop()) !== undefined;) {
    queued.delete(id);
    const block = blocks.get(id)!;
    const now = sweep(block, liveOut(block), read).liveIn;
    if (liveIn.get(id)?.size === now.size) continue;
    liveIn.set(id, now);
    for (const from of predecessors.get(id) ?? [])
      if (!queued.has(from)) {
        queued.add(from);
        todo.push(from);
      }
  }
  return mapBlocks(alive, (block) => sweep(block, liveOut(block), read).block);
};

export const dropDead: Pass = {
  name: "drop-dead",
  doc: "drops results, stores and blocks that nothing uses",
  run,
};
