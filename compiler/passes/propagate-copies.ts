// propagate-copies: reads the original instead of its copy.
//
//   before                 after
//   %b.1 = %a.0            %b.1 = %a.0
//   %c.2 = add %b.1, 4     %c.2 = add %a.0, 4
//
// Everywhere when one instruction writes the copy and one the original: both are then written before they are read, on
// every path, and no path leads from the copying over the writing of the original to a reader of the copy. Otherwise up to
// the next write of either in the same block.

import type { Block, Inst, VReg } from "../ir/types.js";
import { isReg } from "../ir/types.js";
import { countDefs, defOf, mapBlocks, substitute, substituteEnd } from "../ir/visit.js";
import type { Pass } from "./pass.js";

const run: Pass["run"] = (program) => {
  const defs = countDefs(program);
  const isStable = (r: VReg): boolean => defs.get(r.id) === 1;

  const everywhere = new Map<number, VReg>();
  for (const block of program.blocks)
    for (const inst of block.body)
      if (inst.op === "mov" && isReg(inst.src) && isStable(inst.dst) && isStable(inst.src))
        everywhere.set(inst.dst.id, inst.src);
  const original = (r: VReg): VReg => {
    let at = r;
    for (let to; (to = everywhere.get(at.id)) !== undefined;) at = to;
    return at;
  };

  const block = (b: Block): Block => {
    let here = new Map<number, VReg>();
    const source = (r: VReg): VReg => original(here.get(r.id) ?? original(r));
    const note = (inst: Inst): void => {
      const dst = defOf(inst);
      if (dst === undefined) return;
      here = new Map([...here].filter(([copy, from]) => copy !== dst.id && from.id !== dst.id));
      if (inst.op !== "mov" || !isReg(inst.src) || inst.src.id === dst.id || everywhere.has(dst.id)) return;
      here.set(dst.id, inst.src);
    };
    const body = b.body.map((inst) => {
      const now = substitute(inst, source);
      note(now);
      return now;
    });
    const end = substituteEnd(b.end, source);
    return end === b.end && body.every((inst, i) => inst === b.body[i]) ? b : { ...b, body, end };
  };
  return mapBlocks(program, block);
};

export const propagateCopies: Pass = {
  name: "propagate-copies",
  doc: "reads the original of a copied register",
  run,
};
