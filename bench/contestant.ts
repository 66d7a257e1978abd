// A program under test in the kernel, with its table filled: ours as the switch fills it, a rival's as its case says.

import { Scope, type ObjectSpec } from "ebpf-assembler";
import { BpfMap, linux, loadObject, packMac, updateBatch, walk, type LoadedObject, type Program } from "libbpf-ts";
import { MAPS, type Hook } from "#compiler";
import { NEXT_HOP, packetsOf, type Case, type Rival } from "./cases.js";
import { compileC } from "./clang.js";
import { BenchError } from "./error.js";
import { LOOPBACK, makeMegaflows } from "./megaflows.js";

export interface Counters {
  readonly packets: number;
  readonly bytes: number;
  /** Entries that have counted at least one packet. */
  readonly touched: number;
}

export interface Contestant extends Disposable {
  readonly name: string;
  program(hook: Hook): Program;
  counters(): Counters;
}

/** Both value layouts begin with packets and bytes, u64 each. */
const sumCounters = (maps: readonly BpfMap[]): Counters => {
  let [packets, bytes, touched] = [0, 0, 0];
  for (const map of maps) {
    for (const { count, values } of walk(map)) {
      const view = new DataView(values.buffer, values.byteOffset, values.length);
      for (let at = 0; at < count * map.valueSize; at += map.valueSize) {
        const n = Number(view.getBigUint64(at, true));
        packets += n;
        bytes += Number(view.getBigUint64(at + 8, true));
        if (n > 0) touched++;
      }
    }
  }
  return { packets, bytes, touched };
};

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

const fill = (map: BpfMap, entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[]): void => {
  const keys = new Uint8Array(entries.length * map.keySize);
  const values = new Uint8Array(entries.length * map.valueSize);
  entries.forEach(({ key, value }, i) => {
    keys.set(key, i * map.keySize);
    values.set(value, i * map.valueSize);
  });
  if (updateBatch(map, keys, values, entries.length) !== entries.length)
    throw new BenchError(`Map ${map.name} does not hold ${entries.length} entries`);
};

/** Loads an object whose programs redirect through devmap {@link MAPS.ports}. */
const load = (scope: Scope, object: ObjectSpec): LoadedObject => {
  const loaded = scope.use(loadObject(linux(), object));
  loaded.map(MAPS.ports).update(u32(LOOPBACK), u32(LOOPBACK));
  return loaded;
};

/** Our program for a case with `flows` megaflows. */
export const ours = (row: Case, flows: number): Contestant => {
  using scope = new Scope();
  const packets = packetsOf(row, flows);
  const { flow, prepare } = row;
  const { plan, object, entries } = makeMegaflows({
    flows: flow === undefined ? [] : packets.map(flow),
    packets,
    ...(prepare === undefined ? {} : { prepare: (sw) => prepare(sw, packets) }),
  });
  const masks = Math.min(row.masks, flows);
  if (plan.subtables.length !== masks)
    throw new BenchError(`Case ${row.name} makes ${plan.subtables.length} masks, want ${masks}`);
  const loaded = load(scope, object);
  const maps = plan.subtables.map(({ map }) => loaded.map(map));
  for (const map of maps)
    fill(
      map,
      entries.filter((entry) => entry.map === map.name),
    );
  const owned = scope.move();
  return {
    name: "ours",
    program: (hook) => loaded.program(`main_${hook}`),
    counters: () => sumCounters(maps),
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};

/** `struct value` of bench/c/job.h. */
const VALUE = { ifindex: 16, dst: 20, src: 26, size: 32 } as const;

const rivalValue = (): Uint8Array => {
  const value = new Uint8Array(VALUE.size);
  new DataView(value.buffer).setUint32(VALUE.ifindex, LOOPBACK, true);
  value.set(packMac(NEXT_HOP.dst), VALUE.dst);
  value.set(packMac(NEXT_HOP.src), VALUE.src);
  return value;
};

/** A hand-written program for a case, with the same flows. */
export const rival = (row: Case, spec: Rival, flows: number): Contestant => {
  using scope = new Scope();
  const loaded = load(scope, compileC(spec.source, spec.defines));
  const table = loaded.map(spec.table);
  const value = rivalValue();
  fill(
    table,
    packetsOf(row, flows).flatMap((packet, i) => spec.keys(packet, i).map((key) => ({ key, value }))),
  );
  const owned = scope.move();
  return {
    name: spec.name,
    program: (hook) => loaded.program(`${spec.program}_${hook}`),
    counters: () => sumCounters([table]),
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};
