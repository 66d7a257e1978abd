// What a test run must give back: file descriptors, child processes, network namespaces, mounts and temporary files.
// A descriptor that is merely closed late is no leak; one opened by a suite and still open at the end of the run is.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** Descriptor number to what it refers to: `socket:[123]`, `anon_inode:bpf-map`, a path. */
export type OpenFiles = ReadonlyMap<number, string>;

/** The descriptors of this process, without the one that lists them. */
export const openFiles = (): OpenFiles => {
  const files = new Map<number, string>();
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      files.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // Closed since it was listed: the descriptor of the listing itself.
    }
  }
  return files;
};

/**
 * Opens what Node opens once and keeps: a pipe for signals with its first child, /dev/null with the first stream of its event
 * loop, which is standard output unless that is a file. The child has no pipes to us: on a slow machine they would still be
 * open when the first test begins.
 */
export const warmUp = (): void => {
  spawn("true", { stdio: "ignore" }).unref();
  createServer().listen(`\0ofxdp-warm-up-${process.pid}`).close();
};

/** Remembers which descriptors each file of tests opened and did not close. */
export class FileWatch {
  private before: OpenFiles = openFiles();
  private readonly suspects: { readonly file: string; readonly fd: number; readonly target: string }[] = [];

  /** Ends the watch over `file`: what is open now and was not before is suspect. */
  next(file: string): void {
    const now = openFiles();
    for (const [fd, target] of now) if (this.before.get(fd) !== target) this.suspects.push({ file, fd, target });
    this.before = now;
  }

  /** The suspects that are still open, one line each. */
  leaks(): string[] {
    const now = openFiles();
    return this.suspects
      .filter(({ fd, target }) => now.get(fd) === target)
      .map(({ file, fd, target }) => `${file}: left descriptor ${fd} open: ${target}`);
  }
}

const children = (): string[] =>
  readdirSync("/proc/self/task").flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, "utf8").split(" ").filter(Boolean),
  );

const nameOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return "";
  }
};

/** Named namespaces whose name carries the id of this process. */
const namespaces = (): string[] => {
  const mine = new RegExp(`(?<!\\d)${process.pid}(?!\\d)`);
  try {
    return readdirSync("/run/netns").filter((name) => mine.test(name));
  } catch {
    return [];
  }
};

const mountsBelow = (dir: string): string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${dir}/`));

/**
 * A directory that `tmpdir()` names until {@link TemporaryDirectory.leftovers} removes it, so that what tests leave
 * behind is known to be theirs, also when two runs go on beside each other.
 */
export class TemporaryDirectory {
  private readonly outer = tmpdir();
  readonly path = mkdtempSync(join(this.outer, "ofxdp-test-"));

  constructor() {
    process.env["TMPDIR"] = this.path;
  }

  /** Removes the directory; one line for each thing that was in it. */
  leftovers(): string[] {
    const mounts = mountsBelow(this.path);
    const found = [
      ...mounts.map((point) => `left mounted: ${point}`),
      ...readdirSync(this.path).map((name) => `left in the temporary directory: ${name}`),
    ];
    for (const point of mounts.reverse()) execFileSync("umount", ["--lazy", point]);
    rmSync(this.path, { recursive: true, force: true });
    process.env["TMPDIR"] = this.outer;
    return found;
  }
}

/** What the whole run left behind, other than descriptors and temporary files; one line each. */
export const leftovers = (): string[] => [
  ...children().map((pid) => `left running: ${pid} ${nameOf(pid)}`),
  ...namespaces().map((name) => `left network namespace: ${name}`),
];
