// Traffic whose every packet has a number, so that one that is lost or doubled is known.

import assert from "node:assert/strict";
import type { PacketReceiver } from "libbpf-ts";
import { eventually, frame, Lab, sleep } from "./lab.js";

/** Our frames have this type; whatever else arrives is the kernel's own. */
const TYPE = 0x88b5;

/** Takes what has arrived at a host into `counts`, by the sequence number in the frame. */
const collect = (receiver: PacketReceiver, counts: Uint8Array): number => {
  let n = 0;
  for (let packet = receiver.receive(); packet !== undefined; packet = receiver.receive()) {
    const { data } = packet;
    if (((data[12]! << 8) | data[13]!) !== TYPE) continue;
    counts[new DataView(data.buffer, data.byteOffset).getUint32(14)]!++;
    n++;
  }
  return n;
};

export interface Traffic {
  /** How many; with `until`, at most. */
  readonly packets: number;
  readonly perSecond: number;
  /** Each packet is of a flow of its own. */
  readonly isSpread?: boolean;
  /** Called now and then while packets are sent, with how many were. */
  readonly meanwhile?: (sent: number) => void;
  /** Ends the traffic early. */
  readonly until?: () => boolean;
}

export interface Arrived {
  /** How often each packet arrived, at both hosts together. */
  readonly times: Uint8Array;
  /** How many arrived at hosts 2 and 3. */
  readonly at: readonly [number, number];
}

/** Sends numbered frames of 64 bytes from host 1 at an even rate, and waits for them at hosts 2 and 3. */
export const sendNumbered = async (lab: Lab, options: Traffic): Promise<Arrived> => {
  const { packets, perSecond, isSpread = false, meanwhile, until } = options;
  const { sender, ifindex } = lab.sender(1);
  using tx = sender;
  using two = lab.receiver(2);
  using three = lab.receiver(3);
  const times = new Uint8Array(packets);
  const at: [number, number] = [0, 0];
  let sent = 0;
  const drain = (): boolean => {
    at[0] += collect(two, times);
    at[1] += collect(three, times);
    return at[0] + at[1] >= sent;
  };
  const packet = frame(Lab.mac(1), Lab.mac(2));
  const view = new DataView(packet.buffer);
  const start = performance.now();
  for (; sent < packets && until?.() !== true; await sleep(1)) {
    const due = Math.min(packets, Math.ceil(((performance.now() - start) * perSecond) / 1000));
    for (; sent < due; sent++) {
      if (isSpread) view.setUint32(8, sent);
      view.setUint32(14, sent);
      tx.queue(ifindex, packet);
    }
    tx.flush();
    drain();
    meanwhile?.(sent);
  }
  assert.equal(tx.counters.dropped, 0);
  await eventually(drain);
  // A second copy of a packet would come about now.
  await sleep(50);
  drain();
  return { times: times.subarray(0, sent), at };
};

/** `0 missing, 0 doubled`, if all went well. */
export const isOnceEach = (times: Uint8Array): string => {
  const missing = times.filter((n) => n === 0).length;
  const doubled = times.filter((n) => n > 1).length;
  return `${missing} missing, ${doubled} doubled`;
};
