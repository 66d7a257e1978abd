// Processes of the demo: none outlives it. Every one dies with its parent (also when that is killed), is waited for when it
// is stopped, and has a time limit.

import { spawn, type ChildProcess } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { NotSupportedError, OffloadError } from "ebpf-assembler";
import type { Netns } from "libbpf-ts";

/** How a process ended, and what it wrote. */
export interface Ran {
  /** Exit status; 128 + signal number is not made up here: a signal gives undefined. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process of the demo did not do what it is there for. */
export class ProcessError extends OffloadError {
  readonly code = "EPROCESS";

  constructor(
    readonly command: string,
    readonly problem: string,
    readonly stderr: string,
  ) {
    super(`Cannot run "${command}": ${problem}${stderr === "" ? "" : `\n${stderr.trimEnd()}`}`);
  }
}

/** The demo was told to stop. */
export class InterruptedError extends OffloadError {
  readonly code = "EINTERRUPTED";

  constructor(readonly why: string) {
    super(`Stopped by ${why}`);
  }
}

/** Where a program is in the search path; undefined when it is not installed. */
export const findProgram = (name: string): string | undefined => {
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: the next directory.
    }
  }
  return undefined;
};

/** @throws {@link NotSupportedError} that names the Debian package */
export const needProgram = (name: string, debianPackage: string): string => {
  const path = findProgram(name);
  if (path === undefined) throw new NotSupportedError(`Program ${name}`, `install the package ${debianPackage}`);
  return path;
};

/** From asking a process to end until it is killed. */
const GRACE_MS = 3000;

/** A running process. */
export class Running {
  stdout = "";
  stderr = "";
  readonly done: Promise<Ran>;
  private waiters: (() => void)[] = [];

  constructor(
    readonly command: string,
    private readonly child: ChildProcess,
  ) {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.wakeAll();
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.wakeAll();
    });
    this.done = new Promise((resolve) => {
      const end = (code: number | null): void => {
        resolve({ code: code ?? undefined, stdout: this.stdout, stderr: this.stderr });
        this.wakeAll();
      };
      child.once("close", end);
      child.once("error", (error) => {
        this.stderr += error.message;
        end(null);
      });
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null || this.child.pid === undefined;
  }

  private wakeAll(): void {
    const { waiters } = this;
    this.waiters = [];
    for (const wake of waiters) wake();
  }

  /** Waits until `text` was written to stdout or stderr. @throws {@link ProcessError} when the process ends before */
  async says(text: string): Promise<void> {
    while (!this.stdout.includes(text) && !this.stderr.includes(text)) {
      if (this.hasEnded) throw new ProcessError(this.command, "it ended early", this.stderr);
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  /** Asks the process to end, then insists. */
  async stop(): Promise<Ran> {
    this.child.kill("SIGTERM");
    const insist = setTimeout(() => this.child.kill("SIGKILL"), GRACE_MS);
    try {
      return await this.done;
    } finally {
      clearTimeout(insist);
    }
  }
}

/** Starts processes in network namespaces. Disposing stops those that still run, and waits for them. */
export class Processes implements AsyncDisposable {
  private readonly running = new Set<Running>();
  private readonly setpriv = needProgram("setpriv", "util-linux");

  constructor(private readonly signal: AbortSignal) {}

  /** @throws {@link InterruptedError} */
  checkStop(): void {
    if (this.signal.aborted) throw new InterruptedError(String(this.signal.reason));
  }

  start(ns: Netns, command: readonly string[]): Running {
    this.checkStop();
    // A child gets this signal when its parent dies, however that happens.
    const args = ["--pdeathsig", "TERM", "--", ...command];
    const child = ns.run(() => ({ of: spawn(this.setpriv, args, { stdio: ["ignore", "pipe", "pipe"] }) })).of;
    const running = new Running(command.join(" "), child);
    this.running.add(running);
    void running.done.then(() => this.running.delete(running));
    return running;
  }

  /**
   * Runs a command to its end.
   * @returns how it ended, whatever its exit status
   * @throws {@link ProcessError} after `timeoutMs`, {@link InterruptedError}
   */
  async run(ns: Netns, command: readonly string[], timeoutMs = 15_000): Promise<Ran> {
    const running = this.start(ns, command);
    return this.within(running, timeoutMs, running.done);
  }

  /** Waits for something about a process, not longer than `timeoutMs`, and not when the demo is stopped. */
  async within<T>(running: Running, timeoutMs: number, what: Promise<T>): Promise<T> {
    const { signal } = this;
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new ProcessError(running.command, `no answer in ${timeoutMs} ms`, running.stderr)),
        timeoutMs,
      );
      onAbort = () => reject(new InterruptedError(String(signal.reason)));
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort);
    });
    try {
      return await Promise.race([what, limit]);
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.running].map((running) => running.stop()));
  }
}
