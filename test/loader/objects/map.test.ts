import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { MAP_FLAGS, RangeViolation } from "ebpf-assembler";
import { BpfMap, ClosedError, FaultSys, linux, possibleCpus, SyscallError, UPDATE_FLAGS } from "libbpf-ts";
import { checkNoLeaks, mapSpec, u32, u64 } from "../fixtures.js";

describe("BpfMap", () => {
  checkNoLeaks();
  const sys = linux();

  it("update(), lookup() and delete() agree on an entry", () => {
    using map = BpfMap.create(sys, mapSpec("one"));
    map.update(u32(7), u64(1n << 40n));
    const value = new Uint8Array(8);
    assert.equal(map.lookup(u32(7), value), true);
    assert.deepEqual(value, u64(1n << 40n));
    assert.equal(map.lookup(u32(8), value), false);
    assert.equal(map.delete(u32(7)), true);
    assert.equal(map.delete(u32(7)), false);
    assert.equal(map.lookup(u32(7)), false);
  });

  it("take() removes an entry and leaves its value", () => {
    using map = BpfMap.create(sys, mapSpec("taken"));
    map.update(u32(7), u64(9n));
    map.value.fill(0);
    assert.equal(map.take(u32(7)), true);
    assert.deepEqual(map.value, u64(9n));
    assert.equal(map.lookup(u32(7)), false);
    assert.equal(map.take(u32(7)), false);
  });

  it("takes key and value from its own buffers without a copy", () => {
    using map = BpfMap.create(sys, mapSpec("own"));
    map.key.set(u32(3));
    map.value.set(u64(4n));
    map.update(map.key, map.value);
    map.value.fill(0);
    assert.equal(map.lookup(map.key), true);
    assert.deepEqual(map.value, u64(4n));
  });

  it("create() puts the entries of the spec in", () => {
    using map = BpfMap.create(sys, mapSpec("filled", { entries: [[u32(1), u64(2n)]] }));
    assert.equal(map.lookup(u32(1)), true);
    assert.deepEqual(map.value, u64(2n));
  });

  it("update() honours NOEXIST and tryUpdate() returns the errno of a full map", () => {
    using map = BpfMap.create(sys, mapSpec("full", { maxEntries: 1 }));
    map.update(u32(1), u64(1n));
    assert.throws(
      () => map.update(u32(1), u64(1n), UPDATE_FLAGS.NOEXIST),
      (e: unknown) => e instanceof SyscallError && e.errnoName === "EEXIST" && /update map "full"/.test(e.message),
    );
    assert.equal(map.tryUpdate(u32(2), u64(1n)), 7);
  });

  it("refuses keys and values of the wrong size", () => {
    using map = BpfMap.create(sys, mapSpec("sizes"));
    assert.throws(() => map.update(new Uint8Array(5), u64(0n)), /Bad key for map "sizes": want 4 bytes, got 5/);
    assert.throws(() => map.update(u32(0), u32(0)), /Bad value for map "sizes": want 8 bytes, got 4/);
    assert.throws(() => map.lookup(u32(0), u32(0)), RangeViolation);
  });

  it("has one value slot per possible CPU in a per-CPU map", () => {
    using map = BpfMap.create(sys, mapSpec("percpu", { type: "percpu_array", valueSize: 4, maxEntries: 2 }));
    assert.equal(map.valueSize, 8 * possibleCpus());
    const value = new Uint8Array(map.valueSize).fill(0).map((_, i) => (i % 8 < 4 ? 1 + (i >> 3) : 0));
    map.update(u32(1), value);
    assert.equal(map.lookup(u32(1)), true);
    assert.deepEqual(map.value, value);
  });

  it("memory shares the values of an MMAPABLE array with the kernel", () => {
    using map = BpfMap.create(sys, mapSpec("shared", { type: "array", valueSize: 8, flags: MAP_FLAGS.MMAPABLE }));
    const values = new BigUint64Array(map.memory, 0, 16);
    map.update(u32(5), u64(55n));
    assert.equal(values[5], 55n);
    values[6] = 66n;
    assert.equal(map.lookup(u32(6)), true);
    assert.deepEqual(map.value, u64(66n));
  });

  it("memory refuses a map that cannot be mapped", () => {
    using map = BpfMap.create(sys, mapSpec("hash"));
    assert.throws(() => map.memory, /want an array map with the MMAPABLE flag/);
  });

  it("freeze() makes it read-only for user space", () => {
    using map = BpfMap.create(sys, mapSpec("frozen", { type: "array" }));
    map.freeze();
    assert.throws(() => map.update(u32(0), u64(1n)), SyscallError);
  });

  it("fromId() opens the map that info names", () => {
    using map = BpfMap.create(sys, mapSpec("byid", { valueSize: 12 }));
    using again = BpfMap.fromId(sys, map.info.id);
    assert.equal(again.name, "byid");
    map.update(u32(1), new Uint8Array(12).fill(9));
    assert.equal(again.lookup(u32(1)), true);
    assert.deepEqual(again.value, new Uint8Array(12).fill(9));
  });

  it("throws after it was closed, and closes once", () => {
    const map = BpfMap.create(sys, mapSpec("closed"));
    map[Symbol.dispose]();
    map[Symbol.dispose]();
    assert.throws(() => map.lookup(u32(0)), ClosedError);
    assert.throws(() => map.fdNumber, ClosedError);
  });

  it("create() names the call, the map and the errno of a refusal", () => {
    assert.throws(
      () => BpfMap.create(sys, mapSpec("bad", { keySize: 0 })),
      (e: unknown) =>
        e instanceof SyscallError && /^Cannot create map "bad" .*bpf\(MAP_CREATE\): EINVAL/.test(e.message),
    );
    assert.throws(() => BpfMap.create(sys, mapSpec("a name too long!")), /Bad kernel object name/);
  });

  it("create() as another user reports a missing privilege", () => {
    const script = `
      import { BpfMap, linux } from "libbpf-ts";
      process.setuid(65534);
      try { BpfMap.create(linux(), ${JSON.stringify(mapSpec("denied"))}); }
      catch (error) { console.log(error.exitCode, error.code, error.message); }
    `;
    const args = ["--input-type=module", "-e", script];
    assert.match(
      execFileSync(process.execPath, args, { encoding: "utf8" }),
      /^4 EPRIVILEGE Cannot create map "denied" .*EPERM .*needs root/,
    );
  });

  it("create() reports a missing privilege as exit status 4", () => {
    const denied = new FaultSys(sys, (call) => (call === "bpf(MAP_CREATE)" ? 1 : 0));
    assert.throws(
      () => BpfMap.create(denied, mapSpec("denied")),
      (e: unknown) => e instanceof SyscallError && e.code === "EPRIVILEGE" && e.exitCode === 4,
    );
  });
});
