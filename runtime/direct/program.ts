// A direct program that was loaded: its counters, and who they belong to.

import { Scope } from "ebpf-assembler";
import {
  CountReader,
  creditCounts,
  PORT_STATS,
  STATS,
  type DirectReport,
  type Hook,
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
  private readonly counts: CountReader;
  private readonly ports: BigUint64Array;
  private readonly seenPorts: BigUint64Array;

  /**
   * Takes over the descriptors of a build.
   * @param tables - what it was built of, sharing rules with the switch
   */
  constructor(
    sys: Sys,
    { hook, program, maps, ledger, report }: BuiltDirect,
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
