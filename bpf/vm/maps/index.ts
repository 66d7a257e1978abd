// Map types by their kernel names.

import { NotSupportedError, RangeViolation } from "../../base/index.js";
import { MAP_FLAGS, type MapSpec, type MapType } from "../../object/spec.js";
import { ERRNO } from "../errors.js";
import type { Memory } from "../memory.js";
import { ArrayMap, SparseArrayMap } from "./array.js";
import { HashMap } from "./hash.js";
import { LpmMap } from "./lpm.js";
import type { VmMap } from "./map.js";
import { RingbufMap } from "./ringbuf.js";

/** What map values may name: programs of the object, devices of the host. */
export interface MapSurroundings {
  readonly nPrograms: number;
  readonly hasDevice: (ifindex: number) => boolean;
}

type Maker = (spec: MapSpec, memory: Memory, around: MapSurroundings) => VmMap;

const firstWord = (value: Uint8Array): number => new DataView(value.buffer, value.byteOffset).getUint32(0, true);

const hash: Maker = (spec, memory) => new HashMap(spec, memory, false);
const lru: Maker = (spec, memory) => new HashMap(spec, memory, true);
const array: Maker = (spec, memory) => new ArrayMap(spec, memory);

const MAKERS: { readonly [type in MapType]?: Maker } = {
  hash,
  percpu_hash: hash,
  lru_hash: lru,
  lru_percpu_hash: lru,
  array,
  percpu_array: array,
  lpm_trie: (spec, memory) => new LpmMap(spec, memory),
  ringbuf: (spec, memory) => new RingbufMap(spec, memory),
  prog_array: (spec, memory, around) =>
    new SparseArrayMap(spec, memory, (value) => (firstWord(value) < around.nPrograms ? 0 : -ERRNO.EINVAL)),
  devmap: (spec, memory, around) =>
    new SparseArrayMap(spec, memory, (value) => (around.hasDevice(firstWord(value)) ? 0 : -ERRNO.EINVAL)),
  devmap_hash: (spec, memory, around) =>
    new HashMap(spec, memory, false, (value) => {
      const ifindex = firstWord(value);
      return ifindex !== 0 && around.hasDevice(ifindex) ? 0 : -ERRNO.EINVAL;
    }),
};

/** Whether sizes and flags are ones that the kernel accepts at map creation; undefined or what is wrong. */
const problemOf = (spec: MapSpec): string | undefined => {
  const isRing = spec.type === "ringbuf";
  const indexed: readonly MapType[] = ["array", "percpu_array", "prog_array", "devmap", "devmap_hash"];
  if (isRing) {
    if (spec.keySize !== 0 || spec.valueSize !== 0) return "a ringbuf has keys and values of size 0";
    if (spec.maxEntries < 4096 || (spec.maxEntries & (spec.maxEntries - 1)) !== 0)
      return `the size of a ringbuf is a power of two from 4096 on, not ${spec.maxEntries}`;
    return undefined;
  }
  if (spec.maxEntries < 1) return "it has no entries";
  if (spec.keySize < 1 || spec.valueSize < 1) return "keys and values have at least one byte";
  if (indexed.includes(spec.type) && spec.keySize !== 4) return `the key has 4 bytes, not ${spec.keySize}`;
  if (spec.type === "prog_array" && spec.valueSize !== 4) return `the value has 4 bytes, not ${spec.valueSize}`;
  if (spec.type.startsWith("devmap") && spec.valueSize !== 4 && spec.valueSize !== 8)
    return `the value has 4 or 8 bytes, not ${spec.valueSize}`;
  if (spec.type === "lpm_trie" && (spec.flags & MAP_FLAGS.NO_PREALLOC) === 0) return "lpm_trie wants NO_PREALLOC";
  if (spec.type === "lpm_trie" && (spec.keySize < 5 || spec.keySize > 260)) return "the key has 5 to 260 bytes";
  return undefined;
};

/**
 * Makes the map and puts its initial entries in.
 * @throws {@link NotSupportedError} for a map type the interpreter does not have
 * @throws {@link RangeViolation} for sizes that the kernel refuses
 */
export const createMap = (spec: MapSpec, memory: Memory, around: MapSurroundings): VmMap => {
  const maker = MAKERS[spec.type];
  if (maker === undefined) throw new NotSupportedError(`map type ${spec.type} in the interpreter`);
  const problem = problemOf(spec);
  if (problem !== undefined)
    throw new RangeViolation(`Cannot create ${spec.type} map ${JSON.stringify(spec.name)}: ${problem}`);
  const map = maker(spec, memory, around);
  for (const [key, value] of spec.entries ?? []) map.update(key, value);
  return map;
};
