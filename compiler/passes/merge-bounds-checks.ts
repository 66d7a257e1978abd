// merge-bounds-checks: drops a check of the packet's length that an earlier, longer one implies.
//
//   before                                         after
//   %p.2 = add %data.0, 34                         %p.2 = add %data.0, 34
//   if gt %p.2, %data_end.1 then @1 else @2        if gt %p.2, %data_end.1 then @1 else @2
//   @2:                                            @2:
//   %q.3 = add %data.0, 14                         %q.3 = add %data.0, 14
//   if gt %q.3, %data_end.1 then @1 else @3        jump @3
//
// Only for pointers written by one instruction each, so that both checks speak of the same addresses, and only down chains of
// blocks with one predecessor, so that the earlier check has passed. The verifier draws the same conclusion: a check
// gives its range to every pointer made from the same load of `data`.

import type { Block, BlockId, Terminator, VReg } from "../ir/types.js";
import { isReg } from "../ir/types.js";
import { blocksById, countDefs, dropUnreached, mapBlocks, successorsOf } from "../ir/visit.js";
import type { Pass } from "./pass.js";

/** `base + bytes <= end` holds. */
interface Fact {
  readonly base: number;
  readonly end: number;
  readonly bytes: number;
}

/** A register as another one plus a constant. */
interface Sum {
  readonly base: number;
  readonly bytes: number;
}

const run: Pass["run"] = (program) => {
  const defs = countDefs(program);
  const isStable = (r: VReg): boolean => defs.get(r.id) === 1;
  const sums = new Map<number, Sum>();
  for (const block of program.blocks)
    for (const inst of block.body) {
      if (inst.op !== "alu" || inst.alu !== "add" || !isReg(inst.a) || inst.a.kind !== "packet") continue;
      if (typeof inst.b === "number" && inst.b >= 0 && isStable(inst.a) && isStable(inst.dst))
        sums.set(inst.dst.id, { base: inst.a.id, bytes: inst.b });
    }
  /** `r` as the register that a chain of such sums begins with. */
  const sumOf = (r: VReg): Sum => {
    let total: Sum = { base: r.id, bytes: 0 };
    for (let next; (next = sums.get(total.base)) !== undefined;)
      total = { base: next.base, bytes: total.bytes + next.bytes };
    return total;
  };

  /** What the check states when it passes, and where it goes then. */
  const checkOf = (end: Terminator): { fact: Fact; pass: BlockId } | undefined => {
    if (end.op !== "branch" || !isReg(end.b) || end.then === end.else) return undefined;
    if (end.b.kind !== "packet_end" || !isStable(end.b) || !isStable(end.a)) return undefined;
    const { base, bytes } = sumOf(end.a);
    const fact = { base, end: end.b.id, bytes };
    if (end.cond === "gt") return { fact, pass: end.else };
    return end.cond === "le" ? { fact, pass: end.then } : undefined;
  };

  const predecessors = new Map<BlockId, BlockId[]>();
  for (const block of program.blocks)
    for (const to of successorsOf(block.end)) {
      const list = predecessors.get(to);
      if (list) list.push(block.id);
      else predecessors.set(to, [block.id]);
    }
  const blocks = blocksById(program);
  const entry = program.blocks[0]?.id;

  const facts = new Map<BlockId, readonly Fact[]>();
  const factsOf = (id: BlockId): readonly Fact[] => {
    // Up the chain to a block whose facts are known, then down again: chains may be long.
    const chain: BlockId[] = [];
    for (let at = id; !facts.has(at);) {
      const before = predecessors.get(at) ?? [];
      if (at === entry || before.length !== 1 || chain.includes(before[0]!)) {
        facts.set(at, []);
        break;
      }
      chain.push(at);
      at = before[0]!;
    }
    for (let at; (at = chain.pop()) !== undefined;) {
      const from = predecessors.get(at)![0]!;
      const check = checkOf(blocks.get(from)!.end);
      const inherited = facts.get(from)!;
      facts.set(at, check !== undefined && check.pass === at ? [...inherited, check.fact] : inherited);
    }
    return facts.get(id)!;
  };

  const block = (b: Block): Block => {
    const check = checkOf(b.end);
    if (check === undefined) return b;
    const { base, end, bytes } = check.fact;
    if (!factsOf(b.id).some((f) => f.base === base && f.end === end && f.bytes >= bytes)) return b;
    const common = b.end.from === undefined ? {} : { from: b.end.from };
    return { ...b, end: { op: "jump", to: check.pass, ...common } };
  };
  return dropUnreached(mapBlocks(program, block));
};

export const mergeBoundsChecks: Pass = {
  name: "merge-bounds-checks",
  doc: "drops checks of the packet's length that an earlier check implies",
  run,
};
