// thread-jumps: jumps to where control ends up, and joins blocks that only follow each other.
//
//   before                              after
//   @0:                                 @0:
//   if eq %a.0, 0 then @1 else @2       if eq %a.0, 0 then @3 else @2
//   @1:                                 ...
//   jump @3
//
// Blocks that nothing reaches any more are dropped.

import type { Block, BlockId, Program, Terminator } from "../ir/types.js";
import { blocksById, dropUnreached, mapBlocks, retarget, successorsOf } from "../ir/visit.js";
import type { Pass } from "./pass.js";

/** Where a jump to `id` ends up after blocks that do nothing but jump on. */
const destination = (blocks: ReadonlyMap<BlockId, Block>, id: BlockId): BlockId => {
  const seen = new Set<BlockId>();
  let at = id;
  for (;;) {
    const block = blocks.get(at);
    if (block?.end.op !== "jump" || block.body.length > 0 || seen.has(at)) return at;
    seen.add(at);
    at = block.end.to;
  }
};

/** A branch whose two ways are one is a jump. */
const straighten = (end: Terminator): Terminator => {
  if (end.op !== "branch" || end.then !== end.else) return end;
  return end.from === undefined ? { op: "jump", to: end.then } : { op: "jump", to: end.then, from: end.from };
};

/** Appends to each block the one it jumps to, if it is the only way there. */
const join = (program: Program): Program => {
  const nIn = new Map<BlockId, number>();
  for (const block of program.blocks) for (const to of successorsOf(block.end)) nIn.set(to, (nIn.get(to) ?? 0) + 1);
  const blocks = blocksById(program);
  const entry = program.blocks[0];
  const swallowed = new Set<BlockId>();
  /** The block that only `end` leads to. */
  const follower = (end: Terminator): Block | undefined => {
    if (end.op !== "jump" || nIn.get(end.to) !== 1) return undefined;
    const next = blocks.get(end.to)!;
    return next === entry || swallowed.has(next.id) ? undefined : next;
  };
  // A block that is swallowed hands on what follows it to its swallower: start at the heads of chains.
  const followers = new Set(program.blocks.map((b) => follower(b.end)?.id));
  const heads = new Map<BlockId, Block>();
  for (const head of program.blocks.filter((b) => !followers.has(b.id))) {
    const body = [...head.body];
    let { end } = head;
    for (let next; (next = follower(end)) !== undefined;) {
      swallowed.add(next.id);
      body.push(...next.body);
      end = next.end;
    }
    heads.set(head.id, end === head.end ? head : { ...head, body, end });
  }
  if (swallowed.size === 0) return program;
  const left = program.blocks.filter((b) => !swallowed.has(b.id));
  return { ...program, blocks: left.map((b) => heads.get(b.id) ?? b) };
};

const run: Pass["run"] = (program) => {
  const blocks = blocksById(program);
  const threaded = mapBlocks(program, (block) => {
    const end = straighten(retarget(block.end, (to) => destination(blocks, to)));
    return end === block.end ? block : { ...block, end };
  });
  return join(dropUnreached(threaded));
};

export const threadJumps: Pass = {
  name: "thread-jumps",
  doc: "jumps to where control ends up and joins blocks that only follow each other",
  run,
};
