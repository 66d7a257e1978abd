// What the interpreter throws. A Fault is the bare reason, raised where memory or a helper argument is checked; the
// interpreter wraps it into a VmError that names the place in the program.

import { OffloadError } from "../base/index.js";

/** Why an instruction cannot be executed; never leaves the interpreter unwrapped. */
export class Fault extends OffloadError {
  readonly code = "EVMFAULT";
}

/** An instruction that a verified program would never execute: the kernel refuses such a program at load. */
export class VmError extends OffloadError {
  readonly code = "EVM";

  /**
   * @param program - name of the program the instruction belongs to (after tail calls: the one jumped to)
   * @param insn - slot index of the instruction
   * @param text - the instruction in words or hexadecimal bytes
   * @param origin - text the instruction was produced from, when the program spec says
   * @param reason - what is wrong, with address, offset and size where memory is concerned
   * @param registers - r0..r10 in hexadecimal at that moment
   */
  constructor(
    readonly program: string,
    readonly insn: number,
    readonly text: string,
    readonly origin: string | undefined,
    readonly reason: string,
    readonly registers: readonly string[],
    cause?: unknown,
  ) {
    super(
      `Cannot run program ${JSON.stringify(program)} at insn ${insn} (${text}): ${reason}` +
        (origin === undefined ? "" : ` (from ${origin})`),
      cause,
    );
  }
}

/** A map operation that the kernel answers with an error number. */
export class VmMapError extends OffloadError {
  readonly code = "EVMMAP";

  /** @param errno - positive number, e.g. 7 for E2BIG */
  constructor(
    readonly map: string,
    readonly operation: "update" | "delete",
    readonly errno: number,
  ) {
    super(`Cannot ${operation} an entry of map ${JSON.stringify(map)}: ${errnoName(errno)}`);
  }
}

/** Error numbers that maps and helpers return, negated (uapi/asm-generic/errno-base.h, errno.h, linux/errno.h). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EOPNOTSUPP: 95,
  EALREADY: 114,
  ENOTSUPP: 524,
} as const;

/** `ENOENT` for 2, `errno 200` for a number without a name here. */
export const errnoName = (errno: number): string =>
  Object.entries(ERRNO).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
