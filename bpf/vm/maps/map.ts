// What every map of the interpreter offers: to the host by raw bytes, to programs by slots with stable addresses.

import { RangeViolation } from "../../base/index.js";
import { MAP_FLAGS, type MapSpec } from "../../object/spec.js";
import { ERRNO, VmMapError } from "../errors.js";
import { highWord, type Memory, ValueSegment, ValueStore } from "../memory.js";

/** Flags of an update (uapi/linux/bpf.h). */
export const UPDATE_FLAGS = { ANY: 0, NOEXIST: 1, EXIST: 2 } as const;

/**
 * A map. The kernel-side methods (`find`, `put`, `remove`) take keys of exactly `keySize` bytes, keep no reference to
 * them, and answer like the kernel: a slot or -1, 0 or a negative error number. The host-side methods copy bytes in and
 * out and throw.
 */
export abstract class VmMap {
  constructor(readonly spec: MapSpec) {}

  /** Slot of the value of a key, -1 when there is none. `fromProgram` counts as a use for LRU eviction. */
  abstract find(key: Uint8Array, fromProgram: boolean): number;
  abstract put(key: Uint8Array, value: Uint8Array, flags: number): number;
  abstract remove(key: Uint8Array): number;
  /** Every entry, keys and values copied. */
  abstract entries(): IterableIterator<[key: Uint8Array, value: Uint8Array]>;
  /** The value in a slot, not a copy. */
  protected abstract valueAt(slot: number): Uint8Array;
  /** High word of the address of the value in a slot; the low word is ORIGIN. */
  abstract address(slot: number): number;

  /** A program run is over: pointers to deleted values are gone, so their slots may be used again. */
  endRun(): void {}

  /** A copy of the value of a key. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    const slot = this.find(this.checkSize("key", key, this.spec.keySize), false);
    return slot < 0 ? undefined : this.valueAt(slot).slice();
  }

  /**
   * Inserts or replaces. A value that is replaced keeps its address.
   * @param flags - one of {@link UPDATE_FLAGS}
   * @throws {@link VmMapError} with the error number that the kernel would give
   */
  update(key: Uint8Array, value: Uint8Array, flags: number = UPDATE_FLAGS.ANY): void {
    this.checkSize("key", key, this.spec.keySize);
    this.checkSize("value", value, this.spec.valueSize);
    const result = this.put(key, value, flags);
    this.endRun();
    if (result < 0) throw new VmMapError(this.spec.name, "update", -result);
  }

  /** @throws {@link VmMapError} ENOENT when there is no such key, EINVAL when the map's entries cannot be deleted */
  delete(key: Uint8Array): void {
    const result = this.remove(this.checkSize("key", key, this.spec.keySize));
    this.endRun();
    if (result < 0) throw new VmMapError(this.spec.name, "delete", -result);
  }

  /** Bytes of all values, shared with programs, as mmap of an array gives them; see the override. */
  get memory(): Uint8Array<ArrayBuffer> {
    throw new RangeViolation(
      `Cannot map the memory of ${JSON.stringify(this.spec.name)}: it is a ${this.spec.type}, not an array`,
    );
  }

  /** Records of a ring buffer; see the override. */
  drain(): Uint8Array[] {
    throw new RangeViolation(
      `Cannot drain map ${JSON.stringify(this.spec.name)}: it is a ${this.spec.type}, not a ringbuf`,
    );
  }

  private checkSize(what: string, bytes: Uint8Array, size: number): Uint8Array {
    if (bytes.length !== size)
      throw new RangeViolation(
        `Cannot use ${bytes.length} bytes as a ${what} of map ${JSON.stringify(this.spec.name)}: it wants ${size}`,
      );
    return bytes;
  }
}

/** A map whose values live in a {@link ValueStore}. */
export abstract class StoredMap extends VmMap {
  protected readonly store: ValueStore;
  private readonly segment: number;

  constructor(spec: MapSpec, memory: Memory, maxSlots: number, initialSlots: number) {
    super(spec);
    const readOnly = (spec.flags & MAP_FLAGS.RDONLY_PROG) !== 0;
    const writeOnly = (spec.flags & MAP_FLAGS.WRONLY_PROG) !== 0;
    this.store = new ValueStore(spec.name, spec.valueSize, maxSlots, readOnly, writeOnly, initialSlots);
    this.segment = memory.reserve(maxSlots, (firstSlot) => new ValueSegment(this.store, firstSlot));
  }

  protected valueAt(slot: number): Uint8Array {
    return this.store.at(slot);
  }

  address(slot: number): number {
    return (highWord(this.segment, 0) + slot) | 0;
  }
}

/** The error that an update's flags call for, 0 when it may go on. */
export const checkFlags = (flags: number, exists: boolean): number => {
  if (flags > UPDATE_FLAGS.EXIST || flags < 0) return -ERRNO.EINVAL;
  if (flags === UPDATE_FLAGS.NOEXIST && exists) return -ERRNO.EEXIST;
  if (flags === UPDATE_FLAGS.EXIST && !exists) return -ERRNO.ENOENT;
  return 0;
};
