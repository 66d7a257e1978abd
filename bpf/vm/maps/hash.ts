// hash, percpu_hash (one CPU), lru_hash, lru_percpu_hash and devmap_hash: chained hashing over slots.
//
// A slot holds one entry; its value address never changes. Slots of deleted entries rest until the program run ends,
// as the kernel keeps them for an RCU grace period. Slots are linked from the least to the most recently used one.

import type { MapSpec } from "../../object/spec.js";
import { ERRNO } from "../errors.js";
import type { Memory } from "../memory.js";
import { checkFlags, StoredMap } from "./map.js";

const NONE = -1;
const FIRST_SLOTS = 64;

/** FNV-1a over the key. */
const hash = (key: Uint8Array): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) h = Math.imul(h ^ key[i]!, 0x01000193);
  return h ^ (h >>> 15);
};

/** See the head of the file. `evicts` tells LRU maps, which make room instead of answering E2BIG. */
export class HashMap extends StoredMap {
  private keys = new Uint8Array(0);
  private heads = new Int32Array(FIRST_SLOTS).fill(NONE);
  private chain = new Int32Array(0);
  private older = new Int32Array(0);
  private newer = new Int32Array(0);
  private oldest = NONE;
  private newest = NONE;
  private size = 0;
  private nUsed = 0;
  private free: number[] = [];
  private resting: number[] = [];

  constructor(
    spec: MapSpec,
    memory: Memory,
    private readonly evicts: boolean,
    private readonly accepts: (value: Uint8Array) => number = () => 0,
  ) {
    // Deleted entries rest, so one run may need more slots than entries.
    super(spec, memory, 2 * spec.maxEntries + FIRST_SLOTS, FIRST_SLOTS);
    this.resize();
  }

  find(key: Uint8Array, fromProgram: boolean): number {
    const slot = this.search(key);
    if (this.evicts && fromProgram && slot !== NONE) this.touch(slot);
    return slot;
  }

  put(key: Uint8Array, value: Uint8Array, flags: number): number {
    const refused = this.accepts(value);
    if (refused !== 0) return refused;
    let slot = this.search(key);
    const error = checkFlags(flags, slot !== NONE);
    if (error !== 0) return error;
    if (slot === NONE) {
      if (this.size === this.spec.maxEntries) {
        if (!this.evicts) return -ERRNO.E2BIG;
        this.unlink(this.oldest);
      }
      slot = this.insert(key);
      if (slot === NONE) return -ERRNO.ENOMEM;
    } else if (this.evicts) this.touch(slot);
    this.store.at(slot).set(value);
    return 0;
  }

  remove(key: Uint8Array): number {
    const slot = this.search(key);
    if (slot === NONE) return -ERRNO.ENOENT;
    this.unlink(slot);
    return 0;
  }

  /** The first word of the value of a key, -1 when there is none. */
  word(key: Uint8Array): number {
    const slot = this.search(key);
    return slot === NONE ? -1 : this.store.view.getUint32(slot * this.store.stride, true);
  }

  override endRun(): void {
    if (this.resting.length === 0) return;
    for (const slot of this.resting) this.free.push(slot);
    this.resting = [];
  }

  /** Entries from the least to the most recently used (never looked up: inserted) one. */
  *entries(): IterableIterator<[Uint8Array, Uint8Array]> {
    for (let slot = this.oldest; slot !== NONE; slot = this.newer[slot]!) {
      yield [this.keyAt(slot).slice(), this.store.at(slot).slice()];
    }
  }

  private keyAt(slot: number): Uint8Array {
    return this.keys.subarray(slot * this.spec.keySize, (slot + 1) * this.spec.keySize);
  }

  private search(key: Uint8Array): number {
    const { keys } = this;
    const n = this.spec.keySize;
    let slot = this.heads[hash(key) & (this.heads.length - 1)]!;
    for (; slot !== NONE; slot = this.chain[slot]!) {
      let i = 0;
      for (let at = slot * n; i < n && keys[at] === key[i]; i++) at++;
      if (i === n) return slot;
    }
    return NONE;
  }

  private insert(key: Uint8Array): number {
    let slot = this.free.pop();
    if (slot === undefined) {
      if (this.nUsed === this.store.maxSlots) return NONE;
      slot = this.nUsed++;
      if (slot >= this.store.nSlots) {
        this.store.need(slot);
        this.resize();
      }
    }
    this.keys.set(key, slot * this.spec.keySize);
    this.link(slot);
    this.age(slot);
    this.size++;
    return slot;
  }

  private link(slot: number): void {
    const bucket = hash(this.keyAt(slot)) & (this.heads.length - 1);
    this.chain[slot] = this.heads[bucket]!;
    this.heads[bucket] = slot;
  }

  private unlink(slot: number): void {
    const bucket = hash(this.keyAt(slot)) & (this.heads.length - 1);
    if (this.heads[bucket] === slot) this.heads[bucket] = this.chain[slot]!;
    else {
      let before = this.heads[bucket]!;
      while (this.chain[before] !== slot) before = this.chain[before]!;
      this.chain[before] = this.chain[slot]!;
    }
    this.unage(slot);
    this.size--;
    this.resting.push(slot);
  }

  private touch(slot: number): void {
    this.unage(slot);
    this.age(slot);
  }

  private age(slot: number): void {
    this.older[slot] = this.newest;
    this.newer[slot] = NONE;
    if (this.newest === NONE) this.oldest = slot;
    else this.newer[this.newest] = slot;
    this.newest = slot;
  }

  private unage(slot: number): void {
    const older = this.older[slot]!;
    const newer = this.newer[slot]!;
    if (older === NONE) this.oldest = newer;
    else this.newer[older] = newer;
    if (newer === NONE) this.newest = older;
    else this.older[newer] = older;
  }

  /** Follows the growth of the value store. */
  private resize(): void {
    const n = this.store.nSlots;
    const grow = (old: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
      const grown = new Int32Array(n);
      grown.set(old);
      return grown;
    };
    const keys = new Uint8Array(n * this.spec.keySize);
    keys.set(this.keys);
    this.keys = keys;
    this.chain = grow(this.chain);
    this.older = grow(this.older);
    this.newer = grow(this.newer);
    this.heads = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(n, FIRST_SLOTS)))).fill(NONE);
    for (let slot = this.oldest; slot !== NONE; slot = this.newer[slot]!) this.link(slot);
  }
}
