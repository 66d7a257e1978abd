// Helpers over maps: entries, ring buffers, tail calls and devmap redirects.

import { type MapType } from "../../object/spec.js";
import { ERRNO, Fault } from "../errors.js";
import { SparseArrayMap } from "../maps/array.js";
import { HashMap } from "../maps/hash.js";
import type { VmMap } from "../maps/map.js";
import { RingbufMap } from "../maps/ringbuf.js";
import { ORIGIN } from "../memory.js";
import { BOTH, flagsOf, type HelperTable, type Host, mapOf, readable, u32, XDP } from "./helper.js";

/** Map types without entries that programs may touch. */
const NO_ENTRIES: ReadonlySet<MapType> = new Set<MapType>(["prog_array", "ringbuf"]);
/** Map types that only user space may change. */
const FIXED: ReadonlySet<MapType> = new Set<MapType>([...NO_ENTRIES, "devmap", "devmap_hash"]);

/** MAX_TAIL_CALL_CNT, linux/bpf.h */
const MAX_TAIL_CALLS = 33;
const XDP_ABORTED = 0;
const XDP_REDIRECT = 4;
/** Bits of redirect_map's flags: the verdict on a miss, and broadcast. */
const ACTION_MASK = 3;
const BROADCAST = 8;
const EXCLUDE_INGRESS = 16;

const entriesOf = (host: Host, name: string, refused: ReadonlySet<MapType>): VmMap => {
  const map = mapOf(host, 1);
  if (refused.has(map.spec.type)) throw new Fault(`${name} on a ${map.spec.type}`);
  return map;
};

const ringOf = (host: Host): RingbufMap => {
  const map = mapOf(host, 1);
  if (!(map instanceof RingbufMap)) throw new Fault(`argument 1 of the helper is a ${map.spec.type}, want a ringbuf`);
  return map;
};

/** BPF_RB_NO_WAKEUP and BPF_RB_FORCE_WAKEUP. */
const WAKEUP_FLAGS = 3;

const finish = (host: Host, state: "submitted" | "discarded"): void => {
  const { R } = host.machine;
  for (const map of host.maps) {
    if (!(map instanceof RingbufMap)) continue;
    const slot = map.slotOf(R[3]!);
    if (slot < 0) continue;
    if (R[2] !== ORIGIN) throw new Fault("argument 1 of the helper is not the start of a ring buffer record");
    map.finish(slot, state);
    return host.machine.result(0);
  }
  throw new Fault("argument 1 of the helper is not a ring buffer record");
};

/** Devices that a devmap holds. */
const devicesOf = (map: SparseArrayMap | HashMap): number[] =>
  Array.from(map.entries(), ([, value]) => new DataView(value.buffer).getUint32(0, true));

export const MAP_HELPERS: HelperTable = {
  map_lookup_elem: {
    hooks: BOTH,
    run(host) {
      const { machine } = host;
      const map = entriesOf(host, "map_lookup_elem", NO_ENTRIES);
      const slot = map.find(readable(machine, 2, map.spec.keySize), true);
      if (slot < 0) machine.result(0);
      else machine.resultWords(ORIGIN, map.address(slot));
    },
  },
  map_update_elem: {
    hooks: BOTH,
    run(host) {
      const { machine } = host;
      const map = entriesOf(host, "map_update_elem", FIXED);
      const key = readable(machine, 2, map.spec.keySize);
      machine.result(map.put(key, readable(machine, 3, map.spec.valueSize), flagsOf(machine, 4)));
    },
  },
  map_delete_elem: {
    hooks: BOTH,
    run(host) {
      const map = entriesOf(host, "map_delete_elem", FIXED);
      host.machine.result(map.remove(readable(host.machine, 2, map.spec.keySize)));
    },
  },
  tail_call: {
    hooks: BOTH,
    takesContext: true,
    run(host) {
      const { machine } = host;
      const map = mapOf(host, 2);
      if (!(map instanceof SparseArrayMap) || map.spec.type !== "prog_array")
        throw new Fault(`argument 2 of tail_call is a ${map.spec.type}, want a prog_array`);
      // A failed tail call leaves r0 undefined; execution goes on behind it.
      machine.result(-ERRNO.ENOENT);
      const program = map.word(u32(machine, 3));
      if (program < 0 || host.nTailCalls >= MAX_TAIL_CALLS) return;
      host.nTailCalls++;
      machine.tail = host.images[program];
    },
  },
  redirect_map: {
    hooks: XDP,
    run(host) {
      const { machine } = host;
      const map = mapOf(host, 1);
      const flags = flagsOf(machine, 3);
      let ifindex: number;
      if (map instanceof SparseArrayMap && map.spec.type === "devmap") ifindex = map.word(u32(machine, 2));
      else if (map instanceof HashMap && map.spec.type === "devmap_hash")
        ifindex = map.word(new Uint8Array(Uint32Array.of(u32(machine, 2)).buffer));
      else throw new Fault(`argument 1 of redirect_map is a ${map.spec.type}, want a devmap or devmap_hash`);
      if ((flags & ~(ACTION_MASK | BROADCAST | EXCLUDE_INGRESS)) !== 0) return machine.result(XDP_ABORTED);
      if ((flags & BROADCAST) !== 0) {
        const except = (flags & EXCLUDE_INGRESS) === 0 ? -1 : host.xdp.ingressIfindex;
        const targets = devicesOf(map).filter((target) => target !== except);
        host.redirect = { ifindex: 0, flags, peer: false, targets };
        return machine.result(XDP_REDIRECT);
      }
      if (ifindex < 0) {
        host.redirect = undefined;
        return machine.result(flags & ACTION_MASK);
      }
      host.redirect = { ifindex, flags, peer: false };
      machine.result(XDP_REDIRECT);
    },
  },
  ringbuf_output: {
    hooks: BOTH,
    run(host) {
      const { machine } = host;
      const ring = ringOf(host);
      const bytes = readable(machine, 2, u32(machine, 3));
      machine.result((flagsOf(machine, 4) & ~WAKEUP_FLAGS) !== 0 ? -ERRNO.EINVAL : ring.output(bytes));
    },
  },
  ringbuf_reserve: {
    hooks: BOTH,
    run(host) {
      const { machine } = host;
      const ring = ringOf(host);
      if (machine.R[5] !== 0) throw new Fault("the size of a ring buffer record has more than 32 bits");
      const slot = flagsOf(machine, 3) === 0 ? ring.reserve(u32(machine, 2)) : -1;
      if (slot < 0) machine.result(0);
      else machine.resultWords(ORIGIN, ring.address(slot));
    },
  },
  ringbuf_submit: { hooks: BOTH, run: (host) => finish(host, "submitted") },
  ringbuf_discard: { hooks: BOTH, run: (host) => finish(host, "discarded") },
  ringbuf_query: {
    hooks: BOTH,
    run(host) {
      const value = ringOf(host).query(flagsOf(host.machine, 2));
      host.machine.resultWords(value, Math.floor(value / 0x100000000));
    },
  },
};
