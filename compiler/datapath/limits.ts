// Emits programs of a plan within what a kernel takes: one that is too large for stack, jumps or verifier is refused here, with
// the flow that most of it is for, rather than by the kernel with a number.

import {
  AssembleError,
  CompileError,
  type Diagnostic,
  type ExitCode,
  type Origin,
  type ProgramSpec,
} from "ebpf-assembler";
import { costOf, VERIFIER_LIMITS, type VerifierCost } from "../emit/bpf/cost.js";
import { emitProgram } from "../emit/bpf/emit.js";
import { FrameError } from "../emit/bpf/frame.js";
import { estimate } from "../ir/estimate.js";
import type { Program } from "../ir/types.js";
import { runPasses, STACK_PASSES } from "../passes/index.js";
import type { Target } from "../targets/index.js";
import type { DatapathPlan } from "./plan.js";

/** Flows that compile to a program that no kernel takes. */
export class LimitError extends CompileError {
  override get exitCode(): ExitCode {
    return 3;
  }
}

/** One whose stack does not suffice. */
class StackLimitError extends LimitError {}

const diagnosed = (problem: string, from: Origin | undefined, fits: string): Diagnostic => ({
  file: from?.file ?? "flows",
  line: from?.line ?? 1,
  column: 1,
  message: `${problem}${from === undefined ? "" : `, most of it for ${from.text}`}; what fits: ${fits}`,
});

const limitError = (problem: string, from: Origin | undefined, fits: string): LimitError =>
  new LimitError([diagnosed(problem, from, fits)]);

/** What takes most of the stack: the longest list of arguments or, if keys are longer, the mask with the longest. */
const mostStack = ({ key, shapes, subtables }: DatapathPlan): Origin | undefined => {
  const longest = shapes.reduce<DatapathPlan["shapes"][number] | undefined>(
    (most, shape) => (most === undefined || shape.argsSize > most.argsSize ? shape : most),
    undefined,
  );
  if (longest !== undefined && longest.argsSize >= key.size) return longest.from ?? { text: `actions ${longest.text}` };
  return [...subtables].sort((a, b) => b.keySize - a.keySize)[0]?.from;
};

/** Where most instructions come from. */
const mostCode = ({ code, lines }: ProgramSpec): Origin | undefined => {
  const slots = new Map<string, { origin: Origin; n: number }>();
  lines.forEach(({ insn, origin }, i) => {
    const key = `${origin.file ?? ""}:${origin.line ?? 0}:${origin.text}`;
    const sum = slots.get(key) ?? { origin, n: 0 };
    sum.n += (lines[i + 1]?.insn ?? code.length / 8) - insn;
    slots.set(key, sum);
  });
  return [...slots.values()].sort((a, b) => b.n - a.n)[0]?.origin;
};

const STACK_FITS = "matches on fewer fields, shorter action lists";

/** Limits on what {@link costOf} counts, and what keeps a program below them. */
const LIMITS = [
  { of: "instructions", unit: "instructions", fits: "fewer masks and action lists" },
  { of: "stackBytes", unit: "bytes of stack", fits: STACK_FITS },
  { of: "pendingJumps", unit: "jumps kept by the verifier", fits: "fewer masks and action lists" },
] as const satisfies readonly { of: keyof typeof VERIFIER_LIMITS & keyof VerifierCost; unit: string; fits: string }[];

/** Share of a limit beyond which an estimate from IR says for sure. */
const SURE = 1.1;

/** Where most of a program's IR comes from. */
const mostIr = ({ blocks }: Program): Origin | undefined => {
  const sizes = new Map<Origin, number>();
  for (const { body } of blocks)
    for (const { from } of body) if (from !== undefined) sizes.set(from, (sizes.get(from) ?? 0) + 1);
  return [...sizes].sort(([, a], [, b]) => b - a)[0]?.[0];
};

/**
 * Passes and emits a plan's program, unless it is far beyond a limit before; where the stack is short, without the passes that
 * take more of it.
 * @throws {@link LimitError} naming the flow, for what a kernel would refuse
 */
export const compileWithinLimits = (plan: DatapathPlan, program: Program, target: Target): ProgramSpec => {
  const cost = estimate(program);
  for (const { of, unit, fits } of LIMITS) {
    if (of === "stackBytes" || cost[of] <= SURE * VERIFIER_LIMITS[of]) continue;
    const problem = `Program ${program.name} needs about ${cost[of]} ${unit}, want at most ${VERIFIER_LIMITS[of]}`;
    throw limitError(problem, mostIr(program), fits);
  }
  try {
    return emitWithinLimits(plan, runPasses(program), target);
  } catch (error) {
    if (!(error instanceof StackLimitError)) throw error;
    return emitWithinLimits(plan, runPasses(program, { without: STACK_PASSES }), target);
  }
};

/**
 * {@link emitProgram} of a plan's program.
 * @throws {@link LimitError} naming the flow, for what a kernel would refuse
 */
export const emitWithinLimits = (plan: DatapathPlan, program: Program, target: Target): ProgramSpec => {
  const spec = ((): ProgramSpec => {
    try {
      return emitProgram(program, target);
    } catch (error) {
      if (error instanceof FrameError)
        throw new StackLimitError([diagnosed(error.message, mostStack(plan), STACK_FITS)]);
      if (error instanceof AssembleError) throw limitError(error.message, undefined, "fewer masks and action lists");
      throw error;
    }
  })();
  const cost = costOf(spec);
  for (const { of, unit, fits } of LIMITS)
    if (cost[of] > VERIFIER_LIMITS[of])
      throw limitError(
        `Program ${spec.name} needs ${cost[of]} ${unit}, want at most ${VERIFIER_LIMITS[of]}`,
        mostCode(spec),
        fits,
      );
  return spec;
};
