// Direct mode in a running switch: programs made of the tables themselves stand before the megaflow programs and hand on what
// they cannot carry. When the tables change, one word in shared memory sends every packet on from there at once, so that no
// packet that comes after the reply is handled by what was; other programs are built meanwhile, and go on when they are the tables.
//
//   off ──build──► on ──change──► off
//
// A change that only gives a rule other arguments of the same actions is one store into the running programs' records
// (compiler/direct/records.ts); one of a table that they bring no packet to is none of theirs.
//
// Counters are credited before anything is taken off, and of programs that were replaced once more when no packet can be in
// them any more.

import { OffloadError, Scope, type ExitCode } from "ebpf-assembler";
import {
  lower,
  MAPS,
  plainTables,
  type Rule,
  type RuleEvent,
  tablesOf,
  type DirectReport,
  type Switch,
  type SwitchChange,
} from "#compiler";
import { monotonicMs } from "../clock.js";
import { GRACE_MS, type Datapath } from "../datapath/datapath.js";
import type { PortTable } from "../ports/port-table.js";
import { JobThread } from "../worker.js";
import { buildDirect, type DirectJob, type DirectResult } from "./build.js";
import { DirectProgram } from "./program.js";

/** How tables become programs: by the megaflows that packets ask for, or also as they are. */
export type Mode = "auto" | "direct" | "megaflow";

/** Gather changes for so long. */
const DEBOUNCE_MS = 10;
/** Pause after a build, as a multiple of the time it took, and at most. */
const PAUSE_FACTOR = 3;
const MAX_PAUSE_MS = 1000;

/** Tables that have no direct program, where one was asked for. */
export class NotDirectError extends OffloadError {
  readonly code = "ENOTDIRECT";

  constructor(
    message: string,
    private readonly exit: ExitCode,
  ) {
    super(message);
  }

  override get exitCode(): ExitCode {
    return this.exit;
  }
}

export interface DirectStats {
  /** Whether packets are handled by the tables themselves now. */
  readonly isOn: boolean;
  readonly builds: number;
  /** Changes of rules that the programs took as they ran. */
  readonly inPlace: number;
  /** Times that a change sent all packets to the megaflows. */
  readonly interruptions: number;
  /** From the tables to running programs, of the last build. */
  readonly lastBuildMs: number;
  /** Packets that were handled without a megaflow, as far as counters were read. */
  readonly packets: number;
  /** Why these tables have no direct program. */
  readonly refused: string | undefined;
}

export interface FrontEvents {
  /** Programs run, or cannot: why. */
  readonly onBuilt: (error: unknown) => void;
}

interface Retired {
  readonly programs: readonly DirectProgram[];
  readonly dueMs: number;
}

/** What of ports a program depends on. */
const portsKey = (sw: Switch, ports: PortTable): string =>
  JSON.stringify(
    sw.ports.map(({ number, tunnel, config: { noReceive, noForward, noFlood } }) => [
      number,
      tunnel !== undefined,
      noReceive,
      noForward,
      noFlood,
      ports.ifindexOf(number),
    ]),
  );

/** Disposing takes the programs off: the megaflow programs go on alone. */
export class DirectFront<Owner> implements Disposable {
  private programs: readonly DirectProgram[] = [];
  private retired: Retired[] = [];
  private readonly thread = new JobThread<DirectJob, DirectResult>(new URL("./build-worker.js", import.meta.url));
  private timer: NodeJS.Timeout | undefined;
  private graceTimer: NodeJS.Timeout | undefined;
  private isBuilding = false;
  private isClosed = false;
  private isOn = false;
  /** Rises with every change that programs depend on. */
  private changes = 0;
  private ports: string;
  private missesToController: boolean;
  private notBeforeMs = 0;
  private refused: string | undefined;
  private builtFor: string;
  /** Of rules that were changed in place: that of those that they were made of. */
  private places = new WeakMap<Rule, number>();
  private nInPlace = 0;
  private nBuilds = 0;
  private nInterruptions = 0;
  private nPackets = 0;
  private lastBuildMs = 0;

  constructor(
    private readonly sw: Switch,
    private readonly datapath: Datapath<Owner>,
    private readonly portTable: PortTable,
    private readonly events: FrontEvents,
  ) {
    this.ports = portsKey(sw, portTable);
    this.missesToController = sw.missesToController;
    this.builtFor = this.datapathKey;
    sw.follow(this.onChange);
  }

  get stats(): DirectStats {
    const { isOn, nBuilds, nInPlace, nInterruptions, lastBuildMs, nPackets, refused } = this;
    return {
      isOn,
      builds: nBuilds,
      inPlace: nInPlace,
      interruptions: nInterruptions,
      lastBuildMs,
      packets: nPackets,
      refused,
    };
  }

  /** What the programs that run were made of, and what falls to the megaflows. */
  get reports(): readonly DirectReport[] {
    return this.programs.map(({ report }) => report);
  }

  /** Whether other programs are due or being built. */
  get isBusy(): boolean {
    return this.timer !== undefined || this.isBuilding;
  }

  private readonly onChange = (change: SwitchChange): void => {
    // Their slots are shared; which there are, rules tell when they use them.
    if (change === "meters" && !this.datapath.shared.has(MAPS.meters)) return;
    if (change === "ports") {
      const ports = portsKey(this.sw, this.portTable);
      if (ports === this.ports) return;
      this.ports = ports;
    } else if (change === "controllers") {
      const { missesToController } = this.sw;
      const isStandalone = this.sw.standaloneRule !== undefined;
      if (missesToController === this.missesToController && !isStandalone && this.sw.size > 0) return;
      this.missesToController = missesToController;
    } else if (typeof change === "object" && this.isBeside(change.rule.table)) return;
    else if (typeof change === "object" && change.kind === "modified" && this.isChanged(change)) return;
    this.changed();
  };

  /** Gives a rule its new actions in the programs that run. @returns false when others are needed */
  private isChanged({ rule, old }: Extract<RuleEvent, { readonly kind: "modified" }>): boolean {
    // What packets have counted so far is not told from what they count then: both must be the rule's.
    if (!this.isOn || old.successor?.keepCounts !== true) return false;
    const { table } = rule;
    const [{ tables }] = this.programs as readonly [DirectProgram];
    const index = this.places.get(old) ?? tables.rules.get(table)?.indexOf(old) ?? -1;
    if (index < 0) return false;
    const meters = this.datapath.shared.has(MAPS.meters) ? tables.meters : new Map<number, number>();
    const lowered = lower({ ...tables, meters }, table, rule.match, rule.actions);
    const changes = this.programs.map((program) =>
      program.changing(table, index, lowered, (port) => this.portTable.ifindexOf(port)),
    );
    if (changes.some((change) => change === undefined)) return false;
    for (const change of changes) change?.();
    this.places.set(rule, index);
    this.nInPlace++;
    return true;
  }

  /** Whether the programs that run bring no packet to a table. The first rule of a switch changes all of it. */
  private isBeside(table: number): boolean {
    return this.isOn && this.sw.size > 1 && !this.programs.some((program) => program.comesTo(table));
  }

  /** The programs are no longer the tables. */
  changed(): void {
    this.changes++;
    this.turnOff();
    this.wake();
  }

  /** Sends every packet that comes from now on to the megaflow programs. */
  private turnOff(): void {
    if (!this.isOn) return;
    Atomics.store(this.datapath.direct, 0, 0);
    this.isOn = false;
    this.nInterruptions++;
    // Before anybody is told what rules that are gone have counted.
    this.settle();
  }

  private wake(): void {
    if (this.isClosed || this.isBuilding) return;
    clearTimeout(this.timer);
    const delay = Math.max(DEBOUNCE_MS, this.notBeforeMs - monotonicMs());
    this.timer = setTimeout(() => void this.build(), delay);
  }

  private job(): { readonly job: DirectJob; readonly tables: DirectProgram["tables"] } {
    const { generation, shared } = this.datapath;
    const tables = tablesOf(this.sw);
    const ifindices = new Map(this.sw.ports.map(({ number }) => [number, this.portTable.ifindexOf(number)]));
    const { portSlots } = generation.plan;
    const maps = [...shared].map(([name, map]) => [name, map.fdNumber] as const);
    return { job: { tables: plainTables(tables), hooks: [...generation.hooks], ifindices, portSlots, maps }, tables };
  }

  /** Builds on this thread: for a start. @throws {@link NotDirectError} if `isStrict` and the tables are not wholly direct */
  buildNow(isStrict: boolean): void {
    const startMs = monotonicMs();
    const { job, tables } = this.job();
    const result = buildDirect(this.datapath.sys, job);
    if (isStrict && "refused" in result) throw new NotDirectError(result.refused, result.exitCode);
    this.adopt(result, tables, startMs);
    const partly = this.reports.flatMap(({ fallbacks }) => fallbacks)[0];
    if (isStrict && partly !== undefined)
      throw new NotDirectError(
        `Cannot carry table ${partly.table} in direct mode: ${partly.why}, rule ${partly.rule}`,
        4,
      );
    this.thread.start();
  }

  /** Builds in the background. Never rejects. */
  private async build(): Promise<void> {
    this.timer = undefined;
    const { changes } = this;
    const startMs = monotonicMs();
    this.isBuilding = true;
    try {
      const { job, tables } = this.job();
      const result = await this.datapath.hold(this.thread.run(job));
      if (this.isClosed || changes !== this.changes) discard(this.datapath, result, tables);
      else this.adopt(result, tables, startMs);
    } catch (error) {
      this.refused = error instanceof Error ? error.message : String(error);
      if (!this.isClosed) this.events.onBuilt(error);
    } finally {
      this.isBuilding = false;
      const endMs = monotonicMs();
      this.notBeforeMs = endMs + Math.min(MAX_PAUSE_MS, PAUSE_FACTOR * (endMs - startMs));
      if (changes !== this.changes) this.wake();
    }
  }

  private adopt(result: DirectResult, tables: DirectProgram["tables"], startMs: number): void {
    const old = this.programs;
    this.refused = "refused" in result ? result.refused : undefined;
    this.programs = "refused" in result ? [] : take(this.datapath, result, tables);
    for (const hook of this.datapath.generation.hooks)
      this.datapath.setFront(hook, this.programs.find((one) => one.hook === hook)?.program);
    this.places = new WeakMap();
    this.retire(old);
    this.isOn = this.programs.length > 0;
    Atomics.store(this.datapath.direct, 0, this.isOn ? 1 : 0);
    this.nBuilds++;
    this.lastBuildMs = monotonicMs() - startMs;
    this.events.onBuilt(undefined);
  }

  private retire(programs: readonly DirectProgram[]): void {
    if (programs.length === 0) return;
    this.retired.push({ programs, dueMs: monotonicMs() + GRACE_MS });
    clearTimeout(this.graceTimer);
    this.graceTimer = setTimeout(() => this.release(monotonicMs()), GRACE_MS + 1);
  }

  private release(nowMs: number): void {
    const due = this.retired.filter(({ dueMs }) => dueMs <= nowMs);
    this.retired = this.retired.filter((one) => !due.includes(one));
    for (const { programs } of due)
      for (const program of programs) {
        this.nPackets += program.settle(this.portTable, nowMs);
        program[Symbol.dispose]();
      }
  }

  /** Reads all counters and credits them. */
  settle(): void {
    const nowMs = monotonicMs();
    for (const program of [...this.retired.flatMap(({ programs }) => programs), ...this.programs])
      this.nPackets += program.settle(this.portTable, nowMs);
  }

  /** Another generation of the datapath runs: program types may have come, or maps that are shared been replaced. */
  datapathChanged(): void {
    const key = this.datapathKey;
    if (key === this.builtFor) return;
    this.builtFor = key;
    this.changed();
  }

  private get datapathKey(): string {
    const { hooks, plan } = this.datapath.generation;
    return `${[...hooks].join()} ${plan.portSlots} ${this.datapath.shared.has(MAPS.meters) ? "meters" : ""}`;
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    this.sw.follow(undefined);
    clearTimeout(this.timer);
    clearTimeout(this.graceTimer);
    this.turnOff();
    for (const { hook } of this.programs) this.datapath.setFront(hook, undefined);
    this.settle();
    using scope = new Scope();
    for (const { programs } of this.retired) for (const program of programs) scope.use(program);
    for (const program of this.programs) scope.use(program);
    this.programs = [];
    this.retired = [];
    this.thread[Symbol.dispose]();
  }
}

/** Takes over what was built. */
const take = <Owner>(
  { sys }: Datapath<Owner>,
  result: DirectResult,
  tables: DirectProgram["tables"],
): readonly DirectProgram[] => {
  if ("refused" in result) return [];
  using scope = new Scope();
  const programs = result.built.map((built) => scope.use(new DirectProgram(sys, built, tables)));
  scope.move();
  return programs;
};

/** Closes what was built in vain. */
const discard = <Owner>(datapath: Datapath<Owner>, result: DirectResult, tables: DirectProgram["tables"]): void => {
  using scope = new Scope();
  for (const program of take(datapath, result, tables)) scope.use(program);
};
