// A hand-written program in the kernel, its maps sized for their contents and filled.

import { Scope, type ObjectSpec } from "ebpf-assembler";
import { linux, loadObject, updateBatch, walk, type BpfMap } from "libbpf-ts";
import { MAPS, type Hook } from "#compiler";
import { compileC } from "../clang.js";
import { BenchError } from "../error.js";
import type { Contents, Entry, Inputs, Rival } from "./case.js";
import { sumCounters, type Contestant, type Counters } from "./contestant.js";
import type { Ports } from "./ports.js";
import { fillSlots, slotsFor } from "./slots.js";
import { LOOPBACK } from "./value.js";

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

const fillHash = (map: BpfMap, entries: readonly Entry[]): void => {
  const keys = new Uint8Array(entries.length * map.keySize);
  const values = new Uint8Array(entries.length * map.valueSize);
  entries.forEach(({ key, value }, i) => {
    keys.set(key, i * map.keySize);
    values.set(value, i * map.valueSize);
  });
  if (updateBatch(map, keys, values, entries.length) !== entries.length)
    throw new BenchError(`Map ${map.name} does not hold ${entries.length} entries`);
};

const sumHash = (map: BpfMap): Counters => {
  let [packets, bytes] = [0, 0];
  for (const { count, values } of walk(map)) {
    const sum = sumCounters(values.subarray(0, count * map.valueSize), map.valueSize);
    packets += sum.packets;
    bytes += sum.bytes;
  }
  return { packets, bytes };
};

/** What to do for a map of each kind: entries that it needs, filling it, summing what it counted. */
interface Filler {
  readonly maxEntries: (valueSize: number) => number;
  readonly fill: (map: BpfMap) => void;
  readonly sum: (map: BpfMap) => Counters;
}

const NOTHING: Counters = { packets: 0, bytes: 0 };

const memoryFiller = (bytes: ArrayBufferView, stride: number | undefined): Filler => ({
  maxEntries: (valueSize) => Math.max(1, Math.ceil(bytes.byteLength / valueSize)),
  fill: (map) => new Uint8Array(map.memory).set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
  sum: (map) => (stride === undefined ? NOTHING : sumCounters(new Uint8Array(map.memory, 0, bytes.byteLength), stride)),
});

const fillerOf = (contents: Contents): Filler => {
  switch (contents.kind) {
    case "hash":
      return {
        maxEntries: () => Math.max(1, contents.entries.length),
        fill: (map) => fillHash(map, contents.entries),
        sum: sumHash,
      };
    case "slots": {
      const { bytes, stride } = fillSlots(contents.entries);
      return memoryFiller(bytes, stride);
    }
    case "memory":
      return memoryFiller(contents.bytes, contents.counts);
  }
};

const sized = (object: ObjectSpec, program: string, fillers: ReadonlyMap<string, Filler>): ObjectSpec => ({
  ...object,
  programs: object.programs.filter(({ name }) => name === program),
  maps: object.maps.map((map) => ({
    ...map,
    maxEntries: fillers.get(map.name)?.maxEntries(map.valueSize) ?? map.maxEntries,
  })),
});

/**
 * Loads and fills a hand-written program.
 * @throws {@link NotSupportedError} without a C compiler, {@link SyscallError}, {@link VerifierError}
 */
export const openRival = (ports: Ports, rival: Rival, hook: Hook, inputs: Inputs): Contestant => {
  const tables = Object.entries(rival.tables(inputs));
  const slots = tables.map(([, contents]) => contents).find((contents) => contents.kind === "slots");
  const defines = {
    ...rival.defines,
    ...(slots === undefined ? {} : { SLOTS: slotsFor(slots.entries.length) }),
  };
  const fillers = new Map(tables.map(([name, contents]) => [name, fillerOf(contents)]));
  const object = compileC(rival.source, { defines, ...(rival.headers && { headers: rival.headers() }) });
  const program = `${rival.program}_${hook}`;
  using scope = new Scope();
  const loaded = scope.use(loadObject(linux(), sized(object, program, fillers)));
  loaded.map(MAPS.ports).update(u32(LOOPBACK), u32(LOOPBACK));
  for (const [name, { fill }] of fillers) fill(loaded.map(name));
  const owned = scope.move();
  return {
    name: rival.name,
    ports,
    program: loaded.program(program),
    counters: () => {
      let [packets, bytes] = [0, 0];
      for (const [name, { sum }] of fillers) {
        const counters = sum(loaded.map(name));
        packets += counters.packets;
        bytes += counters.bytes;
      }
      return { packets, bytes };
    },
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};
