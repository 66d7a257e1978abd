// The interpreter's loop. Registers are pairs of 32-bit words in one Int32Array (`R[2n]` low, `R[2n+1]` high): no bigint
// and no allocation on the way of an instruction. Everything an instruction can do to the outside goes through Memory
// (bounds, read-only memory), the context of the hook, or a helper.
//
// The file is long because the compiler turns the switch into one jump table only when the operations are declared next
// to it, and because a call per operation would cost more than most operations do. Instructions with a register and with
// an immediate source share an operation: the decoder points `src` at the constant, which the loop puts behind r10.

import { div64, mod64, mul64, sdiv64, smod64, swap32 } from "./alu.js";
import { atomic } from "./atomic.js";
import { Fault } from "./errors.js";
import { CONSTANT, type Image } from "./image.js";
import type { Context, Machine } from "./machine.js";
import { highWord, ORIGIN, SEGMENT_SHIFT, SEGMENTS } from "./memory.js";

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

const CTX = SEGMENTS.ctx;

/** Runs until the frame that is current now exits. */
export const execute = (machine: Machine, context: Context, first: Image, entry: number): void => {
  const { R, memory } = machine;
  const floor = machine.depth;
  let image = first;
  let { op, dst, src, off, imm, immHigh, target } = image;
  let pc = entry;
  let left = machine.left;
  machine.image = image;
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
        case Op.MAY_GOTO:
          if (!machine.mayLoop()) {
            pc = target[pc]!;
            continue;
          }
          break;

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
          atomic(R, memory, 4, d, s, off[pc]!, imm[pc]!);
          break;
        case Op.ATOMIC8:
          atomic(R, memory, 8, d, s, off[pc]!, imm[pc]!);
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
          machine.left = left;
          machine.pc = pc;
          machine.callHelper(imm[pc]!);
          left = machine.left;
          if (machine.tail !== undefined) {
            image = machine.startTail(machine.tail);
            ({ op, dst, src, off, imm, immHigh, target } = image);
            pc = 0;
            continue;
          }
          machine.clobberArguments();
          break;
        case Op.CALL_LOCAL:
          machine.pc = pc;
          machine.call(image, pc);
          pc = target[pc]!;
          continue;
        case Op.EXIT:
          machine.pc = pc;
          if (machine.depth === floor) return;
          pc = machine.leave();
          image = machine.image!;
          ({ op, dst, src, off, imm, immHigh, target } = image);
          machine.clobberArguments();
          break;
        default:
          throw new Fault("this slot holds no instruction");
      }
      pc++;
    }
  } catch (error) {
    throw error instanceof Fault ? machine.explain(error, image, pc) : error;
  } finally {
    machine.left = left;
  }
};
