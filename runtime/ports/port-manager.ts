// The ports of a bridge: attaches them, follows what happens to their interfaces, and undoes on their way out what was done.

import { Scope } from "ebpf-assembler";
import type { Hook, Port, PortConfig, PortReason, Switch } from "#compiler";
import { followInterfaces, Netns, Rtnl, type Interface, type InterfaceEvent, type Sys } from "libbpf-ts";
import { monotonicMs } from "../clock.js";
import type { Datapath } from "../datapath/datapath.js";
import type { DatapathPins } from "../datapath/pins.js";
import type { Survivor } from "../datapath/survivor.js";
import type { Log } from "../log.js";
import type { MegaflowCache } from "../megaflow/cache.js";
import type { Revalidator } from "../megaflow/revalidator.js";
import type { Specialiser } from "../megaflow/specialiser.js";
import type { Ukey } from "../megaflow/ukey.js";
import type { StateKeeper } from "../state/keeper.js";
import { attachPort, candidateHooks, programOf, type PortAttachment } from "./attach.js";
import { openInternal, removeInternal } from "./internal-port.js";
import type { AttachedHook, PortSpec } from "./port-spec.js";
import { newPortStats, type PortTable, type RuntimePort } from "./port-table.js";

/** Smallest number of interface indices that devmap and lost counters have room for. */
const MIN_PORT_SLOTS = 4096;

/** Room for interface indices up to `highest`, and some to come. */
export const portSlotsFor = (highest: number): number =>
  Math.max(MIN_PORT_SLOTS, 2 ** Math.ceil(Math.log2((highest + 1) * 2)));

/** Whether packets can leave by an interface. */
const isRunning = (iface: Interface): boolean => iface.isUp && iface.hasCarrier;

/** The interface behind a port, and what it is called as a port. */
export interface Device {
  readonly iface: Interface;
  readonly name: string;
  /** `02:00:00:00:00:01`; "" for none. */
  readonly mac: string;
}

/** What ports have to do with. */
export interface PortContext {
  readonly sys: Sys;
  readonly specs: readonly PortSpec[];
  readonly sw: Switch;
  readonly table: PortTable;
  readonly datapath: Datapath<Ukey>;
  readonly specialiser: Specialiser;
  readonly cache: MegaflowCache;
  readonly revalidator: Revalidator;
  readonly pins: DatapathPins | undefined;
  readonly keeper: StateKeeper | undefined;
  readonly log: Log;
  readonly onError: (error: unknown) => void;
}

/** Finds the interface of a port that is to be; makes an internal one. @throws {@link NoInterfaceError}, {@link RangeViolation} */
export const findDevice = (rtnl: Rtnl, spec: PortSpec): Device => {
  if (spec.internal !== true) {
    const iface = rtnl.get(spec.name);
    return { iface, name: iface.name, mac: iface.mac };
  }
  const { end, host } = openInternal(rtnl, spec.name);
  return { iface: end, name: spec.name, mac: host?.mac ?? "" };
};

/** A port as the runtime knows it. */
export const portOf = (
  number: number,
  spec: PortSpec,
  { iface, name, mac }: Device,
  hook: AttachedHook,
  stats = newPortStats(),
): RuntimePort => ({
  number,
  name,
  device: iface.name,
  ifindex: iface.index,
  hook,
  toPeer: spec.hook === "peer",
  mac,
  addedMs: monotonicMs(),
  stats,
});

/** Disposing detaches every port, puts settings back and removes internal ports. */
export class PortManager implements Disposable {
  private readonly rtnl: Rtnl;
  /** Interfaces are attached to by number, which means one in the calling thread's namespace. */
  private readonly netns: Netns;
  private readonly attachments = new Map<number, PortAttachment>();
  private readonly scope: Scope;
  /** What an earlier process left, as long as it is needed. */
  survivor: Survivor | undefined;

  /** Who is told that a port came, changed or goes. */
  onPort: (reason: PortReason, port: Port) => void = () => undefined;

  constructor(private readonly context: PortContext) {
    using scope = new Scope();
    this.rtnl = scope.use(Rtnl.open(context.sys));
    this.netns = scope.use(Netns.current(context.sys));
    this.scope = scope.move();
  }

  /** Makes an interface a port. @throws as {@link attachPort} and {@link findDevice} */
  add(spec: PortSpec, device: Device = findDevice(this.rtnl, spec)): RuntimePort {
    const { context } = this;
    const { sw, table, datapath, log } = context;
    const { iface, name } = device;
    const number = spec.number ?? table.freeNumber;
    const { plan } = datapath.generation;
    if (iface.index >= plan.portSlots)
      context.specialiser.buildNow(datapath.generation.hooks, portSlotsFor(iface.index));
    const receivesXdp = context.specs.some(({ hook }) => hook === "native");
    const attachment = this.attach(spec, iface, receivesXdp);
    this.attachments.set(number, attachment);
    const { hook, why, peer, isTakenOver } = attachment;
    const port = portOf(number, spec, device, hook, table.byNumber(number)?.stats);
    datapath.addRedirect(iface.index);
    table.add(port);
    this.onPort("add", sw.setPort({ number, name, up: isRunning(iface) }));
    log.info(
      { port: number, interface: name, ifindex: iface.index, hook, why },
      isTakenOver ? "port taken over" : "port added",
    );
    if (peer !== undefined && Object.keys(peer.changed).length > 0)
      log.info({ peer: peer.peer, offloads: peer.changed }, `offloads of the peer changed for XDP on ${iface.name}`);
    for (const problem of peer?.failed ?? []) log.warn({ interface: iface.name }, problem);
    context.revalidator.wake();
    return port;
  }

  /** Attaches, pins what keeps the attachment there, and notes what must be undone one day. */
  private attach(spec: PortSpec, iface: Interface, receivesXdp: boolean): PortAttachment {
    const { pins, keeper, sys } = this.context;
    const left = this.survivor?.attachment(iface.index);
    const offloads = keeper?.offloadsOf(iface.index);
    const earlier = {
      ...(left === undefined ? {} : { attachment: left }),
      ...(offloads === undefined ? {} : { offloads }),
    };
    const attachment = attachPort(sys, iface, spec.hook, (hook) => this.stub(hook), receivesXdp, earlier);
    keeper?.keepOffloads(iface.index, attachment.peer?.before);
    if (pins === undefined || attachment.isTakenOver) return attachment;
    pins.dropLink(iface.index);
    if (attachment.link !== undefined) pins.keepLink(iface.index, attachment.link);
    else if (attachment.addedClsact) pins.keepClsact(iface.index, this.stub(programOf(attachment.hook)));
    return attachment;
  }

  /** The stub of a hook, whose main program is built when it is not there yet. */
  stub(hook: Hook): ReturnType<Datapath<Ukey>["stub"]> {
    const { datapath, specialiser } = this.context;
    const { hooks } = datapath.generation;
    if (!hooks.has(hook)) specialiser.buildNow(new Set([...hooks, hook]));
    return datapath.stub(hook);
  }

  remove(number: number): void {
    const { sw, table, datapath, cache, pins, keeper, log, revalidator } = this.context;
    const port = table.remove(number);
    if (port === undefined) return;
    const attachment = this.attachments.get(number);
    this.attachments.delete(number);
    for (const release of [
      () => attachment?.[Symbol.dispose](),
      () => pins?.dropLink(port.ifindex),
      () => keeper?.keepOffloads(port.ifindex, undefined),
      () => datapath.removeRedirect(port.ifindex),
      () => (port.device === port.name ? undefined : removeInternal(this.rtnl, port.name)),
    ]) {
      try {
        release();
      } catch (error) {
        // The interface may be gone, and with it what there was to take back.
        log.debug({ err: error, port: number }, "cleaning up after a port");
      }
    }
    cache.removePort(number);
    const gone = sw.port(number);
    if (gone !== undefined) this.onPort("delete", gone);
    sw.removePort(number);
    log.info({ port: number, interface: port.name }, "port removed");
    revalidator.wake();
  }

  /** Changes how a port is used; one that is to be down is taken down, as in OVS. @returns whether that is a change */
  configure(number: number, config: Partial<PortConfig>): boolean {
    const { sw, table } = this.context;
    const old = sw.port(number)?.config;
    const flags = Object.keys(config) as (keyof PortConfig)[];
    if (old === undefined || flags.every((flag) => old[flag] === config[flag])) return false;
    const { portDown } = config;
    const ifindex = table.ifindexOf(number);
    const turns = portDown !== undefined && portDown !== old.portDown && ifindex !== 0;
    if (turns) this.rtnl.change(ifindex, { up: !portDown });
    const up = turns ? { up: !portDown && isRunning(this.rtnl.get(ifindex)) } : {};
    this.onPort("modify", sw.setPort({ number, config, ...up }));
    return true;
  }

  /** Follows the interfaces until disposed. @throws {@link SyscallError} */
  follow(): void {
    this.scope.use(followInterfaces(this.context.sys, (event) => this.onInterface(event)));
  }

  private onInterface(event: InterfaceEvent): void {
    const { table } = this.context;
    try {
      if (event.kind === "lost") {
        const interfaces = this.rtnl.interfaces();
        const present = new Set(interfaces.map(({ index }) => index));
        for (const { number, ifindex } of table.all) if (ifindex !== 0 && !present.has(ifindex)) this.remove(number);
        for (const iface of interfaces) this.onChanged(iface);
      } else if (event.kind === "removed") {
        const port = table.byIfindex(event.interface.index);
        if (port !== undefined) this.remove(port.number);
      } else this.onChanged(event.interface);
    } catch (error) {
      this.context.onError(error);
    }
  }

  /** Name and link state of a port; or an interface that comes (back) under the name of a port. */
  private onChanged(iface: Interface): void {
    const { sw, table, log, revalidator } = this.context;
    const port = table.byIfindex(iface.index);
    if (port === undefined) {
      this.onAppeared(iface);
      return;
    }
    const { number } = port;
    const isRenamed = iface.name !== port.device;
    const up = isRunning(iface);
    const wasUp = sw.port(number)?.up;
    if (wasUp === up && !isRenamed) return;
    const name = isRenamed ? iface.name : port.name;
    if (isRenamed) {
      table.add({ ...port, name, device: name });
      log.info({ port: number, interface: name, before: port.name }, "interface renamed");
    }
    this.onPort("modify", sw.setPort({ number, name, up }));
    if (wasUp !== up) log.info({ port: number, interface: name, up }, up ? "link up" : "link down");
    if (up && wasUp !== true) this.attachments.get(number)?.peer?.renew();
    revalidator.wake();
  }

  private onAppeared(iface: Interface): void {
    const { specs, table } = this.context;
    const spec = specs.find(({ name, internal }) => internal !== true && name === iface.name);
    // The interface that had the name may be a port still, by another name.
    if (spec === undefined || table.byName(spec.name) !== undefined) return;
    if (spec.number !== undefined && table.byNumber(spec.number) !== undefined) return;
    this.netns.run(() => void this.add(spec, { iface, name: iface.name, mac: iface.mac }));
  }

  /** Makes ports of interfaces before they are attached, so that megaflows can name them. */
  announce(spec: PortSpec, device: Device): void {
    const { sw, table, datapath } = this.context;
    const number = spec.number ?? table.freeNumber;
    table.add(portOf(number, spec, device, expectedHook(spec, device.iface, this.survivor)));
    sw.setPort({ number, name: device.name, up: isRunning(device.iface) });
    datapath.addRedirect(device.iface.index);
    if (this.survivor !== undefined) datapath.addLost(device.iface.index, this.survivor.lost(device.iface.index));
  }

  /** Lets go of attachments that are pinned, and of internal ports: they stay. */
  leave(): void {
    for (const attachment of this.attachments.values()) attachment.leave();
    this.attachments.clear();
    this.scope[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const { number } of this.context.table.all) this.remove(number);
    this.scope[Symbol.dispose]();
  }
}

/** The hook that a port will most likely have: the one that an earlier process left it at, if it is asked for. */
export const expectedHook = (spec: PortSpec, iface: Interface, survivor: Survivor | undefined): AttachedHook => {
  const hooks = candidateHooks(iface, spec.hook).map(([hook]) => hook);
  const left = survivor?.hook(iface.index);
  return left !== undefined && hooks.includes(left) ? left : hooks[0]!;
};
