// The revalidator: reads the counters of all megaflows, credits them, takes out what is idle or too much, and after a
// change of the tables translates each megaflow again and corrects or removes what no longer holds.
//
// It runs on the event loop in slices, so that upcalls are never kept waiting for long. A round begins every 500 ms, at
// once when the tables changed, and at the latest as long after the last one as that one took.

import { expireRules, lookupMask, newFlow, translate, type Switch } from "#compiler";
import { monotonicMs } from "../clock.js";
import { Slices } from "../slices.js";
import type { MegaflowCache } from "./cache.js";
import { hasExtraBits } from "./mask-class.js";
import type { Ukey } from "./ukey.js";

/** Milliseconds between rounds when nothing changes (OVS: at least 500). */
const INTERVAL_MS = 500;
/** Look at the clock every so many megaflows. */
const CLOCK_EVERY = 8;
/** Idle time for everything while there are more megaflows than the limit (OVS ofproto-dpif-upcall.c). */
const IDLE_OVER_LIMIT_MS = 100;
/** Rounds that take longer make the limit smaller, shorter ones larger (OVS: udpif_revalidator). */
const SLOW_ROUND_MS = 2000;
/**
 * A round for learned addresses waits for more of them: at least so long, and so many times as long as the last round took. A
 * megaflow that floods to an address just learned is right, only wasteful, until then.
 */
const LEARNED_DELAY_MS = 50;
const LEARNED_PACE = 20;
const SLOWISH_ROUND_MS = 1300;
const FAST_ROUND_MS = 1000;
const LIMIT_STEP = 1000;
const LIMIT_MIN = 1000;

export interface RevalidatorOptions {
  /** A megaflow without packets for so long is taken out. Default 10 s. */
  readonly maxIdleMs?: number;
  /** Megaflows at most; the limit adapts below it. Default 200,000. */
  readonly maxFlows?: number;
}

/** What the last rounds did. */
export interface RevalidatorStats {
  readonly rounds: number;
  /** Megaflows translated again. */
  readonly revalidated: number;
  readonly lastRoundMs: number;
  readonly flowLimit: number;
  readonly maxIdleMs: number;
}

export interface RevalidatorEvents {
  /** Counters of megaflows are read: so should be others, before rules expire. */
  readonly onCredit?: () => void;
  /** After every round: no counter is read and credited before it is over. */
  readonly onRound: () => void | Promise<void>;
  /** A round failed; rounds go on. */
  readonly onError: (error: unknown) => void;
  /** After every piece of a round. */
  readonly onSlice: () => void;
}

/** Nothing of a translation's arrays is kept. */
const BORROW = { borrow: true } as const;

export class Revalidator implements Disposable {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | undefined;
  private isStopped = false;
  /** When the next round is due, if before its turn: milliseconds after the last one. */
  private earlyDelayMs: number | undefined;
  private checkedVersion = -1;
  private nRounds = 0;
  private nRevalidated = 0;
  private lastRoundMs = 0;
  private readonly flow = newFlow();
  private readonly scratch = newFlow();
  private readonly maxIdleMs: number;
  private readonly maxFlows: number;

  constructor(
    private readonly sw: Switch,
    private readonly cache: MegaflowCache,
    private readonly events: RevalidatorEvents,
    options: RevalidatorOptions = {},
  ) {
    this.maxIdleMs = options.maxIdleMs ?? 10_000;
    this.maxFlows = options.maxFlows ?? 200_000;
  }

  get stats(): RevalidatorStats {
    return {
      rounds: this.nRounds,
      revalidated: this.nRevalidated,
      lastRoundMs: this.lastRoundMs,
      flowLimit: this.cache.flowLimit,
      maxIdleMs: this.maxIdleMs,
    };
  }

  start(): void {
    this.schedule(this.earlyDelayMs === undefined ? INTERVAL_MS : 0);
  }

  /** Tables or ports may have changed: the next round comes now, or as soon as the last one's cost allows. */
  wake(): void {
    this.hasten(Math.min(INTERVAL_MS, this.lastRoundMs));
  }

  /** Addresses may have been learned: the next round comes soon. */
  wakeForLearned(): void {
    this.hasten(this.learnedDelayMs);
  }

  private get learnedDelayMs(): number {
    return Math.min(INTERVAL_MS, Math.max(LEARNED_DELAY_MS, LEARNED_PACE * this.lastRoundMs));
  }

  private hasten(delayMs: number): void {
    if (this.sw.version === this.checkedVersion || this.isStopped) return;
    if (this.earlyDelayMs !== undefined && this.earlyDelayMs <= delayMs) return;
    this.earlyDelayMs = delayMs;
    if (this.running === undefined) this.schedule(delayMs);
  }

  /** Runs a whole round now, after the one that may be running. */
  async round(): Promise<void> {
    await this.running;
    await this.run();
  }

  private schedule(delayMs: number): void {
    clearTimeout(this.timer);
    if (this.isStopped) return;
    this.timer = setTimeout(() => void this.run(), delayMs);
  }

  private run(): Promise<void> {
    clearTimeout(this.timer);
    this.running ??= this.work()
      .catch(this.events.onError)
      .finally(() => {
        this.running = undefined;
        this.schedule(this.earlyDelayMs ?? INTERVAL_MS);
      });
    return this.running;
  }

  private async work(): Promise<void> {
    this.earlyDelayMs = undefined;
    const slices = new Slices(this.events.onSlice);
    for (const count of this.cache.sweep()) {
      void count;
      if (!slices.isDue) continue;
      await slices.pause();
      if (this.isStopped) return;
    }
    this.events.onCredit?.();
    this.cache.cool();
    expireRules(this.sw, monotonicMs());
    const version = this.sw.version;
    const isStale = version !== this.checkedVersion;
    const isOverLimit = this.cache.size > this.cache.flowLimit;
    const isFarOver = this.cache.size > 2 * this.cache.flowLimit;
    const maxIdleMs = isOverLimit ? IDLE_OVER_LIMIT_MS : this.maxIdleMs;
    let i = 0;
    for (const ukey of this.cache.ukeys()) {
      if (++i % CLOCK_EVERY === 0 && slices.isDue) {
        await slices.pause();
        if (this.isStopped) return;
      }
      if (ukey.isDeleted) continue;
      if (isFarOver) this.cache.remove(ukey, "flow-limit");
      else if (monotonicMs() - ukey.usedMs > maxIdleMs) this.expireIdle(ukey, maxIdleMs, isOverLimit);
      else if (isStale) this.revalidate(ukey);
    }
    this.checkedVersion = version;
    this.nRounds++;
    this.lastRoundMs = slices.busyMs;
    this.adaptLimit();
    await this.events.onRound();
    if (this.sw.version !== version) this.wakeForLearned();
  }

  /** Looks at the counters once more: the sweep may be a while ago. */
  private expireIdle(ukey: Ukey, maxIdleMs: number, isOverLimit: boolean): void {
    this.cache.read(ukey);
    if (monotonicMs() - ukey.usedMs > maxIdleMs) this.cache.remove(ukey, isOverLimit ? "flow-limit" : "flow-idle");
  }

  /** Translates a megaflow's first packet again and makes the datapath agree. */
  private revalidate(ukey: Ukey): void {
    this.nRevalidated++;
    const inPort = this.sw.port(ukey.inPort);
    if (inPort === undefined) {
      this.cache.remove(ukey, "no-ofproto");
      return;
    }
    const flow = ukey.readFlow(this.flow);
    const translation = translate(this.sw, flow, BORROW);
    if (hasExtraBits(lookupMask(flow, translation, this.scratch), ukey.maskClass.mask))
      this.cache.remove(ukey, "flow-wildcarded");
    else this.cache.refresh(ukey, translation);
  }

  private adaptLimit(): void {
    const { cache, lastRoundMs } = this;
    let limit = cache.flowLimit;
    if (lastRoundMs > SLOW_ROUND_MS) limit = Math.floor(limit / (lastRoundMs / 1000));
    else if (lastRoundMs > SLOWISH_ROUND_MS) limit = Math.floor((limit * 3) / 4);
    else if (lastRoundMs < FAST_ROUND_MS) limit += LIMIT_STEP;
    cache.flowLimit = Math.min(this.maxFlows, Math.max(limit, LIMIT_MIN));
  }

  [Symbol.dispose](): void {
    this.isStopped = true;
    clearTimeout(this.timer);
  }
}
