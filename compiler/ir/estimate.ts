// What a program will cost the kernel's verifier, foreseen from its IR: counted as emit/bpf/cost.ts counts it in the code, but
// before the passes and the back end have spent seconds on a program that no kernel takes.

import { unreachable } from "ebpf-assembler";
import { isReg, type Block, type BlockId, type Inst, type Operand, type Program, type Terminator } from "./types.js";

/** What is expected, beyond what passes take away and emission adds. */
export interface IrCost {
  readonly instructions: number;
  /** Jump targets that the verifier may have to keep at one time, at most. */
  readonly pendingJumps: number;
  /** Steps of the verifier, roughly. */
  readonly estimatedSteps: number;
}

/** Ways to one block beyond which the verifier is taken to have seen every state; as in emit/bpf/cost.ts. */
const MOST_WAYS = 12;

const isWide = (operand: Operand): boolean => typeof operand === "bigint";

/** Slots of code for an instruction, of which BPF has two operands: roughly, since passes and registers decide. */
const slotsOf = (inst: Inst): number => {
  switch (inst.op) {
    case "mov":
      return isWide(inst.src) ? 2 : 1;
    case "alu":
      return (isReg(inst.a) && inst.a.id === inst.dst.id ? 1 : 2) + (isWide(inst.b) ? 2 : 0);
    case "swap":
    case "map_value":
    case "forget":
      return 2;
    case "call":
      return 1 + inst.args.length;
    case "load":
    case "store":
    case "atomic_add":
    case "ctx":
      return 1;
    default:
      return unreachable(inst);
  }
};

/** Where a block goes: first what is laid out behind it, whose other way the verifier keeps for later. */
const successors = (end: Terminator): readonly BlockId[] => {
  switch (end.op) {
    case "jump":
      return [end.to];
    case "branch":
      return end.likely === "else" ? [end.else, end.then] : [end.then, end.else];
    case "tail_call":
      return [end.else];
    case "return":
      return [];
    default:
      return unreachable(end);
  }
};

/** Blocks that the first one reaches, each before those it leads to; ways back do not count. */
const topological = (blocks: ReadonlyMap<BlockId, Block>, first: Block): readonly Block[] => {
  const seen = new Set<BlockId>([first.id]);
  const order: Block[] = [];
  const path = [{ block: first, left: [...successors(first.end)] }];
  for (let top; (top = path.at(-1)) !== undefined;) {
    const next = top.left.pop();
    if (next === undefined) {
      order.push(top.block);
      path.pop();
    } else if (!seen.has(next)) {
      seen.add(next);
      const block = blocks.get(next)!;
      path.push({ block, left: [...successors(block.end)] });
    }
  }
  return order.reverse();
};

/** {@link IrCost} of a program. */
export const estimate = ({ blocks }: Program): IrCost => {
  const byId = new Map(blocks.map((block) => [block.id, block]));
  const order = topological(byId, blocks[0]!);
  const rank = new Map(order.map(({ id }, i) => [id, i]));
  const ways = new Float64Array(order.length);
  const pending = new Int32Array(order.length);
  ways[0] = 1;
  let instructions = 0;
  let estimatedSteps = 0;
  let pendingJumps = 0;
  order.forEach(({ body, end }, at) => {
    const here = Math.min(ways[at]!, MOST_WAYS);
    const size = body.reduce((n, inst) => n + slotsOf(inst), 1);
    instructions += size;
    estimatedSteps += here * size;
    successors(end).forEach((to, i, all) => {
      const next = rank.get(to)!;
      if (next <= at) return;
      ways[next]! += here;
      pending[next] = Math.max(pending[next]!, pending[at]! + (all.length > 1 && i === 0 ? 1 : 0));
      pendingJumps = Math.max(pendingJumps, pending[next]!);
    });
  });
  return { instructions, pendingJumps, estimatedSteps: Math.round(estimatedSteps) };
};
