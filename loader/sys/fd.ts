// Ownership of one file descriptor.

import { readlinkSync } from "node:fs";
import { RangeViolation } from "ebpf-assembler";
import { check, ClosedError } from "./errors.js";
import type { Sys } from "./sys.js";

/** An open file descriptor. Disposing closes it, once; any later use throws {@link ClosedError}. */
export class Fd implements Disposable {
  private number: number;

  /**
   * @param number - result of the call that opened it
   * @param what - names it in errors, e.g. `map "flows"`
   */
  constructor(
    readonly sys: Sys,
    number: number,
    readonly what: string,
  ) {
    this.number = number;
  }

  /** The descriptor. @throws {@link ClosedError} */
  get n(): number {
    if (this.number < 0) throw new ClosedError(this.what);
    return this.number;
  }

  get isOpen(): boolean {
    return this.number >= 0;
  }

  [Symbol.dispose](): void {
    const number = this.number;
    this.number = -1;
    if (number >= 0) check(this.sys.call("close", number), `close ${this.what}`, "close()");
  }
}

/** Names of the anonymous inodes of each kind of BPF object (kernel/bpf/syscall.c; a link has either). */
const INODES = {
  map: ["anon_inode:bpf-map"],
  program: ["anon_inode:bpf-prog"],
  link: ["anon_inode:bpf-link", "anon_inode:bpf_link"],
} as const;

/**
 * Checks that a descriptor, opened from a pin or an id, is of the expected kind: the kernel's info of one kind would be
 * misread as another's.
 * @throws {@link RangeViolation}
 */
export const checkKind = (fd: number, kind: keyof typeof INODES, what: string): void => {
  const inode = readlinkSync(`/proc/self/fd/${fd}`);
  const known: readonly string[] = INODES[kind];
  if (!known.includes(inode)) throw new RangeViolation(`Cannot open ${what}: want a ${kind}, got ${inode}`);
};
