// Saves the state of a switch in its run directory, so that the next process can go on with it:
//
//   BRIDGE.tables     rules, groups, meters, settings of ports: soon after each change
//   BRIDGE.counters   statistics, learned addresses, and what each megaflow had counted: about once a second
//   BRIDGE.offloads   offload settings of peers before they were changed: before anything else can happen
//
// Each file is replaced as a whole. Saving takes a small share of the time, however much there is to save: a process that is
// killed loses what came in the time since. What the kernel counts goes on in pinned maps and is not lost; but megaflows that
// were taken out since the last saving are gone with their counts.

import { join } from "node:path";
import type { OffloadSettings } from "libbpf-ts";
import type { Rule, Switch } from "#compiler";
import type { Bridge } from "../bridge.js";
import { monotonicMs } from "../clock.js";
import { runNow, Slices } from "../slices.js";
import type { PortTable } from "../ports/port-table.js";
import { resumeCounters, saveCounters, type SavedCounters } from "./saved-counters.js";
import { restoreTables, RuleNumbers, saveTables, type SavedTables } from "./saved-tables.js";
import { StateFile } from "./state-file.js";

/** Counters are saved no more often. */
const COUNTERS_MS = 1000;
/** After a change of program, they are saved earlier. */
const CHANGED_MS = 200;
/** Nor more often than so many times as long as it takes. */
const SHARE = 20;
/** Tables are saved so long after they changed: changes come in bursts. */
const TABLES_MS = 50;

export interface Saved {
  readonly tables: SavedTables;
  readonly counters: SavedCounters | undefined;
}

type Offloads = Map<number, Partial<OffloadSettings>>;

export class StateKeeper implements Disposable {
  /** What an earlier process saved, when it began with the same input. */
  readonly saved: Saved | undefined;
  private readonly tables: StateFile<SavedTables>;
  private readonly counters: StateFile<SavedCounters>;
  private readonly offloads: StateFile<Offloads>;
  private readonly settings: Offloads;
  private readonly numbers = new RuleNumbers();
  private rules: ReadonlyMap<number, Rule> = new Map();
  private bridge: Bridge | undefined;
  private timer: NodeJS.Timeout | undefined;
  private savedVersion = -1;
  private notBeforeMs = 0;
  private countersDueMs = 0;
  private countersSavedMs = 0;
  private isSaving = false;

  /**
   * @param rundir - must be there
   * @param version - of the program
   * @param input - names what the command line says of tables: when that is another one, the saved tables are void
   */
  constructor(
    rundir: string,
    bridge: string,
    version: string,
    private readonly input: string,
    private readonly onError: (error: unknown) => void,
  ) {
    const file = <T>(what: string): StateFile<T> => new StateFile<T>(join(rundir, `${bridge}.${what}`), version);
    this.tables = file("tables");
    this.counters = file("counters");
    this.offloads = file("offloads");
    const tables = this.tables.read();
    if (tables?.input === input) this.saved = { tables, counters: this.counters.read() };
    this.settings = this.offloads.read() ?? new Map<number, Partial<OffloadSettings>>();
  }

  // Going on

  /** Makes the tables of an empty switch what they were. @returns false when nothing was saved */
  restoreTables(sw: Switch): boolean {
    if (this.saved === undefined) return false;
    this.rules = restoreTables(sw, this.saved.tables, this.numbers);
    return true;
  }

  /** Numbers that ports had, by name. */
  get portNumbers(): ReadonlyMap<string, number> {
    return new Map(this.saved?.tables.ports.map(({ name, number }) => [name, number]));
  }

  /** Gives the ports that are there again their settings. */
  configurePorts(sw: Switch): void {
    for (const { number, name, config } of this.saved?.tables.ports ?? [])
      if (sw.port(number)?.name === name) sw.setPort({ number, config });
  }

  /** Gives the switch what it had counted and learned. @param meters - memory that programs went on metering by */
  restoreCounters(sw: Switch, meters: Uint8Array<ArrayBuffer> | undefined): void {
    const counters = this.saved?.counters;
    if (counters !== undefined) resumeCounters(sw, counters, this.rules, meters);
  }

  /** Gives ports their statistics. */
  restorePorts(ports: PortTable): void {
    for (const { number, ...stats } of this.saved?.counters?.ports ?? []) {
      const port = ports.byNumber(number);
      if (port !== undefined) Object.assign(port.stats, stats);
    }
  }

  offloadsOf(ifindex: number): Partial<OffloadSettings> | undefined {
    return this.settings.get(ifindex);
  }

  /** Notes what the settings of a port's peer are to go back to. */
  keepOffloads(ifindex: number, before: Partial<OffloadSettings> | undefined): void {
    const had = this.settings.has(ifindex);
    if (before === undefined || Object.keys(before).length === 0) {
      if (!had) return;
      this.settings.delete(ifindex);
    } else this.settings.set(ifindex, before);
    this.offloads.writeNow(this.settings);
  }

  // Saving

  /** Saves the state of a switch from now on. */
  follow(bridge: Bridge): void {
    this.bridge = bridge;
    this.tablesChanged();
  }

  /** Tables may have changed. */
  tablesChanged(): void {
    if (this.bridge === undefined || this.timer !== undefined || this.isSaving) return;
    this.timer = setTimeout(() => void this.saveTables(), Math.max(TABLES_MS, this.notBeforeMs - monotonicMs()));
  }

  private async saveTables(): Promise<void> {
    this.timer = undefined;
    const { bridge } = this;
    if (bridge === undefined || bridge.sw.tablesVersion === this.savedVersion) return;
    this.isSaving = true;
    try {
      const version = bridge.sw.tablesVersion;
      const slices = new Slices();
      const tables = await slices.run(saveTables(bridge.sw, this.input, this.numbers));
      const startMs = monotonicMs();
      const written = this.tables.write(tables);
      this.notBeforeMs = monotonicMs() + SHARE * (slices.busyMs + monotonicMs() - startMs);
      await written;
      this.savedVersion = version;
    } catch (error) {
      this.onError(error);
    }
    this.isSaving = false;
    if (bridge.sw.tablesVersion !== this.savedVersion) this.tablesChanged();
  }

  /** Entries in the kernel are others now: counters are worth saving after the next round. */
  programChanged(): void {
    this.countersDueMs = Math.min(this.countersDueMs, this.countersSavedMs + CHANGED_MS);
  }

  /** To be called after a round of reading counters; no counter may be read and credited before it is done. */
  async afterRound(): Promise<void> {
    const { bridge } = this;
    if (bridge === undefined) return;
    if (bridge.sw.tablesVersion !== this.savedVersion) this.tablesChanged();
    if (monotonicMs() < this.countersDueMs) return;
    const slices = new Slices();
    try {
      const counters = await slices.run(this.countersOf(bridge));
      const written = this.counters.write(counters);
      this.countersSavedMs = monotonicMs();
      this.countersDueMs = this.countersSavedMs + Math.max(COUNTERS_MS, SHARE * slices.busyMs);
      written.catch(this.onError);
    } catch (error) {
      this.onError(error);
    }
  }

  private countersOf({ sw, ports, datapath, nHits }: Bridge): Generator<void, SavedCounters> {
    return saveCounters(sw, ports, datapath.generation, this.numbers, nHits);
  }

  /** Saves the counters of a switch before it returns. */
  saveCounters(bridge: Bridge): void {
    this.counters.writeNow(runNow(this.countersOf(bridge)));
  }

  /** Saves everything before it returns, for the last time. */
  saveNow(): void {
    const { bridge } = this;
    if (bridge === undefined) return;
    this.stop();
    this.tables.writeNow(runNow(saveTables(bridge.sw, this.input, this.numbers)));
    this.saveCounters(bridge);
  }

  private stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.bridge = undefined;
  }

  /** Saves no more, and removes what was saved: nobody is to go on. */
  [Symbol.dispose](): void {
    this.stop();
    for (const file of [this.tables, this.counters, this.offloads]) file.remove();
  }
}
