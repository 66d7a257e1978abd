import assert from "node:assert/strict";
import type { MapType } from "ebpf-assembler";
import { BpfMap, deleteBatch, linux, readAll, updateBatch, walk, WalkBuffers } from "libbpf-ts";
import { checkNoLeaks, mapSpec, u32 } from "../fixtures.js";

/** `n` keys 0..n-1, and values that repeat their key. */
const entries = (n: number, valueSize: number) => {
  const keys = new Uint8Array(new Uint32Array(n).map((_, i) => i).buffer);
  const values = new Uint8Array(n * valueSize);
  const view = new DataView(values.buffer);
  for (let i = 0; i < n; i++) view.setUint32(i * valueSize, i, true);
  return { keys, values };
};

describe("updateBatch(), walk() and deleteBatch()", () => {
  checkNoLeaks();
  const sys = linux();

  for (const type of ["hash", "percpu_hash", "lru_hash", "array"] satisfies MapType[])
    it(`put in, visit and take out every entry of a map of type ${type}`, () => {
      const n = 1000;
      using map = BpfMap.create(
        sys,
        mapSpec("batch", { type, maxEntries: type === "lru_hash" ? 4 * n : n, valueSize: 16 }),
      );
      const { keys, values } = entries(n, map.valueSize);
      assert.equal(updateBatch(map, keys, values, n), n);
      const seen = new Set<number>();
      for (const step of walk(map, new WalkBuffers(4, map.valueSize, 64))) {
        const stepKeys = new Uint32Array(step.keys.buffer, 0, step.count);
        const view = new DataView(step.values.buffer);
        stepKeys.forEach((key, i) => {
          assert.equal(view.getUint32(i * map.valueSize, true), key);
          assert.equal(seen.has(key), false, `key ${key} twice`);
          seen.add(key);
        });
      }
      assert.equal(seen.size, n);
      if (type === "array") return;
      map.delete(u32(3));
      assert.equal(deleteBatch(map, keys, n), n - 1, "a missing key is stepped over");
      assert.equal(readAll(map).length, 0);
    });

  it("updateBatch() returns how many entries a full map took", () => {
    using map = BpfMap.create(sys, mapSpec("small", { maxEntries: 10 }));
    const { keys, values } = entries(20, 8);
    assert.equal(updateBatch(map, keys, values, 20), 10);
  });

  it("walk() grows its buffers when one hash bucket does not fit", () => {
    // One entry per batch cannot hold a bucket of two; 64 keys in at most 64 buckets are sure to share one somewhere.
    using map = BpfMap.create(sys, mapSpec("crowded", { maxEntries: 64 }));
    const { keys, values } = entries(64, 8);
    updateBatch(map, keys, values, 64);
    const buffers = new WalkBuffers(4, 8, 1);
    let n = 0;
    for (const step of walk(map, buffers)) n += step.count;
    assert.equal(n, 64);
    assert.ok(buffers.batch > 1);
  });

  it("walk() with removal leaves the map empty", () => {
    using map = BpfMap.create(sys, mapSpec("drained", { maxEntries: 100 }));
    const { keys, values } = entries(100, 8);
    updateBatch(map, keys, values, 100);
    let n = 0;
    for (const step of walk(map, new WalkBuffers(4, 8, 16), true)) n += step.count;
    assert.equal(n, 100);
    assert.equal(readAll(map).length, 0);
  });

  it("refuse buffers that are too small", () => {
    using map = BpfMap.create(sys, mapSpec("room"));
    assert.throws(() => updateBatch(map, new Uint8Array(4), new Uint8Array(8), 2), /want 2 x 4 bytes, got 4/);
    assert.throws(() => [...walk(map, new WalkBuffers(8, 8))], /Bad walk buffers/);
  });
});
