// share-expressions: computes once what is computed twice (common sub-expressions).
//
//   before                           after
//   %p.1 = add %data.0, %l3.5        %p.1 = add %data.0, %l3.5
//   if ... then @1 else @2           if ... then @1 else @2
//   @2:                              @2:
//   %q.2 = add %data.0, %l3.5        %q.2 = %p.1
//
// For arithmetic, swaps and addresses of map values whose operands and result are written by one instruction each: then the
// first result holds wherever the first instruction is passed on every path. Loads are forward-stores' business. Registers
// that hold wide constants are not shared: making one again costs less than keeping it.

import { dominators } from "../ir/dominators.js";
import { printInst } from "../ir/print.js";
import type { Block, BlockId, Inst, VReg } from "../ir/types.js";
import { countDefs, mapBlocks, substitute, usesOf } from "../ir/visit.js";
import type { Pass } from "./pass.js";

/** What `inst` computes, the same for equal computations; undefined for what is not shared. */
const expressionOf = (inst: Inst): string | undefined => {
  switch (inst.op) {
    case "alu":
    case "swap":
      return printInst({ ...inst, dst: { id: 0, kind: inst.dst.kind, hint: "" } });
    default:
      return undefined;
  }
};

const run: Pass["run"] = (program) => {
  const defs = countDefs(program);
  const isStable = (r: VReg): boolean => defs.get(r.id) === 1;
  const { order, idom } = dominators(program);

  /** First instructions of each block, by what they compute. */
  const computed = new Map<BlockId, Map<string, VReg>>();
  const find = (id: BlockId, expression: string): VReg | undefined => {
    for (let at: BlockId | undefined = id; at !== undefined; at = idom.get(at)) {
      const found = computed.get(at)?.get(expression);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  /** What stands for a register that was found to be another: so that what is made of equal things is equal, too. */
  const same = new Map<number, VReg>();
  const stand = (r: VReg): VReg => same.get(r.id) ?? r;
  const rewritten = new Map<BlockId, Block>();
  // Dominators come before what they dominate.
  for (const block of order) {
    const here = new Map<string, VReg>();
    computed.set(block.id, here);
    const body = block.body.map((inst): Inst => {
      if (expressionOf(inst) === undefined || !("dst" in inst) || !isStable(inst.dst)) return inst;
      if (!usesOf(inst).every(isStable)) return inst;
      const expression = expressionOf(substitute(inst, stand))!;
      const before = find(block.id, expression);
      if (before === undefined) {
        here.set(expression, inst.dst);
        return inst;
      }
      same.set(inst.dst.id, before);
      const common = inst.from === undefined ? {} : { from: inst.from };
      return { op: "mov", dst: inst.dst, src: before, ...common };
    });
    if (body.some((inst, i) => inst !== block.body[i])) rewritten.set(block.id, { ...block, body });
  }
  return mapBlocks(program, (block) => rewritten.get(block.id) ?? block);
};

export const shareExpressions: Pass = {
  name: "share-expressions",
  doc: "computes once what is computed twice",
  run,
};
