// Puts the datapath's stub on an interface: which hook, why, and what has to be set for it to carry traffic.

import { Scope, unreachable } from "ebpf-assembler";
import type { Program } from "libbpf-ts";
import { attachTc, Link, NotInstalledError, SyscallError, uninstall, type Interface, type Sys } from "libbpf-ts";
import type { Hook } from "#compiler";
import { changePeer, peerSettings, type PeerChange } from "./offloads.js";
import type { AttachedHook, PortHook } from "./port-spec.js";

/** A port's hook while it is attached. Disposing detaches the stub and puts offload settings back. */
export interface PortAttachment extends Disposable {
  readonly hook: AttachedHook;
  /** Why this hook and none higher. */
  readonly why: string;
  readonly peer: PeerChange | undefined;
  /** Pins the attachment so that it outlives the process; undefined for clsact, which needs no pin. */
  readonly link: Link | undefined;
}

/** Which program a hook runs. */
export const programOf = (hook: AttachedHook): Hook => (hook === "tc" ? "tc" : "xdp");

/** Hooks to try for an interface, in order, with the reason of each. */
export const candidateHooks = (
  iface: Pick<Interface, "kind" | "hardwareType">,
  wanted: PortHook,
): readonly (readonly [hook: AttachedHook, why: string])[] => {
  if (wanted !== "auto") return [[wanted, "asked for"]];
  if (iface.kind !== "") return [["tc", `${iface.kind} is virtual: TC keeps GSO and checksum offload`]];
  return [
    ["native", "a device of its own: XDP in the driver is the highest hook that redirects"],
    ["generic", "the driver has no XDP"],
  ];
};

/** errno of a driver without XDP, or without XDP at this MTU or queue setting. */
const NOT_THERE: ReadonlySet<string> = new Set(["EOPNOTSUPP", "ERANGE", "EINVAL"]);

/** What `ofxdp load` left on the interface gives way to the daemon. */
const takeOver = (sys: Sys, iface: Interface): void => {
  try {
    uninstall(sys, iface.name);
  } catch (error) {
    if (!(error instanceof NotInstalledError)) throw error;
  }
};

/**
 * Attaches, in place of a program that `ofxdp load` put there: at TC without a gap, at XDP, where only one program can
 * be, after that one.
 * @param stub - loads the program of a hook when it is needed
 * @param receivesXdp - whether native XDP of another port will redirect to this one
 * @throws {@link OccupiedError}, {@link SyscallError}; nothing stays behind
 */
export const attachPort = (
  sys: Sys,
  iface: Interface,
  wanted: PortHook,
  stub: (hook: Hook) => Program,
  receivesXdp: boolean,
): PortAttachment => {
  const candidates = candidateHooks(iface, wanted);
  for (const [i, [hook, why]] of candidates.entries()) {
    using scope = new Scope();
    try {
      const program = stub(programOf(hook));
      const settings = iface.kind === "veth" ? peerSettings(hook, receivesXdp) : {};
      const peer = changePeer(sys, iface, settings);
      if (peer !== undefined) scope.use(peer);
      if (hook !== "tc") takeOver(sys, iface);
      const attached =
        hook === "tc"
          ? attachTc(sys, program, iface.index, "ingress")
          : scope.use(Link.xdp(sys, program, iface.index, hook));
      const link = attached instanceof Link ? attached : attached.link;
      if (!(attached instanceof Link)) scope.use(attached);
      if (hook === "tc") takeOver(sys, iface);
      const owned = scope.move();
      return { hook, why, peer, link, [Symbol.dispose]: () => owned[Symbol.dispose]() };
    } catch (error) {
      const isLast = i === candidates.length - 1;
      if (isLast || !(error instanceof SyscallError) || !NOT_THERE.has(error.errnoName)) throw error;
    }
  }
  return unreachable(candidates as never);
};
