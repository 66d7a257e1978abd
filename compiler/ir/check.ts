// Checks that a program is well-formed: what the emitter relies on, and what the kernel's verifier would otherwise refuse
// with a message about registers and offsets. Runs after every pass in tests.
//
// Guarantees about a program that passes: every target exists and every block is reached; every register is defined on
// every path before it is read; accesses stay inside slots and aligned to them; a constant fits where it stands; pointers
// are used as pointers only; packet pointers are not used after a call that moves packet data; the hook has the context
// fields and helpers that are used.

import { hasHelper, isIntrinsic, TARGETS, type Target } from "../targets/index.js";
import { isConstant } from "./constant.js";
import { IrError, type IrPlace } from "./error.js";
import { printEnd, printInst } from "./print.js";
import type { AluOp, Arg, Block, BlockId, Inst, Operand, Program, Size, Slot, Terminator, VReg } from "./types.js";
import { isReg, isSlot } from "./types.js";
import { blocksById, defOf, endUsesOf, isSlotArg, reachable, successorsOf, usesOf } from "./visit.js";

/** Bytes of a memory access. */
export const SIZE_BYTES: Readonly<Record<Size, 1 | 2 | 4 | 8>> = { u8: 1, u16: 2, u32: 4, u64: 8 };

/** Most arguments of a helper. */
const MAX_ARGS = 5;

type Complain = (problem: string) => never;

const named = (r: VReg): string => `%${r.hint}.${r.id}`;
const slotName = (s: Slot): string => `$${s.hint}.${s.slot}`;

const checkConstant = (x: Operand, complain: Complain): void => {
  if (typeof x === "number" && !Number.isSafeInteger(x)) complain(`constant ${x} is no integer`);
  if (typeof x === "bigint" && (x < -(1n << 63n) || x >= 1n << 64n)) complain(`constant ${x} exceeds 64 bits`);
};

const checkAccess = (base: VReg | Slot, off: number, size: Size, complain: Complain): void => {
  const bytes = SIZE_BYTES[size];
  if (!Number.isInteger(off) || off < -0x8000 || off > 0x7fff) complain(`offset ${off} is not within 16 signed bits`);
  if (!isSlot(base)) {
    if (base.kind === "scalar" || base.kind === "packet_end")
      complain(`${named(base)} is a ${base.kind}, want a pointer to memory`);
    return;
  }
  if (off < 0 || off + bytes > base.size)
    complain(`bytes ${off}..${off + bytes - 1} lie outside ${slotName(base)} of ${base.size} bytes`);
  if (off % bytes !== 0 || base.align < bytes)
    complain(`${size} at offset ${off} of ${slotName(base)}, aligned to ${base.align}, is not aligned`);
};

const isShift = (op: AluOp): boolean => op === "lsh" || op === "rsh" || op === "arsh";

const isPointer = (x: Operand): x is VReg => isReg(x) && x.kind !== "scalar";

const checkAlu = (inst: Inst & { op: "alu" }, complain: Complain): void => {
  const { alu, width, a, b, dst } = inst;
  checkConstant(a, complain);
  checkConstant(b, complain);
  if (isConstant(b) && isShift(alu) && (b < 0 || b >= width)) complain(`shift by ${b}, want 0..${width - 1}`);
  if (isConstant(b) && (alu === "div" || alu === "mod") && BigInt.asUintN(width, BigInt(b)) === 0n)
    complain("division by the constant 0");
  if (!isPointer(a) && !isPointer(b)) {
    if (dst.kind !== "scalar") complain(`${named(dst)} is a ${dst.kind} but the result is a scalar`);
    return;
  }
  if (width !== 64) complain("pointers need 64-bit arithmetic");
  if (alu === "sub" && isPointer(a) && isPointer(b)) {
    if (dst.kind !== "scalar") complain(`${named(dst)} is a ${dst.kind} but the result is a scalar`);
    return;
  }
  const pointer = isPointer(a) ? a : alu === "add" && isPointer(b) ? b : complain("the second operand is a pointer");
  if (isPointer(a) && isPointer(b)) complain("both operands are pointers");
  if (alu !== "add" && alu !== "sub") complain(`${alu} of the pointer ${named(pointer)}, want add or sub`);
  if (pointer.kind === "packet_end" || pointer.kind === "ctx")
    complain(`${named(pointer)} is a ${pointer.kind}, which takes no arithmetic`);
  if (dst.kind !== pointer.kind) complain(`${named(dst)} is a ${dst.kind} but the result is a ${pointer.kind}`);
};

const checkArg = (arg: Arg, complain: Complain): void => {
  if (typeof arg !== "object") {
    if (arg !== "ctx") checkConstant(arg, complain);
  } else if (isSlotArg(arg) && (arg.off < 0 || arg.off >= arg.at.size)) {
    complain(`offset ${arg.off} lies outside ${slotName(arg.at)} of ${arg.at.size} bytes`);
  }
};

const checkInst = (inst: Inst, target: Target, complain: Complain): void => {
  switch (inst.op) {
    case "mov": {
      checkConstant(inst.src, complain);
      const kind = isReg(inst.src) ? inst.src.kind : "scalar";
      if (inst.dst.kind !== kind && !(inst.src === 0 && inst.dst.kind === "map_value"))
        complain(`${named(inst.dst)} is a ${inst.dst.kind} but the value is a ${kind}`);
      return;
    }
    case "alu":
      return checkAlu(inst, complain);
    case "swap":
      if (inst.src.kind !== "scalar" || inst.dst.kind !== "scalar") complain("swap of a pointer");
      return;
    case "forget":
      if (inst.src.kind !== "scalar" || inst.dst.kind !== "scalar") complain("forgetting of a pointer");
      return checkAccess(inst.slot, 4, "u32", complain);
    case "load":
      return checkAccess(inst.base, inst.off, inst.size, complain);
    case "store":
      checkConstant(inst.src, complain);
      if (isPointer(inst.src) && !(isSlot(inst.base) && inst.size === "u64"))
        complain(`the pointer ${named(inst.src)} can only be stored whole, to the stack`);
      return checkAccess(inst.base, inst.off, inst.size, complain);
    case "atomic_add":
      if (inst.base.kind === "packet") complain("atomics on packet data");
      if (isPointer(inst.src)) complain(`${named(inst.src)} is a pointer, want a scalar`);
      return checkAccess(inst.base, inst.off, inst.size, complain);
    case "ctx":
      if (target.ctx[inst.field] === undefined) complain(`hook ${target.hook} has no context field ${inst.field}`);
      return;
    case "map_value":
      if (!Number.isInteger(inst.off) || inst.off < 0) complain(`offset ${inst.off}, want 0 or more`);
      return;
    case "call":
      if (!hasHelper(target, inst.helper) && !isIntrinsic(inst.helper))
        complain(`hook ${target.hook} has no helper ${inst.helper}`);
      if (inst.args.length > MAX_ARGS) complain(`${inst.args.length} arguments, want at most ${MAX_ARGS}`);
      inst.args.forEach((a) => checkArg(a, complain));
  }
};

const PACKET_COMPARES: ReadonlySet<string> = new Set(["gt", "ge", "lt", "le"]);

const checkBranch = (end: Terminator & { op: "branch" }, complain: Complain): void => {
  checkConstant(end.b, complain);
  const packets = [end.a, end.b].filter(isPointer).filter((p) => p.kind === "packet" || p.kind === "packet_end");
  if (packets.length > 0 && (end.width !== 64 || !PACKET_COMPARES.has(end.cond)))
    complain(`${end.cond} of packet pointers, want gt, ge, lt or le in 64 bits`);
  if (packets.length === 1) complain("a packet pointer compared with something else");
  const value = [end.a, end.b].find((x) => isPointer(x) && x.kind === "map_value");
  if (value !== undefined && (end.b !== 0 || end.width !== 64 || (end.cond !== "eq" && end.cond !== "ne")))
    complain("a map value compared otherwise than eq or ne 0 in 64 bits");
};

const checkEnd = (end: Terminator, complain: Complain): void => {
  if (end.op === "branch") checkBranch(end, complain);
  else if (end.op === "return") {
    checkConstant(end.value, complain);
    if (isPointer(end.value)) complain(`returns the pointer ${named(end.value)}`);
  } else if (end.op === "tail_call") checkConstant(end.index, complain);
};

/** Which registers hold something: defined on every path, and not a packet pointer killed since. */
type Defined = ReadonlySet<number>;

const intersect = (a: Defined | undefined, b: Defined): Defined =>
  a === undefined ? b : new Set([...a].filter((id) => b.has(id)));

/** Set of registers valid at the start of each reached block: the greatest fixed point over all paths. */
const validAtStart = (program: Program, after: (block: Block, valid: Defined) => Defined): Map<BlockId, Defined> => {
  const blocks = blocksById(program);
  const valid = new Map<BlockId, Defined>();
  const entry = program.blocks[0];
  if (entry === undefined) return valid;
  valid.set(entry.id, new Set());
  const todo = [entry.id];
  for (let id; (id = todo.pop()) !== undefined;) {
    const block = blocks.get(id);
    const start = valid.get(id);
    if (block === undefined || start === undefined) continue;
    const out = after(block, start);
    for (const to of successorsOf(block.end)) {
      const before = valid.get(to);
      const now = intersect(before, out);
      if (before !== undefined && now.size === before.size) continue;
      valid.set(to, now);
      todo.push(to);
    }
  }
  return valid;
};

/** Applies the effect of one instruction on the valid registers. */
const step = (inst: Inst, valid: Set<number>, packets: ReadonlySet<number>, target: Target): void => {
  if (inst.op === "call" && (target.movesPacket as ReadonlySet<string>).has(inst.helper))
    for (const id of packets) valid.delete(id);
  const dst = defOf(inst);
  if (dst) valid.add(dst.id);
};

const packetRegs = (program: Program): Set<number> => {
  const ids = new Set<number>();
  for (const block of program.blocks)
    for (const inst of block.body) {
      const dst = defOf(inst);
      if (dst?.kind === "packet" || dst?.kind === "packet_end") ids.add(dst.id);
    }
  return ids;
};

/**
 * Checks `program`.
 *
 * @returns `program`, so that the call can stand in an expression
 * @throws {@link IrError} naming the block and the instruction
 */
export const check = (program: Program, target: Target = TARGETS[program.hook]): Program => {
  const fail = (place: Omit<IrPlace, "program">, problem: string): never => {
    throw new IrError({ program: program.name, ...place }, problem);
  };
  if (program.blocks.length === 0) fail({}, "it has no blocks");
  const blocks = blocksById(program);
  if (blocks.size !== program.blocks.length) fail({}, "two blocks have one id");

  const at = (block: Block, i: number): Omit<IrPlace, "program"> => ({
    block: `@${block.hint}.${block.id}`,
    instruction: i,
    text: i < block.body.length ? printInst(block.body[i]!) : printEnd(block.end),
  });
  for (const block of program.blocks) {
    block.body.forEach((inst, i) => checkInst(inst, target, (problem) => fail(at(block, i), problem)));
    checkEnd(block.end, (problem) => fail(at(block, block.body.length), problem));
    for (const to of successorsOf(block.end))
      if (!blocks.has(to)) fail(at(block, block.body.length), `no block has the id ${to}`);
  }
  const reached = reachable(program);
  for (const block of program.blocks)
    if (!reached.has(block.id)) fail({ block: `@${block.hint}.${block.id}` }, "nothing jumps to it");

  const packets = packetRegs(program);
  const starts = validAtStart(program, (block, start) => {
    const valid = new Set(start);
    for (const inst of block.body) step(inst, valid, packets, target);
    return valid;
  });
  for (const block of program.blocks) {
    const valid = new Set(starts.get(block.id));
    const checkUses = (uses: readonly VReg[], i: number): void => {
      for (const r of uses)
        if (!valid.has(r.id)) {
          const why = packets.has(r.id) ? "not defined on every path, or dead since a call that moves the packet" : "";
          fail(at(block, i), `${named(r)} is ${why || "not defined on every path"}`);
        }
    };
    block.body.forEach((inst, i) => {
      checkUses(usesOf(inst), i);
      step(inst, valid, packets, target);
    });
    checkUses(endUsesOf(block.end), block.body.length);
  }
  return program;
};
