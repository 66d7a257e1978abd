// TC programs on kernels without tcx: a clsact queueing discipline with cls_bpf filters, by rtnetlink. Such a filter is
// owned by nobody: it outlives the process unless it is removed.

import { concatBytes, OffloadError, type ExitCode } from "ebpf-assembler";
import type { Program } from "../objects/program.js";
import { ERRNO, SyscallError } from "../sys/errors.js";
import { listAttrs, nlAttr, NLM, nlNest, nlString, nlU32, parseAttrs, readString, readU32 } from "../net/netlink.js";
import { RTM, type Rtnl } from "../net/rtnl.js";
import { OccupiedError, type TcDirection } from "./link.js";

/** uapi/linux/pkt_sched.h: TC_H_CLSACT, and the parents of its two filter lists. */
const CLSACT_PARENT = 0xfffffff1;
const CLSACT_HANDLE = 0xffff0000;
const PARENTS = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const satisfies Record<TcDirection, number>;
const DIRECTIONS = ["ingress", "egress"] as const satisfies readonly TcDirection[];

const TCA = { KIND: 1, OPTIONS: 2 } as const;
const TCA_BPF = { FD: 6, NAME: 7, FLAGS: 8, ID: 11 } as const;
const DIRECT_ACTION = 1;
/** ETH_P_ALL in network byte order. */
const ETH_P_ALL_BE = 0x0300;
const TCMSG_SIZE = 20;

/** Our filters' place: behind those of a user, who counts from 1 or leaves 49152 and below to the kernel. */
export const FILTER_PRIORITY = 50000;
const FILTER_HANDLE = 1;

/** A cls_bpf filter. */
export interface FilterInfo {
  readonly direction: TcDirection;
  readonly priority: number;
  readonly handle: number;
  readonly name: string;
  readonly programId: number;
}

/** `struct tcmsg`: interface, handle, parent, and priority with protocol in one word. */
const tcMessage = (ifindex: number, handle: number, parent: number, info: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(TCMSG_SIZE));
  view.setInt32(4, ifindex, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint32(16, info, true);
  return new Uint8Array(view.buffer);
};

const filterMessage = (ifindex: number, direction: TcDirection, priority: number): Uint8Array =>
  tcMessage(ifindex, FILTER_HANDLE, PARENTS[direction], ((priority << 16) | ETH_P_ALL_BE) >>> 0);

/** Adds clsact. @returns false when it was there */
const addClsact = (rtnl: Rtnl, ifindex: number, name: string): boolean => {
  const body = concatBytes(tcMessage(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0), nlAttr(TCA.KIND, nlString("clsact")));
  try {
    rtnl.socket.request(RTM.NEWQDISC, NLM.CREATE | NLM.EXCL, body, `add clsact to ${name}`);
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ERRNO.EEXIST) return false;
    throw error;
  }
};

/** Removes clsact with whatever filters it has. */
const removeClsact = (rtnl: Rtnl, ifindex: number): void => {
  const body = tcMessage(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
  rtnl.socket.request(RTM.DELQDISC, 0, body, `remove clsact from interface ${ifindex}`);
};

/** The cls_bpf filters of an interface, both directions; empty without clsact. */
export const listFilters = (rtnl: Rtnl, ifindex: number): FilterInfo[] => countFilters(rtnl, ifindex).filters;

/** Also counts the filters of other kinds, which show up as entries without a BPF program. */
const countFilters = (rtnl: Rtnl, ifindex: number): { readonly filters: FilterInfo[]; readonly others: number } => {
  const filters: FilterInfo[] = [];
  let others = 0;
  for (const direction of DIRECTIONS) {
    const body = tcMessage(ifindex, 0, PARENTS[direction], 0);
    const answer = (() => {
      try {
        return rtnl.socket.request(RTM.GETTFILTER, NLM.DUMP, body, `list the filters of interface ${ifindex}`);
      } catch (error) {
        // No clsact there, or a kernel without it.
        if (error instanceof SyscallError && ([ERRNO.EINVAL, ERRNO.ENOENT] as number[]).includes(error.errno))
          return [];
        throw error;
      }
    })();
    for (const message of answer) {
      const view = new DataView(message.body.buffer, message.body.byteOffset);
      const attrs = parseAttrs(message.body.subarray(TCMSG_SIZE));
      const options = attrs.get(TCA.OPTIONS);
      const handle = view.getUint32(8, true);
      if (handle === 0) continue; // the list head that every priority has
      const bpf =
        readString(attrs.get(TCA.KIND)) === "bpf" ? new Map(listAttrs(options ?? new Uint8Array(0))) : undefined;
      const programId = readU32(bpf?.get(TCA_BPF.ID));
      if (bpf === undefined || programId === undefined) others++;
      else
        filters.push({
          direction,
          priority: view.getUint16(18, true),
          handle,
          name: readString(bpf.get(TCA_BPF.NAME)) ?? "",
          programId,
        });
    }
  }
  return { filters, others };
};

/** clsact is not there, or the filter is gone. */
export class NoFilterError extends OffloadError {
  readonly code = "ENOFILTER";

  constructor(
    readonly ifindex: number,
    readonly direction: TcDirection,
  ) {
    super(`No filter of ours on ${direction} of interface ${ifindex}`);
  }

  override get exitCode(): ExitCode {
    return 2;
  }
}

/**
 * A cls_bpf filter in direct-action mode. Disposing removes it, and clsact too when this attachment added it and nobody
 * else uses it by now. {@link TcFilter.release} leaves it in place instead.
 */
export class TcFilter implements Disposable {
  readonly via = "clsact";
  private isAttached = true;

  private constructor(
    private readonly rtnl: Rtnl,
    readonly ifindex: number,
    readonly direction: TcDirection,
    /** clsact was added for this filter and goes with it. */
    readonly addedClsact: boolean,
  ) {}

  /**
   * Attaches in the namespace of `rtnl`, which is only borrowed and must outlive the filter.
   * @throws {@link OccupiedError} when its place is taken, {@link NoInterfaceError}, {@link SyscallError}; nothing stays
   */
  static attach(rtnl: Rtnl, program: Program, ifindex: number, direction: TcDirection): TcFilter {
    const { name } = rtnl.get(ifindex);
    const added = addClsact(rtnl, ifindex, name);
    const filter = new TcFilter(rtnl, ifindex, direction, added);
    try {
      filter.put(program, NLM.EXCL, `attach program "${program.name}" to clsact ${direction} of ${name}`);
      return filter;
    } catch (error) {
      if (added) removeClsact(rtnl, ifindex);
      if (!(error instanceof SyscallError) || error.errno !== ERRNO.EEXIST) throw error;
      const there = listFilters(rtnl, ifindex).find(
        (f) => f.direction === direction && f.priority === FILTER_PRIORITY && f.handle === FILTER_HANDLE,
      );
      throw new OccupiedError(name, `clsact ${direction} priority ${FILTER_PRIORITY}`, there?.programId, error);
    }
  }

  /**
   * Takes over the filter that another process left at our place.
   * @param programId - the program it must have
   * @param addedClsact - whether clsact goes with it
   * @throws {@link NoFilterError} when there is none
   */
  static adopt(rtnl: Rtnl, ifindex: number, direction: TcDirection, programId: number, addedClsact: boolean): TcFilter {
    const found = listFilters(rtnl, ifindex).some(
      (f) => f.direction === direction && f.priority === FILTER_PRIORITY && f.programId === programId,
    );
    if (!found) throw new NoFilterError(ifindex, direction);
    return new TcFilter(rtnl, ifindex, direction, addedClsact);
  }

  private put(program: Program, flag: number, action: string): void {
    const options = nlNest(
      TCA.OPTIONS,
      nlAttr(TCA_BPF.FD, nlU32(program.fdNumber)),
      nlAttr(TCA_BPF.NAME, nlString(program.name)),
      nlAttr(TCA_BPF.FLAGS, nlU32(DIRECT_ACTION)),
    );
    const head = filterMessage(this.ifindex, this.direction, FILTER_PRIORITY);
    const body = concatBytes(head, nlAttr(TCA.KIND, nlString("bpf")), options);
    this.rtnl.socket.request(RTM.NEWTFILTER, NLM.CREATE | flag, body, action);
  }

  /** Replaces the program; every packet sees the old or the new one. @throws {@link SyscallError} */
  update(program: Program): void {
    const action = `replace the program on clsact ${this.direction} of interface ${this.ifindex} by "${program.name}"`;
    this.put(program, NLM.REPLACE, action);
  }

  /** Leaves the filter in place: dispose does nothing from now on. */
  release(): void {
    this.isAttached = false;
  }

  [Symbol.dispose](): void {
    if (!this.isAttached) return;
    this.isAttached = false;
    const { rtnl, ifindex } = this;
    if (rtnl.find(ifindex) === undefined) return; // the interface took it along
    const head = filterMessage(ifindex, this.direction, FILTER_PRIORITY);
    const body = concatBytes(head, nlAttr(TCA.KIND, nlString("bpf")));
    rtnl.socket.request(RTM.DELTFILTER, 0, body, `detach from clsact ${this.direction} of interface ${ifindex}`);
    if (!this.addedClsact) return;
    const { filters, others } = countFilters(rtnl, ifindex);
    if (filters.length + others === 0) removeClsact(rtnl, ifindex);
  }
}
