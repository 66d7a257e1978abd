// The laboratory of the demo: a network namespace for the switch and one for each of three hosts, joined by veth pairs. The
// port of the switch that leads to a host bears the host's name; at the host it is eth0.
//
// Names carry the process id. Disposing removes everything; what a killed run left is removed by the next.

import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Scope } from "ebpf-assembler";
import { Netns, packMac, Rtnl, type Sys } from "libbpf-ts";

/** A host of the campus: see examples/campus.flows. */
export interface Host {
  readonly name: "alice" | "bob" | "web";
  readonly port: number;
  readonly vlan: number;
  /** Whether its packets have a tag on the wire. */
  readonly isTagged: boolean;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** Addresses of the router in its subnet. */
  readonly gateway4: string;
  readonly gateway6: string;
  /** Address in the network without VLANs and router. */
  readonly flat: string;
}

const host = (name: Host["name"], port: number, vlan: number, isTagged: boolean): Host => ({
  name,
  port,
  vlan,
  isTagged,
  mac: `02:00:00:00:00:0${port}`,
  ipv4: `10.0.${vlan}.${port}`,
  ipv6: `fd00:${vlan}::${port}`,
  gateway4: `10.0.${vlan}.254`,
  gateway6: `fd00:${vlan}::fe`,
  flat: `10.0.99.${port}`,
});

export const HOSTS = {
  alice: host("alice", 1, 10, false),
  bob: host("bob", 2, 10, true),
  web: host("web", 3, 20, false),
} as const satisfies Record<Host["name"], Host>;

export const ALL_HOSTS: readonly Host[] = Object.values(HOSTS);

export const ROUTER_MAC = "02:00:00:00:00:fe";

export const PREFIX = "ofxdp-demo";

/** A directory for what the daemon puts into files. */
export const makeRunDirectory = (): string => mkdtempSync(join(tmpdir(), `${PREFIX}-${process.pid}-`));

/** A switch with three hosts. */
export class Lab implements Disposable {
  readonly switchNs: Netns;
  private readonly namespaces = new Map<Host["name"], Netns>();
  private readonly scope: Scope;

  /** @throws {@link SyscallError}; nothing stays behind */
  constructor(readonly sys: Sys) {
    using scope = new Scope();
    this.switchNs = scope.use(Netns.create(sys, Lab.nameOf("switch")));
    for (const { name } of ALL_HOSTS) this.namespaces.set(name, scope.use(Netns.create(sys, Lab.nameOf(name))));
    this.switchNs.run(() => {
      // The kernel of the switch is to be no host of the network.
      this.sysctl("net/ipv6/conf/all/disable_ipv6", 1);
      this.sysctl("net/ipv6/conf/default/disable_ipv6", 1);
      using rtnl = Rtnl.open(sys);
      for (const { name, mac } of ALL_HOSTS) {
        rtnl.createVeth({ name }, { name: "eth0", netnsFd: this.ns(name).fdNumber, mac: packMac(mac) });
        rtnl.change(rtnl.get(name).index, { up: true });
      }
    });
    for (const each of ALL_HOSTS) this.configure(each);
    this.scope = scope.move();
  }

  private configure({ name, ipv4, ipv6, flat, gateway4, gateway6 }: Host): void {
    this.ns(name).run(() => {
      // No link-local addresses: less of the kernel's own chatter between the demo's packets.
      this.sysctl("net/ipv6/conf/eth0/addr_gen_mode", 1);
      using rtnl = Rtnl.open(this.sys);
      const { index } = rtnl.get("eth0");
      rtnl.change(rtnl.get("lo").index, { up: true });
      rtnl.change(index, { up: true });
      rtnl.addAddress(index, `${ipv4}/24`);
      rtnl.addAddress(index, `${ipv6}/64`);
      rtnl.addAddress(index, `${flat}/24`);
      rtnl.addRoute("0.0.0.0/0", { gateway: gateway4 });
      rtnl.addRoute("::/0", { gateway: gateway6 });
      // ARP for the router is answered by the flows. Flows cannot make the answer of neighbour discovery.
      rtnl.addNeighbour(index, gateway6, packMac(ROUTER_MAC));
    });
  }

  /** Writes a kernel setting of the current namespace. @returns whether that was allowed */
  sysctl(path: string, value: number): boolean {
    try {
      writeFileSync(`/proc/sys/${path}`, String(value));
      return true;
    } catch {
      return false;
    }
  }

  /** Name of a namespace, as `ip netns` shows it. */
  static nameOf(where: Host["name"] | "switch"): string {
    return `${PREFIX}-${process.pid}-${where}`;
  }

  ns(name: Host["name"]): Netns {
    return this.namespaces.get(name)!;
  }

  /** Joins the ports of the switch to a bridge of the kernel. Disposing deletes it. */
  kernelBridge(): Disposable {
    return this.switchNs.run(() => {
      using rtnl = Rtnl.open(this.sys);
      rtnl.create("bridge", { name: "br0", up: true });
      const bridge = rtnl.get("br0").index;
      const remove = { [Symbol.dispose]: () => this.inSwitch((socket) => socket.remove(bridge)) };
      using scope = new Scope();
      scope.use(remove);
      for (const { name } of ALL_HOSTS) rtnl.change(rtnl.get(name).index, { master: bridge });
      return scope.move();
    });
  }

  /** Makes the kernel route between the subnets: of its bridge br0, and of the port to `web`. */
  kernelRouter(): boolean {
    return this.switchNs.run(() => {
      if (!this.sysctl("net/ipv4/ip_forward", 1)) return false;
      using rtnl = Rtnl.open(this.sys);
      rtnl.change(rtnl.get("web").index, { master: 0 });
      for (const [name, { gateway4 }] of [
        ["br0", HOSTS.alice],
        ["web", HOSTS.web],
      ] as const) {
        const { index } = rtnl.get(name);
        rtnl.change(index, { mac: packMac(ROUTER_MAC) });
        rtnl.addAddress(index, `${gateway4}/24`);
      }
      return true;
    });
  }

  private inSwitch(body: (rtnl: Rtnl) => void): void {
    this.switchNs.run(() => {
      using rtnl = Rtnl.open(this.sys);
      body(rtnl);
    });
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
