// The interpreter's loop. Registers are pairs of 32-bit words in one Int32Array (`R[2n]` low, `R[2n+1]` high): no bigint
// and no allocation on the way of an instruction. Everything an instruction can do to the outside goes through Memory
// (bounds, read-only memory), the context of the hook, or a helper.
//
// The operations are declared in this file so that the compiler turns the loop's switch into one jump table. Instructions
// with a register and with an immediate source share an operation: the decoder points `src` at the constant, which the
// loop puts behind r10.

import { OffloadError } from "../base/index.js";
import { div64, mod64, mul64, sdiv64, smod64, swap32 } from "./alu.js";
import { errorAt } from "./blame.js";
import { CONSTANT, type Image } from "./decode.js";
import { Fault } from "./errors.js";
import {
  FRAME_BYTES,
  hex64,
  highWord,
  MAX_FRAMES,
  Memory,
  ORIGIN,
  SEGMENT_SHIFT,
  SEGMENTS,
  StackSegment,
} from "./memory.js";

/** Width in bits at the end; `LDSX` extends the sign. */
export const enum Op {
  INVALID,
  SECOND_HALF,
  ADD64,
  SUB64,
  MUL64,
  DIV64,
  SDIV64,
  OR64,
  AND64,
  LSH64,
  RSH64,
  MOD64,
  SMOD64,
  XOR64,
  MOV64,
  ARSH64,
  NEG64,
  MOVSX8_64,
  MOVSX16_64,
  MOVSX32_64,
  ADD32,
  SUB32,
  MUL32,
  DIV32,
  SDIV32,
  OR32,
  AND32,
  LSH32,
  RSH32,
  MOD32,
  SMOD32,
  XOR32,
  MOV32,
  ARSH32,
  NEG32,
  MOVSX8_32,
  MOVSX16_32,
  LE16,
  LE32,
  LE64,
  SWAP16,
  SWAP32,
  SWAP64,
  JA,
  JEQ64,
  JGT64,
  JGE64,
  JSET64,
  JNE64,
  JSGT64,
  JSGE64,
  JLT64,
  JLE64,
  JSLT64,
  JSLE64,
  JEQ32,
  JGT32,
  JGE32,
  JSET32,
  JNE32,
  JSGT32,
  JSGE32,
  JLT32,
  JLE32,
  JSLT32,
  JSLE32,
  MAY_GOTO,
  LDX1,
  LDX2,
  LDX4,
  LDX8,
  LDSX1,
  LDSX2,
  LDSX4,
  ST1,
  ST2,
  ST4,
  ST8,
  ATOMIC4,
  ATOMIC8,
  LD_IMM64,
  CALL_HELPER,
  CALL_LOCAL,
  EXIT,
}

/** What the context pointer in r1 leads to. */
export interface Context {
  /** Loads into register file index `dst`. @throws {@link Fault} for a field that cannot be read so */
  load(R: Int32Array, dst: number, offset: number, size: number): void;
  /** Stores the words `lo`, `hi`. @throws {@link Fault} for a field that cannot be written so */
  store(offset: number, size: number, lo: number, hi: number): void;
}

/** Calls helper `id`: arguments in r1..r5 of the machine, result in r0. */
export type CallHelper = (id: number) => void;

/** Iterations that one frame's may_goto instructions allow together (BPF_MAX_LOOPS, linux/bpf.h). */
const MAX_LOOPS = 8 * 1024 * 1024;
/** High word that no segment has: what a register holds that was never set or that a call clobbered. */
const POISON_HIGH = 0x7fdead00;
const CTX = SEGMENTS.ctx;
const PACKET = SEGMENTS.packet;

/** Registers, memory and call chain of one program run. */
export class Machine {
  /** r0..r10 and the constant operand, low and high words. */
  readonly R = new Int32Array(CONSTANT + 2);
  readonly memory = new Memory();
  readonly stack = new StackSegment();
  /** Instructions left of the budget. */
  left = 0;
  /** Set by the tail_call helper: the program to go on with. */
  tail: Image | undefined;
  /** Where the machine is: for errors, and for callbacks of helpers. */
  image: Image | undefined;
  pc = 0;

  private context: Context | undefined;
  private nFrames = 0;
  private readonly callers: Image[] = [];
  private readonly returns = new Int32Array(MAX_FRAMES);
  private readonly saved = new Int32Array(MAX_FRAMES * 8);
  private readonly loops = new Int32Array(MAX_FRAMES);

  constructor(private readonly callHelper: CallHelper) {
    this.memory.install(SEGMENTS.stack, this.stack);
  }

  /**
   * Runs a program from its first instruction to its exit; r0 is then in {@link Machine.R}.
   * @throws {@link VmError}
   */
  run(image: Image, context: Context, budget: number): void {
    this.context = context;
    this.left = budget;
    this.tail = undefined;
    this.nFrames = 0;
    this.stack.reset();
    for (let r = 0; r < 10; r++) this.poison(r);
    this.setContext();
    this.enter();
    try {
      this.execute(image, 0);
    } catch (error) {
      throw this.explain(error);
    }
    this.nFrames = 0;
  }

  /**
   * Calls a subprogram of the current program from within a helper.
   * Arguments are in r1.. already; r6..r10 are kept for the caller.
   */
  callback(slot: number): void {
    const { image, pc } = this;
    if (image === undefined) throw new Fault("no program is running");
    this.save(image, pc);
    this.enter();
    this.execute(image, slot);
    this.restore();
    this.image = image;
    this.pc = pc;
  }

  /** Sets r0 to a number of at most 32 significant bits, sign-extended. */
  result(value: number): void {
    this.R[0] = value;
    this.R[1] = value < 0 ? -1 : 0;
  }

  /** Sets r0 to two words. */
  resultWords(lo: number, hi: number): void {
    this.R[0] = lo;
    this.R[1] = hi;
  }

  private setContext(): void {
    this.R[2] = ORIGIN;
    this.R[3] = highWord(CTX, 0);
  }

  private poison(register: number): void {
    this.R[2 * register] = register;
    this.R[2 * register + 1] = POISON_HIGH;
  }

  /** Opens a stack frame and points r10 at its end. */
  private enter(): void {
    const slot = this.stack.push();
    this.loops[slot] = MAX_LOOPS;
    this.R[20] = ORIGIN + FRAME_BYTES;
    this.R[21] = highWord(SEGMENTS.stack, slot);
  }

  private save(image: Image, pc: number): void {
    const at = this.nFrames;
    if (at === MAX_FRAMES - 1) throw new Fault(`call chain is deeper than ${MAX_FRAMES} frames`);
    this.callers[at] = image;
    this.returns[at] = pc;
    this.saved.set(this.R.subarray(12, 20), at * 8);
    this.nFrames++;
  }

  private restore(): void {
    const at = --this.nFrames;
    this.stack.pop();
    this.R.set(this.saved.subarray(at * 8, at * 8 + 8), 12);
    this.R[20] = ORIGIN + FRAME_BYTES;
    this.R[21] = highWord(SEGMENTS.stack, at);
  }

  private explain(error: unknown): unknown {
    const { image, pc } = this;
    if (!(error instanceof Fault) || image === undefined) return error;
    const registers = Array.from({ length: 11 }, (_, r) => hex64(this.R[2 * r + 1]!, this.R[2 * r]!));
    return errorAt(image.spec, pc, error.message, registers, error);
  }

  /** Runs until the frame that is current now exits. */
  private execute(first: Image, entry: number): void {
    const { R, memory } = this;
    const context = this.context!;
    const floor = this.nFrames;
    let image = first;
    let { op, dst, src, off, imm, immHigh, target } = image;
    let pc = entry;
    let left = this.left;
    this.image = image;
    try {
      for (;;) {
        if (pc >= op.length) throw new Fault("execution runs off the end of the program");
        if (--left < 0) throw new Fault("the instruction budget is used up");
        const d = dst[pc]!;
        const s = src[pc]!;
        R[CONSTANT] = imm[pc]!;
        R[CONSTANT + 1] = immHigh[pc]!;
        switch (op[pc]! as Op) {
          case Op.ADD64: {
            const sum = (R[d]! >>> 0) + (R[s]! >>> 0);
            R[d + 1] = R[d + 1]! + R[s + 1]! + (sum > 0xffffffff ? 1 : 0);
            R[d] = sum;
            break;
          }
          case Op.SUB64: {
            const difference = (R[d]! >>> 0) - (R[s]! >>> 0);
            R[d + 1] = R[d + 1]! - R[s + 1]! - (difference < 0 ? 1 : 0);
            R[d] = difference;
            break;
          }
          case Op.MUL64:
            mul64(R, d, s);
            break;
          case Op.DIV64:
            div64(R, d, s);
            break;
          case Op.SDIV64:
            sdiv64(R, d, s);
            break;
          case Op.MOD64:
            mod64(R, d, s);
            break;
          case Op.SMOD64:
            smod64(R, d, s);
            break;
          case Op.OR64:
            R[d] = R[d]! | R[s]!;
            R[d + 1] = R[d + 1]! | R[s + 1]!;
            break;
          case Op.AND64:
            R[d] = R[d]! & R[s]!;
            R[d + 1] = R[d + 1]! & R[s + 1]!;
            break;
          case Op.XOR64:
            R[d] = R[d]! ^ R[s]!;
            R[d + 1] = R[d + 1]! ^ R[s + 1]!;
            break;
          case Op.LSH64: {
            const by = R[s]! & 63;
            if (by >= 32) {
              R[d + 1] = R[d]! << (by - 32);
              R[d] = 0;
            } else if (by > 0) {
              R[d + 1] = (R[d + 1]! << by) | (R[d]! >>> (32 - by));
              R[d] = R[d]! << by;
            }
            break;
          }
          case Op.RSH64: {
            const by = R[s]! & 63;
            if (by >= 32) {
              R[d] = R[d + 1]! >>> (by - 32);
              R[d + 1] = 0;
            } else if (by > 0) {
              R[d] = (R[d]! >>> by) | (R[d + 1]! << (32 - by));
              R[d + 1] = R[d + 1]! >>> by;
            }
            break;
          }
          case Op.ARSH64: {
            const by = R[s]! & 63;
            if (by >= 32) {
              R[d] = R[d + 1]! >> (by - 32);
              R[d + 1] = R[d + 1]! >> 31;
            } else if (by > 0) {
              R[d] = (R[d]! >>> by) | (R[d + 1]! << (32 - by));
              R[d + 1] = R[d + 1]! >> by;
            }
            break;
          }
          case Op.NEG64: {
            const lo = R[d]!;
            R[d] = -lo;
            R[d + 1] = ~R[d + 1]! + (lo === 0 ? 1 : 0);
            break;
          }
          case Op.MOV64:
            R[d] = R[s]!;
            R[d + 1] = R[s + 1]!;
            break;
          case Op.MOVSX8_64:
            R[d] = (R[s]! << 24) >> 24;
            R[d + 1] = R[d]! >> 31;
            break;
          case Op.MOVSX16_64:
            R[d] = (R[s]! << 16) >> 16;
            R[d + 1] = R[d]! >> 31;
            break;
          case Op.MOVSX32_64:
            R[d] = R[s]!;
            R[d + 1] = R[d]! >> 31;
            break;

          case Op.ADD32:
            R[d] = R[d]! + R[s]!;
            R[d + 1] = 0;
            break;
          case Op.SUB32:
            R[d] = R[d]! - R[s]!;
            R[d + 1] = 0;
            break;
          case Op.MUL32:
            R[d] = Math.imul(R[d]!, R[s]!);
            R[d + 1] = 0;
            break;
          case Op.DIV32: {
            const by = R[s]! >>> 0;
            R[d] = by === 0 ? 0 : (R[d]! >>> 0) / by;
            R[d + 1] = 0;
            break;
          }
          case Op.SDIV32: {
            const by = R[s]!;
            R[d] = by === 0 ? 0 : R[d]! / by;
            R[d + 1] = 0;
            break;
          }
          case Op.MOD32: {
            const by = R[s]! >>> 0;
            if (by !== 0) R[d] = (R[d]! >>> 0) % by;
            R[d + 1] = 0;
            break;
          }
          case Op.SMOD32: {
            const by = R[s]!;
            if (by !== 0) R[d] = R[d]! % by;
            R[d + 1] = 0;
            break;
          }
          case Op.OR32:
            R[d] = R[d]! | R[s]!;
            R[d + 1] = 0;
            break;
          case Op.AND32:
            R[d] = R[d]! & R[s]!;
            R[d + 1] = 0;
            break;
          case Op.XOR32:
            R[d] = R[d]! ^ R[s]!;
            R[d + 1] = 0;
            break;
          case Op.LSH32:
            R[d] = R[d]! << R[s]!;
            R[d + 1] = 0;
            break;
          case Op.RSH32:
            R[d] = R[d]! >>> R[s]!;
            R[d + 1] = 0;
            break;
          case Op.ARSH32:
            R[d] = R[d]! >> R[s]!;
            R[d + 1] = 0;
            break;
          case Op.NEG32:
            R[d] = -R[d]!;
            R[d + 1] = 0;
            break;
          case Op.MOV32:
            R[d] = R[s]!;
            R[d + 1] = 0;
            break;
          case Op.MOVSX8_32:
            R[d] = (R[s]! << 24) >> 24;
            R[d + 1] = 0;
            break;
          case Op.MOVSX16_32:
            R[d] = (R[s]! << 16) >> 16;
            R[d + 1] = 0;
            break;

          case Op.LE16:
            R[d] = R[d]! & 0xffff;
            R[d + 1] = 0;
            break;
          case Op.LE32:
            R[d + 1] = 0;
            break;
          case Op.LE64:
            break;
          case Op.SWAP16:
            R[d] = swap32(R[d]!) >>> 16;
            R[d + 1] = 0;
            break;
          case Op.SWAP32:
            R[d] = swap32(R[d]!);
            R[d + 1] = 0;
            break;
          case Op.SWAP64: {
            const lo = R[d]!;
            R[d] = swap32(R[d + 1]!);
            R[d + 1] = swap32(lo);
            break;
          }

          case Op.JA:
            pc = target[pc]!;
            continue;
          case Op.JEQ64:
            if (R[d] === R[s] && R[d + 1] === R[s + 1]) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JNE64:
            if (R[d] !== R[s] || R[d + 1] !== R[s + 1]) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JGT64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 > R[s]! >>> 0 : R[d + 1]! >>> 0 > R[s + 1]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JGE64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 >= R[s]! >>> 0 : R[d + 1]! >>> 0 > R[s + 1]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JLT64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 < R[s]! >>> 0 : R[d + 1]! >>> 0 < R[s + 1]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JLE64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 <= R[s]! >>> 0 : R[d + 1]! >>> 0 < R[s + 1]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSGT64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 > R[s]! >>> 0 : R[d + 1]! > R[s + 1]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSGE64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 >= R[s]! >>> 0 : R[d + 1]! > R[s + 1]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSLT64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 < R[s]! >>> 0 : R[d + 1]! < R[s + 1]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSLE64:
            if (R[d + 1] === R[s + 1] ? R[d]! >>> 0 <= R[s]! >>> 0 : R[d + 1]! < R[s + 1]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSET64:
            if ((R[d]! & R[s]!) !== 0 || (R[d + 1]! & R[s + 1]!) !== 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JEQ32:
            if (R[d] === R[s]) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JNE32:
            if (R[d] !== R[s]) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JGT32:
            if (R[d]! >>> 0 > R[s]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JGE32:
            if (R[d]! >>> 0 >= R[s]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JLT32:
            if (R[d]! >>> 0 < R[s]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JLE32:
            if (R[d]! >>> 0 <= R[s]! >>> 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSGT32:
            if (R[d]! > R[s]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSGE32:
            if (R[d]! >= R[s]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSLT32:
            if (R[d]! < R[s]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSLE32:
            if (R[d]! <= R[s]!) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.JSET32:
            if ((R[d]! & R[s]!) !== 0) {
              pc = target[pc]!;
              continue;
            }
            break;
          case Op.MAY_GOTO: {
            const frame = this.nFrames;
            if (this.loops[frame] === 0) {
              pc = target[pc]!;
              continue;
            }
            this.loops[frame]!--;
            break;
          }

          case Op.LDX1: {
            const hi = R[s + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.load(R, d, R[s]! - ORIGIN + off[pc]!, 1);
            else {
              const at = memory.locate(hi, R[s]!, off[pc]!, 1, false);
              R[d] = memory.view.getUint8(at);
              R[d + 1] = 0;
            }
            break;
          }
          case Op.LDX2: {
            const hi = R[s + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.load(R, d, R[s]! - ORIGIN + off[pc]!, 2);
            else {
              const at = memory.locate(hi, R[s]!, off[pc]!, 2, false);
              R[d] = memory.view.getUint16(at, true);
              R[d + 1] = 0;
            }
            break;
          }
          case Op.LDX4: {
            const hi = R[s + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.load(R, d, R[s]! - ORIGIN + off[pc]!, 4);
            else {
              const at = memory.locate(hi, R[s]!, off[pc]!, 4, false);
              R[d] = memory.view.getInt32(at, true);
              R[d + 1] = 0;
            }
            break;
          }
          case Op.LDX8: {
            const hi = R[s + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.load(R, d, R[s]! - ORIGIN + off[pc]!, 8);
            else {
              const at = memory.locate(hi, R[s]!, off[pc]!, 8, false);
              R[d] = memory.view.getInt32(at, true);
              R[d + 1] = memory.view.getInt32(at + 4, true);
            }
            break;
          }
          case Op.LDSX1: {
            const at = memory.locate(R[s + 1]!, R[s]!, off[pc]!, 1, false);
            R[d] = memory.view.getInt8(at);
            R[d + 1] = R[d]! >> 31;
            break;
          }
          case Op.LDSX2: {
            const at = memory.locate(R[s + 1]!, R[s]!, off[pc]!, 2, false);
            R[d] = memory.view.getInt16(at, true);
            R[d + 1] = R[d]! >> 31;
            break;
          }
          case Op.LDSX4: {
            const at = memory.locate(R[s + 1]!, R[s]!, off[pc]!, 4, false);
            R[d] = memory.view.getInt32(at, true);
            R[d + 1] = R[d]! >> 31;
            break;
          }
          case Op.ST1: {
            const hi = R[d + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.store(R[d]! - ORIGIN + off[pc]!, 1, R[s]!, R[s + 1]!);
            else {
              const at = memory.locate(hi, R[d]!, off[pc]!, 1, true);
              memory.view.setInt8(at, R[s]!);
            }
            break;
          }
          case Op.ST2: {
            const hi = R[d + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.store(R[d]! - ORIGIN + off[pc]!, 2, R[s]!, R[s + 1]!);
            else {
              const at = memory.locate(hi, R[d]!, off[pc]!, 2, true);
              memory.view.setInt16(at, R[s]!, true);
            }
            break;
          }
          case Op.ST4: {
            const hi = R[d + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.store(R[d]! - ORIGIN + off[pc]!, 4, R[s]!, R[s + 1]!);
            else {
              const at = memory.locate(hi, R[d]!, off[pc]!, 4, true);
              memory.view.setInt32(at, R[s]!, true);
            }
            break;
          }
          case Op.ST8: {
            const hi = R[d + 1]!;
            if (hi >>> SEGMENT_SHIFT === CTX) context.store(R[d]! - ORIGIN + off[pc]!, 8, R[s]!, R[s + 1]!);
            else {
              const at = memory.locate(hi, R[d]!, off[pc]!, 8, true);
              memory.view.setInt32(at, R[s]!, true);
              memory.view.setInt32(at + 4, R[s + 1]!, true);
            }
            break;
          }
          case Op.ATOMIC4:
            this.atomic(4, d, s, off[pc]!, imm[pc]!);
            break;
          case Op.ATOMIC8:
            this.atomic(8, d, s, off[pc]!, imm[pc]!);
            break;

          case Op.LD_IMM64:
            if (target[pc] === -1) {
              R[d] = imm[pc]!;
              R[d + 1] = immHigh[pc]!;
            } else {
              R[d] = ORIGIN + target[pc]!;
              R[d + 1] = highWord(SEGMENTS.func, 0);
            }
            pc += 2;
            continue;
          case Op.CALL_HELPER:
            this.left = left;
            this.pc = pc;
            this.callHelper(imm[pc]!);
            left = this.left;
            if (this.tail !== undefined) {
              image = this.image = this.tail;
              this.tail = undefined;
              ({ op, dst, src, off, imm, immHigh, target } = image);
              for (let r = 0; r < 10; r++) this.poison(r);
              this.setContext();
              this.stack.clear(this.nFrames);
              this.loops[this.nFrames] = MAX_LOOPS;
              pc = 0;
              continue;
            }
            for (let r = 1; r < 6; r++) this.poison(r);
            break;
          case Op.CALL_LOCAL:
            this.pc = pc;
            this.save(image, pc);
            this.enter();
            for (let r = 6; r < 10; r++) this.poison(r);
            pc = target[pc]!;
            continue;
          case Op.EXIT:
            this.pc = pc;
            if (this.nFrames === floor) return;
            this.restore();
            image = this.image = this.callers[this.nFrames]!;
            ({ op, dst, src, off, imm, immHigh, target } = image);
            pc = this.returns[this.nFrames]!;
            for (let r = 1; r < 6; r++) this.poison(r);
            break;
          default:
            throw new Fault("this slot holds no instruction");
        }
        pc++;
      }
    } catch (error) {
      // A fault inside a nested call keeps the place where it happened.
      if (error instanceof Fault && !this.located.has(error)) {
        this.located.add(error);
        this.image = image;
        this.pc = pc;
      }
      throw error;
    } finally {
      this.left = left;
    }
  }

  /** Faults whose place is known already. */
  private readonly located = new WeakSet<OffloadError>();

  private atomic(size: 4 | 8, d: number, s: number, offset: number, what: number): void {
    const { R, memory } = this;
    const segment = R[d + 1]! >>> SEGMENT_SHIFT;
    if (segment === CTX || segment === PACKET) throw new Fault("atomic operation outside stack and maps");
    const at = memory.locate(R[d + 1]!, R[d]!, offset, size, false);
    memory.locate(R[d + 1]!, R[d]!, offset, size, true);
    const { view } = memory;
    const oldLo = view.getInt32(at, true);
    const oldHi = size === 8 ? view.getInt32(at + 4, true) : 0;
    const argLo = R[s]!;
    const argHi = size === 8 ? R[s + 1]! : 0;
    let lo: number;
    let hi: number;
    switch (what & 0xf0) {
      case 0x00: {
        const sum = (oldLo >>> 0) + (argLo >>> 0);
        lo = sum | 0;
        hi = oldHi + argHi + (sum > 0xffffffff ? 1 : 0);
        break;
      }
      case 0x40:
        lo = oldLo | argLo;
        hi = oldHi | argHi;
        break;
      case 0x50:
        lo = oldLo & argLo;
        hi = oldHi & argHi;
        break;
      case 0xa0:
        lo = oldLo ^ argLo;
        hi = oldHi ^ argHi;
        break;
      case 0xe0:
        lo = argLo;
        hi = argHi;
        break;
      default: {
        // Compare and exchange: r0 is compared and gets the old value.
        const isEqual = R[0] === oldLo && (size === 4 || R[1] === oldHi);
        lo = isEqual ? argLo : oldLo;
        hi = isEqual ? argHi : oldHi;
        R[0] = oldLo;
        R[1] = oldHi;
      }
    }
    view.setInt32(at, lo, true);
    if (size === 8) view.setInt32(at + 4, hi, true);
    if ((what & 0xf0) !== 0xf0 && (what & 1) !== 0) {
      R[s] = oldLo;
      R[s + 1] = oldHi;
    }
  }
}
