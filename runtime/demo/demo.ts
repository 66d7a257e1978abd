// The demo: a campus in network namespaces, switched by the real daemon, with real traffic. What is done is told on the way
// with the command that does it by hand; what came of it is returned as facts.
//
// Whatever happens, nothing stays: processes end before their namespaces, and both before the promise settles.

import { rmSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Report } from "#compiler";
import { linux, packMac, PacketSender, Rtnl } from "libbpf-ts";
import type { BridgeStats } from "../bridge-stats.js";
import type { PortHook } from "../ports/port-spec.js";
import { DaemonProcess } from "./daemon-process.js";
import type { Check, Comparison, Counters, DemoFacts, Speed } from "./facts.js";
import { sweep } from "../sweep.js";
import { ALL_HOSTS, HOSTS, Lab, makeRunDirectory, PREFIX, type Host } from "./lab.js";
import { ProcessError, Processes } from "./process.js";
import { countSteal } from "./steal.js";
import { Traffic } from "./traffic.js";
import { attachVlanTag } from "./vlan-tag.js";

/** The campus in OpenFlow. */
export const CAMPUS_FLOWS = fileURLToPath(new URL("../../../examples/campus.flows", import.meta.url));

export interface DemoOptions {
  /** Hook of the switch's ports. */
  readonly hook: PortHook;
  /** Length of each TCP stream. */
  readonly seconds: number;
  /** Told what is done, line by line. */
  readonly say: (line: string) => void;
  /** Stops the demo; its reason is a string. */
  readonly signal: AbortSignal;
}

/** The first packet of a flow is to be on its way within this time. */
const FIRST_PACKET_LIMIT_US = 2000;
/** With more than this share of the processors' time stolen, slow first packets prove nothing: they are timed again. */
const STOLEN_MAX = 0.005;
const TRIES = 4;
/** New flows whose first packets are timed. */
const NEW_HOSTS = { count: 400, everyMs: 3 } as const;
const OFXDP = fileURLToPath(new URL("../bin/ofxdp.js", import.meta.url));
const COMMAND_LIMIT_MS = 15_000;
const N_PINGS = 5;
const N_SPEED_PINGS = 100;
const SPEED_PING_INTERVAL_S = 0.005;
/** Time without an answer after which a TCP connection counts as not coming about: the first SYN, and a second after 1 s. */
const NO_ANSWER_MS = 1300;
const UDP = { flows: 200, each: 5 } as const;
/** No megaflow is to expire before it was shown. */
const MAX_IDLE_MS = 60_000;

const usOf = (ns: number): number => Math.round(ns / 1000);

const countersOf = ({ hits, lost, upcalls }: BridgeStats): Counters => ({
  hits,
  misses: upcalls.misses,
  slow: upcalls.slow,
  lost,
  upcallUs: {
    count: upcalls.latency.count,
    p50: usOf(upcalls.latency.p50),
    p99: usOf(upcalls.latency.p99),
    max: usOf(upcalls.latency.max),
  },
});

/** One run. Holds what its steps share. */
class Demo {
  private readonly checks: Check[] = [];
  private readonly traffic: Traffic;

  constructor(
    private readonly lab: Lab,
    private readonly processes: Processes,
    private readonly rundir: string,
    private readonly options: DemoOptions,
  ) {
    this.traffic = new Traffic(lab, processes);
  }

  private say(line: string): void {
    this.options.say(line);
  }

  private step(text: string): void {
    this.say(`\n* ${text}`);
  }

  /** The command that does by hand what comes next. */
  private byHand(where: Host["name"] | "switch" | "", command: string): void {
    this.say(`    ${where === "" ? "$" : `${where}#`} ${command}`);
  }

  private check(name: string, ok: boolean, detail: string): void {
    this.checks.push({ name, ok, detail });
    this.say(`      ${ok ? "ok" : "FAILED"}: ${name}: ${detail}`);
  }

  async run(): Promise<DemoFacts> {
    const startMs = performance.now();
    const compiled = await this.compileAndLoad();
    const campus = await this.campus();
    const flat = await this.standalone();
    const kernel = await this.kernel();
    const speeds: Comparison[] = [
      {
        job: "switched, alice to bob, learning switch",
        ofxdp: flat.speed,
        linux: kernel.bridged,
        note: "ofxdpd without flows; the kernel's bridge",
      },
      {
        job: "routed, alice to web, campus",
        ofxdp: campus.routed,
        linux: kernel.routed,
        note: "ofxdpd: VLAN, ACL and routes; the kernel: bridge and IPv4 forwarding, no ACL",
      },
      {
        job: "switched into a tagged port, alice to bob, campus",
        ofxdp: campus.tagged,
        linux: undefined,
        note: "ofxdpd: VLAN, ACL; this lab builds no VLAN filtering bridge",
      },
    ];
    return {
      ...compiled,
      megaflows: campus.megaflows,
      counters: campus.counters,
      standalone: { macs: flat.macs, megaflows: flat.megaflows, counters: flat.counters },
      speeds,
      tcpTool: this.traffic.tcpTool,
      checks: this.checks,
      seconds: Math.round(performance.now() - startMs) / 1000,
    };
  }

  /** Runs `ofxdp` in the switch's namespace. @throws {@link ProcessError} */
  private async ofxdp(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.processes.run(
      this.lab.switchNs,
      [process.execPath, OFXDP, ...args],
      COMMAND_LIMIT_MS,
    );
    if (code !== 0) throw new ProcessError(`ofxdp ${args[0] ?? ""}`, `it ended with ${code}`, stderr);
    return stdout;
  }

  /** Compiles the flow file, and puts the object on the switch's interfaces. */
  private async compileAndLoad(): Promise<Pick<DemoFacts, "flows" | "program">> {
    const file = relative(process.cwd(), CAMPUS_FLOWS);
    const hook = this.options.hook === "auto" || this.options.hook === "tc" ? "tc" : "xdp";
    const object = join(this.rundir, "campus.o");
    const names = ALL_HOSTS.map(({ name }) => name);
    this.step(`The flow file ${file}: VLAN admission, access lists, routing, neighbours, switching`);
    this.byHand("switch", `ofxdp compile ${file} -o campus.o --hook ${hook} --report`);
    const report = JSON.parse(
      await this.ofxdp("compile", CAMPUS_FLOWS, "-o", object, "--hook", hook, "--json"),
    ) as Report;
    const facts = {
      flows: { file, tables: report.tables.length, rules: report.tables.reduce((sum, { rules }) => sum + rules, 0) },
      program: { keyBytes: report.key.bytes, insns: report.programs[0]?.instructions ?? 0, hook },
    } as const;
    const { flows, program } = facts;
    this.say(
      `      ${flows.rules} flows in ${flows.tables} tables become a ${hook} program of ${program.insns} instructions; ` +
        `of a packet only ${program.keyBytes} bytes can matter`,
    );
    const at = this.options.hook === "auto" ? "tc" : this.options.hook;
    this.byHand("switch", `ofxdp load ${names.join(" ")} --obj campus.o --hook ${at}`);
    const loaded = await this.ofxdp("load", ...names, "--obj", object, "--hook", at);
    for (const line of loaded.trim().split("\n")) this.say(`      ${line}`);
    return facts;
  }

  private async startDaemon(bridge: string, ...args: readonly string[]): Promise<DaemonProcess> {
    const { hook } = this.options;
    const ports = ALL_HOSTS.flatMap(({ name, port }) => [
      "--port",
      `${port}=${name}${hook === "auto" ? "" : `:${hook}`}`,
    ]);
    const all = ["--bridge", bridge, ...ports, ...args];
    this.byHand("switch", `ofxdpd ${all.map((arg) => relativeIfFlows(arg)).join(" ")}`);
    return DaemonProcess.start(this.processes, this.lab.switchNs, this.rundir, [
      ...all,
      "--max-idle",
      String(MAX_IDLE_MS),
    ]);
  }

  private async ping(from: Host, what: string, address: string): Promise<void> {
    this.byHand(from.name, `ping ${address}`);
    const { sent, received, meanUs } = await this.traffic.ping(from, address, N_PINGS);
    const time = meanUs === undefined ? "" : `, ${meanUs} us on average`;
    this.check(what, received === sent, `${received} of ${sent} answered${time}`);
  }

  private async refused(from: Host, what: string, address: string, port: number): Promise<void> {
    this.byHand(from.name, `nc -z ${address} ${port}`);
    const outcome = await this.traffic.tcpTry(from, address, port, NO_ANSWER_MS);
    this.check(what, outcome === "timeout", outcome === "timeout" ? "no answer, as the access list wants" : outcome);
  }

  private async speed(from: Host, to: Host, address: string, by: string): Promise<Speed> {
    this.byHand(from.name, `iperf3 -c ${address} -t ${this.options.seconds}`);
    const tcpBitsPerSecond = await this.traffic.tcp(from, to, address, this.options.seconds);
    const { meanUs } = await this.traffic.ping(from, address, N_SPEED_PINGS, SPEED_PING_INTERVAL_S);
    this.say(`      ${(tcpBitsPerSecond / 1e9).toFixed(2)} Gb/s, ping ${meanUs ?? "lost"} us`);
    return { path: `${from.name} to ${to.name}`, by, tcpBitsPerSecond, pingUs: meanUs ?? NaN };
  }

  /** The campus under traffic. */
  private async campus(): Promise<{
    megaflows: DemoFacts["megaflows"];
    counters: Counters;
    routed: Speed;
    tagged: Speed;
  }> {
    const { alice, bob, web } = HOSTS;
    const { lab, traffic } = this;
    this.step("bob's interface gets two small TC programs that put VLAN tag 10 on and take it off");
    using _tag = lab.ns("bob").run(() => attachVlanTag(lab.sys, "eth0", bob.vlan));
    this.step("The daemon loads the flows, attaches its program to the ports, and handles what the program cannot yet");
    const daemon = await this.startDaemon("campus", "--fail-mode", "secure", "--flows", CAMPUS_FLOWS);
    this.step("Traffic");
    await this.ping(alice, "VLAN 10, untagged to tagged, IPv4", bob.ipv4);
    await this.ping(bob, "VLAN 10, tagged to untagged, IPv6", alice.ipv6);
    await this.ping(alice, "routed from VLAN 10 to 20, IPv4", web.ipv4);
    await this.ping(bob, "routed from VLAN 10 to 20, IPv6", web.ipv6);
    await Promise.all([
      this.refused(alice, "telnet is forbidden", web.ipv4, 23),
      this.refused(bob, "ssh over IPv6 into VLAN 20 is forbidden", web.ipv6, 22),
    ]);
    const before = await daemon.stats();
    this.byHand("alice", `(${UDP.flows * UDP.each} UDP datagrams from ${UDP.flows} ports to ${web.ipv4})`);
    const arrived = await traffic.udp(alice, web, web.ipv4, UDP.flows, UDP.each);
    const more = (await daemon.stats()).cache.installed - before.cache.installed;
    this.check(
      "UDP",
      arrived === UDP.flows * UDP.each,
      `${arrived} of ${UDP.flows * UDP.each} arrived; ${UDP.flows} flows needed ${more} new megaflow${more === 1 ? "" : "s"}`,
    );
    const routed = await this.speed(alice, web, web.ipv4, "ofxdpd, campus.flows");
    const tagged = await this.speed(alice, bob, bob.ipv4, "ofxdpd, campus.flows");
    this.byHand("switch", "ofxdp dump-flows; ofxdp appctl upcall/show");
    const megaflows = await daemon.megaflows();
    const counters = countersOf(await daemon.stats());
    this.check("nothing was lost", counters.lost === 0, `${counters.lost} upcalls lost`);
    await daemon.stop();
    return { megaflows, counters, routed, tagged };
  }

  /** The same lab without tags, VLANs and flows. */
  private async standalone(): Promise<{ macs: number; megaflows: number; counters: Counters; speed: Speed }> {
    this.step("Without flows the switch learns MAC addresses and just works");
    let daemon = await this.startDaemon("flat");
    for (const from of ALL_HOSTS)
      for (const to of ALL_HOSTS) if (from !== to) await this.ping(from, `${from.name} to ${to.name}`, to.flat);
    const { macs } = await daemon.stats();
    this.check("a learning switch knows all hosts", macs === ALL_HOSTS.length, `${macs} MAC addresses`);
    const speed = await this.speed(HOSTS.alice, HOSTS.bob, HOSTS.bob.flat, "ofxdpd without flows");
    let timed = await this.timeFirstPackets(daemon);
    for (let i = 1; i < TRIES && timed.isSlow && timed.stolen > STOLEN_MAX; i++) {
      this.say(`      ${timed.text}: once more, with a fresh daemon`);
      await daemon.stop();
      daemon = await this.startDaemon("flat");
      timed = await this.timeFirstPackets(daemon);
    }
    const want = `want less than ${FIRST_PACKET_LIMIT_US} us`;
    this.check("the first packet of a flow is quick", !timed.isSlow, `${timed.text}, ${want}`);
    const { stats } = timed;
    await daemon.stop();
    return { macs, megaflows: stats.cache.installed, counters: countersOf(stats), speed };
  }

  /** How long first packets take, and how much of the processors was not there meanwhile. */
  private async timeFirstPackets(
    daemon: DaemonProcess,
  ): Promise<{ stats: BridgeStats; isSlow: boolean; stolen: number; text: string }> {
    const stolenSince = countSteal();
    await this.newHosts();
    const stolen = stolenSince();
    const stats = await daemon.stats();
    const { count, p99 } = countersOf(stats).upcallUs;
    const text = `p99 ${p99} us of ${count} misses (the hypervisor took ${(100 * stolen).toFixed(1)} % of the processors)`;
    return { stats, isSlow: p99 >= FIRST_PACKET_LIMIT_US, stolen, text };
  }

  /** Frames from many addresses, each the first of its flow, at a pace at which they do not wait for one another. */
  private async newHosts(): Promise<void> {
    const { alice, bob } = HOSTS;
    this.byHand("alice", `(a frame from each of ${NEW_HOSTS.count} new MAC addresses to ${bob.mac})`);
    const sys = linux();
    const [sender, ifindex] = this.lab.ns(alice.name).run(() => {
      using rtnl = Rtnl.open(sys);
      return [PacketSender.open(sys), rtnl.get("eth0").index] as const;
    });
    using tx = sender;
    const frame = new Uint8Array(64);
    frame.set(packMac(bob.mac), 0);
    // IEEE 802 local experimental Ethertype 1.
    frame.set([0x88, 0xb5], 12);
    for (let i = 0; i < NEW_HOSTS.count; i++) {
      frame.set([0x02, 0xaa, 0, 0, i >>> 8, i & 0xff], 6);
      tx.queue(ifindex, frame);
      tx.flush();
      await sleep(NEW_HOSTS.everyMs);
    }
  }

  /** The same hosts behind the kernel's own bridge and router. */
  private async kernel(): Promise<{ bridged: Speed; routed: Speed | undefined }> {
    const { alice, bob, web } = HOSTS;
    const { lab } = this;
    this.step("For comparison: the same hosts on the kernel's own bridge");
    this.byHand("switch", "ip link add br0 type bridge");
    using _bridge = lab.kernelBridge();
    const bridged = await this.speed(alice, bob, bob.flat, "Linux bridge");
    this.step("... and on its router");
    this.byHand("switch", "sysctl net.ipv4.ip_forward=1");
    if (!lab.kernelRouter()) {
      this.say("      left out: the kernel's settings are read-only here");
      return { bridged, routed: undefined };
    }
    return { bridged, routed: await this.speed(alice, web, web.ipv4, "Linux bridge and IPv4 forwarding") };
  }
}

/** The flow file by a short path. */
const relativeIfFlows = (arg: string): string => (arg === CAMPUS_FLOWS ? relative(process.cwd(), arg) : arg);

/**
 * Runs the demo: about half a minute. Wants root.
 * @throws {@link InterruptedError} when it was stopped, {@link NotSupportedError} for a missing program,
 *   {@link SyscallError}, {@link ProcessError}; nothing stays behind
 */
export const runDemo = async (options: DemoOptions): Promise<DemoFacts> => {
  const { say, signal } = options;
  const sys = linux();
  const swept = sweep(sys, PREFIX);
  if (swept.length > 0) say(`Removed what an earlier demo left: ${swept.join(", ")}`);
  say(
    "* A lab of network namespaces: a switch, and the hosts alice (VLAN 10), bob (VLAN 10, tagged) and web (VLAN 20)",
  );
  say(`    NAME# stands for: ip netns exec ${Lab.nameOf("switch").replace("switch", "NAME")} ...`);
  using lab = new Lab(sys);
  const rundir = makeRunDirectory();
  try {
    await using processes = new Processes(signal);
    return await new Demo(lab, processes, rundir, options).run();
  } finally {
    rmSync(rundir, { recursive: true, force: true });
  }
};
