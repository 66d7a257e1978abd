import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { queryTcx, Rtnl } from "libbpf-ts";
import { eventually, Lab, sleep } from "./lab.js";
import { isOnceEach, sendNumbered } from "./numbered-traffic.js";
import { SLOWDOWN } from "../support/pace.js";

const run = promisify(execFile);
const OFXDPD = new URL("../../../runtime/dist/bin/ofxdpd.js", import.meta.url).pathname;
const SIZE = 64;
const PER_SECOND = 3000;

/** A daemon that ends and is started again, in a lab of its own. */
class Restarting {
  readonly dir = mkdtempSync(join(tmpdir(), "ofxdpd-"));
  readonly bpffs = join(this.dir, "bpf");
  private child: ChildProcess | undefined;

  constructor(
    readonly lab: Lab,
    private readonly args: readonly string[],
  ) {}

  get flowsFile(): string {
    return this.args[this.args.indexOf("--flows") + 1]!;
  }

  private get target(): string {
    return join(this.dir, `ofxdpd.${this.child?.pid}.ctl`);
  }

  /** @returns milliseconds until it handled packets */
  async start(): Promise<number> {
    const { dir, bpffs, args, lab } = this;
    const startMs = performance.now();
    const command = [`--net=${lab.path("switch")}`, process.execPath, OFXDPD, "--rundir", dir, "--bpffs", bpffs];
    const child = (this.child = spawn("nsenter", [...command, "-v", "warn", ...args], { stdio: "inherit" }));
    assert.ok(await eventually(() => existsSync(this.target) || child.exitCode !== null, 30_000));
    assert.equal(child.exitCode, null);
    return performance.now() - startMs;
  }

  async end(how: "kill" | "exit" | "cleanup" | "terminate"): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    const ended = once(child, "exit");
    if (how === "kill") child.kill("SIGKILL");
    else if (how === "terminate") child.kill("SIGTERM");
    else await this.appctl("exit", ...(how === "cleanup" ? ["--cleanup"] : []));
    await ended;
    this.child = undefined;
  }

  async appctl(...args: string[]): Promise<string> {
    return (await run("ovs-appctl", ["-t", this.target, ...args], { timeout: 20_000 })).stdout;
  }

  /** The counters of the rule whose text ends so. */
  async counts(rule: string): Promise<readonly number[]> {
    const text = await this.appctl("bridge/dump-flows");
    const line = text.split("\n").find((one) => one.endsWith(rule)) ?? "";
    return [/n_packets=(\d+)/, /n_bytes=(\d+)/].map((count) => Number(count.exec(line)?.[1]));
  }

  /** What is left in the kernel: attachments and pins. */
  get left(): string[] {
    const attached = this.lab.switchNs.run(() => {
      using rtnl = Rtnl.open(this.lab.sys);
      return rtnl.interfaces().flatMap(({ index, name, xdp }) => {
        const tcx = queryTcx(this.lab.sys, index, "ingress")?.length ?? 0;
        return [...Object.keys(xdp).map((mode) => `${name} ${mode}`), ...(tcx > 0 ? [`${name} tcx`] : [])];
      });
    });
    return [...attached, ...(existsSync(this.bpffs) ? readdirSync(this.bpffs) : [])];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child !== undefined) await this.end("terminate");
    else if (this.left.length > 0) {
      await this.start();
      await this.end("terminate");
    }
    rmSync(this.dir, { recursive: true });
  }
}

describe("runtime/restart", function () {
  this.timeout(60_000);
  let lab: Lab;
  before(async () => {
    lab = new Lab(3);
    await lab.silence();
  });
  after(() => lab[Symbol.dispose]());

  const flows = (dir: string, text: string): string => {
    const path = join(dir, "flows.txt");
    writeFileSync(path, text);
    return path;
  };

  /** Offload settings of a peer that XDP needs otherwise. */
  const settings = async (): Promise<string> =>
    (await lab.run(1, "ethtool -k eth0 | grep -E '^(tx-checksumming|tx-vlan-offload|generic-receive-offload):'"))
      .stdout;

  /** Runs `body` with a daemon. */
  const withDaemon = async (
    hook: string,
    text: string,
    body: (daemon: Restarting) => Promise<void>,
    ...args: string[]
  ): Promise<void> => {
    const ports = [1, 2, 3].flatMap((n) => ["--port", `${n}=p${n}:${hook}`]);
    const dir = mkdtempSync(join(tmpdir(), "flows-"));
    const daemon = new Restarting(lab, ["--fail-mode", "secure", ...ports, "--flows", flows(dir, text), ...args]);
    try {
      await body(daemon);
    } finally {
      await daemon[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
    }
  };

  for (const [hook, ways] of [
    ["tc", ["kill", "exit", "kill"]],
    ["native", ["kill"]],
    ["generic", ["exit", "exit"]],
  ] as const) {
    it(`ofxdpd at ${hook}: no packet of a cached flow is lost or miscounted, however it ends and starts again; settings go back at last`, () =>
      withDaemon(hook, "priority=1,dl_type=0x88b5 actions=output:2", async (daemon) => {
        const before = await settings();
        await daemon.start();
        assert.equal((await settings()) === before, hook === "tc");
        let isDone = false;
        const restarts = (async (): Promise<void> => {
          // A process that is killed before it first saves counters loses the packet that it was asked about.
          await sleep(1200);
          for (const way of ways) {
            await sleep(300);
            await daemon.end(way);
            await daemon.start();
          }
          await sleep(200);
        })().finally(() => (isDone = true));
        const { times, at } = await sendNumbered(lab, { packets: 200_000, perSecond: PER_SECOND, until: () => isDone });
        await restarts;
        assert.equal(isOnceEach(times), "0 missing, 0 doubled");
        assert.deepEqual(at, [times.length, 0]);
        // What is counted when a process is killed, of entries that a change of program took out since it saved, is lost.
        const [packets = 0, bytes] = await daemon.counts("actions=output:2");
        const kills = (ways as readonly string[]).filter((way) => way === "kill").length;
        const mostLost = kills * PER_SECOND * 2 * SLOWDOWN;
        assert.ok(packets <= times.length && packets >= times.length - mostLost, `${packets} of ${times.length}`);
        assert.equal(bytes, packets * SIZE);
        const { upcalls, ports } = JSON.parse(await daemon.appctl("ofxdp/stats")) as {
          upcalls: { misses: number };
          ports: { rxPackets: number; txPackets: number }[];
        };
        assert.equal(upcalls.misses, 0, "the last daemon saw no packet of the flow");
        assert.deepEqual([ports[0]?.rxPackets, ports[1]?.txPackets], [packets, packets]);
        await daemon.end("terminate");
        assert.equal(await settings(), before);
      }));
  }

  it("ofxdpd goes on with the tables that it had when it was killed, and begins anew when told other ones", () =>
    withDaemon("tc", "priority=1 actions=drop", async (daemon) => {
      await daemon.start();
      const file = (name: string, text: string): string => {
        const path = join(daemon.dir, name);
        writeFileSync(path, text);
        return path;
      };
      await daemon.appctl("ofxdp/add-meters", file("meters", "meter=3 kbps bands=type=drop rate=1000000\n"));
      await daemon.appctl("ofxdp/add-groups", file("groups", "group_id=7,type=all,bucket=output:2,bucket=output:3\n"));
      const more =
        "cookie=0x12,table=0,priority=7,dl_type=0x88b5,idle_timeout=300,send_flow_rem actions=meter:3,group:7\n";
      await daemon.appctl("ofxdp/add-flows", file("more", more));
      const { at } = await sendNumbered(lab, { packets: 100, perSecond: 1000 });
      assert.deepEqual(at, [100, 100]);
      // Tables are saved soon after they changed, counters once a second.
      await sleep(1700);
      const before = await daemon.appctl("bridge/dump-flows");
      const meters = await daemon.appctl("ofxdp/dump-meters");
      assert.match(meters, /packet_in_count:100 /);
      await daemon.end("kill");
      await daemon.start();
      const withoutTime = (text: string): string => text.replaceAll(/duration=\d+s/g, "");
      assert.equal(withoutTime(await daemon.appctl("bridge/dump-flows")), withoutTime(before));
      assert.equal(await daemon.appctl("ofxdp/dump-meters"), meters);
      assert.deepEqual((await sendNumbered(lab, { packets: 10, perSecond: 1000 })).at, [10, 10]);
      await daemon.end("kill");
      writeFileSync(daemon.flowsFile, "priority=2 actions=output:3");
      await daemon.start();
      assert.deepEqual((await sendNumbered(lab, { packets: 10, perSecond: 1000 })).at, [0, 10]);
      assert.match(await daemon.appctl("bridge/dump-flows"), /^[^\n]*priority=2,actions=output:3\n$/);
    }));

  it("exit leaves the datapath forwarding what it knows; exit --cleanup and SIGTERM leave nothing; a second daemon is refused", () =>
    withDaemon("tc", "priority=1,dl_type=0x88b5 actions=output:2", async (daemon) => {
      for (const way of ["cleanup", "terminate"] as const) {
        await daemon.start();
        assert.deepEqual((await sendNumbered(lab, { packets: 10, perSecond: 1000 })).at, [10, 0]);
        if (way === "cleanup") {
          const second = await lab.run("switch", `${process.execPath} ${OFXDPD} --rundir ${daemon.dir} --port p1`);
          assert.equal(second.code, 1);
          assert.match(
            second.stderr,
            /^ofxdpd: Cannot run br0: another ofxdpd runs it in this network namespace; [^\n]+\n$/,
          );
          await daemon.end("exit");
        }
        assert.deepEqual(daemon.left.slice(0, 3), ["p1 tcx", "p2 tcx", "p3 tcx"]);
        assert.deepEqual((await sendNumbered(lab, { packets: 10, perSecond: 1000 })).at, [10, 0]);
        if (way === "cleanup") await daemon.start();
        await daemon.end(way);
        assert.deepEqual(daemon.left, []);
        assert.deepEqual(readdirSync(daemon.dir), ["bpf"]);
      }
    }));

  it("--no-pins lets the datapath end with the daemon, however it ends", () =>
    withDaemon(
      "tc",
      "actions=output:2",
      async (daemon) => {
        await daemon.start();
        await daemon.end("kill");
        assert.ok(await eventually(() => daemon.left.length === 0), daemon.left.join());
      },
      "--no-pins",
    ));
});
