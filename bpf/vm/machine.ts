// The state of a program run: registers, call frames, budget. The loop over instructions is in execute.ts.

import { errorAt } from "./blame.js";
import { Fault, type VmError } from "./errors.js";
import { execute } from "./execute.js";
import { CONSTANT, type Image } from "./image.js";
import { FRAME_BYTES, hex64, highWord, MAX_FRAMES, Memory, ORIGIN, SEGMENTS, StackSegment } from "./memory.js";

/** What the context pointer in r1 leads to. */
export interface Context {
  /** Loads into register file index `dst`. @throws {@link Fault} for a field that cannot be read so */
  load(R: Int32Array, dst: number, offset: number, size: number): void;
  /** Stores the words `lo`, `hi`. @throws {@link Fault} for a field that cannot be written so */
  store(offset: number, size: number, lo: number, hi: number): void;
}

/** Register file indexes of r6, the first register that calls keep, and of r10; what is between is saved. */
const FIRST_SAVED = 2 * 6;
const FRAME_POINTER = 2 * 10;
const SAVED_WORDS = FRAME_POINTER - FIRST_SAVED;
/** Iterations that one frame's may_goto instructions allow together (BPF_MAX_LOOPS, linux/bpf.h). */
const MAX_LOOPS = 8 * 1024 * 1024;
/** High word that no segment has: what a register holds that was never set or that a call clobbered. */
const POISON_HIGH = 0x7fdead00;

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

  /** Calls around the current frame. */
  depth = 0;

  private context: Context | undefined;
  private readonly callers: Image[] = [];
  private readonly returns = new Int32Array(MAX_FRAMES);
  /** r6..r9 of the callers. */
  private readonly saved = new Int32Array(MAX_FRAMES * SAVED_WORDS);
  private readonly loops = new Int32Array(MAX_FRAMES);

  /** @param callHelper - calls a helper: arguments in r1..r5, result in r0 */
  constructor(readonly callHelper: (id: number) => void) {
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
    this.depth = 0;
    this.stack.reset();
    this.poison(0, 9);
    this.setContext();
    this.enter();
    execute(this, context, image, 0);
  }

  /** Calls a subprogram of the current program from within a helper: arguments are in r1.. already, the result is in r0. */
  callback(slot: number): void {
    const { image, pc, context } = this;
    if (image === undefined || context === undefined) throw new Fault("no program is running");
    this.save(image, pc);
    this.enter();
    execute(this, context, image, slot);
    this.pc = this.leave();
  }

  /** Enters a frame for a local call at slot `pc`. */
  call(image: Image, pc: number): void {
    this.save(image, pc);
    this.enter();
    this.poison(6, 9);
  }

  /** Returns from a frame: {@link Machine.image} is the caller's, the result its slot of the call. */
  leave(): number {
    const at = --this.depth;
    this.stack.pop();
    this.R.set(this.saved.subarray(at * SAVED_WORDS, (at + 1) * SAVED_WORDS), FIRST_SAVED);
    this.pointFrame(at);
    this.image = this.callers[at];
    return this.returns[at]!;
  }

  /** Replaces the current frame by the first one of another program. */
  startTail(image: Image): Image {
    this.tail = undefined;
    this.image = image;
    this.poison(0, 9);
    this.setContext();
    this.stack.clear(this.depth);
    this.loops[this.depth] = MAX_LOOPS;
    return image;
  }

  /** What a call leaves in r1..r5. */
  clobberArguments(): void {
    this.poison(1, 5);
  }

  /** Counts a may_goto of the current frame; false when it must leave its loop. */
  mayLoop(): boolean {
    if (this.loops[this.depth] === 0) return false;
    this.loops[this.depth]!--;
    return true;
  }

  /** The error for a fault at slot `pc`. */
  explain(fault: Fault, image: Image, pc: number): VmError {
    const registers = Array.from({ length: 11 }, (_, r) => hex64(this.R[2 * r + 1]!, this.R[2 * r]!));
    return errorAt(image.spec, pc, fault.message, registers, fault);
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
    this.R[3] = highWord(SEGMENTS.ctx, 0);
  }

  private poison(first: number, last: number): void {
    for (let r = first; r <= last; r++) {
      this.R[2 * r] = r;
      this.R[2 * r + 1] = POISON_HIGH;
    }
  }

  /** Opens a stack frame and points r10 at its end. */
  private enter(): void {
    const slot = this.stack.push();
    this.loops[slot] = MAX_LOOPS;
    this.pointFrame(slot);
  }

  private pointFrame(slot: number): void {
    this.R[FRAME_POINTER] = ORIGIN + FRAME_BYTES;
    this.R[FRAME_POINTER + 1] = highWord(SEGMENTS.stack, slot);
  }

  private save(image: Image, pc: number): void {
    const at = this.depth;
    if (at === MAX_FRAMES - 1) throw new Fault(`call chain is deeper than ${MAX_FRAMES} frames`);
    this.callers[at] = image;
    this.returns[at] = pc;
    this.saved.set(this.R.subarray(FIRST_SAVED, FRAME_POINTER), at * SAVED_WORDS);
    this.depth++;
  }
}
