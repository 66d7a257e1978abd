// A thread that runs a loaded program over and over: see meters.test.ts.

import { parentPort, workerData } from "node:worker_threads";
import { linux, Program, xdpContext } from "libbpf-ts";

/** What the thread is told. */
export interface MeterRun {
  /** Descriptor of the program; the process has it open. */
  readonly fd: number;
  readonly packet: Uint8Array;
  readonly ifindex: number;
  readonly repeat: number;
}

const { fd, packet, ifindex, repeat } = workerData as MeterRun;
// The descriptor stays the main thread's: this one never closes it.
const program = Program.fromFd(linux(), fd, "the program to run");
program.testRun({ data: packet, ctx: xdpContext(packet.length, ifindex), repeat });
parentPort?.postMessage("done");
