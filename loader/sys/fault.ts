// A `Sys` for tests: passes every call to another one, records it, and lets a rule replace the result by an errno.
// Because the calls below the failing one are real, a test can make every single step of a load fail in turn and then
// compare /proc/self/fd.

import { COMMANDS, ELEM } from "./bpf.js";
import type { Memory, Sys, SyscallName } from "./sys.js";

const BPF_NAMES = new Map<number, string>([
  ...Object.entries(COMMANDS).map(([name, { cmd }]) => [cmd, name] as const),
  [ELEM.LOOKUP, "MAP_LOOKUP_ELEM"],
  [ELEM.UPDATE, "MAP_UPDATE_ELEM"],
  [ELEM.DELETE, "MAP_DELETE_ELEM"],
  [ELEM.GET_NEXT_KEY, "MAP_GET_NEXT_KEY"],
  [ELEM.LOOKUP_AND_DELETE, "MAP_LOOKUP_AND_DELETE_ELEM"],
]);

/** One recorded call. */
export interface RecordedCall {
  /** `bpf(MAP_CREATE)`, `socket()`. */
  readonly call: string;
  /** As returned to the caller. */
  readonly result: number;
}

/** Decides the fate of a call: a positive errno makes it fail without reaching the kernel, 0 lets it pass. */
export type FaultRule = (call: string, index: number) => number;

/** Records calls and injects errors. `close()` and `munmap()` are recorded but never counted nor failed. */
export class FaultSys implements Sys {
  readonly calls: RecordedCall[] = [];
  private index = 0;

  constructor(
    private readonly below: Sys,
    private readonly rule: FaultRule = () => 0,
  ) {}

  private pass(call: string, run: () => number): number {
    const isCleanup = call === "close()" || call === "munmap()";
    const errno = isCleanup ? 0 : this.rule(call, this.index++);
    const result = errno > 0 ? -errno : run();
    this.calls.push({ call, result });
    return result;
  }

  bpf(cmd: number, attr: number, size: number): number {
    return this.pass(`bpf(${BPF_NAMES.get(cmd) ?? cmd})`, () => this.below.bpf(cmd, attr, size));
  }

  call(name: SyscallName, ...args: number[]): number {
    return this.pass(`${name}()`, () => this.below.call(name, ...args));
  }

  address(memory: Memory): number {
    return this.below.address(memory);
  }

  view(address: number, size: number): ArrayBuffer {
    return this.below.view(address, size);
  }

  watch(fd: number, onReady: () => void, options?: { readonly background?: boolean }): Disposable {
    return this.below.watch(fd, onReady, options);
  }
}

/** A rule that fails the `nth` call (from 0) with `errno`. */
export const failNth =
  (nth: number, errno: number): FaultRule =>
  (_call, index) =>
    index === nth ? errno : 0;
