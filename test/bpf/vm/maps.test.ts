import assert from "node:assert/strict";
import { concatBytes, MAP_FLAGS, type MapSpec, toHex, UPDATE_FLAGS, Vm, VmMapError, type VmMap } from "ebpf-assembler";
import fc from "fast-check";
import { PACKET } from "./cases.js";
import { mapSpec, objectSpec, programSpec, u32, u64 } from "./fixtures.js";

const mapOf = (more: Partial<MapSpec> = {}, mtuOf?: (ifindex: number) => number | undefined): VmMap =>
  new Vm(objectSpec([], [mapSpec("m", more)]), mtuOf === undefined ? {} : { mtuOf }).map("m");
const entriesOf = (map: VmMap): string[] =>
  Array.from(map.entries(), ([key, value]) => `${toHex(key)}=${toHex(value)}`).sort();
const errno = (n: number) => (error: unknown) => error instanceof VmMapError && error.errno === n;

describe("VmMap of a hash", () => {
  it("answers like the kernel", () => {
    const map = mapOf({ maxEntries: 2 });
    assert.equal(map.lookup(u32(1)), undefined);
    assert.throws(() => map.update(u32(1), u64(1n), UPDATE_FLAGS.EXIST), errno(2));
    map.update(u32(1), u64(1n), UPDATE_FLAGS.NOEXIST);
    assert.throws(() => map.update(u32(1), u64(1n), UPDATE_FLAGS.NOEXIST), errno(17));
    map.update(u32(2), u64(2n));
    assert.throws(() => map.update(u32(3), u64(3n)), {
      code: "EVMMAP",
      message: 'Cannot update an entry of map "m": E2BIG',
    });
    map.update(u32(2), u64(22n));
    assert.throws(() => map.update(u32(2), u64(2n), 7), errno(22));
    map.delete(u32(1));
    assert.throws(() => map.delete(u32(1)), errno(2));
    assert.deepEqual(entriesOf(map), [`02000000=${toHex(u64(22n))}`]);
    assert.throws(() => map.update(new Uint8Array(3), u64(1n)), /3 bytes as a key of map "m": it wants 4/);
    assert.throws(() => map.drain(), /it is a hash, not a ringbuf/);
  });

  it("gives copies, not views", () => {
    const map = mapOf();
    map.update(u32(1), u64(1n));
    map.lookup(u32(1))!.fill(255);
    assert.deepEqual(map.lookup(u32(1)), u64(1n));
  });

  it("behaves as a Map does over random updates and deletions", () => {
    const step = fc.tuple(fc.nat(300), fc.nat(1000), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
        const map = mapOf({ maxEntries: 128, keySize: 5 });
        const model = new Map<string, string>();
        for (const [k, v, isDelete] of steps) {
          const key = concatBytes(u32(k), Uint8Array.of(k & 3));
          const name = toHex(key);
          if (isDelete) {
            if (model.delete(name)) map.delete(key);
            else assert.throws(() => map.delete(key), errno(2));
          } else if (model.has(name) || model.size < 128) {
            map.update(key, u64(BigInt(v)));
            model.set(name, toHex(u64(BigInt(v))));
          } else assert.throws(() => map.update(key, u64(0n)), errno(7));
        }
        assert.deepEqual(entriesOf(map), Array.from(model, ([key, value]) => `${key}=${value}`).sort());
        for (const [key] of map.entries()) assert.equal(toHex(map.lookup(key)!), model.get(toHex(key)));
      }),
      { numRuns: 50 },
    );
  });

  it("keeps the address of a value while the map grows, and of a deleted one until the run ends", () => {
    const text =
      "*(u32 *)(r10 -4) = 1\n *(u64 *)(r10 -16) = 5\n r1 = map[m]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r6 = r0\n" +
      " r7 = 100\n again: *(u32 *)(r10 -4) = r7\n r1 = map[m]\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_map_update_elem\n r7 += 1\n if r7 < 400 goto again\n" +
      " *(u32 *)(r10 -4) = 1\n r1 = map[m]\n r2 = r10\n r2 += -4\n call bpf_map_delete_elem\n r0 = *(u64 *)(r6 +0)\n out: exit";
    const vm = new Vm(
      objectSpec([programSpec("main", text)], [mapSpec("m", { maxEntries: 1000, entries: [[u32(1), u64(42n)]] })]),
    );
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 42);
    assert.equal([...vm.map("m").entries()].length, 300);
  });
});

describe("VmMap of an lru_hash", () => {
  it("makes room by dropping what programs used least recently", () => {
    const text = "*(u32 *)(r10 -4) = 1\n r1 = map[m]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n r0 = 0\n exit";
    const vm = new Vm(objectSpec([programSpec("main", text)], [mapSpec("m", { type: "lru_hash", maxEntries: 3 })]));
    const map = vm.map("m");
    for (const n of [1, 2, 3]) map.update(u32(n), u64(BigInt(n)));
    vm.run("main", { hook: "xdp", packet: PACKET });
    map.lookup(u32(2));
    map.update(u32(4), u64(4n));
    assert.deepEqual(
      [1, 2, 3, 4].map((n) => map.lookup(u32(n)) !== undefined),
      [true, false, true, true],
    );
  });
});

describe("VmMap of an array", () => {
  it("has every entry from the start", () => {
    const map = mapOf({ type: "percpu_array", maxEntries: 2 });
    assert.deepEqual(entriesOf(map), [`00000000=${"00".repeat(8)}`, `01000000=${"00".repeat(8)}`]);
    map.update(u32(1), u64(9n));
    assert.deepEqual(map.lookup(u32(1)), u64(9n));
    assert.equal(map.lookup(u32(2)), undefined);
    assert.throws(() => map.update(u32(2), u64(1n)), errno(7));
    assert.throws(() => map.update(u32(1), u64(1n), UPDATE_FLAGS.NOEXIST), errno(17));
    assert.throws(() => map.delete(u32(1)), errno(22));
  });
});

describe("VmMap of a devmap", () => {
  it("takes only devices that exist", () => {
    const map = mapOf({ type: "devmap", valueSize: 4 }, (ifindex) => (ifindex === 3 ? 1500 : undefined));
    map.update(u32(1), u32(3));
    assert.throws(() => map.update(u32(0), u32(4)), errno(22));
    assert.throws(() => map.update(u32(4), u32(3)), errno(7));
    assert.deepEqual(entriesOf(map), ["01000000=03000000"]);
    map.delete(u32(1));
    map.delete(u32(1));
    assert.deepEqual(entriesOf(map), []);
    const hash = mapOf({ type: "devmap_hash", valueSize: 4, maxEntries: 1 }, (ifindex) =>
      ifindex === 3 ? 1500 : undefined,
    );
    hash.update(u32(77), u32(3));
    assert.throws(() => hash.update(u32(78), u32(3)), errno(7));
    assert.throws(() => hash.update(u32(77), u32(4)), errno(22));
  });
});

describe("VmMap of an lpm_trie", () => {
  const key = (bits: number, ...bytes: readonly number[]): Uint8Array => concatBytes(u32(bits), Uint8Array.from(bytes));

  it("finds what a linear scan finds", () => {
    const prefix = fc.tuple(fc.nat(16), fc.nat(0xffff));
    fc.assert(
      fc.property(
        fc.array(prefix, { minLength: 1, maxLength: 20 }),
        fc.array(fc.nat(0xffff), { maxLength: 40 }),
        (prefixes, probes) => {
          const map = mapOf({ type: "lpm_trie", keySize: 6, maxEntries: 64, flags: MAP_FLAGS.NO_PREALLOC });
          prefixes.forEach(([bits, word], i) => map.update(key(bits, word >> 8, word & 0xff), u64(BigInt(i))));
          for (const probe of probes) {
            let best = -1;
            let value: bigint | undefined;
            prefixes.forEach(([bits, word], i) => {
              const isCovered = bits === 0 || word >> (16 - bits) === probe >> (16 - bits);
              // Of equal prefixes the last one stands.
              if (isCovered && bits >= best) [best, value] = [bits, BigInt(i)];
            });
            const found = map.lookup(key(16, probe >> 8, probe & 0xff));
            assert.deepEqual(found, value === undefined ? undefined : u64(value));
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("answers like the kernel", () => {
    const map = mapOf({ type: "lpm_trie", keySize: 6, maxEntries: 2, flags: MAP_FLAGS.NO_PREALLOC });
    map.update(key(8, 1, 0), u64(1n));
    map.update(key(16, 1, 1), u64(2n));
    assert.throws(() => map.update(key(9, 1, 0), u64(3n)), errno(28));
    assert.throws(() => map.update(key(17, 1, 0), u64(3n)), errno(22));
    assert.throws(() => map.update(key(8, 1, 0), u64(3n), UPDATE_FLAGS.NOEXIST), errno(17));
    map.delete(key(16, 1, 1));
    assert.throws(() => map.delete(key(16, 1, 1)), errno(2));
    assert.deepEqual(map.lookup(key(16, 1, 1)), u64(1n));
  });
});

describe("VmMap of a ringbuf", () => {
  const RING = mapSpec("ring", { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
  const output =
    "*(u64 *)(r10 -8) = 7\n r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = 5\n r4 = 0\n call bpf_ringbuf_output\n";
  const reserve = (n: number, helper: string): string =>
    `r1 = map[ring]\n r2 = 4\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n *(u32 *)(r0 +0) = ${n}\n r1 = r0\n r2 = 0\n call bpf_ringbuf_${helper}\n`;

  it("gives records in order, without the discarded ones, and has room again", () => {
    const text = reserve(1, "submit") + reserve(2, "discard") + output + " r0 = 1\n out: exit";
    const vm = new Vm(objectSpec([programSpec("main", text)], [RING]));
    const ring = vm.map("ring");
    for (let i = 0; i < 200; i++) {
      assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 1);
      assert.deepEqual(ring.drain().map(toHex), ["01000000", "0700000000"]);
    }
    assert.deepEqual(ring.drain(), []);
  });

  it("is full until it is drained", () => {
    const text = `${reserve(1, "submit")} r0 = 1\n out: exit`;
    const vm = new Vm(objectSpec([programSpec("main", text)], [RING]));
    const run = () => vm.run("main", { hook: "xdp", packet: PACKET }).verdict;
    let n = 0;
    while (run() === 1) n++;
    assert.equal(n, 4096 / 16 - 1);
    assert.equal(vm.map("ring").drain().length, n);
    assert.equal(run(), 1);
  });

  it("has no entries to look up", () => {
    const ring = new Vm(objectSpec([], [RING])).map("ring");
    assert.throws(() => ring.lookup(new Uint8Array(0)), /cannot be looked up: use drain\(\)/);
  });
});
