// A simulated network card with program and map offload: Linux's netdevsim, of which the test holds all strings. It checks
// and keeps what is offloaded to it, as a driver does, and tells of it in debugfs, but executes nothing.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { linux, Rtnl, type Interface } from "libbpf-ts";

const BUS = "/sys/bus/netdevsim";
const DEBUGFS = "/sys/kernel/debug/netdevsim";

/** What the device accepts, all "Y" at first (drivers/net/netdevsim/bpf.c, nsim_bpf_init()). */
export type Knob =
  | "bpf_bind_accept"
  | "bpf_bind_verifier_accept"
  | "bpf_map_accept"
  | "bpf_tc_accept"
  | "bpf_tc_non_bound_accept"
  | "bpf_xdpdrv_accept"
  | "bpf_xdpoffload_accept";

/** A program that was loaded for the device, as the driver sees it. */
export interface BoundProgram {
  readonly id: number;
  /** `verify`, `translate`, `xlated`, or `destroy`. */
  readonly state: string;
  /** It is attached, and so in the hardware. */
  readonly isLoaded: boolean;
}

/** The most entries of a map on the device (NSIM_BPF_MAX_KEYS). */
export const NETDEVSIM_MAX_ENTRIES = 2;

/** Whether the kernel has the module. */
export const hasNetdevsim = (): boolean => existsSync(BUS);

/** One device with one port. Disposing removes it, which takes what is on it along. */
export class Netdevsim implements Disposable {
  readonly interface: Interface;
  private isThere = true;

  constructor(readonly id: number) {
    writeFileSync(join(BUS, "new_device"), `${id} 1`);
    const [name] = readdirSync(join(BUS, `devices/netdevsim${id}/net`));
    using rtnl = Rtnl.open(linux());
    this.interface = rtnl.get(name ?? "");
  }

  private path(...names: readonly string[]): string {
    return join(DEBUGFS, `netdevsim${this.id}`, ...names);
  }

  private read(...names: readonly string[]): string {
    return readFileSync(this.path(...names), "utf8").trim();
  }

  set(knob: Knob, accepts: boolean): void {
    const ofPort = knob.startsWith("bpf_xdp") || knob.startsWith("bpf_tc") || knob === "bpf_map_accept";
    writeFileSync(this.path(...(ofPort ? ["ports/0", knob] : [knob])), accepts ? "Y" : "N");
  }

  /** The programs that are loaded for the device, oldest first. */
  programs(): BoundProgram[] {
    return readdirSync(this.path("bpf_bound_progs"))
      .sort((a, b) => Number(a) - Number(b))
      .flatMap((name) => this.program(name) ?? []);
  }

  /** Undefined when it goes meanwhile: the kernel frees programs later, file by file. */
  private program(name: string): BoundProgram | undefined {
    try {
      return {
        id: Number(this.read("bpf_bound_progs", name, "id")),
        state: this.read("bpf_bound_progs", name, "state"),
        isLoaded: this.read("bpf_bound_progs", name, "loaded") === "Y",
      };
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** Id of the program that is in the hardware; 0 without one. */
  get offloadedId(): number {
    return Number(this.read("ports/0", "bpf_offloaded_id"));
  }

  [Symbol.dispose](): void {
    if (!this.isThere) return;
    this.isThere = false;
    writeFileSync(join(BUS, "del_device"), String(this.id));
  }
}
