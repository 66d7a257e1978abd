// Network namespaces: make one, run something inside, always come back. setns() affects the calling thread only; sockets
// and links opened inside stay in that namespace for ever, which is what makes this useful.

import { closeSync, mkdirSync, openSync, rmSync } from "node:fs";
import { RangeViolation } from "ebpf-assembler";
import { check, ERRNO } from "../sys/errors.js";
import { cString } from "../sys/bpf.js";
import { Fd } from "../sys/fd.js";
import { MOUNT, mount, unmount } from "../sys/mount.js";
import type { Sys } from "../sys/sys.js";

const CLONE_NEWNET = 0x40000000;
const O_RDONLY_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;

/** Where iproute2 looks for named namespaces. */
const RUN_DIR = "/var/run/netns";
const OWN = "/proc/thread-self/ns/net";

const openNamespace = (sys: Sys, path: string, what: string): Fd => {
  const bytes = cString(path);
  return new Fd(
    sys,
    check(sys.call("openat", AT_FDCWD, sys.address(bytes), O_RDONLY_CLOEXEC), `open ${what}`, "openat()"),
    what,
  );
};

/** @throws {@link RangeViolation} */
const checkName = (name: string): void => {
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name) || name === "." || name === "..")
    throw new RangeViolation(`Bad network namespace name ${JSON.stringify(name)}: want 1 to 64 of [A-Za-z0-9_.-]`);
};

/**
 * As `ip netns add` does: the directory becomes a shared mount, so that names made here are seen in other mount
 * namespaces. It must be bound to itself once only: every further bind of a shared mount doubles the number of mounts.
 */
const mountRunDir = (sys: Sys): void => {
  mkdirSync(RUN_DIR, { recursive: true, mode: 0o755 });
  const share = (): number => mount(sys, "", RUN_DIR, "none", MOUNT.SHARED | MOUNT.REC);
  let result = share();
  if (result === -ERRNO.EINVAL) {
    // No mount point yet.
    check(mount(sys, RUN_DIR, RUN_DIR, "none", MOUNT.BIND | MOUNT.REC), `bind ${RUN_DIR} to itself`, "mount()");
    result = share();
  }
  check(result, `share ${RUN_DIR}`, "mount()");
};

/**
 * A network namespace. Disposing closes the descriptor and, for one that {@link Netns.create} gave a name, removes the
 * name; the kernel frees the namespace with its interfaces when no process, socket or descriptor uses it any more.
 */
export class Netns implements Disposable {
  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
    /** As `ip netns` shows it; undefined for an anonymous one. */
    readonly name: string | undefined,
    private readonly isNameOurs: boolean,
  ) {}

  /** The namespace of the calling thread. */
  static current(sys: Sys): Netns {
    return new Netns(sys, openNamespace(sys, OWN, "the current network namespace"), undefined, false);
  }

  /** An existing named namespace. @throws {@link SyscallError} */
  static open(sys: Sys, name: string): Netns {
    return new Netns(sys, openNamespace(sys, `${RUN_DIR}/${name}`, `network namespace ${name}`), name, false);
  }

  /** The namespace behind a file, such as `/proc/PID/ns/net`. @throws {@link SyscallError} */
  static openPath(sys: Sys, path: string): Netns {
    return new Netns(sys, openNamespace(sys, path, `network namespace ${path}`), undefined, false);
  }

  /**
   * A new namespace, named as by `ip netns add` or anonymous.
   * @throws {@link SyscallError}; nothing stays behind
   */
  static create(sys: Sys, name?: string): Netns {
    if (name !== undefined) checkName(name);
    const action = `create network namespace${name === undefined ? "" : ` ${name}`}`;
    using home = Netns.current(sys);
    const path = `${RUN_DIR}/${name}`;
    if (name !== undefined) {
      mountRunDir(sys);
      closeSync(openSync(path, "wx", 0o444));
    }
    try {
      check(sys.call("unshare", CLONE_NEWNET), action, "unshare()");
      try {
        const fd = openNamespace(sys, OWN, "the new network namespace");
        try {
          if (name !== undefined) check(mount(sys, OWN, path, "none", MOUNT.BIND), action, "mount()");
          return new Netns(sys, fd, name, name !== undefined);
        } catch (error) {
          fd[Symbol.dispose]();
          throw error;
        }
      } finally {
        home.enter();
      }
    } catch (error) {
      if (name !== undefined) rmSync(path, { force: true });
      throw error;
    }
  }

  /** The descriptor, for netlink attributes. @throws {@link ClosedError} */
  get fdNumber(): number {
    return this.fd.n;
  }

  private enter(): void {
    check(this.sys.call("setns", this.fd.n, CLONE_NEWNET), `enter ${this.fd.what}`, "setns()");
  }

  /**
   * Runs `body` inside and comes back, whatever happens. Processes spawned by it start inside. `body` must be synchronous:
   * what it awaited would run outside.
   */
  run<T>(body: () => T extends PromiseLike<unknown> ? never : T): T {
    using home = Netns.current(this.sys);
    this.enter();
    try {
      return body();
    } finally {
      home.enter();
    }
  }

  /** Removes a name, as `ip netns del` does; one that is not there is no error. @throws {@link SyscallError} */
  static remove(sys: Sys, name: string): void {
    checkName(name);
    const path = `${RUN_DIR}/${name}`;
    const result = unmount(sys, path);
    if (result !== -ERRNO.EINVAL && result !== -ERRNO.ENOENT)
      check(result, `remove network namespace ${name}`, "umount2()");
    rmSync(path, { force: true });
  }

  [Symbol.dispose](): void {
    if (!this.fd.isOpen) return;
    this.fd[Symbol.dispose]();
    if (this.isNameOurs && this.name !== undefined) Netns.remove(this.sys, this.name);
  }
}
