// Programs as text for people and golden files. Equal programs print equally; registers are `%hint.id`, slots
// `$hint.id`, blocks `@hint.id`.

import type { Arg, Block, BlockId, Inst, Operand, Program, Slot, Terminator, VReg } from "./types.js";
import { isReg, isSlot } from "./types.js";
import { isSlotArg } from "./visit.js";

const reg = (r: VReg): string => `%${r.hint}.${r.id}`;
const slot = (s: Slot): string => `$${s.hint}.${s.slot}`;
const constant = (c: number | bigint): string => (typeof c === "bigint" ? `0x${c.toString(16)}` : String(c));
const operand = (x: Operand): string => (isReg(x) ? reg(x) : constant(x));
const plus = (off: number): string => (off === 0 ? "" : off > 0 ? ` + ${off}` : ` - ${-off}`);
const memory = (base: VReg | Slot, off: number): string => `[${isSlot(base) ? slot(base) : reg(base)}${plus(off)}]`;
const width = (w: 32 | 64): string => (w === 32 ? "32" : "");

const arg = (a: Arg): string => {
  if (a === "ctx") return "ctx";
  if (typeof a !== "object") return constant(a);
  if (isReg(a)) return reg(a);
  return isSlotArg(a) ? `&${slot(a.at)}${plus(a.off)}` : `map ${a.map}`;
};

/** One instruction, without its origin. */
export const printInst = (i: Inst): string => {
  switch (i.op) {
    case "mov":
      return `${reg(i.dst)} = ${operand(i.src)}`;
    case "alu":
      return `${reg(i.dst)} = ${i.alu}${width(i.width)} ${operand(i.a)}, ${operand(i.b)}`;
    case "swap":
      return `${reg(i.dst)} = swap${i.bits} ${reg(i.src)}`;
    case "load":
      return `${reg(i.dst)} = ${i.size} ${memory(i.base, i.off)}`;
    case "store":
      return `${i.size} ${memory(i.base, i.off)} = ${operand(i.src)}`;
    case "atomic_add":
      return `atomic ${i.size} ${memory(i.base, i.off)} += ${reg(i.src)}`;
    case "forget":
      return `${reg(i.dst)} = forget ${reg(i.src)}`;
    case "ctx":
      return `${reg(i.dst)} = ctx.${i.field}`;
    case "map_value":
      return `${reg(i.dst)} = &${i.map}[0]${plus(i.off)}`;
    case "call":
      return `${reg(i.dst)} = call ${i.helper}(${i.args.map(arg).join(", ")})`;
  }
};

/** `@hint.id` of a block, or `@id` where no block has that id. */
const blockName = (blocks: readonly Block[], id: BlockId): string => {
  const block = blocks.find((b) => b.id === id);
  return block === undefined || block.hint === "" ? `@${id}` : `@${block.hint}.${id}`;
};

const printEndWith = (e: Terminator, name: (id: BlockId) => string): string => {
  switch (e.op) {
    case "jump":
      return `jump ${name(e.to)}`;
    case "branch": {
      const likely = e.likely === undefined ? "" : ` (${e.likely} likely)`;
      const test = `${e.cond}${width(e.width)} ${reg(e.a)}, ${operand(e.b)}`;
      return `if ${test} then ${name(e.then)} else ${name(e.else)}${likely}`;
    }
    case "return":
      return `return ${operand(e.value)}`;
    case "tail_call":
      return `tail_call ${e.map}[${operand(e.index)}] else ${name(e.else)}`;
  }
};

/** One terminator, blocks as `@id`. */
export const printEnd = (e: Terminator): string => printEndWith(e, (id) => `@${id}`);

/** The whole program, a line per instruction; the text an instruction comes from follows where it changes. */
export const printProgram = (program: Program): string => {
  const names = new Map(program.blocks.map((b) => [b.id, blockName([b], b.id)]));
  const name = (id: BlockId): string => names.get(id) ?? `@${id}`;
  const lines = [`program ${program.name} (${program.hook})`];
  let last: string | undefined;
  const line = (text: string, from: string | undefined): void => {
    lines.push(from === undefined || from === last ? `  ${text}` : `  ${text}  ; ${from}`);
    last = from;
  };
  for (const block of program.blocks) {
    lines.push(`${name(block.id)}:`);
    for (const inst of block.body) line(printInst(inst), inst.from?.text);
    line(printEndWith(block.end, name), block.end.from?.text);
  }
  return `${lines.join("\n")}\n`;
};
