// A controller in a thread of its own, and what it is asked to do.

import { once } from "node:events";
import { Worker } from "node:worker_threads";

export type Asked =
  /** Has each connection add flows, numbered on from `from`, and wait for a barrier. */
  | { readonly kind: "add"; readonly from: number; readonly each: number }
  /** Has each connection dump all flows. */
  | { readonly kind: "dump" }
  /** How many packets have come in so far. */
  | { readonly kind: "counts" };

export interface Told {
  /** From the first byte said to the last one heard. */
  readonly ms: number;
  readonly count: number;
  readonly errors: number;
}

/** Disposing ends its connections. */
export class Controller implements Disposable {
  private constructor(private readonly worker: Worker) {}

  /** @param path - of the switch's socket */
  static async start(path: string, connections: number): Promise<Controller> {
    const worker = new Worker(new URL("./controller.js", import.meta.url), { workerData: { path, connections } });
    await once(worker, "message");
    return new Controller(worker);
  }

  async ask(asked: Asked): Promise<Told> {
    this.worker.postMessage(asked);
    const [told] = (await once(this.worker, "message")) as [Told];
    return told;
  }

  [Symbol.dispose](): void {
    void this.worker.terminate();
  }
}
