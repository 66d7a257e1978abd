// What a refused system call becomes: a sentence that says what was attempted, the name and the meaning of the errno, and
// the next step where there is one. These are the only errors that the kernel causes in this package, beside
// VerifierError.

import { getSystemErrorMap } from "node:util";
import { OffloadError, type ExitCode } from "ebpf-assembler";

/** errno values that the package itself tells apart (asm-generic/errno*.h; ENOTSUPP is kernel internal but leaks out). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EBADF: 9,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  EBADFD: 77,
  EOPNOTSUPP: 95,
  ENOBUFS: 105,
  ENOTSUPP: 524,
} as const;

/** libuv's names, but where it has another one than the kernel or none. */
const NAMES: ReadonlyMap<number, readonly [name: string, meaning: string]> = new Map([
  ...[...getSystemErrorMap()].map(([errno, names]) => [-errno, names] as const),
  [ERRNO.EBADFD, ["EBADFD", "file descriptor in bad state"]],
  [ERRNO.EOPNOTSUPP, ["EOPNOTSUPP", "operation not supported"]],
  [ERRNO.ENOTSUPP, ["ENOTSUPP", "operation not supported"]],
]);

/** Name and meaning of a positive errno. */
export const describeErrno = (errno: number): readonly [name: string, meaning: string] =>
  NAMES.get(errno) ?? [`errno ${errno}`, "unknown error"];

/** A system call that the kernel refused. */
export class SyscallError extends OffloadError {
  readonly code: string = "ESYSCALL";
  readonly errnoName: string;

  /**
   * @param action - what was attempted, e.g. `create map "flows"`
   * @param call - the system call, e.g. `bpf(MAP_CREATE)`
   * @param errno - positive
   * @param detail - what the kernel said beside the errno (netlink extended ack), or advice
   */
  constructor(
    readonly action: string,
    readonly call: string,
    readonly errno: number,
    readonly detail?: string,
  ) {
    const [name, meaning] = describeErrno(errno);
    super(`Cannot ${action}: ${call}: ${name} (${meaning})${detail === undefined ? "" : `: ${detail}`}`);
    this.errnoName = name;
  }

  /** EPERM is a missing privilege; everything else is a refusal. */
  override get exitCode(): ExitCode {
    return this.errno === ERRNO.EPERM ? 4 : 3;
  }
}

/** The process lacks a capability. */
export class PrivilegeError extends SyscallError {
  override readonly code = "EPRIVILEGE";

  constructor(action: string, call: string, errno: number, detail?: string) {
    super(action, call, errno, detail ?? "needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
  }

  override get exitCode(): ExitCode {
    return 4;
  }
}

/** A network interface that does not exist in the current namespace. */
export class NoInterfaceError extends OffloadError {
  readonly code = "ENOINTERFACE";

  constructor(readonly interfaceName: string) {
    super(`No network interface named ${JSON.stringify(interfaceName)} in this network namespace`);
  }
}

/** Use of an object after its owner closed it. */
export class ClosedError extends OffloadError {
  readonly code = "ECLOSED";

  constructor(readonly what: string) {
    super(`Cannot use ${what}: it is closed`);
  }
}

/** The error of a system call that returned `-errno`. */
export const syscallError = (action: string, call: string, errno: number, detail?: string): SyscallError =>
  errno === ERRNO.EPERM
    ? new PrivilegeError(action, call, errno, detail)
    : new SyscallError(action, call, errno, detail);

/**
 * Passes a non-negative system call result through.
 * @throws {@link SyscallError} for a negative one
 */
export const check = (result: number, action: string, call: string): number => {
  if (result < 0) throw syscallError(action, call, -result);
  return result;
};
