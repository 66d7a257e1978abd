// Kernel memory mapped into the process as ArrayBuffers.
//
// Unmapping memory that a typed array still refers to would crash the process at the next access, so nobody calls munmap:
// the garbage collector does, after the ArrayBuffer and with it every view over it became unreachable.

import { check } from "./errors.js";
import type { Sys } from "./sys.js";

interface Mapping {
  readonly sys: Sys;
  readonly address: number;
  readonly size: number;
}

const mappings = new FinalizationRegistry<Mapping>(({ sys, address, size }) => void sys.call("munmap", address, size));

const PROT = { read: 1, write: 2 } as const;
const MAP_SHARED = 1;

/** Memory page size of both supported architectures' default kernels. */
export const PAGE_SIZE = 4096;

/**
 * Maps `size` bytes of `fd` from `offset`, shared. Stays valid after the fd is closed and for as long as any view over
 * the result is reachable. A store into a mapping that is not `writable` kills the process.
 * @param what - names it in the error, e.g. `ring buffer "upcalls"`
 * @throws {@link SyscallError}
 */
export const mapShared = (
  sys: Sys,
  fd: number,
  options: { readonly offset: number; readonly size: number; readonly writable: boolean; readonly what: string },
): ArrayBuffer => {
  const { offset, size } = options;
  const protection = PROT.read | (options.writable ? PROT.write : 0);
  const address = check(
    sys.call("mmap", 0, size, protection, MAP_SHARED, fd, offset),
    `map the memory of ${options.what}`,
    "mmap()",
  );
  const buffer = sys.view(address, size);
  mappings.register(buffer, { sys, address, size });
  return buffer;
};
