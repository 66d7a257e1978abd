// One entry in the kernel, as user space remembers it.

import type { SubtableStore } from "./store.js";

/** Counters are those read last. */
export class Placement<Owner> {
  packets = 0;
  bytes = 0;
  /** The owner's next entry, when it has several. */
  next: Placement<Owner> | undefined;
  /** Where it stands in its store's list. */
  position = 0;

  constructor(
    readonly owner: Owner,
    readonly store: SubtableStore<Owner>,
    /** By which the store finds it: a slot, or what stands in the entry's value. */
    public number: number,
    /** Compact key, one character a byte, where the store goes by it. */
    readonly key = "",
  ) {}
}

/** Writes an owner's shape and arguments into the value of its entry, which is zero. */
export type Fill<Owner> = (owner: Owner, value: DataView) => void;

/** Told about every placement whose counters rose: by how much. */
export type OnTraffic<Owner> = (placement: Placement<Owner>, packets: number, bytes: number) => void;
