// Interfaces for kernel tests: namespaces and veth pairs that nobody else uses and that go away with the test.

import { Scope } from "ebpf-assembler";
import { linux, Netns, packMac, Rtnl, type Interface } from "libbpf-ts";

const sys = linux();

/** One end of a pair: its namespace, an rtnetlink socket in it, and the interface. */
export interface End {
  readonly ns: Netns;
  readonly rtnl: Rtnl;
  readonly interface: Interface;
}

const naps = new Int32Array(new SharedArrayBuffer(4));
/** Blocks the thread. */
const nap = (ms: number): void => void Atomics.wait(naps, 0, 0, ms);

/** The kernel reports the operational state of a veth some time after its peer is up. */
const whenUp = (rtnl: Rtnl, name: string): Interface => {
  for (let i = 0; i < 1000 && rtnl.get(name).operState !== "up"; i++) nap(2);
  return rtnl.get(name);
};

/** Two namespaces joined by a veth pair `a` - `b`, both up. Disposing removes everything. */
export class VethLab implements Disposable {
  readonly a: End;
  readonly b: End;
  private readonly scope: Scope;

  constructor(options: { readonly mtu?: number } = {}) {
    using scope = new Scope();
    const open = () => {
      const ns = scope.use(Netns.create(sys));
      return { ns, rtnl: scope.use(ns.run(() => Rtnl.open(sys))) };
    };
    const [a, b] = [open(), open()];
    const mtu = options.mtu ?? 1500;
    a.rtnl.createVeth({ name: "a", mtu }, { name: "b", netnsFd: b.ns.fdNumber, mtu });
    a.rtnl.change(a.rtnl.get("a").index, { up: true });
    b.rtnl.change(b.rtnl.get("b").index, { up: true });
    this.a = { ...a, interface: whenUp(a.rtnl, "a") };
    this.b = { ...b, interface: whenUp(b.rtnl, "b") };
    this.scope = scope.move();
  }

  /** Gives `a` and `b` addresses in `NET.0/24` (1 and 2) that each knows of the other: no ARP, whose answers come late. */
  address(net: string): void {
    for (const [n, end, other] of [
      [1, this.a, this.b],
      [2, this.b, this.a],
    ] as const) {
      end.rtnl.addAddress(end.interface.index, `${net}.${n}/24`);
      end.rtnl.addNeighbour(end.interface.index, `${net}.${3 - n}`, packMac(other.interface.mac));
    }
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
