// The datapath as loaded: maps, programs, and the slots through which attached stubs reach them.
//
// A generation is one plan in the kernel. The next generation shares with it every map that means the same, is filled
// while nobody looks into it, and takes over when the program slots are set: a packet runs the old program or the new one,
// none is lost. Maps that only the old generation had are handed back, for their counters to be read once more after the
// last packet has left the old program (see GRACE_MS).

import { RangeViolation, Scope, type MapSpec } from "ebpf-assembler";
import {
  CONTROL,
  datapathMaps,
  FALLBACK_SLOT,
  isInTable,
  MAPS,
  type DatapathPlan,
  type Hook,
  type Subtable,
} from "#compiler";
import { BpfMap, Program, setProgramSlot, type Sys } from "libbpf-ts";
import { build, Builder, type BuildJob, type Built } from "./build.js";
import type { DatapathPins } from "./pins.js";
import { HashStore, type SubtableStore } from "./store.js";
import { MegaflowTable, TableStore } from "./table-store.js";

export { GRACE_MS } from "./grace.js";

/** Program types, in the order in which they are compiled. */
export const DATAPATH_HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];

/** A plan that is to be built. */
export interface Pending<Owner> {
  readonly plan: DatapathPlan;
  readonly hooks: ReadonlySet<Hook>;
  /** Maps that are there, by name: most of them shared with the running generation. */
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** Subtables that are shared with the running generation. */
  readonly stores: ReadonlyMap<Subtable, SubtableStore<Owner>>;
  /** Maps that the build creates: of subtables, or, without one, of the megaflow table. */
  readonly create: readonly { readonly table: Subtable | undefined; readonly spec: MapSpec }[];
  /** The megaflow table, when the running generation has the same. */
  readonly megaflows: MegaflowTable<Owner> | undefined;
  /** Owns what is new. */
  readonly scope: Scope;
}

/** One plan, loaded. */
export class Generation<Owner> {
  constructor(
    readonly plan: DatapathPlan,
    readonly hooks: ReadonlySet<Hook>,
    /** By map name; owned by the datapath or by the stores. */
    readonly maps: ReadonlyMap<string, BpfMap>,
    readonly stores: ReadonlyMap<Subtable, SubtableStore<Owner>>,
    readonly megaflows: MegaflowTable<Owner> | undefined,
    /** Main programs, and stubs that no generation before had. */
    readonly programs: ReadonlyMap<string, Program>,
    /** Owns what is new in it until it runs. */
    readonly scope: Scope,
  ) {}

  /** @throws {@link RangeViolation} for a subtable that is not of this generation */
  store(table: Subtable): SubtableStore<Owner> {
    const store = this.stores.get(table);
    if (store === undefined) throw new RangeViolation(`No subtable ${table.map} in this generation of the datapath`);
    return store;
  }

  get exact(): SubtableStore<Owner> {
    return this.store(this.plan.exact);
  }

  /** All stores: subtables in order of look-up, exact last. */
  get all(): SubtableStore<Owner>[] {
    return [...this.plan.subtables, this.plan.exact].map((table) => this.store(table));
  }
}

/** Whether a map can stand for the one that `spec` describes. */
const isSame = (map: BpfMap, spec: MapSpec): boolean =>
  map.keySize === spec.keySize && map.slotSize === spec.valueSize && map.maxEntries === spec.maxEntries;

/**
 * The kernel side of one switch. Disposing closes maps and programs, those that a build still uses when it is done; detach
 * the ports first, or their packets are dropped by stubs whose slot is empty.
 */
export class Datapath<Owner> implements Disposable {
  private current: Generation<Owner> | undefined;
  private readonly stubs = new Map<Hook, Program>();
  /** Maps that outlive generations. */
  private readonly fixed = new Map<string, BpfMap>();
  /** Devmap entries, to be copied when the devmap grows. */
  private readonly redirectable = new Set<number>();
  private readonly builder = new Builder();
  /** Hooks at which another program runs first. */
  private readonly fronts = new Set<Hook>();
  /** Builds under way: they use descriptors of maps, which must not be closed under them. */
  private readonly building = new Set<Promise<unknown>>();
  private isClosed = false;

  private constructor(
    readonly sys: Sys,
    private readonly onMeters: ((memory: Uint8Array<ArrayBuffer>) => void) | undefined,
    private readonly pins: DatapathPins | undefined,
  ) {}

  /**
   * Loads a first plan, on this thread.
   * @param hooks - which programs to load; more come with {@link prepare}
   * @param onMeters - gets the memory by which programs meter, before the first program that does runs
   * @param pins - where each generation is pinned, so that it outlives the process
   * @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind
   */
  static load<Owner>(
    sys: Sys,
    plan: DatapathPlan,
    hooks: ReadonlySet<Hook>,
    onMeters?: (memory: Uint8Array<ArrayBuffer>) => void,
    pins?: DatapathPins,
  ): Datapath<Owner> {
    using scope = new Scope();
    const datapath = scope.use(new Datapath<Owner>(sys, onMeters, pins));
    datapath.commit(datapath.buildNow(datapath.prepare(plan, hooks)));
    datapath.builder.start();
    scope.move();
    return datapath;
  }

  get generation(): Generation<Owner> {
    if (this.current === undefined) throw new RangeViolation("The datapath is not loaded");
    return this.current;
  }

  /**
   * Makes the maps of another plan beside the running one. Its new subtables are empty and nobody looks into them. Then
   * {@link build} it, fill the new subtables, and {@link commit}; or {@link abandon} it.
   * @throws {@link SyscallError}; the running generation is not touched
   */
  prepare(plan: DatapathPlan, hooks: ReadonlySet<Hook> = this.generation.hooks): Pending<Owner> {
    using scope = new Scope();
    const old = this.current;
    const specs = new Map(datapathMaps(plan).map((spec) => [spec.name, spec]));
    const maps = new Map<string, BpfMap>();
    const stores = new Map<Subtable, SubtableStore<Owner>>();
    const create: { table: Subtable | undefined; spec: MapSpec }[] = [];
    const megaflows = old?.plan.table === plan.table ? old?.megaflows : undefined;
    if (plan.table !== undefined) {
      const have = old?.maps.get(plan.table.map);
      const spec = specs.get(plan.table.map);
      if (megaflows !== undefined && have !== undefined) maps.set(plan.table.map, have);
      else if (spec !== undefined) create.push({ table: undefined, spec });
    }
    for (const table of [...plan.subtables, plan.exact]) {
      const shared = old?.stores.get(table);
      if (table.number !== undefined && isInTable(plan, table)) {
        if (megaflows === undefined) continue;
        stores.set(table, shared ?? scope.use(new TableStore<Owner>(table, table.number, megaflows)));
        continue;
      }
      const sharedMap = old?.maps.get(table.map);
      if (shared !== undefined && sharedMap !== undefined) {
        stores.set(table, shared);
        maps.set(table.map, sharedMap);
        continue;
      }
      const spec = specs.get(table.map);
      if (spec === undefined) throw new RangeViolation(`The plan has no map ${table.map}`);
      create.push({ table, spec });
    }
    const isCreated = new Set(create.map(({ spec }) => spec.name));
    for (const spec of specs.values()) {
      if (maps.has(spec.name) || isCreated.has(spec.name)) continue;
      const have = this.fixed.get(spec.name);
      const fits = have !== undefined && isSame(have, spec);
      maps.set(spec.name, fits ? have : scope.use(this.replaceFixed(spec, have)));
    }
    return { plan, hooks, maps, stores, create, megaflows, scope: scope.move() };
  }

  /** A fixed map, or a larger one in place of it that begins with what the old one holds. */
  private replaceFixed(spec: MapSpec, have: BpfMap | undefined): BpfMap {
    const map = BpfMap.create(this.sys, spec);
    if (have === undefined) return map;
    if (spec.name === MAPS.ports) for (const ifindex of this.redirectable) putPort(map, ifindex);
    else if (spec.name === MAPS.lost) {
      const counters = new BigUint64Array(have.memory);
      new BigUint64Array(map.memory).set(counters.subarray(0, Math.min(have.maxEntries, map.maxEntries)));
    }
    return map;
  }

  private jobOf(pending: Pending<Owner>): BuildJob {
    return {
      plan: pending.plan,
      hooks: [...pending.hooks],
      without: [...this.stubs.keys()].map((hook) => `stub_${hook}`),
      maps: [...pending.maps].map(([name, map]) => [name, map.fdNumber]),
      create: pending.create.map(({ spec }) => spec),
    };
  }

  /** Compiles and loads the programs on a thread of its own. @throws {@link BuildError} (rejects): abandon `pending` */
  async build(pending: Pending<Owner>): Promise<Generation<Owner>> {
    return this.adopt(pending, await this.hold(this.builder.run(this.jobOf(pending))));
  }

  /** Waits for work of another thread that uses descriptors of maps: they stay open for so long. */
  async hold<T>(work: Promise<T>): Promise<T> {
    this.building.add(work);
    try {
      return await work;
    } finally {
      this.building.delete(work);
    }
  }

  /** As {@link build}, on this thread: upcalls wait. @throws {@link SyscallError}, {@link VerifierError} */
  buildNow(pending: Pending<Owner>): Generation<Owner> {
    try {
      return this.adopt(pending, build(this.sys, this.jobOf(pending)));
    } catch (error) {
      this.abandon(pending);
      throw error;
    }
  }

  private adopt(pending: Pending<Owner>, built: Built): Generation<Owner> {
    const { scope } = pending;
    const programs = new Map(
      built.programs.map(
        ({ name, fd }) => [name, scope.use(Program.fromFd(this.sys, fd, `program "${name}"`))] as const,
      ),
    );
    const maps = new Map(pending.maps);
    const stores = new Map(pending.stores);
    for (const { name, fd } of built.maps) {
      const map = BpfMap.fromFd(this.sys, fd, `map "${name}"`);
      const wanted = pending.create.find(({ spec }) => spec.name === name);
      if (wanted === undefined) throw new RangeViolation(`The build made a map ${name} that nobody asked for`);
      const { table } = wanted;
      if (table === undefined) scope.use(map);
      else stores.set(table, scope.use(new HashStore<Owner>(table, map)));
      maps.set(name, map);
    }
    const megaflows = pending.megaflows ?? newTable<Owner>(pending.plan, maps);
    for (const table of pending.plan.subtables) {
      if (table.number === undefined || stores.has(table) || megaflows === undefined) continue;
      stores.set(table, scope.use(new TableStore<Owner>(table, table.number, megaflows)));
    }
    if (this.isClosed) {
      this.abandon(pending);
      throw new RangeViolation("The datapath was closed meanwhile");
    }
    return new Generation(pending.plan, pending.hooks, maps, stores, megaflows, programs, scope);
  }

  /** Closes what was made for a plan that will not run: maps, and programs if they were built. */
  abandon(pending: Pending<Owner>): void {
    pending.scope[Symbol.dispose]();
  }

  /**
   * Makes `next` the running generation.
   * @returns the stores that it no longer has: read them once more after {@link GRACE_MS}, then dispose them
   */
  commit(next: Generation<Owner>): SubtableStore<Owner>[] {
    const old = this.current;
    const meters = next.maps.get(MAPS.meters);
    if (meters !== undefined && meters !== this.fixed.get(MAPS.meters)) this.onMeters?.(new Uint8Array(meters.memory));
    for (const hook of next.hooks) {
      const stub = next.programs.get(`stub_${hook}`);
      if (stub !== undefined) this.stubs.set(hook, stub);
    }
    this.pin(next);
    for (const hook of next.hooks) {
      const main = next.programs.get(`main_${hook}`);
      if (main === undefined) throw new RangeViolation(`The build gave no program main_${hook}`);
      const slots = mapOf(next, MAPS.progs[hook]);
      setProgramSlot(slots, FALLBACK_SLOT, main);
      if (!this.fronts.has(hook)) setProgramSlot(slots, 0, main);
    }
    const tables = new Set([...next.plan.subtables, next.plan.exact].map(({ map }) => map));
    // A table that is replaced stays mapped for as long as its stores are there.
    for (const [name, map] of next.maps) {
      if (tables.has(name)) continue;
      const before = this.fixed.get(name);
      this.fixed.set(name, map);
      if (before !== undefined && before !== map) before[Symbol.dispose]();
    }
    this.current = next;
    next.scope.move();
    this.pins?.settle();
    if (old === undefined) return [];
    if (old.megaflows !== undefined && old.megaflows !== next.megaflows) old.megaflows.isRetired = true;
    const stubs = new Set(this.stubs.values());
    for (const program of old.programs.values()) if (!stubs.has(program)) program[Symbol.dispose]();
    const kept = new Set(next.stores.values());
    return [...old.stores.values()].filter((store) => !kept.has(store));
  }

  /** Pins what the programs of `next` need to run without this process. */
  private pin({ plan, maps, programs }: Generation<Owner>): void {
    if (this.pins === undefined) return;
    const stubs = [...this.stubs].map(([hook, stub]) => [`stub_${hook}`, stub] as const);
    this.pins.keep({ plan, maps, programs: new Map([...programs, ...stubs]) });
  }

  /**
   * Has a direct program run first at a hook, whose packets reach the megaflow program through its slot; or, without one, that
   * at once. It stays its owner's.
   */
  setFront(hook: Hook, front: Program | undefined): void {
    const main = this.generation.programs.get(`main_${hook}`);
    if (front === undefined) this.fronts.delete(hook);
    else this.fronts.add(hook);
    const first = front ?? main;
    if (first !== undefined) setProgramSlot(mapOf(this.generation, MAPS.progs[hook]), 0, first);
  }

  /** Maps that direct programs share with this one's, by name. They stay its. */
  get shared(): ReadonlyMap<string, BpfMap> {
    return new Map(
      [MAPS.progs.xdp, MAPS.progs.tc, MAPS.ports, MAPS.control, MAPS.meters].flatMap((name) => {
        const map = this.generation.maps.get(name);
        return map === undefined ? [] : [[name, map] as const];
      }),
    );
  }

  /** The program to attach to interfaces. @throws {@link RangeViolation} when its hook is not loaded */
  stub(hook: Hook): Program {
    const stub = this.stubs.get(hook);
    if (stub === undefined) throw new RangeViolation(`The datapath has no ${hook} program loaded`);
    return stub;
  }

  get ring(): BpfMap {
    return mapOf(this.generation, MAPS.upcalls);
  }

  /** Word 0 tells producers that the ring is being drained. */
  get awake(): Int32Array {
    return new Int32Array(mapOf(this.generation, MAPS.control).memory, CONTROL.awake, 1);
  }

  /** Word 0 is zero while direct programs must leave all packets to the megaflow programs. */
  get direct(): Int32Array {
    return new Int32Array(mapOf(this.generation, MAPS.control).memory, CONTROL.direct, 1);
  }

  /** Upcalls of an interface that were lost because the ring was full. */
  lost(ifindex: number): number {
    const counters = new BigUint64Array(mapOf(this.generation, MAPS.lost).memory);
    return Number(counters[ifindex] ?? 0n);
  }

  /** Adds upcalls that were lost before this datapath was there. */
  addLost(ifindex: number, count: number): void {
    const counters = new BigUint64Array(mapOf(this.generation, MAPS.lost).memory);
    if (ifindex < counters.length) Atomics.add(counters, ifindex, BigInt(count));
  }

  /** Lets XDP programs redirect to an interface. @throws {@link SyscallError} */
  addRedirect(ifindex: number): void {
    putPort(mapOf(this.generation, MAPS.ports), ifindex);
    this.redirectable.add(ifindex);
  }

  removeRedirect(ifindex: number): void {
    this.redirectable.delete(ifindex);
    mapOf(this.generation, MAPS.ports).delete(u32(ifindex));
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
    this.builder[Symbol.dispose]();
    if (this.building.size === 0) this.close();
    else void Promise.allSettled(this.building).then(() => this.close());
  }

  private close(): void {
    using scope = new Scope();
    for (const map of this.fixed.values()) scope.use(map);
    for (const store of this.current?.stores.values() ?? []) scope.use(store);
    for (const stub of this.stubs.values()) scope.use(stub);
    for (const program of this.current?.programs.values() ?? []) scope.use(program);
  }
}

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

/** Entry `ifindex` of the devmap leads to that interface. */
const putPort = (devmap: BpfMap, ifindex: number): void => devmap.update(u32(ifindex), u32(ifindex));

/** The table of a plan in its new map. */
const newTable = <Owner>(plan: DatapathPlan, maps: ReadonlyMap<string, BpfMap>): MegaflowTable<Owner> | undefined => {
  const map = plan.table === undefined ? undefined : maps.get(plan.table.map);
  return plan.table === undefined || map === undefined ? undefined : new MegaflowTable(plan.table, map.memory);
};

const mapOf = (generation: { readonly maps: ReadonlyMap<string, BpfMap> }, name: string): BpfMap => {
  const map = generation.maps.get(name);
  if (map === undefined) throw new RangeViolation(`The datapath has no map ${name}`);
  return map;
};
