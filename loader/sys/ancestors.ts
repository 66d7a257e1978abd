// Whether this process lives in the namespaces of the system or in private ones. Looking at process 1 is not enough: it
// may have capabilities that this process lacks, and then cannot be looked at. Its ancestors tell as well.

import { readFileSync, readlinkSync } from "node:fs";

/** The parent's id, from the 4th field of /proc/PID/stat; the 2nd, the name, may hold spaces and brackets. */
const parentOf = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
};

/**
 * Namespaces of the ancestors that may be looked at, the parent's first, e.g. `net:[4026531833]`. Ends at the first process
 * of the PID namespace.
 */
export const ancestorNamespaces = (kind: "mnt" | "net"): string[] => {
  const found: string[] = [];
  for (let pid = process.ppid; pid > 0;) {
    try {
      found.push(readlinkSync(`/proc/${pid}/ns/${kind}`));
    } catch {
      // Not allowed, or gone: the next one may do.
    }
    try {
      pid = parentOf(pid);
    } catch {
      break;
    }
  }
  return found;
};
