// Keeps first packets from waiting for a processor: the thread of the event loop runs under SCHED_RR, before every ordinary
// thread, as long as it is seldom busy. Once it works for long it would keep others from the processor, the kernel's own packet
// threads (ksoftirqd) among them, and latency is no longer a matter of waking up: then it shares, until there is little to
// do again.

import { setScheduling, threadClock, type SchedulingPolicy, type Sys } from "libbpf-ts";
import { monotonicMs } from "./clock.js";

/** Share of the time for which the thread may be busy and stay urgent. */
const SHARE = 0.5;
/** Milliseconds of work that it may do in one go. */
const BURST_MS = 20;
/** Time after which a thread that was too busy is looked at again. */
const RESTORE_MS = 100;

/** What {@link Urgency} did. */
export interface UrgencyStats {
  readonly policy: SchedulingPolicy;
  /** How often the thread was too busy. */
  readonly demotions: number;
}

/** Milliseconds: the time, and how long the thread has worked. */
export type UrgencyClock = () => { readonly nowMs: number; readonly activeMs: number };

/** Disposing makes the thread an ordinary one. */
export class Urgency implements Disposable {
  private policy: SchedulingPolicy = "other";
  private nDemotions = 0;
  /** Milliseconds of work until the thread counts as busy. */
  private allowanceMs = BURST_MS;
  private lastMs: number;
  private lastActiveMs: number;
  private timer: NodeJS.Timeout | undefined;

  private constructor(
    private readonly sys: Sys,
    private readonly clock: UrgencyClock,
  ) {
    const { nowMs, activeMs } = clock();
    this.lastMs = nowMs;
    this.lastActiveMs = activeMs;
    // Whether it may is known at once; starting is much work, so it becomes urgent after that.
    this.set("rr");
    this.set("other");
    this.restoreSoon();
  }

  /**
   * Makes the calling thread urgent as soon as it has little to do.
   * @param clock - by default that of the calling thread
   * @throws {@link PrivilegeError} where that is not allowed, {@link SyscallError}
   */
  static start(sys: Sys, clock = runClock(sys)): Urgency {
    return new Urgency(sys, clock);
  }

  get stats(): UrgencyStats {
    return { policy: this.policy, demotions: this.nDemotions };
  }

  /** To be called after each piece of work. */
  readonly worked = (): void => {
    this.count();
    if (this.allowanceMs > 0 || this.policy === "other") return;
    this.nDemotions++;
    this.set("other");
    this.restoreSoon();
  };

  private count(): void {
    const { nowMs, activeMs } = this.clock();
    const earned = (nowMs - this.lastMs) * SHARE;
    const spent = activeMs - this.lastActiveMs;
    this.lastMs = nowMs;
    this.lastActiveMs = activeMs;
    // Being busy for long is not held against it for long.
    this.allowanceMs = Math.max(-BURST_MS, Math.min(BURST_MS, this.allowanceMs + earned - spent));
  }

  private restoreSoon(): void {
    this.timer = setTimeout(() => {
      this.count();
      if (this.allowanceMs > 0) this.set("rr");
      else this.restoreSoon();
    }, RESTORE_MS).unref();
  }

  private set(policy: SchedulingPolicy): void {
    setScheduling(this.sys, policy);
    this.policy = policy;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    if (this.policy === "rr") this.set("other");
  }
}

/** Time, and how much of it the calling thread has run: were waiting work, a busy machine would keep it from being urgent. */
const runClock = (sys: Sys): UrgencyClock => {
  const cpuMs = threadClock(sys);
  return () => ({ nowMs: monotonicMs(), activeMs: cpuMs() });
};
