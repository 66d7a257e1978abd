// What a program will cost the kernel's verifier, read from its code: the ways through it are counted, not walked.
//
// The verifier follows what stands behind a conditional jump and keeps the jump's target for later; it walks code again for
// each way that leads there, unless it has been there in a state that covers this one. How often that is depends on what it
// knows of registers; the estimate takes it that beyond a few ways no new state is met. Measured on our programs it is within a
// factor of four, either way. The number of kept targets is an upper bound.

import type { ProgramSpec } from "ebpf-assembler";

/** Limits of Linux 5.3 and later (kernel/bpf/verifier.c, include/linux/bpf.h), for privileged users. */
export const VERIFIER_LIMITS = {
  /** BPF_COMPLEXITY_LIMIT_INSNS: slots of a program, and steps of the verifier. */
  instructions: 1_000_000,
  /** BPF_COMPLEXITY_LIMIT_JMP_SEQ. */
  pendingJumps: 8192,
  /** MAX_BPF_STACK. */
  stackBytes: 512,
} as const;

/** What the verifier is expected to make of a program. */
export interface VerifierCost {
  /** Slots of 8 bytes. */
  readonly instructions: number;
  /** Bytes below the frame pointer. */
  readonly stackBytes: number;
  /** Jump targets that it may have to keep at one time, at most. */
  readonly pendingJumps: number;
  /** Steps, roughly. */
  readonly estimatedSteps: number;
}

const FRAME_POINTER = 10;
const LD_IMM64 = 0x18;
const CLASS = { LDX: 1, ST: 2, STX: 3, JMP: 5, JMP32: 6 } as const;
const JA = 0x05;
const CALL = 0x85;
const EXIT = 0x95;

/** Ways to one place beyond which the verifier is taken to have seen every state. */
const MOST_WAYS = 12;

/** Deepest byte below the frame pointer that the program names. */
export const stackBytes = ({ code }: Pick<ProgramSpec, "code">): number => {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  let deepest = 0;
  let copied = -1;
  for (let at = 0; at < code.length; at += 8) {
    const opcode = code[at]!;
    const dst = code[at + 1]! & 0x0f;
    const src = code[at + 1]! >>> 4;
    const cls = opcode & 7;
    const isAccess =
      (cls === CLASS.LDX && src === FRAME_POINTER) ||
      ((cls === CLASS.ST || cls === CLASS.STX) && dst === FRAME_POINTER);
    if (isAccess) deepest = Math.min(deepest, view.getInt16(at + 2, true));
    // r = r10; r += imm
    if (opcode === 0x07 && dst === copied) deepest = Math.min(deepest, view.getInt32(at + 4, true));
    copied = opcode === 0xbf && src === FRAME_POINTER ? dst : -1;
  }
  return Math.abs(deepest);
};

/** Where each instruction goes: what follows it, and the target of its jump; -1 for nowhere. */
const successors = ({ code }: Pick<ProgramSpec, "code">): { readonly next: Int32Array; readonly jump: Int32Array } => {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  const n = code.length / 8;
  const next = new Int32Array(n).fill(-1);
  const jump = new Int32Array(n).fill(-1);
  for (let i = 0; i < n; i++) {
    const opcode = code[8 * i]!;
    const cls = opcode & 7;
    const target = i + 1 + view.getInt16(8 * i + 2, true);
    if (opcode === EXIT) continue;
    if (opcode === JA) jump[i] = target;
    else if (opcode === 0x06) jump[i] = i + 1 + view.getInt32(8 * i + 4, true);
    else {
      next[i] = i + (opcode === LD_IMM64 ? 2 : 1);
      if ((cls === CLASS.JMP || cls === CLASS.JMP32) && opcode !== CALL) jump[i] = target;
    }
  }
  return { next, jump };
};

/** The instructions that the first one reaches, each before those it leads to; jumps back do not count. */
const topological = (next: Int32Array, jump: Int32Array): number[] => {
  const state = new Uint8Array(next.length); // 0 not seen, 1 being visited, 2 done
  const order: number[] = [];
  const path: { at: number; turn: number }[] = [{ at: 0, turn: 0 }];
  state[0] = 1;
  for (let top; (top = path.at(-1)) !== undefined;) {
    if (top.turn === 2) {
      state[top.at] = 2;
      order.push(top.at);
      path.pop();
      continue;
    }
    const to = (top.turn++ === 0 ? next : jump)[top.at]!;
    if (to < 0 || state[to] !== 0) continue;
    state[to] = 1;
    path.push({ at: to, turn: 0 });
  }
  return order.reverse();
};

/** {@link VerifierCost} of a program. */
export const costOf = (program: Pick<ProgramSpec, "code">): VerifierCost => {
  const { next, jump } = successors(program);
  const order = topological(next, jump);
  const rank = new Int32Array(next.length);
  order.forEach((at, i) => (rank[at] = i));
  const ways = new Float64Array(next.length);
  const pending = new Int32Array(next.length);
  ways[0] = 1;
  let estimatedSteps = 0;
  let pendingJumps = 0;
  for (const at of order) {
    const here = Math.min(ways[at]!, MOST_WAYS);
    estimatedSteps += here;
    const isBranch = next[at]! >= 0 && jump[at]! >= 0;
    for (const [to, kept] of [
      [next[at]!, isBranch ? 1 : 0],
      [jump[at]!, 0],
    ] as const) {
      if (to < 0 || rank[to]! <= rank[at]!) continue;
      ways[to]! += here;
      pending[to] = Math.max(pending[to]!, pending[at]! + kept);
      pendingJumps = Math.max(pendingJumps, pending[to]!);
    }
  }
  return {
    instructions: program.code.length / 8,
    stackBytes: stackBytes(program),
    pendingJumps,
    estimatedSteps: Math.round(estimatedSteps),
  };
};
