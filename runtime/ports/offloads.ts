// Offload settings that XDP on a veth needs, and that TC does not: what a virtual device leaves undone stays undone,
// because no hardware follows.
//
//   on the peer, for XDP on our end:
//     txChecksum off  XDP forwards packets as they are; a checksum left to a NIC would never be finished
//     txVlan off      a tag in skb metadata is invisible to XDP
//     tso, gso off    generic XDP would get, and drop, packets above the MTU (native turns them off itself)
//   on the peer of every veth port, while any port has native XDP:
//     gro on          native XDP redirects into a veth only if the peer polls
//
// Each change is recorded and taken back when the port goes. The peer is usually in another network namespace.

import { Ethtool, Rtnl, type Interface, type OffloadName, type OffloadSettings, type Sys } from "libbpf-ts";
import { currentNetns, findNetns, openNetns, type NetnsIdentity } from "./peer-netns.js";
import type { AttachedHook } from "./port-spec.js";

/** What to set on the peer of a veth port. */
export const peerSettings = (hook: AttachedHook, receivesXdp: boolean): Partial<OffloadSettings> => {
  switch (hook) {
    case "native":
      return { txChecksum: false, txVlan: false, gro: true };
    case "generic":
      return { tso: false, gso: false, txVlan: false };
    case "tc":
      return receivesXdp ? { gro: true } : {};
  }
};

/** Settings changed on one peer. Disposing puts them back, if the peer is still there. */
export interface PeerChange extends Disposable {
  /** Name of the peer. */
  readonly peer: string;
  /** What was changed, to what. */
  readonly changed: Partial<OffloadSettings>;
  /** What they were before. */
  readonly before: Partial<OffloadSettings>;
  /** Wanted settings that could not be made, and why. */
  readonly failed: readonly string[];
  /**
   * To be called when the peer has come up. GRO that was turned on while it was down does not make the kernel take its other
   * end for a target of XDP redirects (veth_set_features): it is turned off and on again.
   */
  renew(): void;
}

/** Order matters: turning checksums off turns TSO off with it, and coming back TSO needs them. */
const RESTORE_ORDER: readonly OffloadName[] = ["txChecksum", "txVlan", "gro", "gso", "tso"];

/** Name of an interface in the namespace of the calling thread. */
const nameOf = (sys: Sys, index: number): string | undefined => {
  using rtnl = Rtnl.open(sys);
  return rtnl.find(index)?.name;
};

/** Runs `body` in a namespace with the name of its interface `index`; undefined when either is gone. */
const nearPeer = <T>(
  sys: Sys,
  where: NetnsIdentity,
  index: number,
  body: (peer: string, ethtool: Ethtool) => T,
): T | undefined => {
  using netns = openNetns(sys, where);
  if (netns === undefined) return undefined;
  const run = (): { value: T } | undefined => {
    const name = nameOf(sys, index);
    if (name === undefined) return undefined;
    using ethtool = Ethtool.open(sys);
    return { value: body(name, ethtool) };
  };
  return netns.run(run)?.value;
};

/**
 * Changes settings of a veth port's peer. Must be called in the namespace of the port.
 * @param earlier - what settings were before an earlier process changed them: they go back to that
 * @returns undefined when there is nothing to change; the change holds even when parts of it failed
 */
export const changePeer = (
  sys: Sys,
  port: Interface,
  wanted: Partial<OffloadSettings>,
  earlier: Partial<OffloadSettings> = {},
): PeerChange | undefined => {
  if (Object.keys(wanted).length + Object.keys(earlier).length === 0) return undefined;
  const before: Partial<Record<OffloadName, boolean>> = { ...earlier };
  const changed: Partial<Record<OffloadName, boolean>> = {};
  const failed: string[] = [];
  const where = port.peerNetns === undefined ? currentNetns() : findNetns(sys, port.peerNetns);
  const change = (name: string, ethtool: Ethtool): string => {
    // All of them first: one setting takes others along.
    const all = ethtool.settings(name);
    for (const [key, on] of Object.entries(wanted)) {
      try {
        ethtool.change(name, { [key]: on });
      } catch (error) {
        failed.push(error instanceof Error ? error.message : String(error));
      }
    }
    const after = ethtool.settings(name);
    for (const key of RESTORE_ORDER) {
      if (all[key] === after[key]) continue;
      before[key] ??= all[key];
      changed[key] = after[key];
    }
    return name;
  };
  const peer = where === undefined ? undefined : nearPeer(sys, where, port.peer, change);
  if (peer === undefined || where === undefined) {
    failed.push(`the peer of ${port.name} is in a network namespace that cannot be reached`);
    const nothing = (): void => undefined;
    return { peer: `peer of ${port.name}`, changed, before, failed, renew: nothing, [Symbol.dispose]: nothing };
  }
  const restore = (name: string, ethtool: Ethtool): void => {
    for (const key of RESTORE_ORDER) if (before[key] !== undefined) ethtool.change(name, { [key]: before[key] });
  };
  const renew = (name: string, ethtool: Ethtool): void => {
    ethtool.change(name, { gro: false });
    ethtool.change(name, { gro: true });
  };
  return {
    peer,
    changed,
    before,
    failed,
    renew: () => (wanted.gro === true ? nearPeer(sys, where, port.peer, renew) : undefined),
    [Symbol.dispose]: () => nearPeer(sys, where, port.peer, restore),
  };
};
