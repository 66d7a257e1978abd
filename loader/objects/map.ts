// A BPF map: creation from its spec, single elements without allocation, shared memory of array maps.
//
// The hot calls (update, lookup, delete) write into one buffer that lives as long as the map and that already holds the
// attributes with the addresses of key and value: a call copies key and value and enters the kernel, nothing else.

import { MAP_FLAGS, MAP_TYPES, RangeViolation, roundUp, type MapSpec, type MapType } from "ebpf-assembler";
import { bpf, cString, ELEM, fromCString } from "../sys/bpf.js";
import { possibleCpus } from "../sys/cpus.js";
import { ERRNO, syscallError } from "../sys/errors.js";
import { checkKind, Fd } from "../sys/fd.js";
import { mapShared, PAGE_SIZE } from "../sys/mmap.js";
import type { Sys } from "../sys/sys.js";

/** Update flags (uapi/linux/bpf.h). */
export const UPDATE_FLAGS = { ANY: 0, NOEXIST: 1, EXIST: 2 } as const;

const PER_CPU: ReadonlySet<number> = new Set<number>([
  MAP_TYPES.percpu_hash,
  MAP_TYPES.percpu_array,
  MAP_TYPES.lru_percpu_hash,
]);

/** What the kernel knows about a map (`struct bpf_map_info`). Sizes in bytes. */
export interface MapInfo {
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
  /** Network device that holds the map; 0: the host. */
  readonly ifindex: number;
}

/** A map without its owner's name for it: what {@link BpfMap} needs to know. */
export type MapShape = Omit<MapInfo, "id" | "ifindex">;

/** The map behind a descriptor. */
export const readMapInfo = (sys: Sys, fd: number, what: string): MapInfo => {
  const info = new DataView(new ArrayBuffer(88));
  bpf(sys, "OBJ_GET_INFO_BY_FD", { bpf_fd: fd, info_len: info.byteLength, info }, `read the info of ${what}`);
  return {
    type: info.getUint32(0, true),
    id: info.getUint32(4, true),
    keySize: info.getUint32(8, true),
    valueSize: info.getUint32(12, true),
    maxEntries: info.getUint32(16, true),
    flags: info.getUint32(20, true),
    name: fromCString(new Uint8Array(info.buffer, 24, 16)),
    ifindex: info.getUint32(40, true),
  };
};

/** How to create a map, beyond its spec. */
export interface CreateOptions {
  /** Network device to hold the map, for offload; default: the host. */
  readonly ifindex?: number;
  /** BTF of key and value: a descriptor, and type ids in it. */
  readonly types?: { readonly btfFd: number; readonly key: number; readonly value: number };
}

/** Layout of the hot buffer: three element attributes, then key, then value. */
const HOT = { update: 0, lookup: ELEM.size, delete: 2 * ELEM.size, data: 3 * ELEM.size } as const;

/**
 * A map in the kernel. Disposing closes the descriptor; the kernel frees the map when no program, pin or other descriptor
 * refers to it any more.
 */
export class BpfMap implements Disposable {
  readonly name: string;
  readonly keySize: number;
  /** Size of a value as system calls see it: per-CPU maps have one slot, rounded up to 8 bytes, per possible CPU. */
  readonly valueSize: number;
  /** Size of a value as programs see it. */
  readonly slotSize: number;
  readonly maxEntries: number;
  readonly type: number;
  readonly flags: number;

  /** Key of the next hot call. Fill it in place and pass it to save the copy. */
  readonly key: Uint8Array;
  /** Value of the next hot call, or result of the last {@link lookup}. Fill it in place and pass it to save the copy. */
  readonly value: Uint8Array;

  private readonly hot: ArrayBuffer;
  private readonly hotFlags: DataView;
  private readonly base: number;
  private shared: ArrayBuffer | undefined;

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
    shape: MapShape,
  ) {
    this.name = shape.name;
    this.type = shape.type;
    this.keySize = shape.keySize;
    this.slotSize = shape.valueSize;
    this.valueSize = PER_CPU.has(shape.type) ? roundUp(shape.valueSize, 8) * possibleCpus() : shape.valueSize;
    this.maxEntries = shape.maxEntries;
    this.flags = shape.flags;

    const valueAt = HOT.data + roundUp(this.keySize, 8);
    this.hot = new ArrayBuffer(valueAt + roundUp(this.valueSize, 8));
    this.key = new Uint8Array(this.hot, HOT.data, this.keySize);
    this.value = new Uint8Array(this.hot, valueAt, this.valueSize);
    this.base = sys.address(this.hot);
    this.hotFlags = new DataView(this.hot);
    for (const at of [HOT.update, HOT.lookup, HOT.delete]) {
      this.hotFlags.setUint32(at + ELEM.at.map_fd, fd.n, true);
      this.hotFlags.setBigUint64(at + ELEM.at.key, BigInt(this.base + HOT.data), true);
      if (at !== HOT.delete) this.hotFlags.setBigUint64(at + ELEM.at.value, BigInt(this.base + valueAt), true);
    }
  }

  /**
   * Creates a map and puts the entries of its spec in.
   * @throws {@link SyscallError}; nothing stays behind
   */
  static create(sys: Sys, spec: MapSpec, options: CreateOptions = {}): BpfMap {
    const { ifindex = 0, types } = options;
    const what = `map "${spec.name}"`;
    const type = MAP_TYPES[spec.type];
    const number = bpf(
      sys,
      "MAP_CREATE",
      {
        map_type: type,
        key_size: spec.keySize,
        value_size: spec.valueSize,
        max_entries: spec.maxEntries,
        map_flags: spec.flags,
        map_name: spec.name,
        map_ifindex: ifindex,
        ...(types === undefined
          ? {}
          : { btf_fd: types.btfFd, btf_key_type_id: types.key, btf_value_type_id: types.value }),
      },
      `create ${what} (${spec.type}, key ${spec.keySize}, value ${spec.valueSize}, ${spec.maxEntries} entries)`,
    );
    const fd = new Fd(sys, number, what);
    try {
      const map = new BpfMap(sys, fd, { ...spec, type });
      for (const [key, value] of spec.entries ?? []) map.update(key, value);
      return map;
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Takes over a descriptor of a map, for example one from a pin. Closes it when it cannot. */
  static fromFd(sys: Sys, number: number, what: string): BpfMap {
    const fd = new Fd(sys, number, what);
    try {
      checkKind(number, "map", what);
      return new BpfMap(sys, fd, readMapInfo(sys, number, what));
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens the pinned map at `path`. @throws {@link SyscallError} */
  static fromPin(sys: Sys, path: string): BpfMap {
    const what = `pinned map ${path}`;
    return BpfMap.fromFd(sys, bpf(sys, "OBJ_GET", { pathname: cString(path) }, `open ${what}`), what);
  }

  /** Opens the map with the kernel's id. @throws {@link SyscallError} */
  static fromId(sys: Sys, id: number): BpfMap {
    const what = `map id ${id}`;
    return BpfMap.fromFd(sys, bpf(sys, "MAP_GET_FD_BY_ID", { id }, `open ${what}`), what);
  }

  /** The descriptor, for attributes of other commands. @throws {@link ClosedError} */
  get fdNumber(): number {
    return this.fd.n;
  }

  get info(): MapInfo {
    return readMapInfo(this.sys, this.fd.n, this.what);
  }

  private get what(): string {
    return `map "${this.name}"`;
  }

  private putKey(key: Uint8Array): void {
    if (key === this.key) return;
    if (key.length !== this.keySize) throw this.wrongSize("key", key.length, this.keySize);
    this.key.set(key);
  }

  private wrongSize(part: string, have: number, want: number): RangeViolation {
    return new RangeViolation(`Bad ${part} for ${this.what}: want ${want} bytes, got ${have}`);
  }

  private failed(action: string, call: string, errno: number): Error {
    return syscallError(`${action} ${this.what}`, `bpf(${call})`, errno);
  }

  /**
   * Inserts or replaces. Neither argument is kept.
   * @param flags - {@link UPDATE_FLAGS}
   * @throws {@link SyscallError}, among them E2BIG when the map is full
   */
  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    const errno = this.tryUpdate(key, value, flags);
    if (errno !== 0) throw this.failed("update", "MAP_UPDATE_ELEM", errno);
  }

  /** As {@link update}; returns 0 or the errno instead of throwing, for paths where a full map is ordinary. */
  tryUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    void this.fd.n;
    this.putKey(key);
    if (value !== this.value) {
      if (value.length !== this.valueSize) throw this.wrongSize("value", value.length, this.valueSize);
      this.value.set(value);
    }
    this.hotFlags.setUint32(HOT.update + ELEM.at.flags, flags, true);
    return -this.sys.bpf(ELEM.UPDATE, this.base + HOT.update, ELEM.size);
  }

  /**
   * Reads the value of `key` into `into` (default: {@link value}).
   * @returns false when there is no such key
   * @throws {@link SyscallError}
   */
  lookup(key: Uint8Array, into: Uint8Array = this.value): boolean {
    void this.fd.n;
    this.putKey(key);
    if (into.length !== this.valueSize) throw this.wrongSize("value buffer", into.length, this.valueSize);
    const result = this.sys.bpf(ELEM.LOOKUP, this.base + HOT.lookup, ELEM.size);
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) throw this.failed("look up in", "MAP_LOOKUP_ELEM", -result);
    if (into !== this.value) into.set(this.value);
    return true;
  }

  /**
   * Removes `key` and reads its last value into {@link value}, in one step. Hash maps only; Linux 5.14.
   * @returns false when there is no such key
   * @throws {@link SyscallError}
   */
  take(key: Uint8Array): boolean {
    void this.fd.n;
    this.putKey(key);
    const result = this.sys.bpf(ELEM.LOOKUP_AND_DELETE, this.base + HOT.lookup, ELEM.size);
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) throw this.failed("take from", "MAP_LOOKUP_AND_DELETE_ELEM", -result);
    return true;
  }

  /**
   * Removes `key`.
   * @returns false when there is no such key
   * @throws {@link SyscallError}, among them EINVAL for arrays, whose elements cannot be removed
   */
  delete(key: Uint8Array): boolean {
    void this.fd.n;
    this.putKey(key);
    const result = this.sys.bpf(ELEM.DELETE, this.base + HOT.delete, ELEM.size);
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) throw this.failed("delete from", "MAP_DELETE_ELEM", -result);
    return true;
  }

  /**
   * The values of an array map made with the MMAPABLE flag, as memory shared with the kernel: value i starts at byte
   * `i * roundUp(slotSize, 8)`. Mapped once; usable for as long as a view is kept, also after dispose.
   * @throws {@link RangeViolation} for any other map
   */
  get memory(): ArrayBuffer {
    if (this.type !== MAP_TYPES.array || (this.flags & MAP_FLAGS.MMAPABLE) === 0)
      throw new RangeViolation(`Cannot map the memory of ${this.what}: want an array map with the MMAPABLE flag`);
    return (this.shared ??= mapShared(this.sys, this.fd.n, {
      offset: 0,
      size: roundUp(this.maxEntries * roundUp(this.slotSize, 8), PAGE_SIZE),
      writable: true,
      what: this.what,
    }));
  }

  /** Makes the map read-only for user space from now on, also for whoever opens it later. */
  freeze(): void {
    bpf(this.sys, "MAP_FREEZE", { map_fd: this.fd.n }, `freeze ${this.what}`);
  }

  /** Pins the map: it stays until the path is unlinked. @throws {@link SyscallError} */
  pin(path: string): void {
    bpf(this.sys, "OBJ_PIN", { pathname: cString(path), bpf_fd: this.fd.n }, `pin ${this.what} at ${path}`);
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/** Name of a map type number, or `type N` for one that this package does not know. */
export const mapTypeName = (type: number): string =>
  (Object.keys(MAP_TYPES) as MapType[]).find((name) => MAP_TYPES[name] === type) ?? `type ${type}`;
