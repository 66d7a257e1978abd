// drop-masks: copies instead of masking where the bits that a mask takes away can never be one.
//
//   before                       after
//   %a.0 = u16 [%data.5]         %a.0 = u16 [%data.5]
//   %b.1 = and %a.0, 0xffff      %b.1 = %a.0

import { isConstant, pattern } from "../ir/constant.js";
import { ALL_ONES, ONES, onesOf } from "../ir/ones.js";
import type { Inst } from "../ir/types.js";
import { isReg } from "../ir/types.js";
import { mapBlocks } from "../ir/visit.js";
import type { Pass } from "./pass.js";

const run: Pass["run"] = (program) => {
  const ones = onesOf(program);
  const inst = (x: Inst): Inst => {
    if (x.op !== "alu" || x.alu !== "and" || !isReg(x.a) || x.a.kind !== "scalar" || !isConstant(x.b)) return x;
    const kept = pattern(x.b) & (x.width === 32 ? ONES.u32 : ALL_ONES);
    if (((ones.get(x.a.id) ?? 0n) & ~kept) !== 0n) return x;
    const common = x.from === undefined ? {} : { from: x.from };
    return { op: "mov", dst: x.dst, src: x.a, ...common };
  };
  return mapBlocks(program, (block) => {
    const body = block.body.map(inst);
    return body.every((x, i) => x === block.body[i]) ? block : { ...block, body };
  });
};

export const dropMasks: Pass = {
  name: "drop-masks",
  doc: "copies instead of masking bits that are zero anyway",
  run,
};
