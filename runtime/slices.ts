// Cuts long work on the event loop into slices, so that an upcall that comes meanwhile waits no longer than one; and so that
// it goes on at a fair pace while there is more other work than time.

import { monotonicMs } from "./clock.js";

/** Time after which the event loop gets its turn. */
const SLICE_MS = 0.25;
/** A slice may be so many times as long as the other work since the last one. */
const SHARE = 0.25;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A piece of work, from its making on. */
export class Slices {
  private sliceMs = monotonicMs();
  private lengthMs = SLICE_MS;
  private beforeMs = 0;

  /** @param onSlice - called after each slice but the last */
  constructor(private readonly onSlice: () => void = () => undefined) {}

  /** Whether the slice is over. */
  get isDue(): boolean {
    return monotonicMs() - this.sliceMs >= this.lengthMs;
  }

  /** Time that the work took so far, without what other work took between slices. */
  get busyMs(): number {
    return this.beforeMs + monotonicMs() - this.sliceMs;
  }

  /** Lets other work go on, then begins another slice. */
  async pause(): Promise<void> {
    this.beforeMs = this.busyMs;
    this.onSlice();
    const endMs = monotonicMs();
    await turn();
    this.sliceMs = monotonicMs();
    this.lengthMs = Math.max(SLICE_MS, SHARE * (this.sliceMs - endMs));
  }

  /** Carries out steps, with pauses between them. @returns what they return */
  async run<T>(steps: Iterator<unknown, T>): Promise<T> {
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      if (this.isDue) await this.pause();
    }
  }
}

/** Carries out steps at once. @returns what they return */
export const runNow = <T>(steps: Iterator<unknown, T>): T => {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
};
