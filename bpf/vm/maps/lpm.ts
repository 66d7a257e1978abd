// lpm_trie: the value of the longest prefix that covers a key. A key is a 32-bit prefix length in bits, host order,
// followed by the data, most significant bit first. One hash of prefixes per length stands in for the trie.

import type { MapSpec } from "../../object/spec.js";
import { ERRNO } from "../errors.js";
import type { Memory } from "../memory.js";
import { checkFlags, StoredMap } from "./map.js";

const LENGTH_BYTES = 4;

export class LpmMap extends StoredMap {
  /** Slot by masked data, for every prefix length in use. */
  private readonly byLength = new Map<number, Map<string, number>>();
  /** Lengths in use, longest first. */
  private lengths: number[] = [];
  private readonly keyOf = new Map<number, Uint8Array>();
  private free: number[] = [];
  private resting: number[] = [];
  private nUsed = 0;
  private readonly maxLength: number;

  constructor(spec: MapSpec, memory: Memory) {
    super(spec, memory, 2 * spec.maxEntries + 64, 64);
    this.maxLength = 8 * (spec.keySize - LENGTH_BYTES);
  }

  find(key: Uint8Array): number {
    const limit = prefixLength(key);
    if (limit > this.maxLength) return -1;
    for (const length of this.lengths) {
      if (length > limit) continue;
      const slot = this.byLength.get(length)?.get(masked(key, length));
      if (slot !== undefined) return slot;
    }
    return -1;
  }

  put(key: Uint8Array, value: Uint8Array, flags: number): number {
    if (checkFlags(flags, false) === -ERRNO.EINVAL) return -ERRNO.EINVAL;
    const length = prefixLength(key);
    if (length > this.maxLength) return -ERRNO.EINVAL;
    const text = masked(key, length);
    let slot = this.byLength.get(length)?.get(text);
    const error = checkFlags(flags, slot !== undefined);
    if (error !== 0) return error;
    if (slot === undefined) {
      if (this.keyOf.size === this.spec.maxEntries) return -ERRNO.ENOSPC;
      slot = this.free.pop();
      if (slot === undefined) {
        if (this.nUsed === this.store.maxSlots) return -ERRNO.ENOMEM;
        slot = this.nUsed++;
      }
      this.store.need(slot);
      this.keyOf.set(slot, key.slice());
      let prefixes = this.byLength.get(length);
      if (prefixes === undefined) {
        this.byLength.set(length, (prefixes = new Map<string, number>()));
        this.lengths = [...this.byLength.keys()].sort((a, b) => b - a);
      }
      prefixes.set(text, slot);
    }
    this.store.at(slot).set(value);
    return 0;
  }

  remove(key: Uint8Array): number {
    const length = prefixLength(key);
    if (length > this.maxLength) return -ERRNO.EINVAL;
    const prefixes = this.byLength.get(length);
    const text = masked(key, length);
    const slot = prefixes?.get(text);
    if (prefixes === undefined || slot === undefined) return -ERRNO.ENOENT;
    prefixes.delete(text);
    if (prefixes.size === 0) {
      this.byLength.delete(length);
      this.lengths = this.lengths.filter((other) => other !== length);
    }
    this.keyOf.delete(slot);
    this.resting.push(slot);
    return 0;
  }

  override endRun(): void {
    for (const slot of this.resting) this.free.push(slot);
    this.resting = [];
  }

  *entries(): IterableIterator<[Uint8Array, Uint8Array]> {
    for (const [slot, key] of this.keyOf) yield [key.slice(), this.store.at(slot).slice()];
  }
}

const prefixLength = (key: Uint8Array): number => (key[0]! | (key[1]! << 8) | (key[2]! << 16) | (key[3]! << 24)) >>> 0;

/** The first `length` bits of the key's data, as a string that only equal prefixes share. */
const masked = (key: Uint8Array, length: number): string => {
  const whole = length >> 3;
  let text = "";
  for (let i = 0; i < whole; i++) text += String.fromCharCode(key[LENGTH_BYTES + i]!);
  if (length & 7) text += String.fromCharCode(key[LENGTH_BYTES + whole]! & (0xff00 >> (length & 7)));
  return text;
};
