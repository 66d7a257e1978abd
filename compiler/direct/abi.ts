// What direct programs and their readers agree on.

/**
 * Statistics: a one-entry array whose value has one pair of u64 counters, host order, per rule, in the order of the report, then
 * those of misses. Some rules are the sum of others (counts.ts).
 */
export const STATS = {
  map: "rule_stats",
  /** Bytes per rule. */
  size: 16,
  packets: 0,
  bytes: 8,
} as const;

/**
 * Packets that a program without user space behind it dropped because it cannot handle them: one u64 in a one-entry array.
 */
export const UNHANDLED = { map: "unhandled", size: 8 } as const;

/** Frames of this type always go to user space, when there is one: replaying marks the end of a packet with them. */
export const MARKER_TYPE = 0x88b5;
