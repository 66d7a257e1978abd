// A direct program that was loaded: its counters, and who they belong to.

import { Scope } from "ebpf-assembler";
import {
  changeInPlace,
  CountReader,
  creditCounts,
  type DirectReport,
  type Hook,
  type LiveRecords,
  type Lowered,
  PORT_STATS,
  STATS,
  type SwitchTables,
} from "#compiler";
import { BpfMap, Program, type Sys } from "libbpf-ts";
import type { PortTable } from "../ports/port-table.js";
import type { BuiltDirect } from "./build.js";

/** Disposing closes it; packets may not be sent into it any more. */
export class DirectProgram implements Disposable {
  readonly hook: Hook;
  readonly report: DirectReport;
  readonly program: Program;
  private readonly scope: Scope;
  private readonly ledger: BuiltDirect["ledger"];
  private readonly records: ReadonlyMap<number, { readonly live: LiveRecords; readonly memory: ArrayBuffer }>;
  private readonly counts: CountReader;
  private readonly ports: BigUint64Array;
  private readonly seenPorts: BigUint64Array;

  /**
   * Takes over the descriptors of a build.
   * @param tables - what it was built of, sharing rules with the switch
   */
  constructor(
    sys: Sys,
    { hook, program, maps, ledger, records, report }: BuiltDirect,
    readonly tables: SwitchTables,
  ) {
    using scope = new Scope();
    this.program = scope.use(Program.fromFd(sys, program, `program "direct_${hook}"`));
    const byName = new Map(
      maps.map(({ name, fd }) => [name, scope.use(BpfMap.fromFd(sys, fd, `map "${name}"`))] as const),
    );
    this.hook = hook;
    this.report = report;
    this.ledger = ledger;
    this.records = new Map(
      [...records].map(([id, live]) => [id, { live, memory: byName.get(live.map)!.memory }] as const),
    );
    this.counts = new CountReader(ledger, byName.get(STATS.map)!.memory);
    this.ports = new BigUint64Array(byName.get(PORT_STATS.map)!.memory);
    this.seenPorts = this.ports.slice();
    this.scope = scope.move();
  }

  /** Whether it brings packets to a table. */
  comesTo(table: number): boolean {
    return this.ledger.tables.has(table);
  }

  /**
   * How to give a rule other actions while packets come.
   * @param index - place of the rule in its table, in {@link tables}
   * @returns what does it; undefined when another program is needed
   */
  changing(
    table: number,
    index: number,
    { ops, groups }: Lowered,
    ifindexOf: (port: number) => number,
  ): (() => void) | undefined {
    const records = this.records.get(table);
    const rules = this.ledger.tables.get(table)?.rules ?? [];
    const rank = rules.findIndex((rule) => rule.index === index);
    // A rule that no packet matches.
    if (rank < 0) return () => undefined;
    if (records === undefined || JSON.stringify(rules[rank]!.groups) !== JSON.stringify(groups)) return undefined;
    return changeInPlace(records.live, records.memory, rank, ops, ifindexOf);
  }

  /**
   * Credits what was counted since the last time to rules, groups and ports.
   * @returns packets
   */
  settle(ports: PortTable, nowMs: number): number {
    creditCounts(this.ledger, this.counts.read(), this.tables, nowMs);
    let total = 0;
    for (const { ifindex, stats } of ports.all) {
      const take = (pair: number): readonly [packets: number, bytes: number] => {
        const at = (PORT_STATS.size * ifindex + pair) / 8;
        const counts = [at, at + 1].map((word) => {
          const value = Atomics.load(this.ports, word);
          const fresh = Number(value - this.seenPorts[word]!);
          this.seenPorts[word] = value;
          return fresh;
        });
        return [counts[0]!, counts[1]!];
      };
      if (PORT_STATS.size * (ifindex + 1) > this.ports.byteLength) continue;
      const [rxPackets, rxBytes] = take(PORT_STATS.rx);
      const [txPackets, txBytes] = take(PORT_STATS.tx);
      stats.rxPackets += rxPackets;
      stats.rxBytes += rxBytes;
      stats.txPackets += txPackets;
      stats.txBytes += txBytes;
      total += rxPackets;
    }
    return total;
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
