// Fills the open-addressed table of bench/c/slots.h: the same hash, the same way from slot to slot.

import { BenchError } from "../error.js";
import type { Entry } from "./case.js";
import { VALUE } from "./value.js";

/** A slot is a whole number of cache lines. */
const LINE = 64;
const MAX_PROBES = 64;

/** Slots for so many entries: a power of two, at most half of them taken. */
export const slotsFor = (entries: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, entries) * 2));

const slotBytes = (words: number): number => Math.ceil((VALUE.size + 4 * words) / LINE) * LINE;

/** `hash_words` of bench/c/slots.h. */
export const hashWords = (key: Uint32Array): number => {
  let h = 0;
  for (const word of key) h = Math.imul(h ^ word, 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x85ebca77);
  return (h ^ (h >>> 13)) >>> 0;
};

/** The table's memory and how far its counters lie apart. @throws {@link BenchError} when a key lies too far off */
export const fillSlots = (entries: readonly Entry[]): { readonly bytes: Uint8Array; readonly stride: number } => {
  const words = (entries[0]?.key.length ?? 0) / 4;
  const [n, stride] = [slotsFor(entries.length), slotBytes(words)];
  const bytes = new Uint8Array(n * stride);
  const keyed = new Uint32Array(bytes.buffer);
  for (const { key, value } of entries) {
    const keyWords = new Uint32Array(key.slice().buffer);
    const start = hashWords(keyWords);
    let probe = 0;
    for (; probe < MAX_PROBES; probe++) {
      const at = ((start + probe) & (n - 1)) >>> 0;
      const keyAt = (at * stride + VALUE.size) / 4;
      if (keyed.subarray(keyAt, keyAt + words).some((word) => word !== 0)) continue;
      keyed.set(keyWords, keyAt);
      bytes.set(value, at * stride);
      break;
    }
    if (probe === MAX_PROBES) throw new BenchError(`A key lies ${MAX_PROBES} slots or more behind its place`);
  }
  return { bytes, stride };
};
