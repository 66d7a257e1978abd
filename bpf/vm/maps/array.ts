// array, percpu_array (one CPU), prog_array and devmap: values found by a 32-bit index.

import type { MapSpec } from "../../object/spec.js";
import { ERRNO } from "../errors.js";
import type { Memory } from "../memory.js";
import { StoredMap, UPDATE_FLAGS } from "./map.js";

const u32 = (bytes: Uint8Array): number => (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
const indexKey = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);

/** Every index below `maxEntries` exists from the start with a value of zero bytes; nothing can be deleted. */
export class ArrayMap extends StoredMap {
  constructor(spec: MapSpec, memory: Memory) {
    super(spec, memory, spec.maxEntries, spec.maxEntries);
  }

  find(key: Uint8Array): number {
    const index = u32(key);
    return index < this.spec.maxEntries ? index : -1;
  }

  override get memory(): Uint8Array<ArrayBuffer> {
    return this.store.bytes;
  }

  put(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = u32(key);
    if (flags > UPDATE_FLAGS.EXIST || flags < 0) return -ERRNO.EINVAL;
    if (index >= this.spec.maxEntries) return -ERRNO.E2BIG;
    if (flags === UPDATE_FLAGS.NOEXIST) return -ERRNO.EEXIST;
    this.store.at(index).set(value);
    return 0;
  }

  remove(): number {
    return -ERRNO.EINVAL;
  }

  *entries(): IterableIterator<[Uint8Array, Uint8Array]> {
    for (let index = 0; index < this.spec.maxEntries; index++) yield [indexKey(index), this.store.at(index).slice()];
  }
}

/** An array whose slots are empty until set: programs to jump to, devices to redirect to. */
export class SparseArrayMap extends StoredMap {
  private readonly present: Uint8Array;

  /** @param accepts - the error number for a value that names nothing, 0 for a good one */
  constructor(
    spec: MapSpec,
    memory: Memory,
    private readonly accepts: (value: Uint8Array) => number,
  ) {
    super(spec, memory, spec.maxEntries, spec.maxEntries);
    this.present = new Uint8Array(spec.maxEntries);
  }

  find(key: Uint8Array): number {
    const index = u32(key);
    return index < this.spec.maxEntries && this.present[index] === 1 ? index : -1;
  }

  /** The first word of the value at an index: program number or ifindex; -1 when empty. */
  word(index: number): number {
    return index < this.spec.maxEntries && this.present[index] === 1 ? u32(this.store.at(index)) : -1;
  }

  /** Indexes that are set, ascending. */
  indexes(): number[] {
    return Array.from(this.present.keys()).filter((index) => this.present[index] === 1);
  }

  put(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = u32(key);
    const isDevmap = this.spec.type === "devmap";
    if (flags > (isDevmap ? UPDATE_FLAGS.EXIST : UPDATE_FLAGS.ANY) || flags < 0) return -ERRNO.EINVAL;
    if (index >= this.spec.maxEntries) return -ERRNO.E2BIG;
    if (flags === UPDATE_FLAGS.NOEXIST) return -ERRNO.EEXIST;
    // kernel/bpf/devmap.c: ifindex 0 empties the slot.
    if (isDevmap && u32(value) === 0) {
      this.present[index] = 0;
      return 0;
    }
    const refused = this.accepts(value);
    if (refused !== 0) return refused;
    this.store.at(index).set(value);
    this.present[index] = 1;
    return 0;
  }

  remove(key: Uint8Array): number {
    const index = u32(key);
    const isDevmap = this.spec.type === "devmap";
    if (index >= this.spec.maxEntries) return isDevmap ? -ERRNO.EINVAL : -ERRNO.E2BIG;
    if (!isDevmap && this.present[index] === 0) return -ERRNO.ENOENT;
    this.present[index] = 0;
    return 0;
  }

  *entries(): IterableIterator<[Uint8Array, Uint8Array]> {
    for (const index of this.indexes()) yield [indexKey(index), this.store.at(index).slice()];
  }
}
