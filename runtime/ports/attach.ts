// Puts the datapath's stub on an interface: which hook, why, and what has to be set for it to carry traffic.

import { NotSupportedError, Scope, unreachable } from "ebpf-assembler";
import type { Program } from "libbpf-ts";
import {
  attachTc,
  Link,
  NotInstalledError,
  SyscallError,
  uninstall,
  type Interface,
  type OffloadSettings,
  type Sys,
} from "libbpf-ts";
import type { Hook } from "#compiler";
import type { LeftAttachment } from "../datapath/survivor.js";
import { changePeer, peerSettings, type PeerChange } from "./offloads.js";
import type { AttachedHook, PortHook } from "./port-spec.js";

/** A port's hook while it is attached. Disposing detaches the stub and puts offload settings back. */
export interface PortAttachment extends Disposable {
  readonly hook: AttachedHook;
  /** Why this hook and none higher. */
  readonly why: string;
  readonly peer: PeerChange | undefined;
  /** To be pinned, so that the attachment outlives the process; undefined for clsact, which needs no pin. */
  readonly link: Link | undefined;
  /** clsact was added for the attachment, and is to go with it. */
  readonly addedClsact: boolean;
  /** It was there, and went over to the new program without a gap. */
  readonly isTakenOver: boolean;
  /** Makes disposing only let go: what is pinned, and a filter at clsact, stays attached, and settings stay changed. */
  leave(): void;
}

/** What an earlier process left of a port. */
export interface Earlier {
  readonly attachment?: LeftAttachment;
  /** Offload settings of the peer before it changed them. */
  readonly offloads?: Partial<OffloadSettings>;
}

/** Which program a hook runs. */
export const programOf = (hook: AttachedHook): Hook => (hook === "tc" ? "tc" : "xdp");

/** Hooks to try for an interface, in order, with the reason of each. */
export const candidateHooks = (
  iface: Pick<Interface, "kind" | "hardwareType">,
  wanted: PortHook,
): readonly (readonly [hook: AttachedHook, why: string])[] => {
  if (wanted === "peer") return [["tc", "asked for: packets go straight to the other end of the pair"]];
  if (wanted !== "auto") return [[wanted, "asked for"]];
  if (iface.kind !== "") return [["tc", `${iface.kind} is virtual: TC keeps GSO and checksum offload`]];
  return [
    ["native", "a device of its own: XDP in the driver is the highest hook that redirects"],
    ["generic", "the driver has no XDP"],
  ];
};

/** errno of a driver without XDP, or without XDP at this MTU or queue setting. */
const NOT_THERE: ReadonlySet<string> = new Set(["EOPNOTSUPP", "ERANGE", "EINVAL"]);

/** @throws {@link NotSupportedError} when packets cannot go straight to the other end of an interface */
const checkPeer = ({ name, kind, peerNetns }: Interface): void => {
  if (kind === "veth" && peerNetns !== undefined) return;
  const why = kind === "veth" ? "the other end lies in the same network namespace" : "it is no veth pair";
  throw new NotSupportedError(`Hook peer for ${name}`, `${why}; take tc`);
};

/** What `ofxdp load` left on the interface gives way to the daemon. */
const takeOver = (sys: Sys, iface: Interface): void => {
  try {
    uninstall(sys, iface.name);
  } catch (error) {
    if (!(error instanceof NotInstalledError)) throw error;
  }
};

/** Detaches, unless the interface went and took the attachment along. */
const detachLink = (link: Link): void => {
  if (link.info.ifindex !== 0) link.detach();
};

/** An attachment of whatever way. */
type Placed = Pick<LeftAttachment, "link" | "release" | "addedClsact"> & Disposable;

/** Attaches where nothing of ours is, or after what is at another hook. */
const place = (
  sys: Sys,
  program: Program,
  iface: Interface,
  hook: AttachedHook,
  left: LeftAttachment | undefined,
): Placed => {
  // XDP modes exclude each other; what is at TC can go after.
  const isInTheWay = left !== undefined && hook !== "tc" && left.hook !== "tc";
  if (isInTheWay) endLeft(left);
  if (hook !== "tc") {
    takeOver(sys, iface);
    const link = Link.xdp(sys, program, iface.index, hook);
    if (left !== undefined && !isInTheWay) endLeft(left);
    return { link, addedClsact: false, release: () => undefined, [Symbol.dispose]: () => link[Symbol.dispose]() };
  }
  const attached = attachTc(sys, program, iface.index, "ingress");
  if (left !== undefined) endLeft(left);
  takeOver(sys, iface);
  return attached;
};

const endLeft = (left: LeftAttachment): void => {
  if (left.link !== undefined) detachLink(left.link);
  left[Symbol.dispose]();
};

/**
 * Attaches, in place of a program that `ofxdp load` put there: at TC without a gap, at XDP, where only one program can
 * be, after that one.
 * @param stub - loads the program of a hook when it is needed
 * @param receivesXdp - whether native XDP of another port will redirect to this one
 * @param earlier - what another process left: its attachment is taken over if the hook is right
 * @throws {@link OccupiedError}, {@link SyscallError}, {@link NotSupportedError}; nothing stays behind
 */
export const attachPort = (
  sys: Sys,
  iface: Interface,
  wanted: PortHook,
  stub: (hook: Hook) => Program,
  receivesXdp: boolean,
  earlier: Earlier = {},
): PortAttachment => {
  if (wanted === "peer") checkPeer(iface);
  const all = candidateHooks(iface, wanted);
  const left = earlier.attachment;
  const kept = all.find(([hook]) => hook === left?.hook);
  const candidates = kept === undefined ? all : [kept];
  for (const [i, [hook, why]] of candidates.entries()) {
    using scope = new Scope();
    try {
      const program = stub(programOf(hook));
      const settings = iface.kind === "veth" ? peerSettings(hook, receivesXdp) : {};
      const peer = changePeer(sys, iface, settings, earlier.offloads);
      if (peer !== undefined) scope.use(peer);
      const attached = kept !== undefined && left !== undefined ? left : place(sys, program, iface, hook, left);
      if (attached === left) left.update(program);
      scope.use(attached);
      const owned = scope.move();
      const { link } = attached;
      return {
        hook,
        why,
        peer,
        link,
        addedClsact: attached.addedClsact,
        isTakenOver: attached === left,
        leave: () => {
          attached.release();
          owned.move();
          link?.[Symbol.dispose]();
        },
        [Symbol.dispose]: () => {
          // Closing a pinned link would leave it attached.
          if (link !== undefined) detachLink(link);
          owned[Symbol.dispose]();
        },
      };
    } catch (error) {
      const isLast = i === candidates.length - 1;
      if (isLast || !(error instanceof SyscallError) || !NOT_THERE.has(error.errnoName)) throw error;
    }
  }
  return unreachable(candidates as never);
};
