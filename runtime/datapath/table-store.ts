// A subtable in the megaflow table: memory that programs share. Installing, removing and reading make no system call.
//
// Statistics are exact. An entry that is taken out is read at once and, when no packet can be counting in it any more,
// once more: what came in between is reported then, and only then its slot is used again. A new value goes into another
// slot before the old one is taken out, so that no packet misses.

import { putCompactKey, TableMemory, VALUE, type Subtable, type TableLayout } from "#compiler";
import { monotonicMs } from "../clock.js";
import { GRACE_MS } from "./grace.js";
import { Placement, type Fill, type OnTraffic } from "./placement.js";
import type { SubtableStore } from "./store.js";

/** Why an entry was not put in: its home's chain is full (errno.h: no space left). */
export const ENOSPC = 28;

/** Share of the slots above which the table should grow: chains get long and some entries find no place. */
const CROWDED = 0.5;

/** Entries read in one step of a sweep: some tens of nanoseconds each. */
const SWEEP_STEP = 1024;

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
  /** No program looks into it any more: its slots need not be freed one by one. */
  isRetired = false;

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
  /** In no order. */
  private readonly list: Placement<Owner>[] = [];
  private readonly key: Uint8Array;
  private readonly keyWords: Uint32Array;
  private readonly value: DataView;
  private readonly valueWords: Uint32Array;
  private readonly memory: TableMemory;

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
    return this.list.length;
  }

  get memoryBytes(): number {
    return this.list.length * 2 ** this.shared.layout.shift;
  }

  [Symbol.iterator](): Iterator<Placement<Owner>> {
    return this.list.values();
  }

  find(fullKey: Uint8Array): Placement<Owner> | undefined {
    putCompactKey(this.table, fullKey, this.key);
    const slot = this.memory.find(this.number, this.keyWords);
    return this.list.find(({ number }) => number === slot);
  }

  put(fullKey: Uint8Array, owner: Owner, fill: Fill<Owner>): Placement<Owner> | number {
    putCompactKey(this.table, fullKey, this.key);
    const slot = this.insert(owner, fill);
    return slot < 0 ? ENOSPC : this.remember(owner, slot);
  }

  private remember(owner: Owner, slot: number): Placement<Owner> {
    const placement = new Placement<Owner>(owner, this, slot);
    placement.position = this.list.push(placement) - 1;
    return placement;
  }

  private has(placement: Placement<Owner>): boolean {
    return this.list[placement.position] === placement;
  }

  /** The last takes its place. */
  private forget(placement: Placement<Owner>): void {
    const moved = this.list.pop()!;
    if (moved === placement) return;
    moved.position = placement.position;
    this.list[placement.position] = moved;
  }

  /** Puts in what {@link keyWords} say; -1 when there is no place. */
  private insert(owner: Owner, fill: Fill<Owner>): number {
    this.shared.reclaim();
    this.valueWords.fill(0);
    fill(owner, this.value);
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
    return slot < 0 ? undefined : this.remember(owner, slot);
  }

  rewrite(placement: Placement<Owner>, fill: Fill<Owner>, onTraffic: OnTraffic<Owner>): number {
    const before = placement.number;
    this.memory.readKey(before, this.keyWords);
    const slot = this.insert(placement.owner, fill);
    this.memory.unpublish(before);
    this.report(placement, onTraffic);
    this.shared.leave(before, placement, onTraffic);
    placement.packets = 0;
    placement.bytes = 0;
    placement.number = slot;
    if (slot >= 0) return 0;
    this.forget(placement);
    return ENOSPC;
  }

  take(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    if (!this.has(placement)) return false;
    this.forget(placement);
    this.memory.unpublish(placement.number);
    this.report(placement, onTraffic);
    this.shared.leave(placement.number, placement, onTraffic);
    return true;
  }

  read(placement: Placement<Owner>, onTraffic: OnTraffic<Owner>): boolean {
    if (!this.has(placement)) return false;
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
    onTraffic(placement, newPackets, newBytes);
  }

  *sweep(onTraffic: OnTraffic<Owner>): Generator<number> {
    this.shared.reclaim();
    const { list } = this;
    // From the end, where the one that leaves in between is replaced by one that was read.
    for (let i = list.length; i > 0;) {
      const last = Math.max(0, i - SWEEP_STEP);
      for (let at = i - 1; at >= last; at--) this.report(list[at]!, onTraffic);
      yield i - last;
      i = Math.min(last, list.length);
    }
  }

  /** Frees its slots at once: no program may be looking at this subtable any more. */
  [Symbol.dispose](): void {
    if (!this.shared.isRetired) {
      for (const { number } of this.list) {
        this.memory.unpublish(number);
        this.memory.release(number);
      }
    }
    this.list.length = 0;
  }
}

/** Whether the slots of two tables can be copied. */
const isAlike = (a: TableLayout, b: TableLayout): boolean =>
  a.shift === b.shift && a.words === b.words && a.argsSize === b.argsSize && a.seed === b.seed;
