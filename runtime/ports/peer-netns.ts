// Finds the network namespace that a veth peer lives in. A namespace knows others by small numbers of its own; which one
// a number means is found by asking the kernel for the number of each namespace that can be reached by name or by process.

import { readdirSync, statSync, closeSync, openSync } from "node:fs";
import { NetlinkSocket, Netns, nlAttr, nlU32, NETLINK, parseAttrs, readI32, type Sys } from "libbpf-ts";

const RTM_GETNSID = 90;
/** struct rtgenmsg, padded. */
const RTGENMSG = new Uint8Array(4);
const NETNSA = { NSID: 1, FD: 3 } as const;
const NAMED = "/var/run/netns";

const list = (dir: string): string[] => {
  try {
    return readdirSync(dir);
  } catch {
    // Not there, or not ours to look into: nothing can be found in it.
    return [];
  }
};

function* candidates(): Generator<string> {
  for (const name of list(NAMED)) yield `${NAMED}/${name}`;
  for (const pid of list("/proc")) if (/^\d+$/.test(pid)) yield `/proc/${pid}/ns/net`;
}

/** Calls `test` with a descriptor of each namespace that can be reached, once each. @returns the path where it held */
const search = (test: (inode: number, path: string) => boolean): string | undefined => {
  const seen = new Set<number>();
  for (const path of candidates()) {
    try {
      const { ino } = statSync(path);
      if (seen.has(ino)) continue;
      seen.add(ino);
      if (test(ino, path)) return path;
    } catch (error) {
      // The process ended meanwhile, or the name is stale.
      if (!(error instanceof Error && "code" in error)) throw error;
    }
  }
  return undefined;
};

/** A namespace that can be found again, without keeping it alive: an open descriptor would. */
export interface NetnsIdentity {
  readonly inode: number;
}

/**
 * The namespace that the current one knows by the number `nsid`; undefined when no name and no process leads there.
 * @throws {@link SyscallError}
 */
export const findNetns = (sys: Sys, nsid: number): NetnsIdentity | undefined => {
  using socket = NetlinkSocket.open(sys, NETLINK.route);
  let found: NetnsIdentity | undefined;
  search((inode, path) => {
    const fd = openSync(path, "r");
    try {
      const body = new Uint8Array([...RTGENMSG, ...nlAttr(NETNSA.FD, nlU32(fd))]);
      const [answer] = socket.request(RTM_GETNSID, 0, body, `ask for the number of ${path}`);
      if (answer === undefined) return false;
      if (readI32(parseAttrs(answer.body.subarray(RTGENMSG.length)).get(NETNSA.NSID)) !== nsid) return false;
      found = { inode };
      return true;
    } finally {
      closeSync(fd);
    }
  });
  return found;
};

/** The namespace of the calling thread. */
export const currentNetns = (): NetnsIdentity => ({ inode: statSync("/proc/thread-self/ns/net").ino });

/** Opens a namespace again; undefined when it is gone or nothing leads there any more. @throws {@link SyscallError} */
export const openNetns = (sys: Sys, { inode }: NetnsIdentity): Netns | undefined => {
  if (currentNetns().inode === inode) return Netns.current(sys);
  const path = search((other) => other === inode);
  return path === undefined ? undefined : Netns.openPath(sys, path);
};
