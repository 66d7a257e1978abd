// How the kernel schedules the calling thread, and how much of a processor it had: sched_setattr(2), clock_gettime(2). Threads
// and processes that it starts later do not inherit the policy.

import { syscallError } from "./errors.js";
import type { Sys } from "./sys.js";

/**
 * `other`: shares the processor by weight. `rr`: runs before every `other` thread, in turns with others of its priority;
 * the kernel keeps 5 % of each processor for the rest (sched(7)).
 */
export type SchedulingPolicy = "other" | "rr";

/** SCHED_OTHER and SCHED_RR with the priority that goes with each: the lowest (uapi/linux/sched.h). */
const POLICIES = {
  other: { policy: 0, priority: 0 },
  rr: { policy: 2, priority: 1 },
} as const satisfies Record<SchedulingPolicy, { readonly policy: number; readonly priority: number }>;

const SCHED_FLAG_RESET_ON_FORK = 1;
/** struct sched_attr as of its first version, bytes (uapi/linux/sched/types.h). */
const ATTR_SIZE = 48;

/**
 * Sets the policy of the calling thread; its niceness becomes 0.
 * @throws {@link PrivilegeError} without CAP_SYS_NICE, {@link SyscallError}
 */
export const setScheduling = (sys: Sys, name: SchedulingPolicy): void => {
  const { policy, priority } = POLICIES[name];
  const attr = new DataView(new ArrayBuffer(ATTR_SIZE));
  attr.setUint32(0, ATTR_SIZE, true);
  attr.setUint32(4, policy, true);
  attr.setUint32(8, SCHED_FLAG_RESET_ON_FORK, true);
  attr.setUint32(20, priority, true);
  const result = sys.call("sched_setattr", 0, sys.address(attr), 0);
  if (result < 0) throw syscallError(`set the scheduling policy ${name}`, "sched_setattr()", -result);
};

const CLOCK_THREAD_CPUTIME_ID = 3;

/** Reads how long the calling thread has run, in milliseconds; waiting for a processor does not count. */
export const threadClock = (sys: Sys): (() => number) => {
  const time = new DataView(new ArrayBuffer(16));
  const address = sys.address(time);
  return () => {
    const result = sys.call("clock_gettime", CLOCK_THREAD_CPUTIME_ID, address);
    if (result < 0) throw syscallError("read the processor time of a thread", "clock_gettime()", -result);
    return time.getUint32(0, true) * 1e3 + time.getUint32(8, true) / 1e6;
  };
};
