// Compiles a plan and loads its programs. Both take tens of milliseconds, during which upcalls would wait: so a running
// switch has it done by a thread of its own (build-worker.ts). Descriptors belong to the process, whichever thread opened
// them; what goes between the threads is plain data.

import { Worker } from "node:worker_threads";
import { OffloadError, RangeViolation, type ExitCode } from "ebpf-assembler";
import { compileDatapath, type DatapathPlan, type Hook } from "#compiler";
import { BpfMap, loadObject, type Sys } from "libbpf-ts";

/** What to build. */
export interface BuildJob {
  readonly plan: DatapathPlan;
  readonly hooks: readonly Hook[];
  /** Names of programs that are there already. */
  readonly without: readonly string[];
  /** Descriptors of the plan's maps by name; stay the caller's. */
  readonly maps: readonly (readonly [name: string, fd: number])[];
}

/** A loaded program: whoever gets it owns the descriptor. */
export interface BuiltProgram {
  readonly name: string;
  readonly fd: number;
}

/** A build that failed in the other thread. */
export class BuildError extends OffloadError {
  readonly code = "EBUILD";

  constructor(
    message: string,
    private readonly exit: ExitCode,
    readonly detail: Readonly<Record<string, unknown>>,
  ) {
    super(message);
  }

  override get exitCode(): ExitCode {
    return this.exit;
  }
}

/**
 * Compiles and loads.
 * @throws {@link SyscallError}, {@link VerifierError}; no program stays
 */
export const buildPrograms = (sys: Sys, job: BuildJob): BuiltProgram[] => {
  const spec = compileDatapath(job.plan, [...job.hooks]);
  const programs = spec.programs.filter(({ name }) => !job.without.includes(name));
  // Borrowed: never disposed, so that the descriptors stay open.
  const maps = new Map(job.maps.map(([name, fd]) => [name, BpfMap.fromFd(sys, fd, `map "${name}"`)]));
  for (const { name } of spec.maps) {
    if (!maps.has(name)) throw new RangeViolation(`Cannot build a datapath program: no map ${name}`);
  }
  // Not disposed either: the programs go to the caller.
  const object = loadObject(sys, { ...spec, programs }, { maps });
  return [...object.programs].map(([name, program]) => ({ name, fd: program.fdNumber }));
};

/** What the worker is sent: a job, or that none will follow; and what it sends back. */
export type BuildRequest = { readonly id: number; readonly job: BuildJob } | "end";
export type BuildReply =
  | { readonly id: number; readonly programs: readonly BuiltProgram[] }
  | {
      readonly id: number;
      readonly failure: { message: string; exitCode: ExitCode; detail: Readonly<Record<string, unknown>> };
    };

interface Waiting {
  resolve(programs: readonly BuiltProgram[]): void;
  reject(error: unknown): void;
}

/**
 * The building thread. Disposing ends it when it is done with what it was given: it uses descriptors of others, which must
 * stay open until then.
 */
export class Builder implements Disposable {
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 0;

  /** Starts the thread before it is needed. */
  start(): void {
    this.worker ??= this.spawn();
  }

  /** Builds off this thread. @throws {@link BuildError} (rejects) */
  build(job: BuildJob): Promise<readonly BuiltProgram[]> {
    const worker = (this.worker ??= this.spawn());
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      const request: BuildRequest = { id, job };
      worker.postMessage(request);
    });
  }

  private spawn(): Worker {
    const worker = new Worker(new URL("./build-worker.js", import.meta.url));
    worker.unref();
    worker.on("message", (reply: BuildReply) => {
      const waiting = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if ("programs" in reply) waiting?.resolve(reply.programs);
      else waiting?.reject(new BuildError(reply.failure.message, reply.failure.exitCode, reply.failure.detail));
    });
    worker.on("error", (error) => this.fail(error));
    return worker;
  }

  /** The thread died: all builds fail, and the next one starts another thread. */
  private fail(error: unknown): void {
    this.worker = undefined;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  [Symbol.dispose](): void {
    const end: BuildRequest = "end";
    this.worker?.postMessage(end);
    this.worker = undefined;
  }
}
