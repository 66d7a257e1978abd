// Turns the verifier's log into an error that says which instruction is wrong, why, and which flow it came from.

import { OffloadError, type ExitCode, type Origin, type ProgramSpec } from "ebpf-assembler";
import type { SyscallError } from "../sys/errors.js";

/** The place and the reason of a refusal, as far as the log tells. */
export interface Refusal {
  /** Index of the instruction slot, or undefined when the verifier refused the program as a whole. */
  readonly insn: number | undefined;
  /** The instruction as the verifier prints it, e.g. `(61) r3 = *(u32 *)(r7 +26)`. */
  readonly text: string | undefined;
  /** Why, in the verifier's words; "" when the log is silent. */
  readonly reason: string;
}

/** `41: (61) r3 = *(u32 *)(r7 +26)   ; R3_w=scalar()`, also with the state after it. */
const INSN_LINE = /^(\d+): (\([0-9a-f]{2}\) [^;]*[^;\s])/;
/** Lines that carry state or statistics, never a reason. */
const NOISE =
  /^(\d+: (R\d|\()|processed \d+ insns|from \d+ to \d+|; |last_idx |first_idx |regs=|parent |mark_precise|frame\d|verification time|stack depth|func#|propagating|caller:|callee:|Func#|Live regs|\s|$)/;
/** Places named by reasons that come before any instruction was walked. */
const NAMED_INSN = /insn (?:#|from )?(\d+)/;

/** Finds what the verifier complains about in its log lines. */
export const parseRefusal = (log: readonly string[]): Refusal => {
  let insn: number | undefined;
  let text: string | undefined;
  let at = -1;
  for (let i = log.length - 1; i >= 0 && at < 0; i--) {
    const match = INSN_LINE.exec(log[i] as string);
    if (match === null) continue;
    insn = Number(match[1]);
    text = match[2];
    at = i;
  }
  const reasons = log.slice(at + 1).filter((line) => !NOISE.test(line));
  const reason = reasons[0] ?? "";
  if (insn === undefined) {
    const named = NAMED_INSN.exec(reason)?.[1];
    if (named !== undefined) insn = Number(named);
  }
  return { insn, text, reason };
};

/** The origin of an instruction: that of the last line entry at or before it. */
export const originOf = (program: Pick<ProgramSpec, "lines">, insn: number): Origin | undefined => {
  const { lines } = program;
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((lines[middle] as (typeof lines)[number]).insn <= insn) low = middle + 1;
    else high = middle;
  }
  return lines[low - 1]?.origin;
};

const formatOrigin = (origin: Origin): string => {
  const place =
    origin.file === undefined ? "" : `${origin.file}${origin.line === undefined ? "" : `:${origin.line}`}: `;
  return ` (from ${place}${origin.text})`;
};

/** A program that the verifier refused. */
export class VerifierError extends OffloadError {
  readonly code = "EVERIFIER";
  readonly errno: number;
  readonly errnoName: string;
  readonly insn: number | undefined;
  /** The refused instruction and the verifier's reason. */
  readonly reason: string;

  /**
   * @param log - all lines of the verifier's log
   * @param origin - the flow that the instruction came from
   */
  constructor(
    readonly program: string,
    readonly log: readonly string[],
    refusal: Refusal,
    readonly origin: Origin | undefined,
    cause: SyscallError,
  ) {
    const { insn, text, reason } = refusal;
    const place = insn === undefined ? "" : `${insn}: ${text === undefined ? "" : `${text}: `}`;
    const told = (text === undefined ? 0 : 1) + (reason === "" ? 0 : 1);
    const omitted = log.length > told ? ` (${log.length - told} log lines omitted)` : "";
    super(
      `Cannot load program "${program}": ${cause.errnoName}: ${place}${reason}` +
        `${origin === undefined ? "" : formatOrigin(origin)}${omitted}`,
      cause,
    );
    this.errno = cause.errno;
    this.errnoName = cause.errnoName;
    this.insn = insn;
    this.reason = reason;
  }

  override get exitCode(): ExitCode {
    return 3;
  }
}

/** The error of a refused program, with the place found in `log`. */
export const verifierError = (program: ProgramSpec, log: readonly string[], cause: SyscallError): VerifierError => {
  const refusal = parseRefusal(log);
  const origin = refusal.insn === undefined ? undefined : originOf(program, refusal.insn);
  return new VerifierError(program.name, log, refusal, origin, cause);
};
