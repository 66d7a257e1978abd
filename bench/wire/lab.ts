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
export const HOSTS = [
  { mac: "02:00:00:00:00:01", address: "10.77.0.1" },
  { mac: "02:00:00:00:00:02", address: "10.77.0.2" },
] as const;

/** Flows that the packets of {@link WireLab.packets} are of. */
export const WIRE_FLOWS = 1_000;

const GIGA = 1e9;
const IPERF_START_MS = 200;
/** The last packet is on its way for so long at most. */
const LAST_PACKET_MS = 5;

/** What became of packets. */
export interface Sent {
  readonly sent: number;
  readonly arrived: number;
  readonly seconds: number;
}

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
  private readonly dropper;
  private readonly sinkIndex: number;
  private readonly defaultSender: Dialogue;
  /** While it is there, packets end at the other host's TC hook, before its stack. */
  private drop: Link | undefined;
  private hasServer = false;
  private readonly scope: Scope;

  /**
   * @param blast - path of bench/c/blast.c compiled
   * @param isDirect - a cable from host to host in place of two to the switch
   */
  constructor(
    private readonly blast: string,
    isDirect = false,
  ) {
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
    scope.defer(() => this.setDrop(false));
    this.defaultSender = scope.use(this.sender(String(WIRE_FLOWS)));
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

  /** Packets that the other host has got so far. */
  get received(): number {
    return this.hosts[1]!.run(() => {
      using rtnl = Rtnl.open(this.sys);
      return Number(rtnl.get(this.sinkIndex).stats?.rxPackets ?? 0n);
    });
  }

  /** A sender at the first host. @param what - number of flows, or path of a file of packets; see bench/c/blast.c */
  sender(what: string): Dialogue {
    return new Dialogue(this.hosts[0]!, [this.blast, "eth0", HOSTS[1].mac, what]);
  }

  private setDrop(wanted: boolean): void {
    if (wanted)
      this.drop ??= this.hosts[1]!.run(() =>
        Link.tcx(this.sys, this.dropper.program("drop_tc"), this.sinkIndex, "ingress"),
      );
    else {
      this.drop?.[Symbol.dispose]();
      this.drop = undefined;
    }
  }

  /**
   * Sends packets of 64 bytes to the other host for a while.
   * @param perSecond - 0: as fast as one thread can
   */
  async send(milliseconds: number, perSecond = 0, sender = this.defaultSender): Promise<Sent> {
    this.setDrop(true);
    const before = this.received;
    const [sent = 0, ns = 1] = (await sender.ask(`${milliseconds} ${perSecond}`)).split(" ").map(Number);
    await sleep(LAST_PACKET_MS);
    return { sent, arrived: this.received - before, seconds: ns / GIGA };
  }

  /** Packets per second that arrive when as many are sent as can be. @throws {@link BenchError} when none does */
  async packets(milliseconds: number): Promise<number> {
    const { arrived, seconds } = await this.send(milliseconds);
    if (arrived === 0) throw new BenchError("No packet arrived at the other host");
    return arrived / seconds;
  }

  /** One TCP connection from host to host for some seconds. @returns Gb/s */
  async tcp(seconds: number): Promise<number> {
    const { address } = HOSTS[1];
    this.setDrop(false);
    if (!this.hasServer) this.scope.use(startDaemon(this.hosts[1]!, ["iperf3", "--server", "--bind", address]));
    this.hasServer = true;
    await sleep(IPERF_START_MS);
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

  /** Runs a command beside the switch. */
  async atSwitch(command: readonly string[]): Promise<void> {
    await run(this.switchNs, command);
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
