// A running switch: the OpenFlow state, the datapath, the cache between them, the slow path and the ports, with one owner.
//
// Everything happens on one event loop. Upcalls are handled in turns of bounded length; reading counters, translating
// again and building programs are cut into slices or gathered, so that no upcall waits long.

import { RangeViolation, Scope } from "ebpf-assembler";
import {
  applyBundle,
  applyTableMods,
  creditTranslation,
  learnFrom,
  refusal,
  relevantMembers,
  Switch,
  type BundleMod,
  type BundlePacket,
  type Flow,
  type Group,
  type Hook,
  type Match,
  type Port,
  type PortConfig,
  type PortReason,
  type TableMod,
  teaches,
} from "#compiler";
import { PacketSender, RingBuffer, Rtnl, type Interface, type Sys } from "libbpf-ts";
import type { BridgeOptions } from "./bridge-options.js";
import type { BridgeStats, PortReport } from "./bridge-stats.js";
import { monotonicMs } from "./clock.js";
import { Datapath, GRACE_MS } from "./datapath/datapath.js";
import type { DatapathPins } from "./datapath/pins.js";
import { Survivor } from "./datapath/survivor.js";
import { DirectFront } from "./direct/front.js";
import type { Log } from "./log.js";
import { MegaflowCache } from "./megaflow/cache.js";
import { firstPlan } from "./megaflow/first-plan.js";
import { Revalidator } from "./megaflow/revalidator.js";
import { Specialiser } from "./megaflow/specialiser.js";
import type { Ukey } from "./megaflow/ukey.js";
import type { Verdict } from "./megaflow/verdict.js";
import { programOf } from "./ports/attach.js";
import { findInternal, removeInternal } from "./ports/internal-port.js";
import { expectedHook, findDevice, PortManager, portSlotsFor, type Device } from "./ports/port-manager.js";
import type { PortHook, PortSpec } from "./ports/port-spec.js";
import { newPortStats, PortTable, type RuntimePort } from "./ports/port-table.js";
import { expectedPushes, Tunnels } from "./ports/tunnels.js";
import { Adoption } from "./state/adoption.js";
import { CounterBase } from "./state/saved-counters.js";
import { expectedActions, warmUp, warmUpUpcalls } from "./warm-up.js";
import { DRAIN_LIMIT, DRAIN_LIMIT_MS, SlowPath } from "./slow-path.js";

/** Disposing detaches every port, puts offload settings back and frees everything in the kernel. */
export class Bridge implements Disposable {
  readonly sw: Switch;
  readonly ports = new PortTable();
  readonly datapath: Datapath<Ukey>;
  readonly cache: MegaflowCache;
  readonly revalidator: Revalidator;
  readonly specialiser: Specialiser;
  readonly slowPath: SlowPath;
  /** Direct mode, unless all tables are for the megaflows. */
  readonly front: DirectFront<Ukey> | undefined;
  private readonly sender: PacketSender;
  private readonly manager: PortManager;
  private scope = new Scope();
  private readonly startMs = monotonicMs();
  private readonly log: Log;
  private readonly onWork: () => void;
  /** What tunnel ports need; undefined without any. */
  private readonly tunnels: Tunnels | undefined;
  private hits = 0;
  private ring: RingBuffer;
  private adoption: Adoption | undefined;
  private adoptionTimer: NodeJS.Timeout | undefined;
  private survivor: Survivor | undefined;

  private constructor(
    readonly sys: Sys,
    private readonly options: BridgeOptions,
    devices: ReadonlyMap<PortSpec, Device>,
    scope: Scope,
  ) {
    this.log = options.log;
    this.onWork = options.onWork ?? ((): void => undefined);
    this.sw = new Switch({ name: options.name, failMode: options.failMode });
    const { pins, keeper } = options;
    this.survivor = pins === undefined ? undefined : this.findSurvivor(pins, scope);
    if (keeper?.restoreTables(this.sw) !== true) applyTableMods(this.sw, options.changes ?? [], this.startMs);
    for (const group of options.groups ?? []) this.sw.addGroup(group, this.startMs);
    for (const flow of options.flows ?? []) this.sw.add(flow, this.startMs);
    this.sender = scope.use(PacketSender.open(sys));
    const hooks = new Set<Hook>();
    for (const [spec, { iface }] of devices) hooks.add(programOf(expectedHook(spec, iface, this.survivor)));
    for (const { number, name } of options.ports)
      if (number !== undefined) this.sw.setPort({ number, name, up: false });
    this.tunnels = this.addTunnels(scope);
    const uplinks = this.tunnels?.interfaces(options.uplinks ?? [], options.tunnels ?? []) ?? new Map<never, never>();
    for (const hook of this.tunnels?.expect(uplinks) ?? []) hooks.add(hook);
    keeper?.configurePorts(this.sw);
    warmUp(this.sw);
    const expected = [...expectedPushes(options.tunnels ?? []), ...expectedActions(this.sw)];
    const carried = expected.filter((list) => [...hooks].some((hook) => refusal(hook, list) === undefined));
    const portSlots = portSlotsFor(highestIndex(sys));
    const members = [...relevantMembers(this.sw), ...(this.survivor?.members ?? [])];
    const tunnels = this.tunnels?.plan;
    const plan = firstPlan(members, carried, { portSlots, ...(tunnels === undefined ? {} : { tunnels }) });
    this.datapath = scope.use(
      Datapath.load<Ukey>(
        sys,
        plan,
        hooks.size === 0 ? new Set<Hook>(["tc"]) : hooks,
        (memory) => this.sw.meters.bind(memory),
        pins,
      ),
    );
    scope.defer(() => this.sw.meters.unbind());
    this.cache = new MegaflowCache(this.datapath, this.ports, this.onTraffic, () => this.specialiser.wake(), {
      ...options,
      ...(options.maxFlows === undefined ? {} : { flowLimit: options.maxFlows }),
    });
    this.specialiser = scope.use(new Specialiser(this.cache, this.onTables, this.onBuilt, this.onWork, this.onError));
    this.revalidator = scope.use(
      new Revalidator(
        this.sw,
        this.cache,
        { onCredit: () => this.front?.settle(), onRound: this.onRound, onError: this.onError, onSlice: this.onWork },
        options,
      ),
    );
    this.slowPath = new SlowPath(this.sw, this.cache, this.ports, this.sender, this.credit, this.onError);
    this.slowPath.tunnels = this.tunnels;
    this.ring = scope.use(RingBuffer.open(this.datapath.ring));
    scope.use(
      this.ring.follow(this.slowPath.onRecord, {
        limit: DRAIN_LIMIT,
        limitMs: DRAIN_LIMIT_MS,
        awake: this.datapath.awake,
        onDrained: this.onDrained,
      }),
    );
    this.manager = scope.use(
      new PortManager({
        sys,
        specs: options.ports,
        sw: this.sw,
        table: this.ports,
        datapath: this.datapath,
        specialiser: this.specialiser,
        cache: this.cache,
        revalidator: this.revalidator,
        pins,
        keeper,
        log: this.log,
        onError: this.onError,
      }),
    );
    // Uplinks before their programs go: the host's own packets pass them.
    scope.defer(() => this.tunnels?.[Symbol.dispose]());
    warmUpUpcalls(sys, this.sw, this.cache);
    keeper?.restoreCounters(this.sw, this.survivor?.meters);
    options.onWarm?.();
    if (this.survivor !== undefined) this.adopt(this.survivor, devices);
    for (const [spec, device] of devices) {
      this.manager.add(spec, device);
      // Packets of ports that are there must not wait until the last one is.
      while (this.ring.drain(this.slowPath.onRecord, DRAIN_LIMIT) > 0) this.slowPath.onDrained();
    }
    this.startTunnels(uplinks);
    keeper?.restorePorts(this.ports);
    this.hits = keeper?.saved?.counters?.hits ?? 0;
    if (this.survivor !== undefined) this.adoptionTimer = setTimeout(() => this.endAdoption(), GRACE_MS);
    scope.defer(() => clearTimeout(this.adoptionTimer));
    const { mode = "megaflow" } = options;
    if (mode !== "megaflow") {
      this.front = scope.use(new DirectFront(this.sw, this.datapath, this.ports, { onBuilt: this.onDirectBuilt }));
      this.front.buildNow(mode === "direct");
    }
    this.manager.follow();
    this.revalidator.start();
    keeper?.follow(this);
  }

  // Tunnels

  /** Makes the tunnel ports, which are there from the start. */
  private addTunnels(scope: Scope): Tunnels | undefined {
    const { tunnels = [] } = this.options;
    if (tunnels.length === 0) return undefined;
    for (const { number = this.freeNumber(), name, config } of tunnels) {
      const other = this.sw.tunnels.conflict(config);
      if (other !== undefined)
        throw new RangeViolation(`Cannot add tunnel ${name}: port ${other} takes the same packets`);
      this.sw.setPort({ number, name, tunnel: config });
      const stats = newPortStats();
      this.ports.add({
        number,
        name,
        device: name,
        ifindex: 0,
        hook: "tunnel",
        toPeer: false,
        mac: "",
        addedMs: this.startMs,
        stats,
      });
    }
    return scope.use(new Tunnels(this.sys, this.sw, scope.use(Rtnl.open(this.sys)), this.log));
  }

  private freeNumber(): number {
    let number = 1;
    while (this.sw.port(number) !== undefined) number++;
    return number;
  }

  private startTunnels(uplinks: ReadonlyMap<Interface, PortHook>): void {
    const { tunnels } = this;
    if (tunnels === undefined) return;
    const receivesXdp = this.options.ports.some(({ hook }) => hook === "native");
    const attach = (iface: Interface, wanted: PortHook): void => {
      if (iface.index >= this.datapath.generation.plan.portSlots)
        this.specialiser.buildNow(this.datapath.generation.hooks, portSlotsFor(iface.index));
      this.datapath.addRedirect(iface.index);
      tunnels.attach(iface, wanted, (hook) => this.manager.stub(hook), receivesXdp);
    };
    for (const [iface, wanted] of uplinks) attach(iface, wanted);
    const onWays = (): void => {
      this.sw.underlayChanged();
      this.revalidator.wake();
    };
    const onPlan = (): void => {
      this.cache.changeOver.tunnels = tunnels.plan;
      // It is rare, and until then nothing comes by an address that is new.
      this.specialiser.buildNow(this.datapath.generation.hooks);
    };
    const onBack = (iface: Interface, wanted: PortHook): void => {
      // To a program that does not know an uplink, the host's own packets would be anybody's.
      const hooks = tunnels.expect(new Map([[iface, wanted]]));
      this.cache.changeOver.tunnels = tunnels.plan;
      this.specialiser.buildNow(new Set([...this.datapath.generation.hooks, ...hooks]));
      attach(iface, wanted);
    };
    tunnels.follow(onBack, onWays, onPlan, this.onError);
  }

  // What an earlier process left

  private findSurvivor(pins: DatapathPins, scope: Scope): Survivor | undefined {
    try {
      const survivor = Survivor.find(this.sys, pins);
      if (survivor !== undefined) scope.use(survivor);
      return survivor;
    } catch (error) {
      if (!(error instanceof RangeViolation)) throw error;
      // Of another version: its attachments are replaced, its megaflows are made anew.
      this.log.warn({ err: error }, "cannot go on with what an earlier process left");
      return undefined;
    }
  }

  /** Puts the megaflows of an earlier process into our programs, to which the ports then go over one by one. */
  private adopt(survivor: Survivor, devices: ReadonlyMap<PortSpec, Device>): void {
    this.manager.survivor = survivor;
    for (const [spec, device] of devices) this.manager.announce(spec, device);
    const { keeper } = this.options;
    const base = new CounterBase(keeper?.saved?.counters?.megaflows);
    this.adoption = new Adoption(survivor, base, this.sw, this.ports, this.cache, this.credit);
    const report = this.adoption.install(this.sw.macs.size === 0);
    if (this.cache.isWanting) this.specialiser.buildNow(this.datapath.generation.hooks);
    this.log.info({ ...report }, "going on with the datapath that an earlier process left");
  }

  /** No packet is in the old programs any more. */
  private endAdoption(): void {
    clearTimeout(this.adoptionTimer);
    const { adoption } = this;
    if (adoption === undefined) return;
    this.adoption = undefined;
    try {
      adoption.settle();
      adoption.drain(this.slowPath);
      // What was counted there is in our counters alone as soon as it is not pinned any more.
      this.options.keeper?.saveCounters(this);
      this.options.pins?.forgetOthers();
    } catch (error) {
      this.onError(error);
    }
    adoption[Symbol.dispose]();
    this.survivor = this.manager.survivor = undefined;
  }

  /**
   * Lets go of a datapath that is pinned: it goes on forwarding what it knows, and another process can go on with it.
   * Disposing does nothing more afterwards. Without pins it does what disposing does.
   */
  async leave(): Promise<void> {
    const { pins, keeper } = this.options;
    if (pins === undefined) {
      this[Symbol.dispose]();
      return;
    }
    this.endAdoption();
    await this.settle();
    keeper?.saveNow();
    this.manager.leave();
    // What comes by tunnels waits for the next process.
    this.tunnels?.[Symbol.dispose]();
    this.scope.move();
  }

  /**
   * Starts a switch in the current network namespace.
   * @throws {@link NoInterfaceError}, {@link OccupiedError}, {@link SyscallError}, {@link VerifierError}; nothing stays
   *   behind
   */
  static open(sys: Sys, options: BridgeOptions): Bridge {
    using rtnl = Rtnl.open(sys);
    const devices = new Map<PortSpec, Device>();
    using undo = new Scope();
    for (const spec of options.ports) {
      // Whoever goes on with a switch has to do with what is left of it: a port comes when its interface does.
      const isAwaited = options.keeper?.saved !== undefined && spec.internal !== true;
      if (isAwaited && rtnl.find(spec.name) === undefined) {
        options.log.warn({ interface: spec.name }, "no such interface; it becomes a port when it comes");
        continue;
      }
      const isNew = spec.internal === true && findInternal(rtnl, spec.name) === undefined;
      devices.set(spec, findDevice(rtnl, spec));
      if (isNew) undo.defer(() => removeInternal(rtnl, spec.name));
    }
    using scope = new Scope();
    const bridge = new Bridge(sys, options, devices, scope);
    undo.move();
    bridge.scope = scope.move();
    return bridge;
  }

  // Ports

  /** Who is told that a port came, changed or goes. */
  set onPort(onPort: (reason: PortReason, port: Port) => void) {
    this.manager.onPort = onPort;
  }

  /** Makes an interface a port. @throws as {@link Bridge.open} */
  addPort(spec: PortSpec): RuntimePort {
    return this.manager.add(spec);
  }

  removePort(number: number): void {
    this.manager.remove(number);
  }

  /** Changes how a port is used; one that is to be down is taken down, as in OVS. @throws {@link SyscallError} */
  configurePort(number: number, config: Partial<PortConfig>): void {
    if (this.manager.configure(number, config)) this.tablesChanged();
  }

  // Tables

  /** Carries changes out in order. @throws {@link CompileError} for the first that is refused: those before it are made */
  change(changes: readonly TableMod[]): void {
    try {
      applyTableMods(this.sw, changes, monotonicMs());
    } finally {
      this.tablesChanged();
    }
  }

  /** Commits a bundle: all of it or nothing. @throws {@link CompileError} for the first line that is refused */
  commit(bundle: readonly BundleMod[]): void {
    const packets = applyBundle(this.sw, bundle, monotonicMs());
    this.tablesChanged();
    for (const packet of packets) this.sendOut(packet);
  }

  /** Carries out a packet of a controller. */
  sendOut({ packet, translation }: BundlePacket): void {
    const nowMs = monotonicMs();
    creditTranslation(translation, 1, packet.length, nowMs);
    if (teaches(translation)) learnFrom(this.sw, translation, nowMs);
    this.slowPath.sendOut(packet, translation.actions);
  }

  /** Adds groups, then flows. @throws {@link FlowModError}, {@link RangeViolation}: those before it are in */
  add(flows: readonly Flow[], groups: readonly Group[] = []): void {
    const nowMs = monotonicMs();
    try {
      for (const group of groups) this.sw.addGroup(group, nowMs);
      for (const flow of flows) this.sw.add(flow, nowMs);
    } finally {
      this.tablesChanged();
    }
  }

  /** Makes `flows` the only ones: those that are there already keep their counters. */
  replace(flows: readonly Flow[]): void {
    const nowMs = monotonicMs();
    try {
      const before = new Set(this.sw.rules());
      const kept = new Set(flows.map((flow) => this.sw.add(flow, nowMs)));
      for (const rule of before) {
        if (kept.has(rule) || rule.removed) continue;
        this.sw.delete(rule.match, { table: rule.table, priority: rule.priority, strict: true });
      }
    } finally {
      this.tablesChanged();
    }
  }

  /** Deletes the flows that `match` covers; all when it is absent. @returns how many */
  delete(match: Match, table?: number): number {
    const rules = this.sw.delete(match, table === undefined ? {} : { table });
    this.tablesChanged();
    return rules.length;
  }

  /** To be called after any change of tables or MAC table from outside. */
  tablesChanged(): void {
    this.specialiser.tablesChanged();
    this.revalidator.wake();
  }

  /** Reads all counters and credits them, so that what is shown next is exact. */
  async settle(): Promise<void> {
    await this.revalidator.round();
  }

  // What comes back from the parts

  private readonly credit = (
    translation: Verdict,
    inPort: number,
    packets: number,
    bytes: number,
    nowMs: number,
  ): void => {
    creditTranslation(translation, packets, bytes, nowMs);
    this.ports.credit(inPort, translation.actions, packets, bytes);
  };

  private readonly onTraffic = (ukey: Ukey, packets: number, bytes: number, verdict: Verdict): void => {
    const nowMs = monotonicMs();
    ukey.usedMs = Math.floor(nowMs);
    this.hits += packets;
    this.credit(verdict, ukey.inPort, packets, bytes, nowMs);
    if (teaches(verdict)) learnFrom(this.sw, verdict, nowMs);
  };

  private readonly onDrained = (): void => {
    this.slowPath.onDrained();
    this.revalidator.wakeForLearned();
    this.onWork();
  };

  private readonly onTables = (): void => {
    this.cache.want(relevantMembers(this.sw));
  };

  private readonly onBuilt = (error: unknown): void => {
    const { plan } = this.datapath.generation;
    const { lastBuildMs } = this.specialiser.stats;
    this.front?.datapathChanged();
    this.options.keeper?.programChanged();
    if (error === undefined)
      this.log.debug(
        { subtables: plan.subtables.length, shapes: plan.shapes.length, keyBytes: plan.key.size, ms: lastBuildMs },
        "datapath program specialised",
      );
    else this.log.error({ err: error }, "cannot specialise the datapath program; the old one runs on");
  };

  private readonly onDirectBuilt = (error: unknown): void => {
    const { refused, lastBuildMs } = this.front?.stats ?? {};
    if (error !== undefined) this.log.error({ err: error }, "cannot build direct programs; packets take the megaflows");
    else if (refused !== undefined) this.log.info({ why: refused }, "no direct mode for these tables");
    else this.log.debug({ ms: lastBuildMs }, "direct programs built");
  };

  private readonly onRound = async (): Promise<void> => {
    // Subtables may have run empty.
    if (this.cache.isWanting) this.specialiser.wake();
    await this.options.keeper?.afterRound();
  };

  private nErrors = 0;
  private readonly onError = (error: unknown): void => {
    // Packets can cause errors: say it often enough to be seen and seldom enough not to harm.
    if (this.nErrors++ % 1000 === 0) this.log.error({ err: error, errors: this.nErrors }, "cannot handle a packet");
  };

  get stats(): BridgeStats {
    const ports = this.ports.all.map(({ number, name, ifindex, hook, stats }): PortReport => ({
      port: number,
      name,
      ifindex,
      hook,
      up: this.sw.port(number)?.up ?? false,
      lost: this.datapath.lost(ifindex),
      ...stats,
    }));
    return {
      bridge: this.sw.name,
      uptimeMs: Math.round(monotonicMs() - this.startMs),
      version: this.sw.version,
      rules: this.sw.size,
      macs: this.sw.macs.size,
      hits: this.hits,
      lost: ports.reduce((sum, { lost }) => sum + lost, 0),
      upcalls: this.slowPath.stats,
      cache: this.cache.stats,
      revalidator: this.revalidator.stats,
      specialiser: this.specialiser.stats,
      ...(this.front === undefined ? {} : { direct: this.front.stats }),
      transmit: { ...this.sender.counters, drops: Object.fromEntries(this.sender.drops) },
      ports,
    };
  }

  get isPinned(): boolean {
    return this.options.pins !== undefined;
  }

  /** What the keeper saves beside the tables. */
  get nHits(): number {
    return this.hits;
  }

  [Symbol.dispose](): void {
    this.endAdoption();
    this.scope[Symbol.dispose]();
  }
}

/** The highest index of an interface of the current namespace. */
const highestIndex = (sys: Sys): number => {
  using rtnl = Rtnl.open(sys);
  return Math.max(0, ...rtnl.interfaces().map(({ index }) => index));
};
