// Real traffic between the hosts of the demo, and what came of it.

import { fileURLToPath } from "node:url";
import { CodecError } from "ebpf-assembler";
import type { Lab, Host } from "./lab.js";
import { findProgram, needProgram, ProcessError, type Processes, type Ran } from "./process.js";

const STREAM = fileURLToPath(new URL("stream/cli.js", import.meta.url));
const IPERF_PORT = 5201;
const UDP_PORT = 5353;

/** Outcome of a ping. Times in microseconds. */
export interface Ping {
  readonly sent: number;
  readonly received: number;
  /** Undefined when nothing came back. */
  readonly meanUs: number | undefined;
}

/** Reads the summary of iputils' ping. @throws {@link CodecError} */
export const parsePing = (stdout: string): Ping => {
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(stdout);
  if (counts === null)
    throw new CodecError("decode the output of ping", -1, `want a summary, got ${JSON.stringify(stdout)}`);
  const mean = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1];
  return {
    sent: Number(counts[1]),
    received: Number(counts[2]),
    meanUs: mean === undefined ? undefined : Math.round(Number(mean) * 1000),
  };
};

/** Bits per second at the receiver, from `iperf3 -J`. @throws {@link CodecError} */
export const parseIperf = (stdout: string): number => {
  const rate = (JSON.parse(stdout) as { end?: { sum_received?: { bits_per_second?: number } } }).end?.sum_received;
  if (rate?.bits_per_second === undefined)
    throw new CodecError("decode the output of iperf3", -1, `want end.sum_received, got ${stdout.slice(0, 200)}`);
  return rate.bits_per_second;
};

export class Traffic {
  private readonly pingProgram = needProgram("ping", "iputils-ping");
  private readonly iperf = findProgram("iperf3");

  constructor(
    private readonly lab: Lab,
    private readonly processes: Processes,
  ) {}

  /** What makes the TCP streams. */
  get tcpTool(): "iperf3" | "node" {
    return this.iperf === undefined ? "node" : "iperf3";
  }

  /** Echo requests; IPv4 or IPv6 by the address. */
  async ping(from: Host, address: string, count: number, intervalS = 0.1): Promise<Ping> {
    const { pingProgram, processes, lab } = this;
    const options = ["-n", "-q", "-c", String(count), "-i", String(intervalS), "-W", "1"];
    const { stdout, stderr } = await processes.run(lab.ns(from.name), [pingProgram, ...options, address]);
    if (stdout === "") throw new ProcessError("ping", "it said nothing", stderr);
    return parsePing(stdout);
  }

  /** One TCP stream for `seconds`. @returns bits per second at the receiver */
  async tcp(from: Host, to: Host, address: string, seconds: number): Promise<number> {
    const limitMs = seconds * 1000 + 10_000;
    const { lab, processes, iperf } = this;
    if (iperf === undefined) {
      const server = await this.serve(to, ["tcp-serve", String(IPERF_PORT)]);
      await this.stream(from, ["tcp-send", address, String(IPERF_PORT), String(seconds)], limitMs);
      const { bytes, seconds: took } = await this.result<{ bytes: number; seconds: number }>(server, limitMs);
      return (bytes * 8) / took;
    }
    const server = processes.start(lab.ns(to.name), [iperf, "-s", "-1", "--forceflush"]);
    await processes.within(server, limitMs, server.says("listening"));
    const client = [iperf, "-c", address, "-J", "-t", String(Math.max(1, Math.round(seconds)))];
    const ran = await processes.run(lab.ns(from.name), client, limitMs);
    await server.stop();
    if (ran.code !== 0) throw new ProcessError("iperf3", `it ended with ${ran.code}`, ran.stdout + ran.stderr);
    return parseIperf(ran.stdout);
  }

  /** Tries to open a TCP connection. @returns `connected`, `timeout`, or an errno name such as ECONNREFUSED */
  async tcpTry(from: Host, address: string, port: number, ms: number): Promise<string> {
    const ran = await this.stream(from, ["tcp-try", address, String(port), String(ms)], ms + 5000);
    return (JSON.parse(ran.stdout) as { outcome: string }).outcome;
  }

  /** Datagrams from many source ports. @returns how many arrived */
  async udp(from: Host, to: Host, address: string, flows: number, each: number): Promise<number> {
    const limitMs = 10_000;
    const server = await this.serve(to, ["udp-serve", String(UDP_PORT), String(flows * each)]);
    await this.stream(from, ["udp-send", address, String(UDP_PORT), String(flows), String(each)], limitMs);
    return (await this.result<{ packets: number }>(server, limitMs)).packets;
  }

  private async serve(on: Host, args: readonly string[]): Promise<ReturnType<Processes["start"]>> {
    const server = this.processes.start(this.lab.ns(on.name), [process.execPath, STREAM, ...args]);
    await this.processes.within(server, 5000, server.says("listening"));
    return server;
  }

  private async stream(from: Host, args: readonly string[], limitMs: number): Promise<Ran> {
    const ran = await this.processes.run(this.lab.ns(from.name), [process.execPath, STREAM, ...args], limitMs);
    if (ran.code !== 0) throw new ProcessError(args.join(" "), `it ended with ${ran.code}`, ran.stderr);
    return ran;
  }

  private async result<T>(server: ReturnType<Processes["start"]>, limitMs: number): Promise<T> {
    const { stdout } = await this.processes.within(server, limitMs, server.done);
    return JSON.parse(stdout) as T;
  }
}
