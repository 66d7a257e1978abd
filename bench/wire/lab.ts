// Two hosts in namespaces, and between them what is to be compared: a switch in a third namespace, or nothing. Each path has
// a lab of its own, so that paths can be measured in turn without being rebuilt.

import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Scope } from "ebpf-assembler";
import { Link, linux, loadObject, Netns, packMac, Rtnl, type Sys } from "libbpf-ts";
import { compileC } from "../clang.js";
import { BenchError } from "../error.js";
import { Dialogue, run, startDaemon } from "../processes.js";

/** Ends of the cables at the hosts. */
const HOSTS = [
  { mac: "02:00:00:00:00:01", address: "10.77.0.1" },
  { mac: "02:00:00:00:00:02", address: "10.77.0.2" },
] as const;

/** Flows that the packets of {@link WireLab.packets} are of. */
export const WIRE_FLOWS = 1_000;

const GIGA = 1e9;
const IPERF_START_MS = 200;

let made = 0;

/** Packets that the kernel sends by itself would be counted. */
const silence = (): void => {
  for (const which of ["all", "default"]) writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1");
};

/** Disposing removes the namespaces and ends the processes in them. */
export class WireLab implements Disposable {
  readonly sys: Sys = linux();
  /** The switch's namespace; its ports p1 and p2 lead to the hosts. */
  readonly switchNs: Netns;
  private readonly hosts: readonly Netns[];
  private readonly blaster: Dialogue;
  private readonly dropper;
  private readonly sinkIndex: number;
  private readonly scope: Scope;

  /**
   * @param blast - path of the sender, bench/c/blast.c compiled
   * @param isDirect - a cable from host to host in place of two to the switch
   */
  constructor(blast: string, isDirect = false) {
    const { sys } = this;
    using scope = new Scope();
    const prefix = `ofxdp-bench-${process.pid}-w${made++}`;
    this.switchNs = scope.use(Netns.create(sys, `${prefix}s`));
    this.hosts = HOSTS.map((_, i) => scope.use(Netns.create(sys, `${prefix}h${i + 1}`)));
    for (const netns of [this.switchNs, ...this.hosts]) netns.run(silence);
    const ends = HOSTS.map(({ mac }, i) => ({ name: "eth0", netnsFd: this.hosts[i]!.fdNumber, mac: packMac(mac) }));
    this.switchNs.run(() => {
      using rtnl = Rtnl.open(sys);
      if (isDirect) {
        rtnl.createVeth(ends[0]!, ends[1]!);
        return;
      }
      ends.forEach((end, i) => {
        rtnl.createVeth({ name: `p${i + 1}` }, end);
        rtnl.change(rtnl.get(`p${i + 1}`).index, { up: true });
      });
    });
    const indices = HOSTS.map(({ address }, i) => this.configureHost(i, address));
    this.sinkIndex = indices[1]!;
    this.dropper = scope.use(loadObject(sys, this.onlyProgram("drop_tc")));
    this.blaster = scope.use(new Dialogue(this.hosts[0]!, [blast, "eth0", HOSTS[1].mac, String(WIRE_FLOWS)]));
    scope.use(startDaemon(this.hosts[1]!, ["iperf3", "--server", "--bind", HOSTS[1].address]));
    this.scope = scope.move();
  }

  private onlyProgram(name: string): ReturnType<typeof compileC> {
    const object = compileC("wire");
    return { ...object, programs: object.programs.filter((program) => program.name === name) };
  }

  private configureHost(i: number, address: string): number {
    return this.hosts[i]!.run(() => {
      using rtnl = Rtnl.open(this.sys);
      rtnl.change(rtnl.get("lo").index, { up: true });
      const { index } = rtnl.get("eth0");
      rtnl.change(index, { up: true });
      rtnl.addAddress(index, `${address}/24`);
      const other = HOSTS[1 - i]!;
      rtnl.addNeighbour(index, other.address, packMac(other.mac));
      return index;
    });
  }

  private received(): number {
    return this.hosts[1]!.run(() => {
      using rtnl = Rtnl.open(this.sys);
      return Number(rtnl.get(this.sinkIndex).stats?.rxPackets ?? 0n);
    });
  }

  /**
   * Sends packets of 64 bytes for a while, as fast as one thread can. They are taken in by a program at the other host's
   * TC hook, before its stack.
   * @returns packets per second that arrived
   * @throws {@link BenchError} when none does
   */
  async packets(milliseconds: number): Promise<number> {
    using drop = this.hosts[1]!.run(() =>
      Link.tcx(this.sys, this.dropper.program("drop_tc"), this.sinkIndex, "ingress"),
    );
    const before = this.received();
    const [, ns = 0] = (await this.blaster.ask(String(milliseconds))).split(" ").map(Number);
    await sleep(1);
    void drop;
    const arrived = this.received() - before;
    if (arrived === 0) throw new BenchError("No packet arrived at the other host");
    return (arrived * GIGA) / ns;
  }

  /** One TCP connection from host to host for some seconds. @returns Gb/s */
  async tcp(seconds: number): Promise<number> {
    await sleep(IPERF_START_MS);
    const { address } = HOSTS[1];
    const text = await run(this.hosts[0]!, ["iperf3", "--json", "--client", address, "--time", String(seconds)], {
      timeoutMs: 1000 * seconds + 8000,
    });
    const { end } = JSON.parse(text) as { end?: { sum_received?: { bits_per_second?: number } } };
    return (end?.sum_received?.bits_per_second ?? 0) / GIGA;
  }

  /** Runs a command at a host, 0 or 1. */
  async atHost(host: number, command: readonly string[]): Promise<void> {
    await run(this.hosts[host]!, command);
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
