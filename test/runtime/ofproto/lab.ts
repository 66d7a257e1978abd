// A switch that stock ovs-ofctl drives, and an Open vSwitch beside it that is driven alike.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Scope } from "ebpf-assembler";
import { Ofproto, Services, silentLog, type Bridge, type BridgeOptions, type Log } from "#runtime";
import { Ovs } from "../../support/ovs.js";
import { Lab } from "../lab.js";

export interface Said {
  readonly code: number;
  /** What it printed, errors behind. */
  readonly text: string;
}

/** Runs stock `ovs-ofctl`. Never rejects. */
export const ofctl = (version: string, args: readonly string[], input = ""): Promise<Said> =>
  new Promise((resolve) => {
    const options = { timeout: 30_000, maxBuffer: 1 << 28 };
    const child = execFile("ovs-ofctl", ["-O", version, ...args], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), text: stdout + stderr }),
    );
    // A command that refuses its arguments does not read on.
    child.stdin?.on("error", () => undefined).end(input);
  });

/** A bridge on `n` ports with its OpenFlow side, at `socket`. */
export class OfprotoLab implements AsyncDisposable {
  private constructor(
    readonly lab: Lab,
    readonly dir: string,
    readonly bridge: Bridge,
    readonly ofproto: Ofproto,
    readonly services: Services,
    private readonly scope: Scope,
  ) {}

  static async open(
    nHosts: number,
    options: Partial<BridgeOptions> & { readonly controllers?: readonly string[]; readonly log?: Log } = {},
  ): Promise<OfprotoLab> {
    using scope = new Scope();
    const lab = scope.use(new Lab(nHosts));
    await lab.silence();
    const dir = mkdtempSync(join(tmpdir(), "ofproto-"));
    scope.defer(() => rmSync(dir, { recursive: true, force: true }));
    const { controllers = [], log = silentLog, ...rest } = options;
    const bridge = scope.use(lab.bridge({ failMode: "secure", ...rest }));
    const description = { manufacturer: "m", hardware: "h", software: "s", serialNumber: "None", datapath: "None" };
    const ofproto = scope.use(new Ofproto({ bridge, log, datapathId: 1n, description }));
    const management = join(dir, "br0.mgmt");
    const services = scope.use(await Services.open({ ofproto, log, management, controllers, listen: [] }));
    return new OfprotoLab(lab, dir, bridge, ofproto, services, scope.move());
  }

  get socket(): string {
    return join(this.dir, "br0.mgmt");
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.scope[Symbol.dispose]();
    return Promise.resolve();
  }
}

/** The management socket of an oracle. */
export const socketOf = (ovs: Ovs): string => join(ovs.dir, "br0.mgmt");
