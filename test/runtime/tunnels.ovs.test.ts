// Tunnel ports against Open vSwitch with its userspace datapath at the other end, on real interfaces: what this kernel has no
// devices for. Host 1 is behind port 1; the interface p2 is the uplink to the namespace in which Open vSwitch runs.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Scope } from "ebpf-assembler";
import { parsePortSpec, parseTunnelSpec, parseUplinkSpec } from "#runtime";
import { hasOvs } from "../support/ovs.js";
import { skip } from "../support/skip.js";
import { Lab, sleep } from "./lab.js";

const SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema";
const FAR = 2;
const QUIET = "-vconsole:off -vsyslog:off";

interface Case {
  readonly hook: string;
  readonly type: string;
  /** Options beside remote_ip, at both ends. */
  readonly options: string;
}

const CASES: readonly Case[] = [
  { hook: "tc", type: "vxlan", options: "key=5,csum=true" },
  { hook: "tc", type: "geneve", options: "key=0x123456" },
  { hook: "tc", type: "gre", options: "key=7,csum=true,seq=true" },
  { hook: "native", type: "geneve", options: "key=0x123456" },
  { hook: "native", type: "gre", options: "key=7" },
];

describe("runtime/tunnels against Open vSwitch", function () {
  this.timeout(120_000);
  let lab: Lab;
  let scope: Scope;
  let dir: string;

  const must = async (host: number | "switch", command: string): Promise<string> => {
    const { code, stdout, stderr } = await lab.run(host, command);
    assert.equal(code, 0, `${command} on ${host}: ${stderr}${stdout}`);
    return stdout;
  };

  /** Three packets in a row. Open vSwitch loses some while it finds out the way, more on a machine that is busy. */
  const ping = async (host: number, what: string): Promise<void> => {
    let shown = "";
    for (let i = 0; i < 8; i++) {
      ({ stdout: shown } = await lab.run(host, `ping -c 3 -i 0.1 -W 3 ${what}`));
      if (shown.includes("3 received")) return;
    }
    assert.fail(shown);
  };

  /** Starts a daemon in the far namespace; it ends with the scope. */
  const daemon = (command: string, ...args: readonly string[]): void => {
    const env = { ...process.env, OVS_RUNDIR: dir, OVS_LOGDIR: dir, OVS_DBDIR: dir };
    const child = spawn("nsenter", [`--net=${lab.path(FAR)}`, command, ...args], { cwd: dir, env, stdio: "ignore" });
    scope.defer(() => void child.kill("SIGKILL"));
  };

  const until = async (path: string): Promise<void> => {
    for (let i = 0; i < 400 && !existsSync(path); i++) await sleep(25);
    assert.ok(existsSync(path), `Open vSwitch made no ${path}`);
  };

  const vsctl = (command: string): Promise<string> =>
    must(FAR, `ovs-vsctl --db=unix:${dir}/db.sock --timeout=10 ${command}`);

  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    lab = new Lab(2);
    scope = new Scope();
    dir = mkdtempSync(join(tmpdir(), "ofxdp-tunnels-"));
    await must("switch", "ip addr add 192.0.2.1/24 dev p2");
    await must(1, "ip link set eth0 mtu 1400");
    // Its datapath does not finish checksums.
    await must(1, "ethtool -K eth0 tx off");
    await must(FAR, `ovsdb-tool create ${dir}/conf.db ${SCHEMA}`);
    daemon("ovsdb-server", `${dir}/conf.db`, `--remote=punix:${dir}/db.sock`, ...QUIET.split(" "));
    await until(`${dir}/db.sock`);
    await vsctl("--no-wait init");
    daemon("ovs-vswitchd", `unix:${dir}/db.sock`, `--log-file=${dir}/log`, ...QUIET.split(" "));
    const mac = (await must(FAR, "cat /sys/class/net/eth0/address")).trim();
    await vsctl(
      `add-br phy -- set Bridge phy datapath_type=netdev other_config:hwaddr=${mac} -- add-port phy eth0 ` +
        "-- add-br int -- set Bridge int datapath_type=netdev",
    );
    await must(FAR, "ip addr flush dev eth0; ip addr add 192.0.2.2/24 dev phy; ip link set phy up");
    await must(FAR, "ip addr add 10.0.0.2/24 dev int; ip link set int up mtu 1400; ethtool -K int tx off");
  });
  after(() => {
    scope?.[Symbol.dispose]();
    lab?.[Symbol.dispose]();
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  });

  for (const { hook, type, options } of CASES) {
    it(`${type} with ${options} carries pings of all sizes both ways at ${hook}`, async () => {
      const columns = options
        .split(",")
        .map((option) => `options:${option}`)
        .join(" ");
      await vsctl(
        `-- --if-exists del-port t0 -- add-port int t0 -- set Interface t0 type=${type} ${columns} options:remote_ip=192.0.2.1`,
      );
      using bridge = lab.bridge({
        ports: [parsePortSpec(`1=p1:${hook}`)],
        tunnels: [parseTunnelSpec(`5=t0:type=${type},remote_ip=192.0.2.2,${options}`)],
        uplinks: [parseUplinkSpec(`p2:${hook}`)],
      });
      // Open vSwitch drops what it does not know the neighbour for, and asks.
      await lab.run(1, "ping -c 3 -i 0.2 -W 1 10.0.0.2");
      for (const size of [0, 56, 1300]) {
        await ping(1, `-s ${size} 10.0.0.2`);
        await ping(FAR, `-s ${size} 10.0.0.1`);
      }
      assert.equal(bridge.stats.upcalls.errors, 0);
    });
  }
});
