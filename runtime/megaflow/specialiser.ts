// Decides when the datapath program is made anew: soon after something is wanted, gathering what comes along with it,
// and never so often that compiling takes more than a quarter of the time.

import { monotonicMs } from "../clock.js";
import { GRACE_MS } from "../datapath/datapath.js";
import type { Hook } from "#compiler";
import { runNow, Slices } from "../slices.js";
import type { MegaflowCache } from "./cache.js";
import type { Change } from "./change-over.js";

/** Gather wishes for so long: the first packets of a new flow often bring several masks and shapes. */
const DEBOUNCE_MS = 10;
/** Pause after a build, as a multiple of the time it took. */
const PAUSE_FACTOR = 3;
/** Pause after a look through the tables, likewise. */
const LOOK_PAUSE_FACTOR = 19;
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
  /** Nor for what is urgent. */
  private neverBeforeMs = 0;
  private isTimerUrgent = false;
  private nBuilds = 0;
  private nFailures = 0;
  private failuresInRow = 0;
  private lastBuildMs = 0;

  private areTablesNew = false;

  /**
   * @param onTables - called some time after {@link tablesChanged}, once for many changes: the place to want what they need
   * @param onBuilt - called after each build, with the error of one that failed
   * @param onSlice - called after each slice of work
   * @param onError - told about an error that has nothing to do with a program
   */
  constructor(
    private readonly cache: MegaflowCache,
    private readonly onTables: () => void,
    private readonly onBuilt: (error: unknown) => void,
    private readonly onSlice: () => void,
    private readonly onError: (error: unknown) => void,
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
    const { isUrgent } = this.cache.changeOver;
    if (this.current !== undefined || this.isClosed) return;
    if (this.timer !== undefined && (this.isTimerUrgent || !isUrgent)) return;
    clearTimeout(this.timer);
    this.isTimerUrgent = isUrgent;
    const delay = Math.max(DEBOUNCE_MS, (isUrgent ? this.neverBeforeMs : this.notBeforeMs) - monotonicMs());
    this.timer = setTimeout(() => void this.build(), delay);
  }

  /** The tables may look at members that they did not before. */
  tablesChanged(): void {
    this.areTablesNew = true;
    this.wake();
  }

  /** Looks through the tables: never for more than a twentieth of the time. */
  private lookAtTables(): void {
    if (!this.areTablesNew) return;
    this.areTablesNew = false;
    const startMs = monotonicMs();
    this.onTables();
    const endMs = monotonicMs();
    this.notBeforeMs = Math.max(this.notBeforeMs, endMs + LOOK_PAUSE_FACTOR * (endMs - startMs));
  }

  /** Makes the program in the background. Never rejects. */
  private async build(): Promise<void> {
    this.timer = undefined;
    this.lookAtTables();
    clearTimeout(this.timer);
    this.timer = undefined;
    if (!this.cache.isWanting) return;
    const startMs = monotonicMs();
    const { changeOver, datapath } = this.cache;
    let change: Change | undefined;
    try {
      change = this.current = changeOver.begin();
      const next = await datapath.build(change.pending);
      if (this.current === change && (await new Slices(this.onSlice).run(changeOver.finish(change, next)))) {
        if (this.current === change) this.finished(startMs, undefined);
      } else changeOver.abandon(change, false);
    } catch (error) {
      if (change !== undefined) changeOver.abandon(change, this.current === change);
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
    this.neverBeforeMs = endMs + backoffMs;
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
    const { changeOver, datapath } = this.cache;
    const change = changeOver.begin(hooks, portSlots);
    runNow(changeOver.finish(change, datapath.buildNow(change.pending)));
    this.finished(startMs, undefined);
  }

  /** Finishes the last change over when the last packet has left the old program. */
  private settleSoon(): void {
    clearTimeout(this.graceTimer);
    this.graceTimer = setTimeout(() => void this.settle(), GRACE_MS + 1);
  }

  private async settle(): Promise<void> {
    try {
      await new Slices(this.onSlice).run(this.cache.changeOver.settle());
    } catch (error) {
      this.onError(error);
    }
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    this.current = undefined;
    clearTimeout(this.timer);
    clearTimeout(this.graceTimer);
    this.cache.changeOver.end();
  }
}
