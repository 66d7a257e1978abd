// From a program in the intermediate representation to a BPF program of an object spec:
//
//   layout → select → allocate (liveness, coalescing, linear scan, spilling) → frame → encode → assemble
//
// Each stage is a function of plain data in its own file. The result is deterministic.

import { program as assembleProgram, type Insn, type Label, type ProgramSpec } from "ebpf-assembler";
import type { Program, Slot } from "../../ir/types.js";
import { isSlot } from "../../ir/types.js";
import { isSlotArg } from "../../ir/visit.js";
import { TARGETS, type Target } from "../../targets/index.js";
import { allocate } from "./allocate.js";
import { encode } from "./encode.js";
import { packFrame } from "./frame.js";
import { layOut } from "./layout.js";
import { select } from "./select.js";

/** The distinct stack slots of `program`, by number. */
const slotsOf = (program: Program): readonly Slot[] => {
  const slots = new Map<number, Slot>();
  for (const block of program.blocks)
    for (const inst of block.body) {
      if ("base" in inst && isSlot(inst.base)) slots.set(inst.base.slot, inst.base);
      if (inst.op === "forget") slots.set(inst.slot.slot, inst.slot);
      if (inst.op !== "call") continue;
      for (const arg of inst.args) if (typeof arg === "object" && isSlotArg(arg)) slots.set(arg.at.slot, arg.at);
    }
  return [...slots.values()].sort((a, b) => a.slot - b.slot);
};

/**
 * The instructions of `program`, jumps still by label.
 * @param program - well-formed, as `check` has it
 * @throws {@link IrError} when the stack does not suffice
 */
export const emitCode = (program: Program, target: Target = TARGETS[program.hook]): readonly (Insn | Label)[] => {
  const selected = select(program, target, layOut(program));
  const slots = slotsOf(program);
  const allocation = allocate(selected, 1 + Math.max(-1, ...slots.map((s) => s.slot)));
  const homes = [...new Set(allocation.spillSlots.values())];
  const frame = new Map(packFrame(program.name, [...slots, ...homes]));
  for (const [value, home] of allocation.spillSlots) frame.set(value, frame.get(home.slot)!);
  return encode(allocation, frame);
};

/** What {@link emitProgram} may be told besides the program. */
export interface EmitOptions {
  /** Program flags, e.g. BPF_F_XDP_HAS_FRAGS; default 0. */
  readonly flags?: number;
}

/**
 * Compiles `program` for `target`, by default the target of the program's hook.
 *
 * Memory that the program leaves uninitialised on the stack is not initialised for it: a key handed to a helper must be
 * written whole, padding included (kernels before 6.3 refuse it, later ones would look up garbage).
 *
 * @param program - well-formed, as `check` has it
 * @throws {@link IrError} when the stack does not suffice, {@link AssembleError} for a name the kernel does not take
 */
export const emitProgram = (
  program: Program,
  target: Target = TARGETS[program.hook],
  options: EmitOptions = {},
): ProgramSpec =>
  assembleProgram({
    name: program.name,
    type: target.progType,
    code: emitCode(program, target),
    gotol: false, // Linux 6.6, and not all releases of 6.1
    ...options,
  });
