// What a switch has counted and learned, as plain data and back. It is taken when all counters were just read: then what the
// kernel counts further is exactly what a later process has to add (see CounterBase).

import type { MacEntry, Rule, Switch } from "#compiler";
import type { Generation } from "../datapath/datapath.js";
import type { LeftCounters } from "../datapath/survivor.js";
import { TableStore } from "../datapath/table-store.js";
import type { PortStats, PortTable } from "../ports/port-table.js";
import { countersOf, restoreCounters, type RuleCounters, type RuleNumbers } from "./saved-tables.js";

export interface SavedCounters {
  readonly rules: ReadonlyMap<number, RuleCounters>;
  readonly groups: readonly {
    readonly id: number;
    readonly packets: number;
    readonly bytes: number;
    readonly buckets: readonly { readonly packets: number; readonly bytes: number }[];
  }[];
  readonly ports: readonly ({ readonly number: number } & PortStats)[];
  readonly macs: readonly MacEntry[];
  /** Slots of meters by their id, and what all slots held. */
  readonly meters: ReadonlyMap<number, number>;
  readonly meterMemory: Uint8Array<ArrayBuffer>;
  readonly megaflows: SavedBase;
  readonly hits: number;
}

/** What entries in the kernel had counted, as far as it is in the counters: numbers stand side by side. */
export interface SavedBase {
  /** Of each megaflow table: id of its map, and four numbers an entry: slot, tag, packets, bytes. */
  readonly tables: ReadonlyMap<number, Float64Array>;
  /** Of each hash map, by compact key. */
  readonly hashes: ReadonlyMap<number, ReadonlyMap<string, readonly [packets: number, bytes: number]>>;
}

const STEP = 256;

function* saveBase<Owner>(generation: Generation<Owner>): Generator<void, SavedBase> {
  const tables = new Map<number, Float64Array>();
  const hashes = new Map<number, Map<string, readonly [number, number]>>();
  const { plan, maps } = generation;
  const found: number[] = [];
  let count = 0;
  for (const store of generation.all) {
    if (store instanceof TableStore) {
      const { memory } = (store as TableStore<Owner>).shared;
      for (const { number, packets, bytes } of store) {
        if (packets > 0) found.push(number, memory.tag(number), packets, bytes);
        if (++count % STEP === 0) yield;
      }
      continue;
    }
    const map = maps.get(store.table.map);
    if (map === undefined || store.size === 0) continue;
    const entries = new Map<string, readonly [number, number]>();
    for (const { key, packets, bytes } of store) {
      if (packets > 0) entries.set(key, [packets, bytes]);
      if (++count % STEP === 0) yield;
    }
    hashes.set(map.info.id, entries);
  }
  const table = plan.table === undefined ? undefined : maps.get(plan.table.map);
  if (table !== undefined) tables.set(table.info.id, Float64Array.from(found));
  return { tables, hashes };
}

/** The counters as they are; yields now and then. */
export function* saveCounters<Owner>(
  sw: Switch,
  ports: PortTable,
  generation: Generation<Owner>,
  numbers: RuleNumbers,
  hits: number,
): Generator<void, SavedCounters> {
  const rules = new Map<number, RuleCounters>();
  for (const rule of sw.rules()) {
    if (rule.hidden || rule.removed) continue;
    rules.set(numbers.of(rule), countersOf(rule));
    if (rules.size % STEP === 0) yield;
  }
  const megaflows = yield* saveBase(generation);
  return {
    rules,
    megaflows,
    hits,
    groups: Array.from(sw.groups(), ({ group, packets, bytes, buckets }) => ({
      id: group.id,
      packets,
      bytes,
      buckets: buckets.map((bucket) => ({ packets: bucket.packets, bytes: bucket.bytes })),
    })),
    ports: ports.all.map(({ number, stats }) => ({ number, ...stats })),
    macs: Array.from(sw.macs.entries(), (entry) => ({ ...entry })),
    meters: new Map(Array.from(sw.meters, ({ meter, slot }) => [meter.id, slot])),
    meterMemory: sw.meters.contents,
  };
}

/**
 * Gives rules, groups, meters and the MAC table what they had.
 * @param rules - by number
 * @param meters - memory that programs went on metering by; absent, what was saved counts
 */
export const resumeCounters = (
  sw: Switch,
  saved: SavedCounters,
  rules: ReadonlyMap<number, Rule>,
  meters?: Uint8Array<ArrayBuffer>,
): void => {
  for (const [id, counters] of saved.rules) {
    const rule = rules.get(id);
    if (rule !== undefined) restoreCounters(rule, counters);
  }
  for (const { id, packets, bytes, buckets } of saved.groups) {
    const entry = sw.group(id);
    if (entry?.buckets.length !== buckets.length) continue;
    Object.assign(entry, { packets, bytes });
    entry.buckets.forEach((bucket, i) => Object.assign(bucket, buckets[i]));
  }
  // A copy begins at a multiple of 8 bytes; what was read from a file may not.
  const memory = meters ?? saved.meterMemory.slice();
  for (const [id, slot] of saved.meters) {
    const entry = sw.meters.get(id);
    if (entry !== undefined && memory.length > 0) sw.meters.resume(entry, memory, slot);
  }
  for (const { mac, vlan, port, expiresMs } of saved.macs) sw.macs.restore({ mac, vlan, port, expiresMs });
};

/** What entries had counted when counters were saved: what they have now beyond that has not been credited. */
export class CounterBase {
  private readonly slots = new Map<number, Map<number, number>>();

  constructor(private readonly saved: SavedBase | undefined) {
    for (const [mapId, numbers] of saved?.tables ?? []) {
      const bySlot = new Map<number, number>();
      for (let i = 0; i < numbers.length; i += 4) bySlot.set(numbers[i]!, i);
      this.slots.set(mapId, bySlot);
    }
  }

  /** Packets and bytes of an entry that are in the counters. */
  of({ mapId, slot, tag, key }: LeftCounters): readonly [packets: number, bytes: number] {
    const numbers = this.saved?.tables.get(mapId);
    const at = this.slots.get(mapId)?.get(slot);
    if (numbers !== undefined && at !== undefined)
      return numbers[at + 1] === tag ? [numbers[at + 2]!, numbers[at + 3]!] : [0, 0];
    return this.saved?.hashes.get(mapId)?.get(key) ?? [0, 0];
  }
}
