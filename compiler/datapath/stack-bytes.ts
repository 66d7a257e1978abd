// How much stack a program uses, read from its code.

import type { ProgramSpec } from "ebpf-assembler";

const FRAME_POINTER = 10;
const CLASS = { LDX: 1, ST: 2, STX: 3, ALU64: 7 } as const;

/** Deepest byte below the frame pointer that the program names. */
export const stackBytes = ({ code }: ProgramSpec): number => {
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
  return -deepest;
};
