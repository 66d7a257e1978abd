// When each virtual register is live, as ranges of positions. Instruction number i (counted over all blocks in order)
// spans positions 4i..4i+3: it reads at 4i, calls lose r0..r5 at 4i+1, it writes at 4i+2. So a register whose last use
// is at i and one that i writes do not overlap, and a call's result does not overlap what the call loses.

import type { BlockId } from "../../ir/types.js";
import { defOf, isCall, targetsOf, usesOf, type LBlock, type LProgram, type Reg } from "./lir.js";
import type { Ranges } from "./ranges.js";

/** Positions of one instruction. */
export const STRIDE = 4;
const CLOBBER = 1;
const WRITE = 2;

export interface Liveness {
  /** Per register; empty for one that never occurs. */
  readonly ranges: readonly Ranges[];
  /** Positions at which r0..r5 are lost, ascending. */
  readonly calls: readonly number[];
  /** Per register: reads and writes, each counted as often as it is expected to run. */
  readonly weights: readonly number[];
}

/** How often a loop is expected to run. */
const LOOP_WEIGHT = 8;
/** Share of the packets that go the likely way. */
const LIKELY = 15 / 16;

interface BlockFacts {
  /** Read before written, and live at the end: registers of more than one block only. */
  readonly liveIn: Set<Reg>;
  readonly liveOut: Set<Reg>;
  readonly written: Set<Reg>;
}

const upwardExposed = (block: LBlock): { exposed: Set<Reg>; written: Set<Reg> } => {
  const exposed = new Set<Reg>();
  const written = new Set<Reg>();
  for (const inst of block.insts) {
    for (const r of usesOf(inst)) if (!written.has(r)) exposed.add(r);
    const dst = defOf(inst);
    if (dst !== undefined) written.add(dst);
  }
  return { exposed, written };
};

/** Backward dataflow to a fixed point; a block is looked at again when what is live after it grew. */
const blockFacts = (program: LProgram): Map<BlockId, BlockFacts> => {
  const facts = new Map<BlockId, BlockFacts>();
  const predecessors = new Map<BlockId, BlockId[]>();
  for (const block of program.blocks) {
    const { exposed, written } = upwardExposed(block);
    facts.set(block.id, { liveIn: exposed, liveOut: new Set(), written });
    for (const to of targetsOf(block.insts.at(-1)!)) {
      const list = predecessors.get(to);
      if (list) list.push(block.id);
      else predecessors.set(to, [block.id]);
    }
  }
  const todo = program.blocks.map((b) => b.id);
  const queued = new Set(todo);
  for (let id; (id = todo.pop()) !== undefined;) {
    queued.delete(id);
    const { liveIn } = facts.get(id)!;
    for (const from of predecessors.get(id) ?? []) {
      const before = facts.get(from)!;
      let grew = false;
      for (const r of liveIn) {
        if (before.liveOut.has(r)) continue;
        before.liveOut.add(r);
        if (before.written.has(r) || before.liveIn.has(r)) continue;
        before.liveIn.add(r);
        grew = true;
      }
      if (grew && !queued.has(from)) {
        queued.add(from);
        todo.push(from);
      }
    }
  }
  return facts;
};

/** Jumps back to a block that is still being visited, and the blocks each after all other jumps to it. */
const traverse = (blocks: readonly LBlock[]): { loops: (readonly [from: number, to: number])[]; order: number[] } => {
  const index = new Map(blocks.map((b, i) => [b.id, i]));
  const next = blocks.map((b) => targetsOf(b.insts.at(-1)!).map((id) => index.get(id)!));
  const loops: (readonly [number, number])[] = [];
  const order: number[] = [];
  const state = new Uint8Array(blocks.length); // 0 not seen, 1 being visited, 2 done
  const path: { at: number; turn: number }[] = [{ at: 0, turn: 0 }];
  state[0] = 1;
  for (let top; (top = path.at(-1)) !== undefined;) {
    const to = next[top.at]![top.turn++];
    if (to === undefined) {
      state[top.at] = 2;
      order.push(top.at);
      path.pop();
    } else if (state[to] === 1) loops.push([top.at, to]);
    else if (state[to] === 0) {
      state[to] = 1;
      path.push({ at: to, turn: 0 });
    }
  }
  return { loops, order: order.reverse() };
};

/**
 * How often each block is expected to run per packet. Blocks laid out between the ends of a loop count as inside it.
 */
const frequencies = (blocks: readonly LBlock[]): number[] => {
  const { loops, order } = traverse(blocks);
  const index = new Map(blocks.map((b, i) => [b.id, i]));
  const back = new Set(loops.map(([from, to]) => from * blocks.length + to));
  const frequency = blocks.map(() => 0);
  frequency[0] = 1;
  for (const i of order) {
    const end = blocks[i]!.insts.at(-1)!;
    const targets = targetsOf(end);
    targets.forEach((id, way) => {
      const to = index.get(id)!;
      if (back.has(i * blocks.length + to)) return;
      const likely = end.op === "branch" ? end.likely : undefined;
      const share =
        likely === undefined ? 1 / targets.length : (likely === "then") === (way === 0) ? LIKELY : 1 - LIKELY;
      frequency[to]! += frequency[i]! * share;
    });
  }
  for (const [from, to] of loops)
    for (let k = Math.min(from, to); k <= Math.max(from, to); k++) frequency[k]! *= LOOP_WEIGHT;
  return frequency;
};

/** Registers that are wanted after each block. */
export const liveAfter = (program: LProgram): ReadonlyMap<BlockId, ReadonlySet<Reg>> =>
  new Map([...blockFacts(program)].map(([id, { liveOut }]) => [id, liveOut]));

export const liveness = (program: LProgram): Liveness => {
  const facts = blockFacts(program);
  const often = frequencies(program.blocks);
  // Ranges are found from the end of the program to its start, so they are collected in reverse.
  const reversed: number[][] = Array.from({ length: program.nRegs }, () => []);
  const weights = new Array<number>(program.nRegs).fill(0);
  const calls: number[] = [];

  const total = program.blocks.reduce((n, b) => n + b.insts.length, 0);
  let start = total;
  for (let b = program.blocks.length - 1; b >= 0; b--) {
    const block = program.blocks[b]!;
    const weight = often[b]!;
    const blockEnd = start * STRIDE;
    start -= block.insts.length;
    const liveUntil = new Map<Reg, number>();
    for (const r of facts.get(block.id)!.liveOut) liveUntil.set(r, blockEnd);
    const close = (r: Reg, from: number, to: number): void => {
      const out = reversed[r]!;
      if (out.at(-1) === to) out[out.length - 1] = from;
      else out.push(to, from);
    };
    for (let i = block.insts.length - 1; i >= 0; i--) {
      const inst = block.insts[i]!;
      const at = (start + i) * STRIDE;
      if (isCall(inst)) calls.push(at + CLOBBER);
      const dst = defOf(inst);
      if (dst !== undefined) {
        weights[dst]! += weight;
        close(dst, at + WRITE, liveUntil.get(dst) ?? at + WRITE + 1);
        liveUntil.delete(dst);
      }
      for (const r of usesOf(inst)) {
        weights[r]! += weight;
        if (!liveUntil.has(r)) liveUntil.set(r, at + CLOBBER);
      }
    }
    for (const [r, to] of liveUntil) close(r, start * STRIDE, to);
  }
  return { ranges: reversed.map((r) => r.reverse()), calls: calls.reverse(), weights };
};
