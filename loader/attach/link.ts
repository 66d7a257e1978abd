// A BPF link: the attachment of one program to one hook of one interface, owned by a descriptor.

import { OffloadError, type ExitCode } from "ebpf-assembler";
import { ATTACH_TYPES, type Program } from "../objects/program.js";
import { Attr, bpf, cString } from "../sys/bpf.js";
import { ERRNO, NoInterfaceError, syscallError } from "../sys/errors.js";
import { checkKind, Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";
import { Rtnl } from "../net/rtnl.js";

/** XDP modes, highest first, with their flag of BPF_LINK_CREATE (uapi/linux/if_link.h, XDP_FLAGS_*). */
export const XDP_MODES = { offload: 1 << 3, native: 1 << 2, generic: 1 << 1 } as const;
export type XdpMode = keyof typeof XDP_MODES;

/** Where a TC program runs: on packets that come from the device or that go to it. */
export type TcDirection = "ingress" | "egress";

const TCX_TYPES = { ingress: ATTACH_TYPES.tcx_ingress, egress: ATTACH_TYPES.tcx_egress } as const;

/** BPF_LINK_TYPE_* of the links of this package. */
const LINK_TYPES: Readonly<Record<number, LinkInfo["type"]>> = { 6: "xdp", 11: "tcx" };
const BPF_F_REPLACE = 1 << 2;

/** What the kernel knows about a link (`struct bpf_link_info`). */
export interface LinkInfo {
  readonly type: "xdp" | "tcx" | "other";
  readonly id: number;
  readonly programId: number;
  /** 0 when the interface is gone. */
  readonly ifindex: number;
  /** BPF_TCX_INGRESS or BPF_TCX_EGRESS; 0 for other links. */
  readonly attachType: number;
}

/** Somebody else's program is on the hook. It is never replaced. */
export class OccupiedError extends OffloadError {
  readonly code = "EOCCUPIED";

  constructor(
    readonly interfaceName: string,
    readonly hook: string,
    readonly programId: number | undefined,
    cause?: unknown,
  ) {
    const who = programId === undefined ? "another program" : `program id ${programId}`;
    super(`Cannot attach to ${hook} of ${interfaceName}: ${who} is there; detach it first`, cause);
  }

  override get exitCode(): ExitCode {
    return 3;
  }
}

/** Reads the link behind a descriptor. */
export const readLinkInfo = (sys: Sys, fd: number, what: string): LinkInfo => {
  const info = new DataView(new ArrayBuffer(64));
  bpf(sys, "OBJ_GET_INFO_BY_FD", { bpf_fd: fd, info_len: info.byteLength, info }, `read the info of ${what}`);
  const type = LINK_TYPES[info.getUint32(0, true)] ?? "other";
  return {
    type,
    id: info.getUint32(4, true),
    programId: info.getUint32(8, true),
    ifindex: type === "other" ? 0 : info.getUint32(16, true),
    attachType: type === "tcx" ? info.getUint32(20, true) : 0,
  };
};

/** Runs `body` with an rtnetlink socket that lives as long. */
const withRtnl = <T>(sys: Sys, body: (rtnl: Rtnl) => T): T => {
  using rtnl = Rtnl.open(sys);
  return body(rtnl);
};

/** Name of an interface for messages. */
const interfaceName = (sys: Sys, ifindex: number): string | undefined =>
  withRtnl(sys, (rtnl) => rtnl.find(ifindex)?.name);

/**
 * An attachment. Disposing closes the descriptor, and with it detaches the program, unless the link is pinned.
 * {@link Link.update} replaces the program without a gap.
 */
export class Link implements Disposable {
  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
    private readonly what: string,
  ) {}

  /**
   * Attaches to XDP.
   * @throws {@link OccupiedError} when a program is there, {@link NoInterfaceError}, {@link SyscallError} when device or
   *   kernel refuse (EOPNOTSUPP: no such mode, ERANGE: the MTU is too large for a program without frags)
   */
  static xdp(sys: Sys, program: Program, ifindex: number, mode: XdpMode): Link {
    const what = `XDP ${mode} link of interface ${ifindex}`;
    const attr = new Attr(sys, "LINK_CREATE", {
      prog_fd: program.fdNumber,
      target_ifindex: ifindex,
      attach_type: ATTACH_TYPES.xdp,
      flags: XDP_MODES[mode],
    });
    const result = attr.run();
    if (result >= 0) return new Link(sys, new Fd(sys, result, what), what);
    const device = withRtnl(sys, (rtnl) => rtnl.find(ifindex));
    if (device === undefined) throw new NoInterfaceError(`index ${ifindex}`);
    const cause = syscallError(
      `attach program "${program.name}" to XDP ${mode} of ${device.name}`,
      "bpf(LINK_CREATE)",
      -result,
      XDP_ADVICE[-result],
    );
    if (result === -ERRNO.EBUSY || result === -ERRNO.EEXIST) {
      const { native, generic, offload } = device.xdp;
      throw new OccupiedError(device.name, "XDP", device.xdp[mode] ?? native ?? generic ?? offload, cause);
    }
    throw cause;
  }

  /**
   * Attaches to tcx, behind the programs that are there. Linux 6.6.
   * @throws {@link NoInterfaceError}, {@link SyscallError}, with EINVAL when the kernel has no tcx
   */
  static tcx(sys: Sys, program: Program, ifindex: number, direction: TcDirection): Link {
    const what = `tcx ${direction} link of interface ${ifindex}`;
    const attr = new Attr(sys, "LINK_CREATE", {
      prog_fd: program.fdNumber,
      target_ifindex: ifindex,
      attach_type: TCX_TYPES[direction],
    });
    const result = attr.run();
    if (result >= 0) return new Link(sys, new Fd(sys, result, what), what);
    const name = interfaceName(sys, ifindex);
    if (name === undefined) throw new NoInterfaceError(`index ${ifindex}`);
    throw syscallError(`attach program "${program.name}" to tcx ${direction} of ${name}`, "bpf(LINK_CREATE)", -result);
  }

  /** Takes over a descriptor of a link. Closes it when it cannot. */
  static fromFd(sys: Sys, number: number, what: string): Link {
    const fd = new Fd(sys, number, what);
    try {
      checkKind(number, "link", what);
      readLinkInfo(sys, number, what);
      return new Link(sys, fd, what);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens the pinned link at `path`. @throws {@link SyscallError} */
  static fromPin(sys: Sys, path: string): Link {
    const what = `pinned link ${path}`;
    return Link.fromFd(sys, bpf(sys, "OBJ_GET", { pathname: cString(path) }, `open ${what}`), what);
  }

  /** Opens the link with the kernel's id. @throws {@link SyscallError} */
  static fromId(sys: Sys, id: number): Link {
    const what = `link id ${id}`;
    return Link.fromFd(sys, bpf(sys, "LINK_GET_FD_BY_ID", { id }, `open ${what}`), what);
  }

  get fdNumber(): number {
    return this.fd.n;
  }

  get info(): LinkInfo {
    return readLinkInfo(this.sys, this.fd.n, this.what);
  }

  /**
   * Replaces the program; every packet sees the old or the new one. Takes about 7 ms for XDP, 20 us for tcx.
   * @param expected - refuse (EPERM) unless this is the program that is there
   * @throws {@link SyscallError}
   */
  update(program: Program, expected?: Program): void {
    bpf(
      this.sys,
      "LINK_UPDATE",
      {
        link_fd: this.fd.n,
        new_prog_fd: program.fdNumber,
        ...(expected === undefined ? {} : { flags: BPF_F_REPLACE, old_prog_fd: expected.fdNumber }),
      },
      `replace the program of ${this.what} by "${program.name}"`,
    );
  }

  /** Detaches now, also when the link is pinned. The link stays as an empty shell. @throws {@link SyscallError} */
  detach(): void {
    bpf(this.sys, "LINK_DETACH", { link_fd: this.fd.n }, `detach ${this.what}`);
  }

  /** Pins the link: the program stays attached until the path is unlinked. @throws {@link SyscallError} */
  pin(path: string): void {
    bpf(this.sys, "OBJ_PIN", { pathname: cString(path), bpf_fd: this.fd.n }, `pin ${this.what} at ${path}`);
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/** What to do about the refusals of XDP attachment that have one obvious next step. */
const XDP_ADVICE: Readonly<Record<number, string>> = {
  [ERRNO.EOPNOTSUPP]: "the driver has no such mode, try --hook generic or --hook tc",
  [ERRNO.ERANGE]: "the MTU is too large for a program without frags",
};
