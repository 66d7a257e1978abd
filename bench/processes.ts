// Processes of a bench: they run in a network namespace, answer within a time limit, and none outlives its owner.

import { spawn, spawnSync, type ChildProcess, type SpawnOptionsWithoutStdio } from "node:child_process";
import { createInterface } from "node:readline";
import type { Netns } from "libbpf-ts";
import { BenchError } from "./error.js";

/** A child gets a signal when its parent dies, however that happens. */
const LEASH = ["setpriv", "--pdeathsig", "KILL", "--"] as const;
/** Neighbours in the machine shall not decide what is measured. Nothing that spins may have this. */
const REAL_TIME = ["chrt", "--fifo", "1"] as const;

export interface StartOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Runs before any ordinary process, where the system lets it. */
  readonly isRealTime?: boolean;
}

const mayBeRealTime = spawnSync(REAL_TIME[0], [...REAL_TIME.slice(1), "true"], { stdio: "ignore" }).status === 0;

const start = (
  netns: Netns,
  command: readonly string[],
  { cwd, env, isRealTime = false }: StartOptions = {},
): ChildProcess => {
  const [program, ...args] = [...LEASH, ...(isRealTime && mayBeRealTime ? REAL_TIME : []), ...command] as const;
  const options: SpawnOptionsWithoutStdio = { ...(cwd === undefined ? {} : { cwd }), env: { ...process.env, ...env } };
  return netns.run(() => ({ child: spawn(program, args, options) })).child;
};

/** A process that answers a line for each line that it is given, before any ordinary process runs. Disposing ends it. */
export class Dialogue implements Disposable {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private errors = "";

  constructor(
    netns: Netns,
    private readonly command: readonly string[],
  ) {
    this.child = start(netns, command, { isRealTime: true });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.errors += text));
    this.child.stdin?.on("error", () => undefined);
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  /** @throws {@link BenchError} when the process ends instead of answering */
  async ask(line: string): Promise<string> {
    this.child.stdin?.write(`${line}\n`);
    const answer = await this.lines.next();
    if (answer.done === true) throw new BenchError(`${this.command.join(" ")} ended: ${this.errors.trim()}`);
    return answer.value;
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}

/** A daemon. Disposing kills it. */
export const startDaemon = (netns: Netns, command: readonly string[], options: StartOptions = {}): Disposable => {
  const child = start(netns, command, options);
  child.stdout?.resume();
  child.stderr?.resume();
  return { [Symbol.dispose]: () => void child.kill("SIGKILL") };
};

/**
 * Runs a command to its end.
 * @returns what it wrote
 * @throws {@link BenchError} when it fails or takes longer than `timeoutMs`
 */
export const run = (
  netns: Netns,
  command: readonly string[],
  { timeoutMs = 10_000, ...options }: StartOptions & { readonly timeoutMs?: number } = {},
): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = start(netns, command, options);
    const fail = (why: string): void => reject(new BenchError(`${command.join(" ")}: ${why}`));
    let [out, errors] = ["", ""];
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      fail(`no end after ${timeoutMs} ms`);
    }, timeoutMs);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
    child.once("error", (error) => fail(error.message));
    child.once("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(out);
      else fail(`status ${code}: ${errors.trim() || out.trim()}`);
    });
  });

/** Whether a program is in the search path. */
export const hasProgram = (name: string): boolean =>
  spawnSync("sh", ["-c", `command -v ${name}`], { stdio: "ignore" }).status === 0;
