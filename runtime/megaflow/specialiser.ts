// Decides when the datapath program is made anew: soon after something is wanted, gathering what comes along with it,
// and never so often that compiling takes more than a quarter of the time.

import { monotonicMs } from "../clock.js";
import { GRACE_MS } from "../datapath/datapath.js";
import type { MegaflowCache } from "./cache.js";

/** Gather wishes for so long: the first packets of a new flow often bring several masks and shapes. */
const DEBOUNCE_MS = 10;
/** Pause after a build, as a multiple of the time it took. */
const PAUSE_FACTOR = 3;
/** Longest pause after a build that failed. */
const MAX_BACKOFF_MS = 10_000;

export interface SpecialiserStats {
  readonly builds: number;
  readonly failures: number;
  readonly lastBuildMs: number;
}

export class Specialiser implements Disposable {
  private timer: NodeJS.Timeout | undefined;
  private graceTimer: NodeJS.Timeout | undefined;
  private notBeforeMs = 0;
  private nBuilds = 0;
  private nFailures = 0;
  private failuresInRow = 0;
  private lastBuildMs = 0;

  /** @param onBuilt - called after each build, with the error of one that failed */
  constructor(
    private readonly cache: MegaflowCache,
    private readonly onBuilt: (error: unknown) => void,
  ) {}

  get stats(): SpecialiserStats {
    return { builds: this.nBuilds, failures: this.nFailures, lastBuildMs: this.lastBuildMs };
  }

  /** Something is wanted. */
  wake(): void {
    if (this.timer !== undefined) return;
    const delay = Math.max(DEBOUNCE_MS, this.notBeforeMs - monotonicMs());
    this.timer = setTimeout(() => this.build(), delay);
  }

  /** Makes the program now, whether something is wanted or not. */
  build(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.settle();
    const start = monotonicMs();
    let failure: unknown;
    try {
      this.cache.respecialise();
      this.failuresInRow = 0;
    } catch (error) {
      failure = error;
      this.nFailures++;
      this.failuresInRow++;
    }
    this.nBuilds++;
    const end = monotonicMs();
    this.lastBuildMs = end - start;
    const backoff = this.failuresInRow === 0 ? 0 : Math.min(MAX_BACKOFF_MS, 100 * 2 ** this.failuresInRow);
    this.notBeforeMs = end + Math.max(PAUSE_FACTOR * this.lastBuildMs, backoff);
    this.graceTimer = setTimeout(() => this.settle(), GRACE_MS);
    this.onBuilt(failure);
  }

  /** Finishes the last change over. */
  private settle(): void {
    clearTimeout(this.graceTimer);
    this.graceTimer = undefined;
    this.cache.harvest();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    this.settle();
  }
}
