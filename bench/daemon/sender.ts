// A thread that sends packets, each of another flow, at a given rate: the daemon under test keeps its own thread.

import { parentPort, workerData } from "node:worker_threads";
import { linux, Netns, PacketSender, Rtnl } from "libbpf-ts";
import { AT, udpPacket } from "../datapath/packet.js";

/** What a sender is told at its start. */
export interface SendOrder {
  /** Name of the network namespace; the interface is `eth0`. */
  readonly netns: string;
  /** Number of the first flow; the next packet is of the next one. */
  readonly first: number;
  readonly count: number;
  readonly perSecond: number;
}

/** What it says at its end. */
export interface SendReport {
  readonly sent: number;
  readonly seconds: number;
}

const run = ({ netns, first, count, perSecond }: SendOrder): SendReport => {
  const sys = linux();
  using namespace = Netns.open(sys, netns);
  return namespace.run(() => {
    using rtnl = Rtnl.open(sys);
    const { index } = rtnl.get("eth0");
    using sender = PacketSender.open(sys);
    const idle = new Int32Array(new SharedArrayBuffer(4));
    const start = performance.now();
    let sent = 0;
    for (let next = 0; next < count;) {
      // What is due by now, in small bursts; then sleep for about a millisecond.
      const due = Math.min(count, Math.ceil(((performance.now() - start) * perSecond) / 1000));
      for (; next < due; next++)
        sender.queue(index, udpPacket({ vary: [{ at: AT.nwSrc, base: 0x0a00_0000 }] }, first + next));
      sent += sender.flush();
      if (next < count) Atomics.wait(idle, 0, 0, 1);
    }
    return { sent: Math.max(sent, sender.counters.sent), seconds: (performance.now() - start) / 1000 };
  });
};

parentPort?.postMessage(run(workerData as SendOrder));
