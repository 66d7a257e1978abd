// Who is counted, and who need not be: a rule that alone goes to a table, once, is passed as often as the table's rules and its
// misses together. A chain of tables so counts a packet once, not once per table.

import type { Origin } from "ebpf-assembler";
import { STATS } from "./abi.js";
import { creditTranslation } from "../pipeline/credit.js";
import type { Analysis, DirectRule, DirectTable } from "./analyse.js";
import type { SwitchTables } from "./tables.js";

/** Counters that are to be added: `n` from `first` on, and `miss`. */
export interface Sum {
  readonly first: number;
  readonly n: number;
  readonly miss: number;
}

export interface Counting {
  /** Pairs of counters in the map: a rule's at its number, then those of misses. */
  readonly nCounters: number;
  /** By number of a rule that is not counted itself. */
  readonly sums: ReadonlyMap<number, Sum>;
  /** Counter of a table's misses, for those that have one. */
  readonly misses: ReadonlyMap<number, number>;
}

export interface Counts {
  readonly packets: number;
  readonly bytes: number;
}

/** Decides who is counted. @param tables - callers first, rules numbered in this order */
export const counting = (tables: ReadonlyMap<number, DirectTable>): Counting => {
  /** Numbers of the rules that go to a table, one for each time. */
  const callers = new Map<number, number[]>();
  let nRules = 0;
  for (const { rules, firstRule } of tables.values()) {
    nRules += rules.length;
    rules.forEach(({ ops }, rank) => {
      for (const op of ops) {
        if (op.op !== "resubmit") continue;
        const known = callers.get(op.table);
        if (known === undefined) callers.set(op.table, [firstRule + rank]);
        else if (known.length < 2) known.push(firstRule + rank);
      }
    });
  }
  const sums = new Map<number, Sum>();
  const misses = new Map<number, number>();
  for (const [id, [caller, ...others]] of callers) {
    const table = tables.get(id);
    if (table === undefined || caller === undefined || others.length > 0 || sums.has(caller)) continue;
    const miss = nRules + misses.size;
    misses.set(id, miss);
    sums.set(caller, { first: table.firstRule, n: table.rules.length, miss });
  }
  return { nCounters: nRules + misses.size, sums, misses };
};

/** What of an analysis counters are read and credited by. Plain data. */
export interface Ledger {
  readonly tables: ReadonlyMap<
    number,
    Pick<DirectTable, "id" | "firstRule"> & { readonly rules: readonly Pick<DirectRule, "index" | "groups">[] }
  >;
  readonly counts: Counting;
}

/** The {@link Ledger} of an analysis alone. */
export const ledgerOf = ({ tables, counts }: Analysis): Ledger => ({
  tables: new Map(
    [...tables].map(([id, { firstRule, rules }]) => [
      id,
      { id, firstRule, rules: rules.map(({ index, groups }) => ({ index, groups })) },
    ]),
  ),
  counts,
});

/**
 * What each rule was passed by, in the order of {@link Analysis.rules}.
 * @param memory - value of the map, {@link STATS}
 */
export const readCounts = ({ tables, counts: { sums, nCounters } }: Ledger, memory: ArrayBufferView): Counts[] => {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  const all: Counts[] = Array.from({ length: nCounters }, (_, i) => ({
    packets: Number(view.getBigUint64(i * STATS.size + STATS.packets, true)),
    bytes: Number(view.getBigUint64(i * STATS.size + STATS.bytes, true)),
  }));
  // Rules of the tables that are gone to come later.
  for (const [rule, { first, n, miss }] of [...sums].sort(([a], [b]) => b - a)) {
    let { packets, bytes } = all[miss]!;
    for (let i = first; i < first + n; i++) {
      packets += all[i]!.packets;
      bytes += all[i]!.bytes;
    }
    all[rule] = { packets, bytes };
  }
  const nRules = [...tables.values()].reduce((n, { rules }) => n + rules.length, 0);
  return all.slice(0, nRules);
};

/** Reads what rules were passed by since the last time; costs little for those that were not. */
export class CountReader {
  readonly #ledger: Ledger;
  /** Of the map, and as they were read last; two to a counter. */
  readonly #now: Uint32Array;
  readonly #seen: Uint32Array;

  /** @param memory - value of the map, {@link STATS}, shared with the program */
  constructor(ledger: Ledger, memory: ArrayBuffer) {
    this.#ledger = ledger;
    this.#now = new Uint32Array(memory, 0, (ledger.counts.nCounters * STATS.size) / 4);
    this.#seen = this.#now.slice();
  }

  /** What counter `number` has counted since; undefined for nothing. */
  #take(number: number): Counts | undefined {
    const at = (number * STATS.size) / 4;
    // No rule is passed 2^32 times between two readings.
    const isSame = (word: number): boolean => this.#now[word] === this.#seen[word];
    if (isSame(at + STATS.packets / 4) && isSame(at + STATS.bytes / 4)) return undefined;
    const since = (word: number): number => {
      const low = this.#now[word]!;
      const high = this.#now[word + 1]!;
      const news = (high - this.#seen[word + 1]!) * 2 ** 32 + (low - this.#seen[word]!);
      this.#seen[word] = low;
      this.#seen[word + 1] = high;
      return news;
    };
    return { packets: since(at + STATS.packets / 4), bytes: since(at + STATS.bytes / 4) };
  }

  /** By number of the rule, for those that were passed. */
  read(): ReadonlyMap<number, Counts> {
    const { tables, counts } = this.#ledger;
    const news = new Map<number, Counts>();
    /** Rules whose passes are those of the table that begins at this number. */
    const callers = new Map([...counts.sums].map(([rule, { first, miss }]) => [`${first} ${miss}`, rule]));
    for (const { id, firstRule, rules } of [...tables.values()].reverse()) {
      let packets = 0;
      let bytes = 0;
      const add = (more: Counts | undefined): void => {
        packets += more?.packets ?? 0;
        bytes += more?.bytes ?? 0;
      };
      for (let number = firstRule; number < firstRule + rules.length; number++) {
        // Where some rules of a table are counted by rank, sums are, too.
        const one = counts.sums.has(number) ? news.get(number) : this.#take(number);
        if (one === undefined) continue;
        news.set(number, one);
        add(one);
      }
      const miss = counts.misses.get(id);
      if (miss === undefined) continue;
      add(this.#take(miss));
      const caller = callers.get(`${firstRule} ${miss}`);
      if (caller !== undefined && packets + bytes > 0) news.set(caller, { packets, bytes });
    }
    return news;
  }
}

/** Credits what {@link CountReader} has read to rules, and to the groups of their actions. */
export const creditCounts = (
  { tables }: Ledger,
  news: ReadonlyMap<number, Counts>,
  { rules, groups }: Pick<SwitchTables, "rules" | "groups">,
  nowMs: number,
): void => {
  const list = [...tables.values()];
  for (const [number, { packets, bytes }] of news) {
    const table = list.findLast(({ firstRule, rules: own }) => firstRule <= number && number < firstRule + own.length);
    const passed = table?.rules[number - table.firstRule];
    const rule = passed === undefined ? undefined : rules.get(table!.id)?.[passed.index];
    if (passed === undefined || rule === undefined) continue;
    const through = passed.groups.flatMap(({ group, bucket }) => {
      const entry = groups.get(group);
      return entry === undefined
        ? []
        : [{ group: entry, bucket: bucket === undefined ? undefined : entry.buckets[bucket] }];
    });
    creditTranslation({ rules: [rule], groups: through }, packets, bytes, nowMs);
  }
};

/** The rules that are sums, for people. */
export const derivedRules = ({
  rules,
  counts: { sums },
}: Analysis): readonly { readonly number: number; readonly rule: Origin["text"]; readonly sumOf: Sum }[] =>
  [...sums].map(([number, sumOf]) => ({ number, rule: rules[number]!.from.text, sumOf }));
