// The datapath as loaded: maps, programs, and the slots through which attached stubs reach them.
//
// A generation is one plan in the kernel. The next generation shares with it every map that means the same, is filled
// while nobody looks into it, and takes over when the program slots are set: a packet runs the old program or the new one,
// none is lost. Maps that only the old generation had are handed back, for their counters to be read once more after the
// last packet has left the old program (see GRACE_MS).

import { RangeViolation, Scope, type MapSpec } from "ebpf-assembler";
import { CONTROL, MAPS, compileDatapath, type DatapathPlan, type Hook, type Subtable } from "#compiler";
import { BpfMap, loadObject, Program, setProgramSlot, type LoadedObject, type Sys } from "libbpf-ts";
import { SubtableStore } from "./store.js";

/** Longest time that a packet can still be inside a program after its slot was set: softirq work on another CPU. */
export const GRACE_MS = 20;

/** Program types, in the order in which they are compiled. */
export const DATAPATH_HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];

/** One plan, loaded. */
export class Generation<Owner> {
  constructor(
    readonly plan: DatapathPlan,
    readonly hooks: ReadonlySet<Hook>,
    /** By map name; owned by the datapath or by the stores. */
    readonly maps: ReadonlyMap<string, BpfMap>,
    readonly stores: ReadonlyMap<Subtable, SubtableStore<Owner>>,
    readonly object: LoadedObject,
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
 * The kernel side of one switch. Disposing closes maps and programs; detach the ports first, or their packets are dropped
 * by stubs whose slot is empty.
 */
export class Datapath<Owner> implements Disposable {
  private current: Generation<Owner>;
  private readonly stubs = new Map<Hook, Program>();
  /** Maps that outlive generations. */
  private readonly fixed = new Map<string, BpfMap>();
  private readonly scope = new Scope();
  /** Devmap entries, to be copied when the devmap grows. */
  private readonly redirectable = new Set<number>();

  private constructor(
    readonly sys: Sys,
    first: DatapathPlan,
    hooks: ReadonlySet<Hook>,
  ) {
    this.current = this.prepare(first, hooks);
    this.commit(this.current);
  }

  /**
   * Loads a first plan.
   * @param hooks - which programs to load; more come with {@link prepare}
   * @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind
   */
  static load<Owner>(sys: Sys, plan: DatapathPlan, hooks: ReadonlySet<Hook>): Datapath<Owner> {
    return new Datapath<Owner>(sys, plan, hooks);
  }

  get generation(): Generation<Owner> {
    return this.current;
  }

  /**
   * Loads another plan beside the running one. Its new subtables are empty and nobody looks into them: fill them, then
   * {@link commit}.
   * @throws {@link SyscallError}, {@link VerifierError}; the running generation is not touched
   */
  prepare(plan: DatapathPlan, hooks: ReadonlySet<Hook> = this.current.hooks): Generation<Owner> {
    const spec = compileDatapath(plan, [...hooks]);
    using scope = new Scope();
    const old = this.current as Generation<Owner> | undefined;
    const maps = new Map<string, BpfMap>();
    const stores = new Map<Subtable, SubtableStore<Owner>>();
    for (const table of [...plan.subtables, plan.exact]) {
      const shared = old?.stores.get(table);
      const sharedMap = shared === undefined ? undefined : old?.maps.get(table.map);
      if (shared !== undefined && sharedMap !== undefined) {
        stores.set(table, shared);
        maps.set(table.map, sharedMap);
        continue;
      }
      const mapSpec = spec.maps.find(({ name }) => name === table.map);
      if (mapSpec === undefined) throw new RangeViolation(`The compiled plan has no map ${table.map}`);
      const map = BpfMap.create(this.sys, mapSpec);
      stores.set(table, scope.use(new SubtableStore<Owner>(table, map)));
      maps.set(table.map, map);
    }
    for (const mapSpec of spec.maps) {
      if (maps.has(mapSpec.name)) continue;
      const have = this.fixed.get(mapSpec.name);
      maps.set(
        mapSpec.name,
        have !== undefined && isSame(have, mapSpec) ? have : scope.use(this.replaceFixed(mapSpec, have)),
      );
    }
    const programs = spec.programs.filter(({ name }) => !name.startsWith("stub_") || !this.hasStub(name));
    const object = scope.use(loadObject(this.sys, { ...spec, programs }, { maps }));
    scope.move();
    return new Generation(plan, hooks, maps, stores, object);
  }

  private hasStub(name: string): boolean {
    return DATAPATH_HOOKS.some((hook) => name === `stub_${hook}` && this.stubs.has(hook));
  }

  /** A fixed map, or a larger one in place of it that begins with what the old one holds. */
  private replaceFixed(spec: MapSpec, have: BpfMap | undefined): BpfMap {
    const map = BpfMap.create(this.sys, spec);
    if (have === undefined) return map;
    if (spec.name === MAPS.ports) for (const ifindex of this.redirectable) putPort(map, ifindex);
    else if (spec.name === MAPS.lost)
      new BigUint64Array(map.memory).set(new BigUint64Array(have.memory).subarray(0, spec.maxEntries));
    return map;
  }

  /**
   * Makes `next` the running generation.
   * @returns the stores that it no longer has: read them once more after {@link GRACE_MS}, then dispose them
   */
  commit(next: Generation<Owner>): SubtableStore<Owner>[] {
    const old = this.current;
    for (const hook of next.hooks) {
      const stub = next.object.programs.get(`stub_${hook}`);
      if (stub !== undefined) this.stubs.set(hook, stub);
      setProgramSlot(mapOf(next, MAPS.progs[hook]), 0, next.object.program(`main_${hook}`));
    }
    for (const [name, map] of next.maps) {
      if (next.plan.subtables.some((table) => table.map === name) || next.plan.exact.map === name) continue;
      this.fixed.set(name, map);
    }
    this.current = next;
    if (old === undefined || old === next) return [];
    for (const program of old.object.programs.values()) {
      if (![...this.stubs.values()].includes(program)) program[Symbol.dispose]();
    }
    const kept = new Set(next.stores.values());
    return [...old.stores.values()].filter((store) => !kept.has(store));
  }

  /** The program to attach to interfaces. @throws {@link RangeViolation} when its hook is not loaded */
  stub(hook: Hook): Program {
    const stub = this.stubs.get(hook);
    if (stub === undefined) throw new RangeViolation(`The datapath has no ${hook} program loaded`);
    return stub;
  }

  get ring(): BpfMap {
    return mapOf(this.current, MAPS.upcalls);
  }

  /** Word 0 tells producers that the ring is being drained. */
  get awake(): Int32Array {
    return new Int32Array(mapOf(this.current, MAPS.control).memory, CONTROL.awake, 1);
  }

  /** Upcalls of an interface that were lost because the ring was full. */
  lost(ifindex: number): number {
    const counters = new BigUint64Array(mapOf(this.current, MAPS.lost).memory);
    return Number(counters[ifindex] ?? 0n);
  }

  /** Lets XDP programs redirect to an interface. @throws {@link SyscallError} */
  addRedirect(ifindex: number): void {
    putPort(mapOf(this.current, MAPS.ports), ifindex);
    this.redirectable.add(ifindex);
  }

  removeRedirect(ifindex: number): void {
    this.redirectable.delete(ifindex);
    mapOf(this.current, MAPS.ports).delete(u32(ifindex));
  }

  [Symbol.dispose](): void {
    for (const store of this.current.stores.values()) this.scope.use(store);
    for (const map of this.fixed.values()) this.scope.use(map);
    for (const stub of this.stubs.values()) this.scope.use(stub);
    this.scope.use(this.current.object);
    this.scope[Symbol.dispose]();
  }
}

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

/** Entry `ifindex` of the devmap leads to that interface. */
const putPort = (devmap: BpfMap, ifindex: number): void => devmap.update(u32(ifindex), u32(ifindex));

const mapOf = (generation: Generation<unknown>, name: string): BpfMap => {
  const map = generation.maps.get(name);
  if (map === undefined) throw new RangeViolation(`The datapath has no map ${name}`);
  return map;
};
