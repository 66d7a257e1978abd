// What processes that were killed left behind: those that make network namespaces and directories name them after themselves.

import { readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Netns, type Sys } from "libbpf-ts";

/** Where names of namespaces are, as for ip-netns(8). */
const RUN_DIR = "/var/run/netns";

/** Whether a process is there, also one of another user. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
};

const namesIn = (directory: string): string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};

/**
 * Removes network namespaces and temporary directories named `PREFIX-PID-...` whose process is no more.
 * @returns their names
 * @throws {@link SyscallError}
 */
export const sweep = (sys: Sys, prefix: string): string[] => {
  const isLeft = (name: string): boolean => {
    const pid = new RegExp(`^${prefix}-(\\d+)-`).exec(name)?.[1];
    return pid !== undefined && !isAlive(Number(pid));
  };
  const namespaces = namesIn(RUN_DIR).filter(isLeft);
  for (const name of namespaces) Netns.remove(sys, name);
  const directories = namesIn(tmpdir()).filter(isLeft);
  for (const name of directories) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  return [...namespaces, ...directories];
};
