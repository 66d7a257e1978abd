// The real daemon as a child of the demo, and its control socket.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Netns } from "libbpf-ts";
import type { BridgeStats } from "../bridge-stats.js";
import type { MegaflowReport } from "../control/dump.js";
import { unixctlCall } from "../control/unixctl.js";
import { ProcessError, type Processes, type Running } from "./process.js";

const OFXDPD = fileURLToPath(new URL("../bin/ofxdpd.js", import.meta.url));
const START_LIMIT_MS = 15_000;
const POLL_MS = 10;

export class DaemonProcess {
  private constructor(
    private readonly running: Running,
    private readonly control: string,
  ) {}

  /**
   * Starts `ofxdpd` with `args` in a namespace and waits until it handles packets.
   * @throws {@link ProcessError} with what it wrote when it ends instead, {@link InterruptedError}
   */
  static async start(processes: Processes, ns: Netns, rundir: string, args: readonly string[]): Promise<DaemonProcess> {
    const command = [process.execPath, OFXDPD, ...args, "--rundir", rundir, "--verbose", "warn"];
    const running = processes.start(ns, command);
    const control = join(rundir, `ofxdpd.${running.pid}.ctl`);
    const ready = async (): Promise<void> => {
      while (!existsSync(control)) {
        if (running.hasEnded) throw new ProcessError("ofxdpd", "it ended early", running.stderr);
        await sleep(POLL_MS);
      }
    };
    await processes.within(running, START_LIMIT_MS, ready());
    return new DaemonProcess(running, control);
  }

  async stats(): Promise<BridgeStats> {
    return JSON.parse(await unixctlCall(this.control, "ofxdp/stats", [])) as BridgeStats;
  }

  async megaflows(): Promise<MegaflowReport[]> {
    return JSON.parse(await unixctlCall(this.control, "ofxdp/dump-megaflows", [])) as MegaflowReport[];
  }

  /** Ends the daemon. @throws {@link ProcessError} unless it cleaned up and said nothing was wrong */
  async stop(): Promise<void> {
    const { code, stderr } = await this.running.stop();
    if (code !== 0) throw new ProcessError("ofxdpd", `it ended with ${code ?? "a signal"}`, stderr);
  }
}
