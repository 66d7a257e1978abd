// One way to attach a TC program, whatever the kernel has: tcx from Linux 6.6 on, clsact with cls_bpf before.

import { Scope } from "ebpf-assembler";
import type { Program } from "../objects/program.js";
import type { Sys } from "../sys/sys.js";
import { Rtnl } from "../net/rtnl.js";
import { TcFilter } from "./clsact.js";
import { Link, type TcDirection } from "./link.js";
import { queryTcx } from "./query.js";

/** An attachment to TC; disposing detaches it. */
export interface TcAttachment extends Disposable {
  readonly via: "tcx" | "clsact";
  /** The link, to be pinned; undefined for clsact, which needs no pin to stay. */
  readonly link: Link | undefined;
  /** clsact was added for it, and goes with it. */
  readonly addedClsact: boolean;
  /** Replaces the program; every packet sees the old or the new one. @throws {@link SyscallError} */
  update(program: Program): void;
  /** Leaves a clsact filter in place when disposed; a link needs a pin for that. */
  release(): void;
}

/**
 * Attaches a sched_cls program in the current network namespace, behind the programs that are there.
 * @param via - insists on one way; default: tcx where the kernel has it
 * @throws {@link NoInterfaceError}, {@link OccupiedError}, {@link SyscallError}; nothing stays behind
 */
export const attachTc = (
  sys: Sys,
  program: Program,
  ifindex: number,
  direction: TcDirection,
  via?: "tcx" | "clsact",
): TcAttachment => {
  using scope = new Scope();
  const rtnl = scope.use(Rtnl.open(sys));
  rtnl.get(ifindex);
  const way = via ?? (queryTcx(sys, ifindex, direction) === undefined ? "clsact" : "tcx");
  if (way === "tcx") {
    const link = Link.tcx(sys, program, ifindex, direction);
    return {
      via: "tcx",
      link,
      addedClsact: false,
      update: (next) => link.update(next),
      release: () => undefined,
      [Symbol.dispose]: () => link[Symbol.dispose](),
    };
  }
  const filter = scope.use(TcFilter.attach(rtnl, program, ifindex, direction));
  const owned = scope.move();
  return {
    via: "clsact",
    link: undefined,
    addedClsact: filter.addedClsact,
    update: (next) => filter.update(next),
    release: () => filter.release(),
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};
