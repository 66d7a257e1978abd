// The megaflow table: user space's side against a plain map, and the program's side against user space's, in the
// interpreter and in the kernel, in tables so small that most homes are shared.

import assert from "node:assert/strict";
import fc from "fast-check";
import { toHex, Vm } from "ebpf-assembler";
import { linux, loadObject, skbContext, xdpContext } from "libbpf-ts";
import {
  compileDatapath,
  extract,
  FILTER_BITS,
  filterAt,
  hashKey,
  inTable,
  keyLayout,
  MAX_EXT_HEADERS,
  newFlow,
  newLayers,
  plan,
  putCompactKey,
  putKey,
  SHAPE_DROP,
  SLOT,
  subtable,
  TableHash,
  tableLayout,
  TableMemory,
  tableSize,
  VALUE,
  type DatapathPlan,
  type Hook,
  type Member,
  type TableLayout,
} from "#compiler";
import { randomPackets } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";

const SEED = 0x0123_4567_89ab_cdefn;
const MASK64 = (1n << 64n) - 1n;

const small = (words: number, entries = 32): ReturnType<typeof tableLayout> =>
  tableLayout({ map: "megaflows", entries, words, maxWords: words, argsSize: 8, seed: SEED });

const keyOf = (n: number, words = 2): Uint32Array =>
  Uint32Array.from({ length: 2 * words }, (_, i) => (i === 1 ? n : 7 * i));

const VALUE_WORDS = (VALUE.args + 8) / 4;
const valueOf = (shape: number, arg: number): Uint32Array => {
  const value = new Uint32Array(VALUE_WORDS);
  value[VALUE.shape / 4] = shape;
  value[VALUE.args / 4] = arg;
  return value;
};

/** What the filter says of subtable 1 with these keys. */
const filterOf = (layout: TableLayout, keys: readonly Uint32Array[]): Uint8Array => {
  const filter = new Uint8Array(tableSize(layout) - filterAt(layout));
  const hash = new TableHash(layout);
  for (const key of keys) {
    hash.of(1, key);
    const bit = Math.floor((hash.high / 2 ** 32) * FILTER_BITS * 2 ** layout.bits);
    filter[bit >>> 3]! |= 1 << (bit & 7);
  }
  return filter;
};

describe("tableLayout()", () => {
  it("gives 64 bytes to an entry that fits them, and what is left to longer keys, then to arguments", () => {
    const layout = (words: number, maxWords: number, argsSize: number): readonly number[] => {
      const made = tableLayout({ map: "t", entries: 1000, words, maxWords, argsSize, seed: 0n });
      return [made.bits, made.shift, made.words, made.argsSize];
    };
    assert.deepEqual(layout(2, 2, 4), [11, 6, 2, 16]);
    assert.deepEqual(layout(2, 8, 4), [11, 6, 3, 8]);
    assert.deepEqual(layout(3, 8, 12), [11, 7, 8, 32]);
    assert.deepEqual(layout(12, 12, 40), [11, 8, 12, 128]);
  });

  it("stops at 256 MiB of slots, which the verifier's offsets reach", () => {
    const made = tableLayout({ map: "t", entries: 1e9, words: 2, maxWords: 2, argsSize: 8, seed: 0n });
    assert.equal(filterAt(made), 2 ** 28);
  });
});

describe("TableHash", () => {
  it("is the sum of products that its key defines", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: MASK64 }),
        fc.integer({ min: 1, max: 0xffff }),
        fc.array(fc.integer({ min: 0, max: 0xffff_ffff }), { minLength: 1, maxLength: 6 }),
        (seed, number, halves) => {
          const words = Uint32Array.from(halves.length % 2 === 0 ? halves : [...halves, 0]);
          const layout = { seed, words: words.length / 2 };
          const { low, high, step, factor } = hashKey(layout);
          let sum = BigInt(Math.imul(number, step));
          for (let i = 0; i < words.length; i += 2)
            sum += BigInt((words[i]! + low[i / 2]!) >>> 0) * BigInt((words[i + 1]! + high[i / 2]!) >>> 0);
          const hash = new TableHash(layout);
          hash.of(number, words);
          assert.equal((BigInt(hash.high) << 32n) | BigInt(hash.low), (sum * factor) & MASK64);
        },
      ),
    );
  });
});

describe("TableMemory", () => {
  it("finds what is there and nothing else, whatever is inserted, unpublished and released", () => {
    const key = fc.integer({ min: 0, max: 60 });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom("put", "take", "release"), key), { maxLength: 400 }), (steps) => {
        const layout = small(2);
        const memory = new ArrayBuffer(tableSize(layout));
        const table = new TableMemory(layout, memory);
        const there = new Map<number, number>();
        const waiting: number[] = [];
        for (const [what, n] of steps) {
          const slot = there.get(n);
          if (what === "put" && slot === undefined) {
            const put = table.insert(1, keyOf(n), valueOf(9, n));
            if (put >= 0) there.set(n, put);
          } else if (what === "take" && slot !== undefined) {
            table.unpublish(slot);
            there.delete(n);
            waiting.push(slot);
          } else if (what === "release") for (const old of waiting.splice(0)) table.release(old);
          assert.equal(table.nTaken, there.size + waiting.length);
          for (let k = 0; k <= 60; k++) assert.equal(table.find(1, keyOf(k)), there.get(k) ?? -1, `key ${k}`);
          assert.deepEqual(
            [...new Uint8Array(memory, filterAt(layout))],
            [
              ...filterOf(
                layout,
                [...there.keys()].map((k) => keyOf(k)),
              ),
            ],
            "filter",
          );
        }
        assert.equal(
          new Set([...there.values(), ...waiting]).size,
          there.size + waiting.length,
          "a slot is used twice",
        );
      }),
      { numRuns: 30 },
    );
  });

  it("keeps subtables apart, and refuses when there is no place", () => {
    const layout = small(2);
    const table = new TableMemory(layout, new ArrayBuffer(tableSize(layout)));
    const one = table.insert(1, keyOf(5), valueOf(2, 1));
    assert.equal(table.find(2, keyOf(5)), -1);
    const two = table.insert(2, keyOf(5), valueOf(2, 2));
    assert.deepEqual([table.find(1, keyOf(5)), table.find(2, keyOf(5))], [one, two]);
    let refused = 0;
    for (let n = 100; n < 300; n++) if (table.insert(1, keyOf(n), valueOf(2, n)) < 0) refused++;
    assert.ok(table.nTaken <= table.nSlots && refused >= 200 - table.nSlots);
    assert.ok(table.nTaken > table.nSlots / 2, `${table.nTaken} of ${table.nSlots} slots are taken`);
  });

  it("copies entries into a larger table without hashing them again", () => {
    const layout = small(2);
    const table = new TableMemory(layout, new ArrayBuffer(tableSize(layout)));
    const larger = small(2, 500);
    const copy = new TableMemory(larger, new ArrayBuffer(tableSize(larger)));
    for (let n = 0; n < 30; n++) {
      const slot = table.insert(3, keyOf(n), valueOf(2, n));
      const there = copy.copy(table, slot);
      assert.equal(copy.find(3, keyOf(n)), there);
    }
  });
});

/** A loaded program whose table is shared memory. */
interface Loaded extends Disposable {
  readonly memory: ArrayBuffer;
  run(packet: Uint8Array): void;
}

const LOOPBACK = 1;

const inVm = (datapath: DatapathPlan, hook: Hook): Loaded => {
  const vm = new Vm(compileDatapath(datapath, [hook]));
  return {
    memory: vm.map("megaflows").memory.buffer,
    run: (packet) => {
      vm.run(`main_${hook}`, { hook, packet, ingressIfindex: LOOPBACK });
      vm.map("upcalls").drain();
    },
    [Symbol.dispose]: () => {},
  };
};

const inKernel = (datapath: DatapathPlan, hook: Hook): Loaded => {
  const object = loadObject(linux(), compileDatapath(datapath, [hook]));
  const program = object.program(`main_${hook}`);
  return {
    memory: object.map("megaflows").memory,
    run: (packet) => {
      const ctx = hook === "xdp" ? xdpContext(packet.length, LOOPBACK) : skbContext({});
      program.testRun({ data: packet, ctx });
    },
    [Symbol.dispose]: () => object[Symbol.dispose](),
  };
};

const MEMBERS: readonly Member[] = ["in_port", "dl_type", "dl_dst", "dl_src", "nw_proto", "nw_src", "nw_dst"];

/** Subtables of random bits, in_port and the type among them: two, which need no filter, or four. */
const randomPlan = (r: Random): DatapathPlan => {
  const key = keyLayout(new Set(MEMBERS));
  const subtables = Array.from({ length: r.pick([2, 4]) }, (_, i) => {
    const mask = new Uint8Array(key.size);
    mask.fill(0xff, 0, 6);
    for (const { off, size } of key.fields.slice(2)) if (r.oneIn(2)) mask.set(r.bytes(size), off);
    return inTable(subtable(`mf_${i}`, mask), 1 + r.below(0xffff));
  });
  const words = Math.max(...subtables.map((t) => t.words.length));
  const table = tableLayout({
    map: "megaflows",
    entries: 32,
    words,
    maxWords: 5,
    argsSize: 8,
    seed: BigInt(r.below(2 ** 31)),
  });
  return plan({ key, subtables, table, maxEntries: 16 });
};

describe("emitTableLookup()", () => {
  for (const hook of ["xdp", "tc"] as const) {
    for (const [where, load] of [
      ["interpreter", inVm],
      ["kernel", inKernel],
    ] as const) {
      it(`hits what TableMemory put in, counts it, and misses all else, at ${hook} in the ${where}`, function () {
        this.timeout(60_000);
        let hits = 0;
        let displaced = 0;
        for (let seed = 1; seed <= 8; seed++) {
          const r = new Random(seed);
          const datapath = randomPlan(r);
          using loaded = load(datapath, hook);
          const table = new TableMemory(datapath.table!, loaded.memory);
          const flow = newFlow();
          const layers = newLayers();
          const full = new Uint8Array(datapath.key.size);
          const entries = new Map<string, { slot: number; packets: number; bytes: number }>();
          const packets = randomPackets(seed, 200).filter((packet) => {
            const type = (packet[12]! << 8) | packet[13]!;
            extract(packet, packet.length, 1, flow, layers);
            // Too odd for the program's parser, and too short for the kernel's test run.
            if (layers.nExtHeaders >= MAX_EXT_HEADERS || layers.proto === 58) return false;
            return packet.length >= 14 + (type === 0x0800 ? 20 : type === 0x86dd ? 40 : 1);
          });
          /** Each subtable's key of a packet. */
          const keysOf = (packet: Uint8Array): { number: number; words: Uint32Array; name: string }[] => {
            extract(packet, packet.length, 1, flow, layers);
            putKey(datapath.key, flow, LOOPBACK, full);
            return datapath.subtables.map((t) => {
              const key = new Uint8Array(t.keySize);
              putCompactKey(t, full, key);
              return { number: t.number!, words: new Uint32Array(key.buffer), name: `${t.map} ${toHex(key)}` };
            });
          };
          for (let round = 0; round < 3; round++) {
            for (const packet of packets) {
              const { number, words, name } = r.pick(keysOf(packet));
              const entry = entries.get(name);
              if (entry === undefined && r.oneIn(3)) {
                const slot = table.insert(number, words, valueOf(SHAPE_DROP, 0));
                if (slot >= 0) entries.set(name, { slot, packets: 0, bytes: 0 });
              } else if (entry !== undefined && r.oneIn(4)) {
                table.unpublish(entry.slot);
                assert.equal(table.packets(entry.slot), entry.packets);
                table.release(entry.slot);
                entries.delete(name);
              }
            }
            for (const packet of packets) {
              const found = keysOf(packet)
                .map(({ name }) => entries.get(name))
                .find((entry) => entry !== undefined);
              if (found !== undefined) {
                found.packets++;
                found.bytes += packet.length;
                hits++;
              }
              loaded.run(packet);
            }
            for (const [name, { slot, packets: n, bytes }] of entries)
              assert.deepEqual([table.packets(slot), table.bytes(slot)], [n, bytes], `seed ${seed}: ${name}`);
          }
          const view = new DataView(loaded.memory);
          for (let slot = 0; slot < table.nSlots; slot++)
            if (view.getUint16((slot << datapath.table!.shift) + SLOT.first, true) !== 0) displaced++;
        }
        assert.ok(hits > 300 && displaced > 20, `${hits} hits, ${displaced} homes with entries elsewhere`);
      });
    }
  }
});
