// The real operating system, through koffi. The only file of the project that calls C.
//
// Traps that are handled here (measured, see the comments): errno must be read before anything else runs; a poll handle
// that is garbage-collected stops silently; an exception in a poll callback would surface in an unrelated native call.

import koffi from "koffi";
import { NotSupportedError } from "ebpf-assembler";
import { SYSCALLS, type Memory, type Sys, type SyscallName } from "./sys.js";

const ARCHITECTURES: Readonly<Record<string, 0 | 1>> = { x64: 0, arm64: 1 };

/** Poll handles that are in use: koffi stops polling when the handle object is collected. */
const watched = new Set<ReturnType<typeof koffi.node.poll>>();

const open = (): Sys => {
  const column = process.platform === "linux" ? ARCHITECTURES[process.arch] : undefined;
  if (column === undefined)
    throw new NotSupportedError(`${process.platform} on ${process.arch}`, "want linux on x64 or arm64");
  const libc = koffi.load(null);
  const word = "int64_t";
  const bpf = libc.func("syscall", "int", ["int", "int", word, "uint32_t"]);
  const call = libc.func("syscall", word, [word, word, word, word, word, word, word]);
  const bpfNumber = SYSCALLS.bpf[column];
  const errno = koffi.errno;

  return {
    bpf(cmd, attr, size) {
      const result = bpf(bpfNumber, cmd, attr, size) as number;
      return result >= 0 ? result : -errno();
    },

    call(name: SyscallName, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) {
      const result = Number(call(SYSCALLS[name][column], a, b, c, d, e, f));
      return result >= 0 ? result : -errno();
    },

    address(memory: Memory) {
      return Number(koffi.address(memory));
    },

    view(address, size) {
      return koffi.view(BigInt(address), size);
    },

    watch(fd, onReady, options) {
      const handle = koffi.node.poll(fd, { readable: true }, () => {
        try {
          onReady();
        } catch (error) {
          // Thrown here it would stay pending inside N-API and break the next native call.
          setImmediate(() => {
            throw error;
          });
        }
      });
      if (options?.background === true) handle.unref();
      watched.add(handle);
      return {
        [Symbol.dispose]() {
          if (watched.delete(handle)) handle.close();
        },
      };
    },
  };
};

let shared: Sys | undefined;

/**
 * The running kernel. One per process.
 * @throws {@link NotSupportedError} on another system than Linux on x86_64 or aarch64
 */
export const linux = (): Sys => (shared ??= open());
