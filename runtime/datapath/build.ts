// Compiles a plan and loads its programs. Both take tens of milliseconds, during which upcalls would wait: so a running
// switch has it done by a thread of its own (build-worker.ts). Descriptors belong to the process, whichever thread opened
// them; what goes between the threads is plain data.

import { Worker } from "node:worker_threads";
import { OffloadError, RangeViolation, Scope, type ExitCode, type MapSpec } from "ebpf-assembler";
import { compileDatapath, type DatapathPlan, type Hook } from "#compiler";
import { BpfMap, loadObject, type Sys } from "libbpf-ts";

/** What to build. */
export interface BuildJob {
  readonly plan: DatapathPlan;
  readonly hooks: readonly Hook[];
  /** Names of programs that are there already. */
  readonly without: readonly string[];
  /** Descriptors of maps that are there, by name; stay the caller's. */
  readonly maps: readonly (readonly [name: string, fd: number])[];
  /** Maps to create: a hash map of 200,000 entries takes milliseconds. */
  readonly create: readonly MapSpec[];
}

/** A descriptor: whoever gets it owns it. */
export interface BuiltObject {
  readonly name: string;
  readonly fd: number;
}

/** What a build made. */
export interface Built {
  readonly programs: readonly BuiltObject[];
  readonly maps: readonly BuiltObject[];
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
 * Creates maps, compiles and loads.
 * @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind
 */
export const build = (sys: Sys, job: BuildJob): Built => {
  using scope = new Scope();
  const spec = compileDatapath(job.plan, [...job.hooks]);
  const programs = spec.programs.filter(({ name }) => !job.without.includes(name));
  // Borrowed: never disposed, so that the descriptors stay open.
  const maps = new Map(job.maps.map(([name, fd]) => [name, BpfMap.fromFd(sys, fd, `map "${name}"`)]));
  const created = job.create.map((map) => ({ name: map.name, map: scope.use(BpfMap.create(sys, map)) }));
  for (const { name, map } of created) maps.set(name, map);
  for (const { name } of spec.maps) {
    if (!maps.has(name)) throw new RangeViolation(`Cannot build a datapath program: no map ${name}`);
  }
  const object = loadObject(sys, { ...spec, programs }, { maps });
  // All of it goes to the caller.
  scope.move();
  return {
    programs: [...object.programs].map(([name, program]) => ({ name, fd: program.fdNumber })),
    maps: created.map(({ name, map }) => ({ name, fd: map.fdNumber })),
  };
};

/** What the worker is sent: a job, or that none will follow; and what it sends back. */
export type BuildRequest = { readonly id: number; readonly job: BuildJob } | "end";
export type BuildReply =
  | { readonly id: number; readonly built: Built }
  | {
      readonly id: number;
      readonly failure: { message: string; exitCode: ExitCode; detail: Readonly<Record<string, unknown>> };
    };

interface Waiting {
  resolve(built: Built): void;
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
  build(job: BuildJob): Promise<Built> {
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
      if ("built" in reply) waiting?.resolve(reply.built);
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
