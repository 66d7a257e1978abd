// The network below tunnels as the switch asks for it: routes and neighbours of the kernel, remembered for as long as they hold.
// Whenever the kernel reports a change, what is remembered is looked up again, and who asked is told if an answer differs.

import { equalBytes, toHex } from "ebpf-assembler";
import { packMac, Routes, type Rtnl, type Sys } from "libbpf-ts";
import type { Hop, Underlay } from "#compiler";

/** Destinations that are remembered; beyond, all are forgotten. */
const MAX_HOPS = 4096;

interface Known {
  readonly dst: Uint8Array;
  readonly src: Uint8Array;
  hop: Hop | undefined;
}

const isSame = (a: Hop | undefined, b: Hop | undefined): boolean =>
  a === undefined || b === undefined
    ? a === b
    : a.ifindex === b.ifindex &&
      a.mtu === b.mtu &&
      equalBytes(a.src, b.src) &&
      equalBytes(a.srcMac, b.srcMac) &&
      (a.dstMac === undefined || b.dstMac === undefined ? a.dstMac === b.dstMac : equalBytes(a.dstMac, b.dstMac));

/** Disposing closes its socket. */
export class KernelUnderlay implements Underlay, Disposable {
  private readonly known = new Map<string, Known>();
  private readonly routes: Routes;

  /** @param rtnl - of the namespace that the tunnels end in, which is the current one; stays open */
  constructor(
    sys: Sys,
    private readonly rtnl: Rtnl,
  ) {
    this.routes = Routes.open(sys);
  }

  /** @throws {@link SyscallError} */
  hop(dst: Uint8Array, src: Uint8Array): Hop | undefined {
    const name = `${toHex(dst)} ${toHex(src)}`;
    let known = this.known.get(name);
    if (known === undefined) {
      if (this.known.size >= MAX_HOPS) this.known.clear();
      this.known.set(name, (known = { dst, src, hop: this.lookUp(dst, src) }));
    }
    return known.hop;
  }

  private lookUp(dst: Uint8Array, src: Uint8Array): Hop | undefined {
    const route = this.routes.to(dst, src);
    if (route === undefined) return undefined;
    const iface = this.rtnl.find(route.ifindex);
    if (iface === undefined || iface.mac === "") return undefined;
    const dstMac = this.routes.neighbour(route.ifindex, route.nextHop);
    return {
      ifindex: route.ifindex,
      srcMac: packMac(iface.mac),
      dstMac,
      src: src.some((byte) => byte !== 0) ? src : (route.source ?? src),
      mtu: iface.mtu,
    };
  }

  /** Looks everything up again. @returns whether anything is different now @throws {@link SyscallError} */
  refresh(): boolean {
    let isChanged = false;
    for (const known of this.known.values()) {
      const hop = this.lookUp(known.dst, known.src);
      if (isSame(hop, known.hop)) continue;
      known.hop = hop;
      isChanged = true;
    }
    return isChanged;
  }

  /** Addresses of an interface. */
  addresses(ifindex: number): Uint8Array[] {
    return this.routes.addresses(ifindex);
  }

  [Symbol.dispose](): void {
    this.routes[Symbol.dispose]();
  }
}
