// Every error that leaves a module of ofxdp is one of these classes: a sentence for people in `message`, the same facts
// as fields for `--json` and logs, and the cause kept. No bare `Error` leaves a module.

/**
 * Exit status of every command: 0 done; 1 usage or bad input; 2 negative answer; 3 refused by the kernel or its verifier;
 * 4 missing privilege or feature.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4;

/** Base of all errors of the project. `code` is stable and machine-readable. */
export abstract class OffloadError extends Error {
  abstract readonly code: string;

  /** The exit status of a command that ends with this error. */
  get exitCode(): ExitCode {
    return 1;
  }

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
  }

  /** The error as plain data, for `--json`: code, message and the fields of the concrete class. */
  toJSON(): Record<string, unknown> {
    const fields: Record<string, unknown> = { code: this.code, message: this.message };
    for (const [key, value] of Object.entries(this)) {
      if (key !== "name" && key !== "cause") fields[key] = value;
    }
    return fields;
  }
}

/** A byte string, text or attribute that does not decode (or a value that does not encode). */
export class CodecError extends OffloadError {
  readonly code = "ECODEC";

  /**
   * @param action - what was attempted, e.g. "decode upcall.key"
   * @param at - byte offset, or -1 when there is none
   * @param problem - e.g. "want an attribute header, got 1 bytes"
   */
  constructor(
    readonly action: string,
    readonly at: number,
    readonly problem: string,
    cause?: unknown,
  ) {
    super(`Cannot ${action}${at < 0 ? "" : ` at byte ${at}`}: ${problem}`, cause);
  }
}

/** Instructions that cannot be built or put together: an operand out of range, a label never placed. */
export class AssembleError extends OffloadError {
  readonly code = "EASSEMBLE";
}

/** A value given by the caller lies outside what the function accepts. */
export class RangeViolation extends OffloadError {
  readonly code = "ERANGE";
}

/** One complaint about a place in a source text. Lines and columns count from 1. */
export interface Diagnostic {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** Source text (flows, groups, assembly) that is wrong; holds one diagnostic per complaint. */
export class CompileError extends OffloadError {
  readonly code = "ECOMPILE";

  constructor(readonly diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map(formatDiagnostic).join("\n"));
  }
}

/** `FILE:LINE:COL: message`. */
export const formatDiagnostic = (d: Diagnostic): string => `${d.file}:${d.line}:${d.column}: ${d.message}`;

/** Something that this kernel, device or build cannot do. */
export class NotSupportedError extends OffloadError {
  readonly code = "ENOTSUPPORTED";

  constructor(
    readonly feature: string,
    readonly advice?: string,
  ) {
    super(advice === undefined ? `${feature} is not supported` : `${feature} is not supported: ${advice}`);
  }

  override get exitCode(): ExitCode {
    return 4;
  }
}

/** The exit status of a command that ends with `error`, whatever was thrown. */
export const exitCodeOf = (error: unknown): ExitCode => (error instanceof OffloadError ? error.exitCode : 1);

/** Marks code that the type system proves unreachable. */
export const unreachable = (value: never): never => {
  throw new RangeViolation(`Unexpected value ${String(value)}`);
};
