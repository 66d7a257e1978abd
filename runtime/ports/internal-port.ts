// Internal ports: interfaces of the host's own network stack that are ports of the switch, such as LOCAL. Each is a veth pair.
// One end has the port's name and is the host's, to give addresses to, to take up, to move into another namespace; the other,
// `ofx-` and a hash of that name, is the switch's, and like any veth port keeps GSO and checksum offload at TC.
//
// The pair lives on without the process, and is found again by these names.

import { createHash } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { RangeViolation } from "ebpf-assembler";
import type { Interface, Rtnl } from "libbpf-ts";

/** Name of the switch's end. */
export const switchEnd = (name: string): string =>
  `ofx-${createHash("sha256").update(name).digest("hex").slice(0, 10)}`;

/**
 * Address of the host's end: the same whenever the port is made anew in one network namespace, so that neighbours need not
 * find out. Locally administered.
 */
const addressOf = (name: string): Uint8Array => {
  const text = [machineId(), statSync("/proc/thread-self/ns/net").ino, name].join();
  return Uint8Array.from([0x02, ...createHash("sha256").update(text).digest().subarray(0, 5)]);
};

const machineId = (): string => {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim();
  } catch {
    // Only makes addresses of two machines differ.
    return "";
  }
};

/** An internal port's two ends. */
export interface InternalPair {
  readonly end: Interface;
  /** The host's end, when it is in this namespace. */
  readonly host: Interface | undefined;
}

/** The pair of an internal port, if it is there. @throws {@link SyscallError} */
export const findInternal = (rtnl: Rtnl, name: string): InternalPair | undefined => {
  const end = rtnl.find(switchEnd(name));
  if (end === undefined) return undefined;
  return { end, host: end.peerNetns === undefined ? rtnl.find(end.peer) : undefined };
};

/**
 * Makes the pair of an internal port, unless it is there. The host's end is down at first, as in OVS.
 * @throws {@link RangeViolation} when the name is somebody else's, {@link SyscallError}
 */
export const openInternal = (rtnl: Rtnl, name: string): InternalPair => {
  const there = findInternal(rtnl, name);
  if (there !== undefined) return there;
  if (rtnl.find(name) !== undefined)
    throw new RangeViolation(
      `Cannot make internal port ${name}: an interface of that name is there; give the port another name, or make the interface an ordinary port`,
    );
  const own = switchEnd(name);
  rtnl.createVeth({ name: own }, { name, mac: addressOf(name) });
  const { index } = rtnl.get(own);
  try {
    keepSilent(own);
    rtnl.change(index, { up: true });
    return { end: rtnl.get(own), host: rtnl.get(name) };
  } catch (error) {
    rtnl.remove(index);
    throw error;
  }
};

/** Keeps the kernel from sending neighbour discovery of its own out of an interface. */
const keepSilent = (name: string): void => {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, "1");
  } catch {
    // A kernel without IPv6 has nothing to keep silent.
  }
};

/** Removes the pair of an internal port. */
export const removeInternal = (rtnl: Rtnl, name: string): void => {
  const pair = findInternal(rtnl, name);
  if (pair !== undefined) rtnl.remove(pair.end.index);
};
