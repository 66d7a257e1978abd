// What direct programs and their readers agree on.

import type { Hook } from "../ir/types.js";

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

/** Slot of the PROG_ARRAYs with the megaflow program, for a direct program that stands before it. */
export const FALLBACK_SLOT = 1;

/**
 * Packets and bytes by interface index, as u64 in host order: in, and out. Counted by programs before a megaflow program only,
 * whose user space counts those of other packets by itself.
 */
export const PORT_STATS = { map: "port_stats", size: 32, rx: 0, tx: 16 } as const;

/** Name of the program that stands before the megaflow program of a hook. */
export const directProgramOf = (hook: Hook): string => `direct_${hook}`;

/** Frames of this type always go to user space, when there is one: replaying marks the end of a packet with them. */
export const MARKER_TYPE = 0x88b5;
