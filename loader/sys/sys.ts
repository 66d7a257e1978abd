// The one choke point to the operating system. Everything this package does to the kernel passes through a value of type
// `Sys`: the real one is `linux` (linux.ts), tests wrap it to record calls and to make the n-th one fail (fault.ts).
// Results follow the kernel's convention: non-negative, or minus errno. Nothing here throws.

/** System calls by number: [x86_64, aarch64] (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h). */
export const SYSCALLS = {
  read: [0, 63],
  write: [1, 64],
  close: [3, 57],
  poll: [7, -1],
  mmap: [9, 222],
  munmap: [11, 215],
  ioctl: [16, 29],
  socket: [41, 198],
  sendto: [44, 206],
  recvfrom: [45, 207],
  recvmsg: [47, 212],
  bind: [49, 200],
  setsockopt: [54, 208],
  mount: [165, 40],
  umount2: [166, 39],
  clock_gettime: [228, 113],
  openat: [257, 56],
  unshare: [272, 97],
  sendmmsg: [307, 269],
  setns: [308, 268],
  sched_setattr: [314, 274],
  bpf: [321, 280],
} as const satisfies Record<string, readonly [x64: number, arm64: number]>;

export type SyscallName = keyof typeof SYSCALLS;

/** Memory whose address can be given to the kernel. */
export type Memory = ArrayBuffer | ArrayBufferView;

/** The operating system, as far as this package uses it. */
export interface Sys {
  /** `bpf(cmd, attr, size)`; `attr` is an address. Separate from {@link Sys.call} because it is the hot one. */
  bpf(cmd: number, attr: number, size: number): number;

  /** Any other system call; absent arguments are 0. */
  call(name: SyscallName, a?: number, b?: number, c?: number, d?: number, e?: number, f?: number): number;

  /**
   * Address of the first byte. It stays valid for as long as the caller keeps `memory` reachable: a raw address inside an
   * attribute does not keep it alive.
   */
  address(memory: Memory): number;

  /** Memory at an address as an ArrayBuffer. Never transfer or detach it. */
  view(address: number, size: number): ArrayBuffer;

  /**
   * Calls `onReady` from the event loop while `fd` is readable (level-triggered). Disposing stops it; dispose before
   * closing the fd. Throwing from `onReady` is an uncaught exception. Keeps the process alive unless `background`.
   */
  watch(fd: number, onReady: () => void, options?: { readonly background?: boolean }): Disposable;
}
