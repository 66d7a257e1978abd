// What a hook offers to programs, as data: how its context is laid out, what its verdicts are, which helpers it has and
// which it lacks. Everything that differs between XDP and TC is in these tables.

import type { HelperName, ProgType, Size } from "ebpf-assembler";
import type { CtxField, Hook } from "../ir/types.js";

/** How a context field is read. Offsets in bytes from the context pointer. */
export type CtxAccess =
  | { readonly load: Size; readonly off: number }
  /** Packet end minus packet start. */
  | "packet span";

/** What a program may return, by meaning; a hook lacks the meanings it has no number for. */
export interface Verdicts {
  /** Drop, and let tracing see that the program gave up. */
  readonly aborted: number;
  readonly drop: number;
  /** Hand the packet to the host's network stack. */
  readonly pass: number;
  /** Send back out of the interface it came in by. */
  readonly tx?: number;
  /** Result of a successful redirect helper. */
  readonly redirect: number;
  /** Leave the verdict to the next program of the hook. */
  readonly next?: number;
}

export interface Target {
  readonly hook: Hook;
  readonly progType: ProgType;
  /** Absent fields cannot be read at this hook. */
  readonly ctx: Readonly<Partial<Record<CtxField, CtxAccess>>>;
  readonly verdicts: Verdicts;
  /** Helpers beyond {@link COMMON_HELPERS}. */
  readonly helpers: ReadonlySet<HelperName>;
  /** Helpers after which packet pointers are dead and must be read from the context again. */
  readonly movesPacket: ReadonlySet<HelperName>;
  readonly abilities: Abilities;
}

/** What a packet can be made to do at a hook. */
export interface Abilities {
  /** Send copies that differ. */
  readonly clone: boolean;
  /** Carry packets larger than the MTU that are segmented later. */
  readonly gso: boolean;
  /** Carry packets whose checksum the device completes. */
  readonly partialChecksum: boolean;
  /** See a VLAN tag that the device has stripped. */
  readonly strippedVlan: boolean;
  /** Whether direct packet writes are always possible (at TC the linear part must first be made private). */
  readonly writesInPlace: boolean;
}

/** Helpers of every hook. */
export const COMMON_HELPERS: ReadonlySet<HelperName> = new Set<HelperName>([
  "map_lookup_elem",
  "map_update_elem",
  "map_delete_elem",
  "map_lookup_percpu_elem",
  "get_prandom_u32",
  "get_smp_processor_id",
  "get_numa_node_id",
  "ktime_get_ns",
  "ktime_get_boot_ns",
  "ktime_get_coarse_ns",
  "jiffies64",
  "csum_diff",
  "redirect",
  "redirect_map",
  "fib_lookup",
  "check_mtu",
  "perf_event_output",
  "ringbuf_output",
  "ringbuf_reserve",
  "ringbuf_submit",
  "ringbuf_discard",
  "ringbuf_query",
  "trace_printk",
]);

/**
 * Called like helpers, results and lost registers included, but instructions of every hook.
 * `cmpxchg_u64(address, expected, value)`: stores `value` if `*(u64 *)address` is `expected`; what was there.
 */
export const INTRINSICS = ["cmpxchg_u64"] as const;

export type Intrinsic = (typeof INTRINSICS)[number];

export const isIntrinsic = (helper: string): helper is Intrinsic => (INTRINSICS as readonly string[]).includes(helper);

/** Whether programs at `target` may call `helper`. */
export const hasHelper = (target: Target, helper: string): helper is HelperName =>
  (COMMON_HELPERS as ReadonlySet<string>).has(helper) || (target.helpers as ReadonlySet<string>).has(helper);
