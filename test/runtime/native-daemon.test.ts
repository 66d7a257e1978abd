import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { BridgeStats } from "#runtime";
import { echo } from "./echo.js";
import { eventually, Lab, type Ran } from "./lab.js";

const run = promisify(execFile);
const OFXDPD = new URL("../../../runtime/dist/bin/ofxdpd.js", import.meta.url).pathname;

/** What iperf3 -J says at its end, the part that is used. */
interface Iperf {
  readonly error?: string;
  readonly end: {
    readonly sum: { readonly packets: number; readonly lost_packets: number };
  };
}

const MEGABYTES = 8;
const DATAGRAMS = 400;

for (const hook of ["native", "generic", "auto"]) {
  describe(`runtime/daemon, ofxdpd as a process with --port IF:${hook} on veth`, function () {
    this.timeout(90_000);
    let lab: Lab;
    let dir: string;
    let daemon: ChildProcess;
    let socket: string;
    const stats = async (): Promise<BridgeStats> =>
      JSON.parse((await run("ovs-appctl", ["-t", socket, "ofxdp/stats"])).stdout) as BridgeStats;

    before(async () => {
      lab = new Lab(2);
      dir = mkdtempSync(join(tmpdir(), "ofxdpd-"));
      // Ports swap by flows, and TTL and checksums are rewritten on the way.
      writeFileSync(
        join(dir, "flows.txt"),
        `table=0,priority=9,in_port=1,ip actions=dec_ttl,output:2
table=0,priority=9,in_port=2,ip actions=dec_ttl,output:1
table=0,priority=1,in_port=1 actions=output:2
table=0,priority=1,in_port=2 actions=output:1
`,
      );
      const ports = [1, 2].flatMap((i) => ["--port", `${i}=p${i}:${hook}`]);
      const args = [OFXDPD, "--rundir", dir, "--flows", join(dir, "flows.txt"), "-v", "warn", ...ports];
      daemon = spawn("nsenter", [`--net=${lab.path("switch")}`, process.execPath, ...args], { stdio: "inherit" });
      socket = join(dir, `ofxdpd.${daemon.pid}.ctl`);
      assert.ok(await eventually(() => existsSync(socket), 20_000));
      await eventually(() => false, 300);
    });
    after(async () => {
      const ended = once(daemon, "exit");
      daemon.kill("SIGTERM");
      assert.deepEqual(await ended, [0, null]);
      lab[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    });

    /** iperf3 between the hosts; the client tries again until the server listens. */
    const iperf = async (address: string, args: string): Promise<Iperf> => {
      const server = lab.run(2, "timeout 40 iperf3 -s -1", 50_000);
      const client = `for i in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.3; timeout 30 iperf3 -J -c ${address} ${args} > ${dir}/out && break; done; cat ${dir}/out`;
      const { stdout }: Ran = await lab.run(1, client, 50_000);
      await server;
      const result = JSON.parse(stdout) as Iperf;
      assert.equal(result.error, undefined);
      return result;
    };

    for (const [family, address] of [
      ["IPv4", Lab.ip(2)],
      ["IPv6", "fd00::2"],
    ] as const) {
      it(`carries TCP over ${family}, both ways at once, every byte as it was`, async () => {
        assert.equal(await echo(lab, 1, 2, address, MEGABYTES * 1e6), `${MEGABYTES}000000 bytes, the same`);
      });

      for (const [direction, flag] of [
        ["there", ""],
        ["back", "-R"],
      ] as const) {
        it(`carries UDP over ${family}, ${direction}`, async () => {
          const { end } = await iperf(address, `-u -l 1000 -n ${DATAGRAMS * 1000} -b 4M ${flag}`);
          assert.ok(end.sum.packets >= DATAGRAMS, `only ${end.sum.packets} datagrams`);
          assert.equal(end.sum.lost_packets, 0);
        });
      }
    }

    it("handles that in the kernel, at the hook asked for, and counts it at the ports", async () => {
      const { ports, upcalls, hits, lost } = await stats();
      assert.deepEqual(
        ports.map((port) => port.hook),
        hook === "auto" ? ["tc", "tc"] : [hook, hook],
      );
      assert.deepEqual([upcalls.errors, lost], [0, 0]);
      // All but what comes before the kernel knows the flow.
      assert.ok(hits > 2 * upcalls.misses, `${hits} hits, ${upcalls.misses} misses`);
      for (const { rxBytes, txBytes } of ports) assert.ok(Math.min(rxBytes, txBytes) > 2 * MEGABYTES * 1e6);
    });
  });
}
