// Who is counted, and who need not be: a rule that alone goes to a table, once, is passed as often as the table's rules and its
// misses together. A chain of tables so counts a packet once, not once per table.

import type { Origin } from "ebpf-assembler";
import { STATS } from "./abi.js";
import type { Analysis, DirectTable } from "./analyse.js";

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

/**
 * What each rule was passed by, in the order of {@link Analysis.rules}.
 * @param memory - value of the map, {@link STATS}
 */
export const readCounts = ({ rules, counts: { sums, nCounters } }: Analysis, memory: ArrayBufferView): Counts[] => {
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
  return all.slice(0, rules.length);
};

/** The rules that are sums, for people. */
export const derivedRules = ({
  rules,
  counts: { sums },
}: Analysis): readonly { readonly number: number; readonly rule: Origin["text"]; readonly sumOf: Sum }[] =>
  [...sums].map(([number, sumOf]) => ({ number, rule: rules[number]!.from.text, sumOf }));
