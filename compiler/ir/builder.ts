// Builds IR programs in the order in which one would write them: a current block that instructions are added to, and
// terminators that end it.

import { RangeViolation, type Origin } from "ebpf-assembler";
import type {
  AluOp,
  Arg,
  Block,
  BlockId,
  Cond,
  CtxField,
  Hook,
  Inst,
  Kind,
  Operand,
  Program,
  Size,
  Slot,
  Terminator,
  VReg,
} from "./types.js";

interface OpenBlock {
  readonly id: BlockId;
  readonly hint: string;
  readonly body: Inst[];
  end: Terminator | undefined;
}

const kindOf = (x: Operand): Kind => (typeof x === "object" ? x.kind : "scalar");

/** A program under construction. Every block must be placed once and ended once before {@link IrBuilder.finish}. */
export class IrBuilder {
  private readonly blocks: OpenBlock[] = [];
  private readonly hints: string[] = [];
  private readonly placed = new Set<BlockId>([0]);
  private current: OpenBlock;
  private nRegs = 0;
  private nSlots = 0;
  /** Where values pass through to be forgotten, each for an instruction only. */
  private forgetSlot: Slot | undefined;
  /** Origin given to the instructions added next. */
  origin: Origin | undefined;

  constructor(
    readonly name: string,
    readonly hook: Hook,
  ) {
    this.current = { id: this.block("entry"), hint: "entry", body: [], end: undefined };
    this.blocks.push(this.current);
  }

  reg(hint: string, kind: Kind = "scalar"): VReg {
    return { id: this.nRegs++, kind, hint };
  }

  slot(hint: string, size: number, align: 1 | 2 | 4 | 8 = 8): Slot {
    return { slot: this.nSlots++, size, align, hint };
  }

  /** Reserves a block to jump to; {@link place} starts filling it. */
  block(hint: string): BlockId {
    this.hints.push(hint);
    return this.hints.length - 1;
  }

  /** Makes `id` the current block. A current block without an end goes on into it. */
  place(id: BlockId): void {
    const hint = this.hints[id] ?? "?";
    if (this.placed.has(id)) throw new RangeViolation(`Cannot place block ${hint} twice`);
    if (this.open) this.jump(id);
    this.placed.add(id);
    this.current = { id, hint, body: [], end: undefined };
    this.blocks.push(this.current);
  }

  /** Whether the current block still takes instructions. */
  get open(): boolean {
    return this.current.end === undefined;
  }

  private add(inst: Inst): void {
    if (!this.open) throw new RangeViolation(`Cannot add ${inst.op} to block ${this.current.hint}: it has ended`);
    this.current.body.push(this.origin === undefined ? inst : { ...inst, from: this.origin });
  }

  private terminate(end: Terminator): void {
    if (!this.open) throw new RangeViolation(`Cannot end block ${this.current.hint} again with ${end.op}`);
    this.current.end = this.origin === undefined ? end : { ...end, from: this.origin };
  }

  mov(dst: VReg, src: Operand): void {
    this.add({ op: "mov", dst, src });
  }

  /** A new register holding `src`. */
  value(hint: string, src: Operand): VReg {
    const dst = this.reg(hint, kindOf(src));
    this.mov(dst, src);
    return dst;
  }

  /** A new register holding `a OP b`. */
  alu(alu: AluOp, a: Operand, b: Operand, hint: string = alu, width: 32 | 64 = 64): VReg {
    // The difference of two pointers is a number.
    const dst = this.reg(hint, kindOf(a) !== "scalar" && kindOf(b) !== "scalar" ? "scalar" : kindOf(a));
    this.add({ op: "alu", alu, width, dst, a, b });
    return dst;
  }

  /** `dst = dst OP b`. */
  aluTo(alu: AluOp, dst: VReg, b: Operand, width: 32 | 64 = 64): void {
    this.add({ op: "alu", alu, width, dst, a: dst, b });
  }

  swap(bits: 16 | 32 | 64, src: VReg, hint = "swapped"): VReg {
    const dst = this.reg(hint);
    this.add({ op: "swap", bits, dst, src });
    return dst;
  }

  load(size: Size, base: VReg | Slot, off: number, hint = "loaded"): VReg {
    const dst = this.reg(hint);
    this.add({ op: "load", size, dst, base, off });
    return dst;
  }

  loadTo(dst: VReg, size: Size, base: VReg | Slot, off: number): void {
    this.add({ op: "load", size, dst, base, off });
  }

  store(size: Size, base: VReg | Slot, off: number, src: Operand): void {
    this.add({ op: "store", size, base, off, src });
  }

  atomicAdd(size: "u32" | "u64", base: VReg, off: number, src: VReg): void {
    this.add({ op: "atomic_add", size, base, off, src });
  }

  ctx(field: CtxField): VReg {
    const kind = field === "data" ? "packet" : field === "data_end" ? "packet_end" : "scalar";
    const dst = this.reg(field, kind);
    this.add({ op: "ctx", dst, field });
    return dst;
  }

  /** A new register holding the low half of `src`, of which the verifier knows nothing. */
  forgotten(src: VReg, hint = "forgotten"): VReg {
    const dst = this.reg(hint);
    this.add({ op: "forget", dst, src, slot: (this.forgetSlot ??= this.slot("forget", 8)) });
    return dst;
  }

  mapValue(map: string, off: number): VReg {
    const dst = this.reg(map, "map_value");
    this.add({ op: "map_value", dst, map, off });
    return dst;
  }

  call(helper: string, args: readonly Arg[], result: Kind = "scalar"): VReg {
    const dst = this.reg(helper, result);
    this.add({ op: "call", helper, args, dst });
    return dst;
  }

  jump(to: BlockId): void {
    this.terminate({ op: "jump", to });
  }

  branch(
    cond: Cond,
    a: VReg,
    b: Operand,
    then: BlockId,
    otherwise: BlockId,
    likely?: "then" | "else",
    width: 32 | 64 = 64,
  ): void {
    const end = { op: "branch", cond, width, a, b, then, else: otherwise } as const;
    this.terminate(likely === undefined ? end : { ...end, likely });
  }

  /** Leaves to `then` when the condition holds, which it mostly does not; goes on in a new block otherwise. */
  unless(cond: Cond, a: VReg, b: Operand, then: BlockId, width: 32 | 64 = 64): void {
    const next = this.block("");
    this.branch(cond, a, b, then, next, "else", width);
    this.place(next);
  }

  ret(value: Operand): void {
    this.terminate({ op: "return", value });
  }

  tailCall(map: string, index: Operand, otherwise: BlockId): void {
    this.terminate({ op: "tail_call", map, index, else: otherwise });
  }

  finish(): Program {
    const blocks: Block[] = this.blocks.map((b) => {
      if (b.end === undefined) throw new RangeViolation(`Cannot finish ${this.name}: block ${b.hint} has no end`);
      return { id: b.id, hint: b.hint, body: b.body, end: b.end };
    });
    const placed = new Set(blocks.map((b) => b.id));
    this.hints.forEach((hint, id) => {
      if (!placed.has(id)) throw new RangeViolation(`Cannot finish ${this.name}: block ${hint} was never placed`);
    });
    return { name: this.name, hook: this.hook, blocks };
  }
}
