// A subtable in the megaflow table: memory that programs share. Installing, removing and reading make no system call.
//
// Statistics are exact. An entry that is taken out is read at once and, when no packet can be counting in it any more,
// once more: what came in between is reported then, and only then its slot is used again. A new value goes into another
// slot before the old one is taken out, so that no packet misses.

import { putCompactKey, TableMemory, VALUE, type Subtable, type TableLayout } from "#compiler";
import { monotonicMs } from "../clock.js";
import { GRACE_MS } from "./grace.js";
import { Placement, type OnTraffic, type SubtableStore } from "./store.js";

/** Why an entry was not put in: its home's chain is full (errno.h: no space left). */
export const ENOSPC = 28;

/** Share of the slots above which the table should grow: chains get long and some entries find no place. */
const CROWDED = 0.5;

/** Entries read in one step of a sweep: some tens of nanoseconds each. */
const SWEEP_STEP = 4096;

/** A slot that packets may still be in. */
interface Leaving<Owner> {
  readonly slot: number;
  readonly dueMs: number;
  /** Whose it was, and what was reported of it. */
  readonly placement: Placement<Owner>;
  readonly packets: number;
  readonly bytes: number;
  readonly onTraffic: OnTraffic<Owner>;
}

/** One megaflow table and the slots that are leaving it. */
export class MegaflowTable<Owner> {
  readonly memory: TableMemory;
  private leaving: Leaving<Owner>[] = [];
  private firstLeaving = 0;

  constructor(
    readonly layout: TableLayout,
    memory: ArrayBuffer,
  ) {
    this.memory = new TableMemory(layout, memory);
  }

  get isCrowded(): boolean {
    return this.memory.nTaken > CROWDED * this.memory.nSlots;
  }

  /** Lets an unpublished slot go when no packet can be in it. */
  leave(slot: number, placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): void {
    const { packets, bytes } = placement;
    this.leaving.push({ slot, dueMs: monotonicMs() + GRACE_MS, placement, packets, bytes, onTraffic });
  }

  /** Reports what leaving slots have counted since, and frees those that no packet can be in. */
  reclaim(): void {
    if (this.firstLeaving === this.leaving.length) return;
    const nowMs = monotonicMs();
    for (; this.firstLeaving < this.leaving.length; this.firstLeaving++) {
      const { slot, dueMs, placement, packets, bytes, onTraffic } = this.leaving[this.firstLeaving]!;
      if (dueMs > nowMs) break;
      const newPackets = this.memory.packets(slot) - packets;
      const newBytes = this.memory.bytes(slot) - bytes;
      this.memory.release(slot);
      if (newPackets !== 0 || newBytes !== 0) onTraffic(placement, newPackets, newBytes);
    }
    if (this.firstLeaving < this.leaving.length / 2) return;
    this.leaving = this.leaving.slice(this.firstLeaving);
    this.firstLeaving = 0;
  }
}

export class TableStore<Owner> implements SubtableStore<Owner> {
  private readonly placements = new Set<Placement<Owner>>();
  private readonly key: Uint8Array;
  private readonly keyWords: Uint32Array;
  private readonly value: DataView;
  private readonly valueWords: Uint32Array;
  private readonly memory: TableMemory;
  hits = 0;

  /** @param number - of the subtable in the table */
  constructor(
    readonly table: Subtable,
    private readonly number: number,
    readonly shared: MegaflowTable<Owner>,
  ) {
    this.memory = shared.memory;
    this.keyWords = new Uint32Array(table.keySize / 4);
    this.key = new Uint8Array(this.keyWords.buffer);
    this.valueWords = new Uint32Array((VALUE.args + shared.layout.argsSize) / 4);
    this.value = new DataView(this.valueWords.buffer);
  }

  get size(): number {
    return this.placements.size;
  }

  get memoryBytes(): number {
    return this.placements.size * 2 ** this.shared.layout.shift;
  }

  [Symbol.iterator](): Iterator<Placement<Owner>> {
    return this.placements.values();
  }

  find(fullKey: Uint8Array): Placement<Owner> | undefined {
    putCompactKey(this.table, fullKey, this.key);
    const slot = this.memory.find(this.number, this.keyWords);
    for (const placement of this.placements) if (placement.number === slot) return placement;
    return undefined;
  }

  put(fullKey: Uint8Array, owner: Owner, fill: (value: DataView) => void): Placement<Owner> | number {
    putCompactKey(this.table, fullKey, this.key);
    const slot = this.insert(fill);
    if (slot < 0) return ENOSPC;
    const placement = new Placement(owner, this, "", slot);
    this.placements.add(placement);
    return placement;
  }

  /** Puts in what {@link keyWords} say; -1 when there is no place. */
  private insert(fill: (value: DataView) => void): number {
    this.shared.reclaim();
    this.valueWords.fill(0);
    fill(this.value);
    return this.memory.insert(this.number, this.keyWords, this.valueWords);
  }

  /**
   * Puts in a copy of an entry of another table, with counters of zero.
   * @returns undefined when the tables' slots differ, or there is no place
   */
  copy({ owner, store, number }: Placement<Owner>): Placement<Owner> | undefined {
    if (
      !(store instanceof TableStore) ||
      store.number !== this.number ||
      !isAlike(store.shared.layout, this.shared.layout)
    )
      return undefined;
    const slot = this.memory.copy(store.shared.memory, number);
    if (slot < 0) return undefined;
    const placement = new Placement<Owner>(owner, this, "", slot);
    this.placements.add(placement);
    return placement;
  }

  rewrite(placement: Placement<Owner>, fill: (value: DataView) => void, onTraffic: OnTraffic<Owner>): number {
    const before = placement.number;
    this.memory.readKey(before, this.keyWords);
    const slot = this.insert(fill);
    this.memory.unpublish(before);
    this.report(placement, onTraffic);
    this.shared.leave(before, placement, onTraffic);
    placement.packets = 0;
    placement.bytes = 0;
    placement.number = slot;
    if (slot >= 0) return 0;
    this.placements.delete(placement);
    return ENOSPC;
  }

  take(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    if (!this.placements.delete(placement)) return false;
    this.memory.unpublish(placement.number);
    this.report(placement, onTraffic);
    this.shared.leave(placement.number, placement, onTraffic);
    return true;
  }

  read(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    if (!this.placements.has(placement)) return false;
    this.report(placement, onTraffic);
    return true;
  }

  private report(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): void {
    const packets = this.memory.packets(placement.number);
    // Nearly all have counted nothing since.
    if (packets === placement.packets) return;
    const bytes = this.memory.bytes(placement.number);
    const newPackets = packets - placement.packets;
    const newBytes = bytes - placement.bytes;
    placement.packets = packets;
    placement.bytes = bytes;
    this.hits += newPackets;
    onTraffic(placement, newPackets, newBytes);
  }

  *sweep(onTraffic: OnTraffic<Owner>): Generator<number> {
    this.shared.reclaim();
    let count = 0;
    for (const placement of this.placements) {
      this.report(placement, onTraffic);
      if (++count < SWEEP_STEP) continue;
      yield count;
      count = 0;
    }
    if (count > 0) yield count;
  }

  /** Frees its slots at once: no program may be looking at this subtable any more. */
  [Symbol.dispose](): void {
    for (const { number } of this.placements) {
      this.memory.unpublish(number);
      this.memory.release(number);
    }
    this.placements.clear();
  }
}

/** Whether the slots of two tables can be copied. */
const isAlike = (a: TableLayout, b: TableLayout): boolean =>
  a.shift === b.shift && a.words === b.words && a.argsSize === b.argsSize && a.seed === b.seed;
