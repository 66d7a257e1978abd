// A switch between two hosts, in network namespaces of its own: what the daemon's benches run on.

import { Scope } from "ebpf-assembler";
import { linux, Netns, Rtnl, type Sys } from "libbpf-ts";
import { Bridge, parsePortSpec, silentLog } from "#runtime";

/** Disposing removes the namespaces and all that is in them. */
export class Lab implements Disposable {
  readonly sys: Sys = linux();
  readonly bridge: Bridge;
  /** Name of the namespace that sends; its interface is `eth0`. */
  readonly sender: string;
  private readonly scope: Scope;

  /** @param maxIdleMs - how long megaflows live without packets */
  constructor(hook: "tc" | "native", maxIdleMs: number) {
    using scope = new Scope();
    const prefix = `bench${process.pid}`;
    this.sender = `${prefix}h1`;
    const switchNs = scope.use(Netns.create(this.sys, `${prefix}s`));
    for (const i of [1, 2]) {
      const host = scope.use(Netns.create(this.sys, `${prefix}h${i}`));
      switchNs.run(() => {
        using rtnl = Rtnl.open(this.sys);
        rtnl.createVeth({ name: `p${i}` }, { name: "eth0", netnsFd: host.fdNumber });
        rtnl.change(rtnl.get(`p${i}`).index, { up: true });
      });
      host.run(() => {
        using rtnl = Rtnl.open(this.sys);
        rtnl.change(rtnl.get("eth0").index, { up: true });
      });
    }
    const ports = [1, 2].map((i) => parsePortSpec(`${i}=p${i}:${hook}`));
    this.bridge = scope.use(
      switchNs.run(() =>
        Bridge.open(this.sys, { name: "bench", failMode: "secure", ports, log: silentLog, maxIdleMs }),
      ),
    );
    this.scope = scope.move();
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
