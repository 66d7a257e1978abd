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
  type FailMode,
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
import { followInterfaces, Netns, PacketSender, RingBuffer, Rtnl, type Interface, type Sys } from "libbpf-ts";
import { monotonicMs } from "./clock.js";
import { Datapath, GRACE_MS } from "./datapath/datapath.js";
import type { DatapathPins } from "./datapath/pins.js";
import { Survivor } from "./datapath/survivor.js";
import { DirectFront, type DirectStats, type Mode } from "./direct/front.js";
import type { Log } from "./log.js";
import { MegaflowCache, type CacheOptions, type CacheStats } from "./megaflow/cache.js";
import { firstPlan } from "./megaflow/first-plan.js";
import { Revalidator, type RevalidatorOptions, type RevalidatorStats } from "./megaflow/revalidator.js";
import { Specialiser, type SpecialiserStats } from "./megaflow/specialiser.js";
import type { Ukey } from "./megaflow/ukey.js";
import type { Verdict } from "./megaflow/verdict.js";
import { attachPort, candidateHooks, programOf, type PortAttachment } from "./ports/attach.js";
import type { AttachedHook, PortHook, PortSpec } from "./ports/port-spec.js";
import type { TunnelSpec } from "./ports/tunnel-spec.js";
import { expectedPushes, Tunnels } from "./ports/tunnels.js";
import { newPortStats, PortTable, type PortStats, type RuntimePort } from "./ports/port-table.js";
import { Adoption } from "./state/adoption.js";
import type { StateKeeper } from "./state/keeper.js";
import { CounterBase } from "./state/saved-counters.js";
import { expectedActions, warmUp, warmUpUpcalls } from "./warm-up.js";
import { DRAIN_LIMIT, DRAIN_LIMIT_MS, SlowPath, type SlowPathStats } from "./slow-path.js";

export interface BridgeOptions extends CacheOptions, RevalidatorOptions {
  readonly name: string;
  readonly failMode: FailMode;
  readonly ports: readonly PortSpec[];
  /** How tables become programs. Default megaflow. */
  readonly mode?: Mode;
  readonly tunnels?: readonly TunnelSpec[];
  /** Interfaces by which packets of tunnels come; none: those that lead to the tunnels' other ends. */
  readonly uplinks?: readonly PortSpec[];
  /** Changes that make the tables before the first packet, in order; before `groups` and `flows`. */
  readonly changes?: readonly TableMod[];
  readonly flows?: readonly Flow[];
  readonly groups?: readonly Group[];
  /** Where the datapath is pinned, so that it outlives the process; what is pinned there is gone on with. */
  readonly pins?: DatapathPins;
  /** Saves tables and counters for the next process, and has those of the one before. */
  readonly keeper?: StateKeeper;
  readonly log: Log;
  /** Called when all is loaded and warmed up, before the first port. */
  readonly onWarm?: () => void;
  /** Called after each piece of work: a drain of the ring, a slice of a revalidation round. */
  readonly onWork?: () => void;
}

/** Smallest number of interface indices that devmap and lost counters have room for. */
const MIN_PORT_SLOTS = 4096;

/** Room for interface indices up to `highest`, and some to come. */
const portSlotsFor = (highest: number): number =>
  Math.max(MIN_PORT_SLOTS, 2 ** Math.ceil(Math.log2((highest + 1) * 2)));

export interface PortReport extends PortStats {
  readonly port: number;
  readonly name: string;
  readonly ifindex: number;
  readonly hook: string;
  readonly up: boolean;
  /** Upcalls lost because the ring was full. */
  readonly lost: number;
}

/** Numbers of a bridge since its start. */
export interface BridgeStats {
  readonly bridge: string;
  readonly uptimeMs: number;
  readonly version: number;
  readonly rules: number;
  readonly macs: number;
  /** Packets that the datapath handled by a megaflow, those that user space carried out included. */
  readonly hits: number;
  readonly lost: number;
  readonly upcalls: SlowPathStats;
  readonly cache: CacheStats;
  readonly revalidator: RevalidatorStats;
  readonly specialiser: SpecialiserStats;
  /** Of direct mode, when it is on. */
  readonly direct?: DirectStats;
  readonly transmit: {
    readonly sent: number;
    readonly dropped: number;
    readonly drops: Readonly<Record<string, number>>;
  };
  readonly ports: readonly PortReport[];
}

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
  private readonly rtnl: Rtnl;
  /** Interfaces are attached to by number, which means one in the calling thread's namespace. */
  private readonly netns: Netns;
  private scope = new Scope();
  private readonly attachments = new Map<number, PortAttachment>();
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
    interfaces: ReadonlyMap<PortSpec, Interface>,
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
    this.rtnl = scope.use(Rtnl.open(sys));
    this.netns = scope.use(Netns.current(sys));
    this.sender = scope.use(PacketSender.open(sys));
    const hooks = new Set<Hook>();
    for (const [spec, iface] of interfaces) hooks.add(programOf(this.expectedHook(spec, iface)));
    for (const { number, name } of options.ports)
      if (number !== undefined) this.sw.setPort({ number, name, up: false });
    this.tunnels = this.addTunnels(scope);
    const uplinks = this.tunnels?.interfaces(options.uplinks ?? [], options.tunnels ?? []) ?? new Map<never, never>();
    this.tunnels?.expect(new Map([...uplinks].map(([iface, hook]) => [iface, candidateHooks(iface, hook)[0]![0]])));
    for (const [iface, hook] of uplinks) hooks.add(programOf(candidateHooks(iface, hook)[0]![0]));
    keeper?.configurePorts(this.sw);
    warmUp(this.sw);
    const expected = [...expectedPushes(options.tunnels ?? []), ...expectedActions(this.sw)];
    const carried = expected.filter((list) => [...hooks].some((hook) => refusal(hook, list) === undefined));
    const portSlots = portSlotsFor(this.highestIndex());
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
    scope.defer(() => this.detachAll());
    warmUpUpcalls(sys, this.sw, this.cache);
    keeper?.restoreCounters(this.sw, this.survivor?.meters);
    options.onWarm?.();
    if (this.survivor !== undefined) this.adopt(this.survivor, interfaces);
    for (const [spec, iface] of interfaces) {
      this.addPort(spec, iface);
      // Packets of ports that are there must not wait until the last one is.
      while (this.ring.drain(this.slowPath.onRecord, DRAIN_LIMIT) > 0) this.slowPath.onDrained();
    }
    this.startTunnels(uplinks);
    if (this.survivor !== undefined) this.adoptionTimer = setTimeout(() => this.endAdoption(), GRACE_MS);
    scope.defer(() => clearTimeout(this.adoptionTimer));
    const { mode = "megaflow" } = options;
    if (mode !== "megaflow") {
      this.front = scope.use(new DirectFront(this.sw, this.datapath, this.ports, { onBuilt: this.onDirectBuilt }));
      this.front.buildNow(mode === "direct");
    }
    scope.use(followInterfaces(sys, (event) => this.onInterface(event)));
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
        ifindex: 0,
        hook: "tunnel",
        toPeer: false,
        mac: "",
        addedMs: this.startMs,
        stats,
      });
    }
    return scope.use(new Tunnels(this.sys, this.sw, this.rtnl, this.log));
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
    for (const [iface, hook] of uplinks) {
      this.datapath.addRedirect(iface.index);
      tunnels.attach(iface, hook, (wanted) => this.stub(wanted), receivesXdp);
    }
    const onWays = (): void => {
      this.sw.underlayChanged();
      this.revalidator.wake();
    };
    const onPlan = (): void => {
      this.cache.changeOver.tunnels = tunnels.plan;
      this.specialiser.wake();
    };
    tunnels.follow(onWays, onPlan, this.onError);
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

  /** The hook that a port will most likely have. */
  private expectedHook(spec: PortSpec, iface: Interface): AttachedHook {
    const hooks = candidateHooks(iface, spec.hook).map(([hook]) => hook);
    const left = this.survivor?.hook(iface.index);
    return left !== undefined && hooks.includes(left) ? left : hooks[0]!;
  }

  /** Puts the megaflows of an earlier process into our programs, to which the ports then go over one by one. */
  private adopt(survivor: Survivor, interfaces: ReadonlyMap<PortSpec, Interface>): void {
    for (const [spec, iface] of interfaces) {
      const { number = this.ports.freeNumber } = spec;
      this.ports.add(portOf(number, spec, iface, this.expectedHook(spec, iface)));
      this.sw.setPort({ number, name: iface.name, up: isRunning(iface) });
      this.datapath.addRedirect(iface.index);
      this.datapath.addLost(iface.index, survivor.lost(iface.index));
    }
    const { keeper } = this.options;
    const base = new CounterBase(keeper?.saved?.counters?.megaflows);
    this.adoption = new Adoption(survivor, base, this.sw, this.ports, this.cache, this.credit);
    const report = this.adoption.install(this.sw.macs.size === 0);
    if (this.cache.isWanting) this.specialiser.buildNow(this.datapath.generation.hooks);
    keeper?.restorePorts(this.ports);
    this.hits = keeper?.saved?.counters?.hits ?? 0;
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
    this.survivor = undefined;
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
    for (const attachment of this.attachments.values()) attachment.leave();
    // What comes by tunnels waits for the next process.
    this.tunnels?.[Symbol.dispose]();
    this.attachments.clear();
    this.scope.move();
  }

  /**
   * Starts a switch in the current network namespace.
   * @throws {@link NoInterfaceError}, {@link OccupiedError}, {@link SyscallError}, {@link VerifierError}; nothing stays
   *   behind
   */
  static open(sys: Sys, options: BridgeOptions): Bridge {
    using rtnl = Rtnl.open(sys);
    const interfaces = new Map<PortSpec, Interface>();
    for (const spec of options.ports) {
      // Whoever goes on with a switch has to do with what is left of it: a port comes when its interface does.
      const iface = options.keeper?.saved === undefined ? rtnl.get(spec.name) : rtnl.find(spec.name);
      if (iface !== undefined) interfaces.set(spec, iface);
      else options.log.warn({ interface: spec.name }, "no such interface; it becomes a port when it comes");
    }
    using scope = new Scope();
    const bridge = new Bridge(sys, options, interfaces, scope);
    bridge.scope = scope.move();
    return bridge;
  }

  private highestIndex(): number {
    return Math.max(0, ...this.rtnl.interfaces().map(({ index }) => index));
  }

  // Ports

  /** Who is told that a port came, changed or goes. */
  onPort: (reason: PortReason, port: Port) => void = () => undefined;

  /** Makes an interface a port. @throws as {@link Bridge.open} */
  addPort(spec: PortSpec, iface: Interface = this.rtnl.get(spec.name)): RuntimePort {
    const number = spec.number ?? this.ports.freeNumber;
    const { plan } = this.datapath.generation;
    if (iface.index >= plan.portSlots)
      this.specialiser.buildNow(this.datapath.generation.hooks, portSlotsFor(iface.index));
    const receivesXdp = this.options.ports.some(({ hook }) => hook === "native");
    const attachment = this.attach(spec, iface, receivesXdp);
    this.attachments.set(number, attachment);
    const { hook, why, peer, isTakenOver } = attachment;
    const port = portOf(number, spec, iface, hook, this.ports.byNumber(number)?.stats);
    this.datapath.addRedirect(iface.index);
    this.ports.add(port);
    this.onPort("add", this.sw.setPort({ number, name: iface.name, up: isRunning(iface) }));
    this.log.info(
      { port: number, interface: iface.name, ifindex: iface.index, hook, why },
      isTakenOver ? "port taken over" : "port added",
    );
    if (peer !== undefined && Object.keys(peer.changed).length > 0)
      this.log.info(
        { peer: peer.peer, offloads: peer.changed },
        `offloads of the peer changed for XDP on ${iface.name}`,
      );
    for (const problem of peer?.failed ?? []) this.log.warn({ interface: iface.name }, problem);
    this.revalidator.wake();
    return port;
  }

  /** Attaches, pins what keeps the attachment there, and notes what must be undone one day. */
  private attach(spec: PortSpec, iface: Interface, receivesXdp: boolean): PortAttachment {
    const { pins, keeper } = this.options;
    const left = this.survivor?.attachment(iface.index);
    const offloads = keeper?.offloadsOf(iface.index);
    const earlier = {
      ...(left === undefined ? {} : { attachment: left }),
      ...(offloads === undefined ? {} : { offloads }),
    };
    const attachment = attachPort(this.sys, iface, spec.hook, (hook) => this.stub(hook), receivesXdp, earlier);
    keeper?.keepOffloads(iface.index, attachment.peer?.before);
    if (pins === undefined || attachment.isTakenOver) return attachment;
    pins.dropLink(iface.index);
    if (attachment.link !== undefined) pins.keepLink(iface.index, attachment.link);
    else if (attachment.addedClsact) pins.keepClsact(iface.index, this.stub(programOf(attachment.hook)));
    return attachment;
  }

  /** The stub of a hook, whose main program is built when it is not there yet. */
  private stub(hook: Hook): ReturnType<Datapath<Ukey>["stub"]> {
    const { hooks } = this.datapath.generation;
    if (!hooks.has(hook)) this.specialiser.buildNow(new Set([...hooks, hook]));
    return this.datapath.stub(hook);
  }

  removePort(number: number): void {
    const port = this.ports.remove(number);
    if (port === undefined) return;
    const attachment = this.attachments.get(number);
    this.attachments.delete(number);
    for (const release of [
      () => attachment?.[Symbol.dispose](),
      () => this.options.pins?.dropLink(port.ifindex),
      () => this.options.keeper?.keepOffloads(port.ifindex, undefined),
      () => this.datapath.removeRedirect(port.ifindex),
    ]) {
      try {
        release();
      } catch (error) {
        // The interface may be gone, and with it what there was to take back.
        this.log.debug({ err: error, port: number }, "cleaning up after a port");
      }
    }
    this.cache.removePort(number);
    const gone = this.sw.port(number);
    if (gone !== undefined) this.onPort("delete", gone);
    this.sw.removePort(number);
    this.log.info({ port: number, interface: port.name }, "port removed");
    this.revalidator.wake();
  }

  /** Changes how a port is used; one that is to be down is taken down, as in OVS. @throws {@link SyscallError} */
  configurePort(number: number, config: Partial<PortConfig>): void {
    const old = this.sw.port(number)?.config;
    const flags = Object.keys(config) as (keyof PortConfig)[];
    if (old === undefined || flags.every((flag) => old[flag] === config[flag])) return;
    const { portDown } = config;
    const ifindex = this.ports.ifindexOf(number);
    const turns = portDown !== undefined && portDown !== old.portDown && ifindex !== 0;
    if (turns) this.rtnl.change(ifindex, { up: !portDown });
    const up = turns ? { up: !portDown && isRunning(this.rtnl.get(ifindex)) } : {};
    this.onPort("modify", this.sw.setPort({ number, config, ...up }));
    this.tablesChanged();
  }

  private detachAll(): void {
    // Uplinks before their programs go: the host's own packets pass them.
    this.tunnels?.[Symbol.dispose]();
    for (const { number } of this.ports.all) this.removePort(number);
  }

  private onInterface(event: Parameters<Parameters<typeof followInterfaces>[1]>[0]): void {
    try {
      if (event.kind === "lost") {
        const interfaces = this.rtnl.interfaces();
        const present = new Set(interfaces.map(({ index }) => index));
        for (const { number, ifindex } of this.ports.all)
          if (ifindex !== 0 && !present.has(ifindex)) this.removePort(number);
        for (const iface of interfaces) this.onChanged(iface);
      } else if (event.kind === "removed") {
        const port = this.ports.byIfindex(event.interface.index);
        if (port !== undefined) this.removePort(port.number);
      } else this.onChanged(event.interface);
    } catch (error) {
      this.onError(error);
    }
  }

  /** Name and link state of a port; or an interface that comes (back) under the name of a port. */
  private onChanged(iface: Interface): void {
    const port = this.ports.byIfindex(iface.index);
    if (port === undefined) {
      this.onAppeared(iface);
      return;
    }
    const { number } = port;
    const before = this.sw.port(number);
    const up = isRunning(iface);
    if (before?.up === up && before.name === iface.name) return;
    if (iface.name !== port.name) {
      this.ports.add({ ...port, name: iface.name });
      this.log.info({ port: number, interface: iface.name, before: port.name }, "interface renamed");
    }
    this.onPort("modify", this.sw.setPort({ number, name: iface.name, up }));
    if (before?.up !== up) this.log.info({ port: number, interface: iface.name, up }, up ? "link up" : "link down");
    this.revalidator.wake();
  }

  private onAppeared(iface: Interface): void {
    const spec = this.options.ports.find(({ name }) => name === iface.name);
    // The interface that had the name may be a port still, by another name.
    if (spec === undefined || this.ports.byName(spec.name) !== undefined) return;
    if (spec.number !== undefined && this.ports.byNumber(spec.number) !== undefined) return;
    this.netns.run(() => void this.addPort(spec, iface));
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

/** A port as the runtime knows it. */
const portOf = (
  number: number,
  spec: PortSpec,
  { name, index: ifindex, mac }: Interface,
  hook: AttachedHook,
  stats = newPortStats(),
): RuntimePort => ({
  number,
  name,
  ifindex,
  hook,
  toPeer: spec.hook === "peer",
  mac,
  addedMs: monotonicMs(),
  stats,
});

/** Whether packets can leave by an interface. */
const isRunning = (iface: Interface): boolean => iface.isUp && iface.hasCarrier;
