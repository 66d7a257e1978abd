// Who takes part: a program in the kernel with its table filled, and what it has counted.

import type { Program } from "libbpf-ts";
import type { Ports } from "./ports.js";

export interface Counters {
  readonly packets: number;
  readonly bytes: number;
}

export interface Contestant extends Disposable {
  readonly name: string;
  readonly program: Program;
  /** Where its packets come in. */
  readonly ports: Ports;
  /** Figures that belong to it, such as masks of a cache. */
  readonly facts?: Readonly<Record<string, number>>;
  /** All packets so far; settles what is counted elsewhere first. */
  counters(): Counters | Promise<Counters>;
}

/** Sums pairs of u64 counters that lie `stride` bytes apart. */
export const sumCounters = (bytes: ArrayBufferView, stride: number): Counters => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [packets, size] = [0, 0];
  for (let at = 0; at + 16 <= bytes.byteLength; at += stride) {
    packets += view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    size += view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * 2 ** 32;
  }
  return { packets, bytes: size };
};
