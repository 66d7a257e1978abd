// Jobs for a thread of their own: what takes tens of milliseconds must not keep upcalls waiting. Descriptors belong to the
// process, whichever thread opened them; what goes between the threads is plain data.

import { Worker, type MessagePort } from "node:worker_threads";
import { exitCodeOf, OffloadError, type ExitCode } from "ebpf-assembler";

/** What a thread is sent: a job, or that none will follow; and what it sends back. */
type Request<Job> = { readonly id: number; readonly job: Job } | "end";
type Reply<Result> =
  | { readonly id: number; readonly result: Result }
  | {
      readonly id: number;
      readonly failure: { message: string; exitCode: ExitCode; detail: Readonly<Record<string, unknown>> };
    };

/** A job that failed in the other thread. */
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

interface Waiting<Result> {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/**
 * A thread that does jobs one after the other. Disposing ends it when it is done with what it was given: it uses descriptors
 * of others, which must stay open until then.
 */
export class JobThread<Job, Result> implements Disposable {
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, Waiting<Result>>();
  private nextId = 0;

  /** @param url - the module of the thread, which calls {@link serveJobs} */
  constructor(private readonly url: URL) {}

  /** Starts the thread before it is needed. */
  start(): void {
    this.worker ??= this.spawn();
  }

  /** @throws {@link BuildError} (rejects) */
  run(job: Job): Promise<Result> {
    const worker = (this.worker ??= this.spawn());
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      const request: Request<Job> = { id, job };
      worker.postMessage(request);
    });
  }

  private spawn(): Worker {
    const worker = new Worker(this.url);
    worker.unref();
    worker.on("message", (reply: Reply<Result>) => {
      const waiting = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if ("result" in reply) waiting?.resolve(reply.result);
      else waiting?.reject(new BuildError(reply.failure.message, reply.failure.exitCode, reply.failure.detail));
    });
    worker.on("error", (error) => this.fail(error));
    return worker;
  }

  /** The thread died: all jobs fail, and the next one starts another thread. */
  private fail(error: unknown): void {
    this.worker = undefined;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  [Symbol.dispose](): void {
    const end: Request<Job> = "end";
    this.worker?.postMessage(end);
    this.worker = undefined;
  }
}

const answer = <Job, Result>({ id, job }: { id: number; job: Job }, run: (job: Job) => Result): Reply<Result> => {
  try {
    return { id, result: run(job) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const detail = error instanceof OffloadError ? error.toJSON() : {};
    return {
      id,
      failure: { message, exitCode: exitCodeOf(error), detail: JSON.parse(JSON.stringify(detail)) as typeof detail },
    };
  }
};

/** Does the jobs that come by a thread's port, until there are no more. */
export const serveJobs = <Job, Result>(port: MessagePort | null, run: (job: Job) => Result): void => {
  port?.on("message", (request: Request<Job>) => {
    if (request === "end") port.close();
    else port.postMessage(answer(request, run));
  });
};
