// Runs programs in the intermediate representation directly, one instruction at a time: what emitted BPF and optimised
// programs are compared with. Knows the handful of helpers that the tests call.

import { RangeViolation } from "ebpf-assembler";
import {
  evalAlu,
  evalCond,
  evalSwap,
  isReg,
  isSlot,
  SIZE_BYTES,
  type Arg,
  type Block,
  type Inst,
  type Operand,
  type Program,
  type Size,
  type Slot,
  type VReg,
} from "#compiler";

interface Pointer {
  readonly memory: Uint8Array;
  readonly off: number;
}
type Value = bigint | Pointer;

/** What a program runs in: the packet and, per map, an array of values. */
export interface World {
  readonly packet: Uint8Array;
  readonly ifindex: number;
  /** Array maps by name; a lookup beyond the end misses. */
  readonly arrays: ReadonlyMap<string, readonly Uint8Array[]>;
}

const MAX_STEPS = 100_000;

class Evaluator {
  private readonly regs = new Map<number, Value>();
  private readonly slots = new Map<number, Uint8Array>();
  private steps = 0;

  constructor(
    private readonly program: Program,
    private readonly world: World,
  ) {}

  private fail(problem: string): never {
    throw new RangeViolation(`Cannot evaluate ${this.program.name}: ${problem}`);
  }

  private read(x: Operand): Value {
    if (!isReg(x)) return BigInt.asUintN(64, BigInt(x));
    return this.regs.get(x.id) ?? this.fail(`%${x.hint}.${x.id} is read before it is written`);
  }

  private scalar(x: Operand): bigint {
    const v = this.read(x);
    return typeof v === "bigint" ? v : this.fail("a pointer where a scalar is wanted");
  }

  private slot(slot: Slot): Uint8Array {
    const memory = this.slots.get(slot.slot) ?? new Uint8Array(slot.size);
    this.slots.set(slot.slot, memory);
    return memory;
  }

  private memory(base: VReg | Slot, off: number, size: Size): DataView {
    const value = isSlot(base) ? { memory: this.slot(base), off: 0 } : this.read(base);
    if (typeof value === "bigint") return this.fail("access through a scalar");
    const { memory } = value;
    return new DataView(memory.buffer, memory.byteOffset + value.off + off, SIZE_BYTES[size]);
  }

  private get(size: Size, view: DataView): bigint {
    switch (size) {
      case "u8":
        return BigInt(view.getUint8(0));
      case "u16":
        return BigInt(view.getUint16(0, true));
      case "u32":
        return BigInt(view.getUint32(0, true));
      case "u64":
        return view.getBigUint64(0, true);
    }
  }

  private put(size: Size, view: DataView, value: bigint): void {
    switch (size) {
      case "u8":
        return view.setUint8(0, Number(value & 0xffn));
      case "u16":
        return view.setUint16(0, Number(value & 0xffffn), true);
      case "u32":
        return view.setUint32(0, Number(value & 0xffff_ffffn), true);
      case "u64":
        return view.setBigUint64(0, value, true);
    }
  }

  private alu(inst: Inst & { op: "alu" }): Value {
    const a = this.read(inst.a);
    const b = this.read(inst.b);
    if (typeof a === "bigint" && typeof b === "bigint")
      return BigInt.asUintN(64, BigInt(evalAlu(inst.alu, inst.width, a, b)));
    if (typeof a !== "bigint" && typeof b !== "bigint") return BigInt.asUintN(64, BigInt(a.off - b.off));
    const [pointer, by] = typeof a === "bigint" ? [b as Pointer, a] : [a, b as bigint];
    const delta = Number(BigInt.asIntN(64, by));
    return { memory: pointer.memory, off: pointer.off + (inst.alu === "sub" ? -delta : delta) };
  }

  private call(helper: string, args: readonly Arg[]): Value {
    const [map, key, flags] = args;
    // An entry that is empty: the two low bits of the flags are the verdict.
    if (
      helper === "redirect_map" &&
      flags !== undefined &&
      flags !== "ctx" &&
      (typeof flags !== "object" || isReg(flags))
    )
      return this.scalar(flags) & 3n;
    if (helper !== "map_lookup_elem" || typeof map !== "object" || !("map" in map)) return this.fail(`calls ${helper}`);
    if (typeof key !== "object" || !("at" in key)) return this.fail("wants a key on the stack");
    const index = this.memory(key.at, key.off, "u32").getUint32(0, true);
    const value = this.world.arrays.get(map.map)?.[index];
    return value === undefined ? 0n : { memory: value, off: 0 };
  }

  private ctx(field: string): Value {
    const { packet, ifindex } = this.world;
    switch (field) {
      case "data":
        return { memory: packet, off: 0 };
      case "data_end":
        return { memory: packet, off: packet.length };
      case "packet_len":
        return BigInt(packet.length);
      case "ingress_ifindex":
        return BigInt(ifindex);
      default:
        return this.fail(`reads ctx.${field}`);
    }
  }

  private inst(inst: Inst): void {
    switch (inst.op) {
      case "mov":
        return void this.regs.set(inst.dst.id, this.read(inst.src));
      case "alu":
        return void this.regs.set(inst.dst.id, this.alu(inst));
      case "swap": {
        const swapped = BigInt.asUintN(64, BigInt(evalSwap(inst.bits, this.scalar(inst.src))));
        return void this.regs.set(inst.dst.id, swapped);
      }
      case "forget":
        return void this.regs.set(inst.dst.id, this.scalar(inst.src) & 0xffff_ffffn);
      case "load":
        return void this.regs.set(inst.dst.id, this.get(inst.size, this.memory(inst.base, inst.off, inst.size)));
      case "store":
        return this.put(inst.size, this.memory(inst.base, inst.off, inst.size), this.scalar(inst.src));
      case "atomic_add": {
        const view = this.memory(inst.base, inst.off, inst.size);
        return this.put(inst.size, view, BigInt.asUintN(64, this.get(inst.size, view) + this.scalar(inst.src)));
      }
      case "ctx":
        return void this.regs.set(inst.dst.id, this.ctx(inst.field));
      case "map_value": {
        const memory = this.world.arrays.get(inst.map)?.[0] ?? this.fail(`no map ${inst.map}`);
        return void this.regs.set(inst.dst.id, { memory, off: inst.off });
      }
      case "call":
        return void this.regs.set(inst.dst.id, this.call(inst.helper, inst.args));
    }
  }

  private holds(end: Block["end"] & { op: "branch" }): boolean {
    const a = this.read(end.a);
    const b = this.read(end.b);
    if (typeof a === "bigint" && typeof b === "bigint") return evalCond(end.cond, end.width, a, b);
    if (typeof a !== "bigint" && typeof b !== "bigint") return evalCond(end.cond, 64, a.off, b.off);
    // A pointer beside 0: it is not null.
    return end.cond === "ne";
  }

  /** The verdict as the kernel reports it: the low 32 bits. */
  run(): number {
    const blocks = new Map(this.program.blocks.map((b) => [b.id, b]));
    let block = this.program.blocks[0] ?? this.fail("it has no blocks");
    for (;;) {
      if ((this.steps += block.body.length + 1) > MAX_STEPS) this.fail("it does not end");
      for (const inst of block.body) this.inst(inst);
      const { end } = block;
      if (end.op === "return") return Number(BigInt.asUintN(32, this.scalar(end.value)));
      const to = end.op === "jump" ? end.to : end.op === "tail_call" ? end.else : this.holds(end) ? end.then : end.else;
      block = blocks.get(to) ?? this.fail(`no block ${to}`);
    }
  }
}

/** Runs `program`; changes the packet and the maps of `world`. A tail call always misses. */
export const evaluate = (program: Program, world: World): number => new Evaluator(program, world).run();
