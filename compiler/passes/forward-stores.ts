// forward-stores: takes a value from the register it was stored from, or loaded into before, instead of from memory.
//
//   before                      after
//   u32 [$key.0 + 4] = %a.0     u32 [$key.0 + 4] = %a.0
//   %b.1 = u32 [$key.0 + 4]     %b.1 = and %a.0, 0xffffffff
//   %c.2 = u16 [%data.5 + 12]   %c.2 = u16 [%data.5 + 12]
//   %d.3 = u16 [%data.5 + 12]   %d.3 = %c.2
//
// Within a block and on into blocks that only it leads to, for stack slots and packet bytes. A slot changes by stores to it and by helpers that get its address;
// packet bytes change by every store through a packet pointer (two may point to one byte) and are forgotten at every call.
// Map values are left alone: other processors change them. A load is never put together from several stores: programs store
// a word in halves to make the verifier forget what it knows of it.

import { SIZE_BYTES } from "../ir/check.js";
import { constant, isConstant } from "../ir/constant.js";
import { reversePostorder } from "../ir/dominators.js";
import { ONES } from "../ir/ones.js";
import type { Block, BlockId, Inst, Operand, Size, Slot, VReg } from "../ir/types.js";
import { isReg, isSlot } from "../ir/types.js";
import { defOf, isSlotArg, mapBlocks, successorsOf } from "../ir/visit.js";
import type { Pass } from "./pass.js";

/** How many facts are kept; bounds the time that long blocks take. */
const MAX_KNOWN = 64;

/** A piece of memory whose content is also in `value`. */
interface Known {
  readonly base: VReg | Slot;
  readonly off: number;
  readonly size: Size;
  readonly value: Operand;
  /** Whether `value` has nothing beyond `size`. */
  readonly exact: boolean;
}

const sameBase = (a: VReg | Slot, b: VReg | Slot): boolean =>
  isSlot(a) ? isSlot(b) && a.slot === b.slot : !isSlot(b) && a.id === b.id;

const overlaps = (k: Known, off: number, size: Size): boolean =>
  k.off < off + SIZE_BYTES[size] && off < k.off + SIZE_BYTES[k.size];

/** What is still known after `inst` has written memory and registers. */
const forget = (known: readonly Known[], inst: Inst): readonly Known[] => {
  let left = known;
  if (inst.op === "store" || inst.op === "atomic_add") {
    const { base, off, size } = inst;
    left = isSlot(base)
      ? left.filter((k) => !sameBase(k.base, base) || !overlaps(k, off, size))
      : left.filter((k) => isSlot(k.base));
  } else if (inst.op === "call") {
    const given = new Set(inst.args.flatMap((a) => (typeof a === "object" && isSlotArg(a) ? [a.at.slot] : [])));
    left = left.filter((k) => isSlot(k.base) && !given.has(k.base.slot));
  }
  const dst = defOf(inst);
  if (dst === undefined) return left;
  return left.filter((k) => !(isReg(k.value) && k.value.id === dst.id) && !(isReg(k.base) && k.base.id === dst.id));
};

const learn = (inst: Inst): Known | undefined => {
  if (inst.op === "store") {
    const { base, off, size, src } = inst;
    if (!isSlot(base) && base.kind !== "packet") return undefined;
    if (isReg(src) && src.kind !== "scalar") return undefined;
    const value = isConstant(src) ? constant(BigInt.asUintN(8 * SIZE_BYTES[size], BigInt(src))) : src;
    return { base, off, size, value, exact: isConstant(src) || size === "u64" };
  }
  if (inst.op === "load") {
    const { base, off, size, dst } = inst;
    if ((!isSlot(base) && base.kind !== "packet") || dst.kind !== "scalar") return undefined;
    return isReg(base) && base.id === dst.id ? undefined : { base, off, size, value: dst, exact: true };
  }
  return undefined;
};

/** The block with loads replaced, and what is known at its end. */
const block = (b: Block, atStart: readonly Known[]): { readonly block: Block; readonly atEnd: readonly Known[] } => {
  let known = atStart;
  const forward = (inst: Inst): Inst => {
    if (inst.op !== "load" || inst.dst.kind !== "scalar") return inst;
    const hit = known.find((k) => k.size === inst.size && k.off === inst.off && sameBase(k.base, inst.base));
    if (hit === undefined) return inst;
    const common = inst.from === undefined ? {} : { from: inst.from };
    if (hit.exact) return { op: "mov", dst: inst.dst, src: hit.value, ...common };
    return { op: "alu", alu: "and", width: 64, dst: inst.dst, a: hit.value, b: constant(ONES[inst.size]), ...common };
  };
  const body = b.body.map((inst) => {
    const now = forward(inst);
    known = forget(known, inst);
    const fact = learn(inst);
    // After a forwarded load, the register it was forwarded from stays the better source.
    if (fact !== undefined && (now === inst || !known.some((k) => sameBase(k.base, fact.base) && k.off === fact.off)))
      known = [...known.slice(1 - MAX_KNOWN), fact];
    return now;
  });
  return { block: body.every((inst, i) => inst === b.body[i]) ? b : { ...b, body }, atEnd: known };
};

const run: Pass["run"] = (program) => {
  const nIn = new Map<BlockId, number>();
  for (const { end } of program.blocks) for (const to of successorsOf(end)) nIn.set(to, (nIn.get(to) ?? 0) + 1);
  const entry = program.blocks[0]?.id;
  const atStart = new Map<BlockId, readonly Known[]>();
  const done = new Map<BlockId, Block>();
  for (const b of reversePostorder(program)) {
    const { block: now, atEnd } = block(b, atStart.get(b.id) ?? []);
    done.set(b.id, now);
    for (const to of successorsOf(b.end)) if (nIn.get(to) === 1 && to !== entry) atStart.set(to, atEnd);
  }
  return mapBlocks(program, (b) => done.get(b.id) ?? b);
};

export const forwardStores: Pass = {
  name: "forward-stores",
  doc: "takes stack and packet values that are in a register from there",
  run,
};
