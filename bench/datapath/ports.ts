// Where a bridge of the datapath bench has its ports: a network namespace with a veth pair for each, whose other ends lie in
// a second one. Packets of test runs do not go through them; first packets of flows do.

import { writeFileSync } from "node:fs";
import { Scope } from "ebpf-assembler";
import { linux, Netns, Rtnl } from "libbpf-ts";
import { IN_PORT, OUT_PORTS } from "./case.js";

let made = 0;

/** The kernel's own packets (neighbour discovery, multicast reports) would be flows of the bench. */
const silence = (): void => {
  for (const which of ["all", "default"]) writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1");
};

/** A namespace with interfaces for the ports of bridges that come and go. Disposing removes it. */
export class Ports implements Disposable {
  readonly netns: Netns;
  /** Of the port that packets come in by. */
  readonly ifindex: number;
  private readonly scope: Scope;

  constructor() {
    const sys = linux();
    using scope = new Scope();
    this.netns = scope.use(Netns.create(sys, `ofxdp-bench-${process.pid}-ports${made++}`));
    const far = scope.use(Netns.create(sys));
    for (const netns of [this.netns, far]) netns.run(silence);
    this.ifindex = this.netns.run(() => {
      using rtnl = Rtnl.open(sys);
      for (const port of [IN_PORT, ...OUT_PORTS]) {
        rtnl.createVeth({ name: `p${port}` }, { name: `h${port}`, netnsFd: far.fdNumber });
        rtnl.change(rtnl.get(`p${port}`).index, { up: true });
      }
      return rtnl.get(`p${IN_PORT}`).index;
    });
    far.run(() => {
      using rtnl = Rtnl.open(sys);
      for (const port of [IN_PORT, ...OUT_PORTS]) rtnl.change(rtnl.get(`h${port}`).index, { up: true });
    });
    this.scope = scope.move();
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
