// A tap: a network interface whose cable ends in this process. What the kernel sends out of it is read here, frame by
// frame, and what is written here arrives at it. It belongs to the network namespace it was opened in.
//
// Without further ado the kernel finishes checksums and segments before a frame is read, as for a device that has no
// offloads.

import { RangeViolation } from "ebpf-assembler";
import { cString, fromCString } from "../sys/bpf.js";
import { check, ERRNO, syscallError } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";

const DEVICE = "/dev/net/tun";
const AT_FDCWD = -100;
const O_RDWR_CLOEXEC_NONBLOCK = 2 | 0o2000000 | 0o4000;

/** uapi/linux/if_tun.h. */
const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;

/** `struct ifreq` (uapi/linux/if.h): the name, then flags. */
const IFREQ = { size: 40, nameSize: 16, flags: 16 } as const;
/** The largest MTU with the Ethernet header and two tags. */
const FRAME_MAX = 65535 + 14 + 8;
const FRAME_MIN = 14;

/** What a refusal of TUNSETIFF means. */
const REASONS: Readonly<Record<number, string>> = {
  [ERRNO.EPERM]: "needs root, or CAP_NET_ADMIN",
  [ERRNO.EBUSY]: "another process holds the tap",
  [ERRNO.EINVAL]: "an interface of this name exists and is no tap",
};

/**
 * One tap and its interface. Disposing closes the descriptor, and with it the interface goes, unless it was there before
 * (`ip tuntap add`).
 */
export class Tap implements Disposable {
  private readonly frame = new Uint8Array(FRAME_MAX);

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
    /** Of the interface; in the namespace that the tap was opened in. */
    readonly name: string,
  ) {}

  /**
   * Makes the interface `name`, down, in the current network namespace, or takes hold of a tap that exists without holder.
   * @param name - 1 to 15 bytes; with `%d` in it the kernel puts the lowest free number there
   * @throws {@link RangeViolation} for a bad name; {@link PrivilegeError}; {@link SyscallError} for a name that is taken, or
   *   a kernel without taps; nothing stays behind
   */
  static open(sys: Sys, name = "tap%d"): Tap {
    const bytes = new TextEncoder().encode(name);
    if (bytes.length === 0 || bytes.length >= IFREQ.nameSize || /[\s/\0]/.test(name))
      throw new RangeViolation(`Bad interface name ${JSON.stringify(name)}: want 1 to 15 bytes without space or "/"`);
    const action = `open tap ${name}`;
    const path = cString(DEVICE);
    const opened = sys.call("openat", AT_FDCWD, sys.address(path), O_RDWR_CLOEXEC_NONBLOCK);
    if (opened < 0) {
      const detail = opened === -ERRNO.ENOENT ? `no ${DEVICE}: is the module tun loaded?` : REASONS[-opened];
      throw syscallError(action, "openat()", -opened, detail);
    }
    const fd = new Fd(sys, opened, `tap ${name}`);
    try {
      const request = new Uint8Array(IFREQ.size);
      request.set(bytes);
      new DataView(request.buffer).setUint16(IFREQ.flags, IFF_TAP | IFF_NO_PI, true);
      const result = sys.call("ioctl", fd.n, TUNSETIFF, sys.address(request));
      if (result < 0) throw syscallError(action, "ioctl(TUNSETIFF)", -result, REASONS[-result]);
      return new Tap(sys, fd, fromCString(request.subarray(0, IFREQ.nameSize)));
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * The next frame that the kernel sent out of the interface, Ethernet header first, VLAN tags in place, as a copy;
   * undefined when none is waiting.
   * @throws {@link SyscallError}, with EBADFD once the interface is deleted
   */
  read(): Uint8Array | undefined {
    const { frame, sys } = this;
    let size: number;
    do size = sys.call("read", this.fd.n, sys.address(frame), frame.length);
    while (size === -ERRNO.EINTR);
    if (size === -ERRNO.EAGAIN) return undefined;
    return frame.slice(0, check(size, `read from tap ${this.name}`, "read()"));
  }

  /**
   * Lets a frame arrive at the interface.
   * @param frame - Ethernet header first
   * @returns false when the kernel has no room for it now
   * @throws {@link RangeViolation} for a frame without whole Ethernet header or beyond the largest MTU; {@link SyscallError},
   *   with EIO while the interface is down
   */
  write(frame: Uint8Array): boolean {
    const { sys } = this;
    if (frame.length < FRAME_MIN || frame.length > FRAME_MAX)
      throw new RangeViolation(
        `Cannot write a frame of ${frame.length} bytes to tap ${this.name}: want ${FRAME_MIN} to ${FRAME_MAX}`,
      );
    let size: number;
    do size = sys.call("write", this.fd.n, sys.address(frame), frame.length);
    while (size === -ERRNO.EINTR);
    if (size === -ERRNO.EAGAIN) return false;
    if (size < 0)
      throw syscallError(
        `write to tap ${this.name}`,
        "write()",
        -size,
        size === -ERRNO.EIO ? "the interface is down" : undefined,
      );
    return true;
  }

  /** Delivers frames from the event loop until disposed. */
  follow(onFrame: (frame: Uint8Array) => void): Disposable {
    return this.sys.watch(this.fd.n, () => {
      for (let frame = this.read(); frame !== undefined; frame = this.fd.isOpen ? this.read() : undefined)
        onFrame(frame);
    });
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}
