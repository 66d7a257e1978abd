import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { MAP_FLAGS } from "ebpf-assembler";
import { BpfMap, ClosedError, linux, loadObject, RING_FLAGS, RingBuffer, type LoadedObject } from "libbpf-ts";
import { call, checkNoLeaks, exit, frame, loadMap, mapSpec, mov, movImm, programSpec, slot } from "../fixtures.js";

const RING_SIZE = 4096;

/** Each run appends the number of runs before it as one 8-byte record, passing `flags` (word 1 of "state"). */
const producer = programSpec(
  "producer",
  [
    loadMap(6),
    movImm(2, 1),
    slot(0xdb, 6, 2, 0, 1), // r2 = atomic fetch_add(*(u64 *)r6, r2)
    slot(0x7b, 10, 2, -8), // *(u64 *)(r10 -8) = r2
    loadMap(1),
    mov(2, 10),
    slot(0x07, 2, 0, 0, -8),
    movImm(3, 8),
    slot(0x79, 4, 6, 8), // flags
    call(130), // bpf_ringbuf_output
    exit(),
  ],
  {
    relocations: [
      { insn: 0, kind: "map_value", map: "state", offset: 0 },
      { insn: 5, kind: "map", map: "ring", offset: 0 },
    ],
  },
);

describe("RingBuffer", () => {
  checkNoLeaks();
  const sys = linux();
  let object: LoadedObject;
  let ring: RingBuffer;
  let state: BigUint64Array;
  let expected: number;
  const got: number[] = [];

  const produce = (n: number): number => {
    let refused = 0;
    for (let i = 0; i < n; i++) if (object.program("producer").testRun({ data: frame() }).retval !== 0) refused++;
    return refused;
  };
  const take = (memory: { readonly view: DataView }, at: number, size: number): void => {
    assert.equal(size, 8);
    assert.equal(at % 8, 0);
    got.push(Number(memory.view.getBigUint64(at, true)));
  };

  beforeEach(() => {
    object = loadObject(sys, {
      license: "GPL",
      maps: [
        mapSpec("ring", { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: RING_SIZE }),
        mapSpec("state", { type: "array", valueSize: 16, maxEntries: 1, flags: MAP_FLAGS.MMAPABLE }),
      ],
      programs: [producer],
    });
    ring = RingBuffer.open(object.map("ring"));
    state = new BigUint64Array(object.map("state").memory, 0, 2);
    got.length = 0;
    expected = 0;
  });
  afterEach(() => {
    ring[Symbol.dispose]();
    object[Symbol.dispose]();
  });

  /** The records so far are the numbers from 0 on, none missing, none twice. */
  const checkSequence = (n: number): void => {
    expected += n;
    assert.deepEqual(
      got,
      Array.from({ length: expected }, (_, i) => i),
    );
  };

  it("drain() delivers every record once and in order, across the end of the ring", () => {
    for (let round = 0; round < 20; round++) {
      assert.equal(produce(100), 0);
      assert.equal(ring.drain(take), 100);
      assert.equal(ring.pendingBytes, 0);
      checkSequence(100);
    }
  });

  it("drain() stops at its limit and goes on from there", () => {
    produce(10);
    assert.equal(ring.drain(take, 4), 4);
    assert.equal(ring.pendingBytes, 6 * 16);
    assert.equal(ring.drain(take, 100), 6);
    checkSequence(10);
  });

  it("a full ring refuses records, and has room again after a drain", () => {
    const refused = produce(RING_SIZE / 16 + 10);
    assert.ok(refused >= 10 && refused < 20, `${refused} refused`);
    ring.drain(take);
    assert.equal(produce(5), 0);
  });

  it("drain() counts the record whose callback throws as consumed", () => {
    produce(3);
    let calls = 0;
    const failing = (): void => {
      if (++calls === 2) throw new RangeError("second");
    };
    assert.throws(() => ring.drain(failing), RangeError);
    assert.equal(ring.drain(failing), 1);
  });

  it("a second reader goes on where the first one stopped", () => {
    produce(5);
    ring.drain(take, 2);
    ring[Symbol.dispose]();
    using next = RingBuffer.open(object.map("ring"));
    assert.equal(next.drain(take), 3);
    checkSequence(5);
  });

  const arrived = async (n: number): Promise<void> => {
    for (let i = 0; i < 1000 && got.length < n; i++) await sleep(1);
  };

  it("follow() delivers from the event loop and tells the size of each drain", async () => {
    let drained = 0;
    using _following = ring.follow(take, { onDrained: (n) => (drained += n), limit: 7 });
    for (let round = 1; round <= 10; round++) {
      produce(20);
      await arrived(20 * round);
    }
    checkSequence(200);
    assert.equal(drained, 200);
  });

  it("follow() holds the awake word while it drains, and loses nothing that is submitted without a wake-up then", async () => {
    const awake = new Int32Array(object.map("state").memory, 0, 4).subarray(2);
    const sawAwake: number[] = [];
    const more = 50;
    using _following = ring.follow(
      (memory, at, size) => {
        take(memory, at, size);
        sawAwake.push(awake[0] as number);
        // flags = the awake word itself: 1 is BPF_RB_NO_WAKEUP, exactly what a datapath would pass now.
        if (got.length <= more) produce(1);
      },
      { awake },
    );
    assert.equal(RING_FLAGS.NO_WAKEUP, 1);
    assert.equal(state[1], 0n);
    produce(1);
    await arrived(more + 1);
    checkSequence(more + 1);
    assert.deepEqual(new Set(sawAwake), new Set([1]));
    await sleep(5);
    assert.equal(awake[0], 0, "asleep when the ring is empty");
    produce(1);
    await arrived(more + 2);
    checkSequence(1);
  });

  it("follow() stops when disposed, and allows one follower", async () => {
    const following = ring.follow(take);
    assert.throws(() => ring.follow(take), /being followed already/);
    following[Symbol.dispose]();
    produce(1);
    await sleep(20);
    assert.equal(got.length, 0);
    ring.follow(take)[Symbol.dispose]();
  });

  it("follow() can be stopped, and the ring closed, from inside the callback", async () => {
    produce(3);
    const following = ring.follow((memory, at, size) => {
      take(memory, at, size);
      if (got.length < 2) return;
      following[Symbol.dispose]();
    });
    await arrived(3);
    await sleep(5);
    produce(1);
    await sleep(20);
    checkSequence(3);
  });

  it("throws after it was closed, and for another type of map", () => {
    ring[Symbol.dispose]();
    assert.throws(() => ring.drain(take), ClosedError);
    using hash = BpfMap.create(sys, mapSpec("hash"));
    assert.throws(() => RingBuffer.open(hash), /want a ringbuf/);
  });
});
