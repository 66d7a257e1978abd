// Open vSwitch with its userspace datapath, from Debian's package, in a namespace and a directory of its own.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { NotSupportedError, Scope } from "ebpf-assembler";
import { BenchError } from "../error.js";
import { run, startDaemon } from "../processes.js";
import type { WireLab } from "./lab.js";

const SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema";
const START_STEPS = 400;
const STEP_MS = 25;

export interface OvsOptions {
  readonly userspaceTso?: boolean;
  /** Interface type; default that of the system, AF_PACKET underneath. */
  readonly type?: "afxdp";
  readonly flows: readonly string[];
}

const untilExists = async (path: string): Promise<void> => {
  for (let i = 0; i < START_STEPS; i++) {
    if (existsSync(path)) return;
    await sleep(STEP_MS);
  }
  throw new BenchError(`Open vSwitch did not make ${path}`);
};

/**
 * Starts a switch between the ports of `lab`.
 * @throws {@link NotSupportedError} when it is not installed, {@link BenchError} when it does not come up
 */
export const startOvs = async (
  lab: WireLab,
  { userspaceTso = false, type, flows }: OvsOptions,
): Promise<Disposable> => {
  if (!existsSync(SCHEMA)) throw new NotSupportedError("Comparing with Open vSwitch", "install openvswitch-switch");
  using scope = new Scope();
  const dir = mkdtempSync(join(tmpdir(), `ofxdp-bench-${process.pid}-ovs-`));
  scope.defer(() => rmSync(dir, { recursive: true, force: true }));
  const netns = lab.switchNs;
  const options = { cwd: dir, env: { OVS_RUNDIR: dir, OVS_LOGDIR: dir, OVS_DBDIR: dir } };
  const socket = join(dir, "db.sock");
  const quiet = ["-vconsole:off", "-vsyslog:off"];
  await run(netns, ["ovsdb-tool", "create", join(dir, "conf.db"), SCHEMA], options);
  scope.use(startDaemon(netns, ["ovsdb-server", join(dir, "conf.db"), `--remote=punix:${socket}`, ...quiet], options));
  await untilExists(socket);
  const vsctl = ["ovs-vsctl", `--db=unix:${socket}`];
  const addPort = (n: number): string[] => [
    ...["--", "add-port", "br0", `p${n}`],
    ...["--", "set", "Interface", `p${n}`, `ofport_request=${n}`, ...(type === undefined ? [] : [`type=${type}`])],
  ];
  const setUp = [
    ...["--no-wait", "init"],
    ...["--", "set", "Open_vSwitch", ".", `other_config:userspace-tso-enable=${userspaceTso}`],
    ...["--", "add-br", "br0"],
    ...["--", "set", "Bridge", "br0", "datapath_type=netdev", "fail-mode=secure"],
    ...[1, 2].flatMap(addPort),
  ];
  await run(netns, [...vsctl, ...setUp], options);
  // The one with AF_XDP polls without pause.
  const daemon = ["ovs-vswitchd", `unix:${socket}`, "--log-file", ...quiet];
  scope.use(startDaemon(netns, daemon, { ...options, isRealTime: type === undefined }));
  const bridge = join(dir, "br0.mgmt");
  await untilExists(bridge);
  await run(netns, [...vsctl, "--timeout=8", "wait-until", "Interface", "p2", "ofport=2"], options);
  for (const flow of flows) await run(netns, ["ovs-ofctl", "add-flow", `unix:${bridge}`, flow], options);
  return scope.move();
};
