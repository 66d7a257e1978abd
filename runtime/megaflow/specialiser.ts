// Decides when the datapath program is made anew: soon after something is wanted, gathering what comes along with it,
// and never so often that compiling takes more than a quarter of the time.

import { monotonicMs } from "../clock.js";
import { GRACE_MS } from "../datapath/datapath.js";
import type { Hook } from "#compiler";
import type { Change, MegaflowCache } from "./cache.js";

/** Gather wishes for so long: the first packets of a new flow often bring several masks and shapes. */
const DEBOUNCE_MS = 10;
/** Pause after a build, as a multiple of the time it took. */
const PAUSE_FACTOR = 3;
/** Longest pause after a build that failed. */
const MAX_BACKOFF_MS = 10_000;

export interface SpecialiserStats {
  readonly builds: number;
  readonly failures: number;
  /** From the plan to the running program, of the last one. */
  readonly lastBuildMs: number;
}

export class Specialiser implements Disposable {
  private timer: NodeJS.Timeout | undefined;
  private graceTimer: NodeJS.Timeout | undefined;
  /** The change that a thread is building. */
  private current: Change | undefined;
  private isClosed = false;
  private notBeforeMs = 0;
  private nBuilds = 0;
  private nFailures = 0;
  private failuresInRow = 0;
  private lastBuildMs = 0;

  private areTablesNew = false;

  /**
   * @param onTables - called some time after {@link tablesChanged}, once for many changes: the place to want what they need
   * @param onBuilt - called after each build, with the error of one that failed
   */
  constructor(
    private readonly cache: MegaflowCache,
    private readonly onTables: () => void,
    private readonly onBuilt: (error: unknown) => void,
  ) {}

  get stats(): SpecialiserStats {
    return { builds: this.nBuilds, failures: this.nFailures, lastBuildMs: this.lastBuildMs };
  }

  /** Whether another program is due or being built. */
  get isBusy(): boolean {
    return this.timer !== undefined || this.current !== undefined;
  }

  /** Something is wanted. */
  wake(): void {
    if (this.timer !== undefined || this.current !== undefined || this.isClosed) return;
    const delay = Math.max(DEBOUNCE_MS, this.notBeforeMs - monotonicMs());
    this.timer = setTimeout(() => void this.build(), delay);
  }

  /** The tables may look at members that they did not before. */
  tablesChanged(): void {
    this.areTablesNew = true;
    this.wake();
  }

  /** Looks through the tables: never for more than a quarter of the time, either. */
  private lookAtTables(): void {
    if (!this.areTablesNew) return;
    this.areTablesNew = false;
    const startMs = monotonicMs();
    this.onTables();
    const endMs = monotonicMs();
    this.notBeforeMs = Math.max(this.notBeforeMs, endMs + PAUSE_FACTOR * (endMs - startMs));
  }

  /** Makes the program in the background. Never rejects. */
  private async build(): Promise<void> {
    this.timer = undefined;
    this.lookAtTables();
    clearTimeout(this.timer);
    this.timer = undefined;
    if (!this.cache.isWanting) return;
    const startMs = monotonicMs();
    let change: Change | undefined;
    try {
      change = this.current = this.cache.begin();
      const next = await this.cache.datapath.build(change.pending);
      if (this.current === change) {
        this.cache.finish(change, next);
        this.finished(startMs, undefined);
      } else this.cache.abandon(change, false);
    } catch (error) {
      if (change !== undefined) this.cache.abandon(change, this.current === change);
      if (!this.isClosed && this.current === change) this.finished(startMs, error);
    }
  }

  private finished(startMs: number, error: unknown): void {
    this.current = undefined;
    this.nBuilds++;
    this.failuresInRow = error === undefined ? 0 : this.failuresInRow + 1;
    if (error !== undefined) this.nFailures++;
    const endMs = monotonicMs();
    this.lastBuildMs = endMs - startMs;
    const backoffMs = this.failuresInRow === 0 ? 0 : Math.min(MAX_BACKOFF_MS, 100 * 2 ** this.failuresInRow);
    this.notBeforeMs = endMs + Math.max(PAUSE_FACTOR * this.lastBuildMs, backoffMs);
    this.settleSoon();
    if (this.cache.isWanting || this.areTablesNew) this.wake();
    this.onBuilt(error);
  }

  /**
   * Makes a program on this thread, at once: upcalls wait. One that is being built in the background is thrown away.
   * @throws {@link SyscallError}, {@link VerifierError}: the old program runs on
   */
  buildNow(hooks: ReadonlySet<Hook>, portSlots?: number): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.current = undefined;
    const startMs = monotonicMs();
    const change = this.cache.begin(hooks, portSlots);
    this.cache.finish(change, this.cache.datapath.buildNow(change.pending));
    this.finished(startMs, undefined);
  }

  /** Finishes the last change over when the last packet has left the old program. */
  private settleSoon(): void {
    clearTimeout(this.graceTimer);
    this.graceTimer = setTimeout(() => this.cache.harvest(), GRACE_MS + 1);
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    this.current = undefined;
    clearTimeout(this.timer);
    clearTimeout(this.graceTimer);
    this.cache.harvest(true);
  }
}
