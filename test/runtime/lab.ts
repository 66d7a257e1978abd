// A lab for the runtime's tests: a namespace for the switch, a host namespace behind each of its ports. Names carry the
// process id, so that runs beside each other do not meet; disposing leaves nothing.

import { execFile, type ExecFileException } from "node:child_process";
import { Scope } from "ebpf-assembler";
import { linux, Netns, packMac, PacketReceiver, PacketSender, Rtnl, type Sys } from "libbpf-ts";
import { Bridge, parsePortSpec, silentLog, type BridgeOptions } from "#runtime";
import { SLOWDOWN } from "../support/pace.js";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let labs = 0;

/** Host `i` (from 1) has 02:00:00:00:00:0i, 10.0.0.i/24, fd00::i/64 on `eth0`, behind port `pi` of the switch. */
export class Lab implements Disposable {
  readonly sys: Sys = linux();
  readonly switchNs: Netns;
  readonly hosts: readonly Netns[];
  private readonly prefix = `rt${process.pid}x${labs++}`;
  private readonly scope: Scope;

  constructor(readonly nHosts: number) {
    using scope = new Scope();
    this.switchNs = scope.use(Netns.create(this.sys, `${this.prefix}s`));
    const hosts: Netns[] = [];
    for (let i = 1; i <= nHosts; i++) hosts.push(scope.use(Netns.create(this.sys, `${this.prefix}h${i}`)));
    this.hosts = hosts;
    this.switchNs.run(() => {
      using rtnl = Rtnl.open(this.sys);
      hosts.forEach((host, i) => {
        const mac = packMac(Lab.mac(i + 1));
        rtnl.createVeth({ name: `p${i + 1}` }, { name: "eth0", netnsFd: host.fdNumber, mac });
        rtnl.change(rtnl.get(`p${i + 1}`).index, { up: true });
      });
    });
    hosts.forEach((host, i) =>
      host.run(() => {
        using rtnl = Rtnl.open(this.sys);
        const { index } = rtnl.get("eth0");
        rtnl.change(rtnl.get("lo").index, { up: true });
        rtnl.change(index, { up: true });
        rtnl.addAddress(index, `${Lab.ip(i + 1)}/24`);
        rtnl.addAddress(index, `fd00::${i + 1}/64`);
      }),
    );
    this.scope = scope.move();
  }

  static mac(i: number): string {
    return `02:00:00:00:00:${i.toString(16).padStart(2, "0")}`;
  }

  static ip(i: number): string {
    return `10.0.0.${i}`;
  }

  /** Path for `nsenter --net=`. */
  path(host: number | "switch"): string {
    return `/var/run/netns/${this.prefix}${host === "switch" ? "s" : `h${host}`}`;
  }

  /** Runs a shell command on a host. Never rejects. */
  run(host: number | "switch", command: string, timeoutMs = 15_000): Promise<Ran> {
    return new Promise((resolve) => {
      const done = (error: ExecFileException | null, stdout: string, stderr: string): void =>
        resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
      execFile("nsenter", [`--net=${this.path(host)}`, "sh", "-c", command], { timeout: timeoutMs * SLOWDOWN }, done);
    });
  }

  /** Permanent neighbour entries on all hosts, so that nothing but a test's own packets flows. */
  addNeighbours(): void {
    this.hosts.forEach((host, i) =>
      host.run(() => {
        using rtnl = Rtnl.open(this.sys);
        const { index } = rtnl.get("eth0");
        for (let j = 1; j <= this.nHosts; j++)
          if (j !== i + 1) rtnl.addNeighbour(index, Lab.ip(j), packMac(Lab.mac(j)));
      }),
    );
  }

  /** Keeps the kernels of all hosts from sending anything of their own (router solicitations, MLD). */
  async silence(): Promise<void> {
    const quiet = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
    for (let i = 1; i <= this.nHosts; i++) await this.run(i, quiet);
    await this.run("switch", quiet);
  }

  /** A switch on all ports. */
  bridge(options: Partial<BridgeOptions> & { readonly hook?: string } = {}): Bridge {
    const { hook = "auto", ...rest } = options;
    const ports = this.hosts.map((_, i) => parsePortSpec(`${i + 1}=p${i + 1}:${hook}`));
    return this.switchNs.run(() =>
      Bridge.open(this.sys, { name: "br0", failMode: "standalone", ports, log: silentLog, ...rest }),
    );
  }

  /** A socket that sends raw packets as host `host`, with the index of its interface. */
  sender(host: number): { readonly sender: PacketSender; readonly ifindex: number } {
    return this.hosts[host - 1]!.run(() => {
      using rtnl = Rtnl.open(this.sys);
      return { sender: PacketSender.open(this.sys), ifindex: rtnl.get("eth0").index };
    });
  }

  /** A socket that receives what arrives at host `host`. */
  receiver(host: number): PacketReceiver {
    return this.hosts[host - 1]!.run(() => {
      using rtnl = Rtnl.open(this.sys);
      return PacketReceiver.open(this.sys, rtnl.get("eth0").index);
    });
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `test` holds. @returns whether it came to hold in time */
export const eventually = async (test: () => boolean, timeoutMs = 5000): Promise<boolean> => {
  for (const end = Date.now() + timeoutMs * SLOWDOWN; Date.now() < end; await sleep(10)) if (test()) return true;
  return test();
};

/** An Ethernet frame: addresses by host number, a type, and a payload filled up to `size` bytes. */
export const frame = (src: string, dst: string, size = 64, type = 0x88b5): Uint8Array => {
  const bytes = new Uint8Array(size);
  bytes.set(packMac(dst), 0);
  bytes.set(packMac(src), 6);
  bytes[12] = type >>> 8;
  bytes[13] = type & 0xff;
  return bytes;
};
