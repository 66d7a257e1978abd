// Everything of a bridge that its tunnel ports need: the uplinks, by which their packets come, what programs must know of them, and
// the ways on which packets go to other ends.

import { Scope } from "ebpf-assembler";
import {
  arrive,
  buildOuter,
  TNL_F,
  vportIndex,
  type Arrival,
  type DpAction,
  type Hook,
  type Hop,
  type Switch,
  type TunnelKey,
  type TunnelPlan,
} from "#compiler";
import { followRoutes, IpSender, Netns, type Interface, type Program, type Rtnl, type Sys } from "libbpf-ts";
import type { Log } from "../log.js";
import { attachPort, candidateHooks, programOf, type PortAttachment } from "./attach.js";
import type { AttachedHook, PortHook, PortSpec } from "./port-spec.js";
import type { TunnelSpec } from "./tunnel-spec.js";
import { KernelUnderlay } from "./underlay.js";

/** Changes of the network come in bursts: what they changed is looked up once. */
const SETTLE_MS = 2;

interface Uplink {
  readonly iface: Interface;
  readonly wanted: PortHook;
  readonly hook: AttachedHook;
  /** Undefined until it is attached. */
  readonly attachment?: PortAttachment;
}

/** Lists of actions by which packets go into tunnels, whatever the way will be: their code is the same. */
export const expectedPushes = (tunnels: readonly TunnelSpec[]): DpAction[][] =>
  tunnels.map(({ number = 0, config }) => {
    const dst = config.remote === "flow" ? new Uint8Array(4) : config.remote;
    const flags = (config.outKey === undefined ? 0 : TNL_F.KEY) | (config.csum ? TNL_F.CSUM : 0);
    const { type, dstPort, seq } = config;
    const src = new Uint8Array(dst.length);
    const tunnel: TunnelKey = { type, src, dst, tunId: 0n, tos: 0, ttl: 0, flags, dstPort, ...(seq ? { seq } : {}) };
    const hop: Hop = { ifindex: 0, srcMac: NO_MAC, dstMac: NO_MAC, src, mtu: 0 };
    return [{ kind: "tnl_push", port: number, tunnel, header: buildOuter(tunnel, hop), hop }];
  });

const NO_MAC = new Uint8Array(6);

/** A tunnel's packet, and what stands for its port in megaflows. */
export interface TunnelArrival extends Arrival {
  readonly index: number;
}

/** Disposing detaches the uplinks and closes the sockets. */
export class Tunnels implements Disposable {
  readonly sender: IpSender;
  readonly underlay: KernelUnderlay;
  private readonly uplinks = new Map<number, Uplink>();
  private readonly scope: Scope;
  /** Interfaces are attached to by number, which means one in the calling thread's namespace. */
  private readonly netns: Netns;
  private timer: NodeJS.Timeout | undefined;
  private addresses: readonly Uint8Array[] = [];

  /**
   * In the current network namespace; the switch has its tunnel ports.
   * @throws {@link SyscallError}; nothing stays behind
   */
  constructor(
    private readonly sys: Sys,
    private readonly sw: Switch,
    private readonly rtnl: Rtnl,
    private readonly log: Log,
  ) {
    using scope = new Scope();
    this.sender = scope.use(IpSender.open(sys));
    this.netns = scope.use(Netns.current(sys));
    this.underlay = scope.use(new KernelUnderlay(sys, rtnl));
    this.scope = scope.move();
    sw.underlay = this.underlay;
  }

  /** Interfaces by which packets of tunnels come: those asked for, else those that lead to the tunnels' other ends. */
  interfaces(asked: readonly PortSpec[], tunnels: readonly TunnelSpec[]): Map<Interface, PortHook> {
    if (asked.length > 0) return new Map(asked.map(({ name, hook }) => [this.rtnl.get(name), hook]));
    const found = new Set<number>();
    for (const { config } of tunnels) {
      const { remote, local } = config;
      if (remote === "flow") continue;
      const src = typeof local === "object" ? local : new Uint8Array(remote.length);
      const hop = this.underlay.hop(remote, src);
      if (hop !== undefined) found.add(hop.ifindex);
    }
    if (found.size === 0)
      this.log.warn({ tunnels: tunnels.map(({ name }) => name) }, "no uplink is known: nothing comes by tunnels");
    return new Map([...found].map((ifindex) => [this.rtnl.get(ifindex), "auto"]));
  }

  /** What programs have to know; the same object until that changes. */
  plan: TunnelPlan | undefined;

  /** Takes interfaces for uplinks, before they are attached. @returns the hooks that they will most likely have */
  expect(uplinks: ReadonlyMap<Interface, PortHook>): Hook[] {
    for (const [iface, wanted] of uplinks)
      this.uplinks.set(iface.index, { iface, wanted, hook: candidateHooks(iface, wanted)[0]![0] });
    this.plan = this.planNow();
    return [...this.uplinks.values()].map(({ hook }) => programOf(hook));
  }

  private planNow(): TunnelPlan {
    const indices = [...this.uplinks.keys()];
    this.addresses = indices.flatMap((ifindex) => this.underlay.addresses(ifindex));
    return { uplinks: indices, addresses: this.addresses, vports: this.sw.tunnels.vports };
  }

  /** Attaches an uplink. @throws as attachPort() */
  attach(iface: Interface, wanted: PortHook, stub: (hook: Hook) => Program, receivesXdp: boolean): void {
    const attachment = attachPort(this.sys, iface, wanted, stub, receivesXdp);
    const { hook, why } = attachment;
    this.uplinks.set(iface.index, { iface, wanted, hook, attachment });
    this.log.info({ interface: iface.name, ifindex: iface.index, hook, why }, "uplink attached");
  }

  private detach({ attachment, iface }: Uplink): void {
    try {
      attachment?.[Symbol.dispose]();
    } catch (error) {
      // The interface may be gone, and with it what there was to take back.
      this.log.debug({ err: error, interface: iface.name }, "cleaning up after an uplink");
    }
  }

  /** Uplinks whose interface is gone, by name. */
  private readonly missing = new Map<string, PortHook>();

  /** Gives uplinks up that are gone, and has those attached that are back. */
  private followUplinks(onBack: (iface: Interface, wanted: PortHook) => void): void {
    for (const [index, uplink] of this.uplinks) {
      if (this.rtnl.find(index) !== undefined) continue;
      this.uplinks.delete(index);
      this.detach(uplink);
      this.missing.set(uplink.iface.name, uplink.wanted);
      this.log.warn({ interface: uplink.iface.name }, "uplink is gone");
    }
    for (const [name, wanted] of this.missing) {
      const iface = this.rtnl.find(name);
      if (iface === undefined) continue;
      this.missing.delete(name);
      this.netns.run(() => onBack(iface, wanted));
    }
  }

  /**
   * Follows the host's interfaces, routes and neighbours.
   * @param onBack - an uplink came back and is to be attached
   * @param onWays - packets for tunnels may go another way
   * @param onPlan - programs must know other uplinks or addresses
   */
  follow(
    onBack: (iface: Interface, wanted: PortHook) => void,
    onWays: () => void,
    onPlan: () => void,
    onError: (error: unknown) => void,
  ): void {
    const look = (): void => {
      try {
        this.followUplinks(onBack);
        if (this.underlay.refresh()) onWays();
        const next = this.planNow();
        if (JSON.stringify(next) === JSON.stringify(this.plan)) return;
        this.plan = next;
        onPlan();
      } catch (error) {
        onError(error);
      }
    };
    this.scope.use(
      followRoutes(this.sys, () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(look, SETTLE_MS);
      }),
    );
    // What changed before.
    look();
  }

  /** The packet of a tunnel in what came by an uplink; undefined when the interface is none, or the packet is the host's. */
  arrival(ifindex: number, packet: Uint8Array): TunnelArrival | undefined {
    const uplink = this.uplinks.get(ifindex);
    const found = uplink === undefined ? undefined : arrive(this.sw.tunnels, this.addresses, packet);
    if (uplink === undefined || found === undefined) return undefined;
    return { ...found, index: vportIndex(found.vport, programOf(uplink.hook)) };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    this.sw.underlay = undefined;
    for (const uplink of this.uplinks.values()) this.detach(uplink);
    this.uplinks.clear();
    this.scope[Symbol.dispose]();
  }
}
