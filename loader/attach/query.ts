// What is attached to an interface, ours and everybody's: XDP by rtnetlink, tcx by BPF_PROG_QUERY, cls_bpf by rtnetlink.

import { ATTACH_TYPES } from "../objects/program.js";
import { Attr } from "../sys/bpf.js";
import { ERRNO, syscallError } from "../sys/errors.js";
import type { Sys } from "../sys/sys.js";
import type { XdpState } from "../net/interface.js";
import type { Rtnl } from "../net/rtnl.js";
import { listFilters, type FilterInfo } from "./clsact.js";
import type { TcDirection } from "./link.js";

const TCX_MAX = 64;

/** One program on a tcx hook, in the order of execution. */
export interface TcxEntry {
  readonly programId: number;
  /** 0 when it was attached without a link. */
  readonly linkId: number;
}

/**
 * The programs on a tcx hook of an interface of the current namespace; undefined when the kernel has no tcx (before 6.6).
 * @throws {@link SyscallError}, with ENODEV for no such interface
 */
export const queryTcx = (sys: Sys, ifindex: number, direction: TcDirection): TcxEntry[] | undefined => {
  const programs = new Uint32Array(TCX_MAX);
  const links = new Uint32Array(TCX_MAX);
  const attr = new Attr(sys, "PROG_QUERY", {
    target_ifindex: ifindex,
    attach_type: direction === "ingress" ? ATTACH_TYPES.tcx_ingress : ATTACH_TYPES.tcx_egress,
    prog_ids: programs,
    link_ids: links,
    count: TCX_MAX,
  });
  const result = attr.run();
  if (result === -ERRNO.EINVAL) return undefined;
  if (result < 0)
    throw syscallError(`query the tcx ${direction} programs of interface ${ifindex}`, "bpf(PROG_QUERY)", -result);
  return Array.from({ length: attr.u32("count") }, (_, i) => ({
    programId: programs[i] as number,
    linkId: links[i] as number,
  }));
};

/** Everything on the hooks of one interface. */
export interface Attached {
  readonly xdp: XdpState;
  /** undefined without tcx in the kernel. */
  readonly tcx: Readonly<Record<TcDirection, readonly TcxEntry[] | undefined>>;
  readonly filters: readonly FilterInfo[];
}

/** @throws {@link NoInterfaceError}, {@link SyscallError}. Call in the namespace of `rtnl`. */
export const queryAttached = (sys: Sys, rtnl: Rtnl, ifindex: number): Attached => ({
  xdp: rtnl.get(ifindex).xdp,
  tcx: { ingress: queryTcx(sys, ifindex, "ingress"), egress: queryTcx(sys, ifindex, "egress") },
  filters: listFilters(rtnl, ifindex),
});
