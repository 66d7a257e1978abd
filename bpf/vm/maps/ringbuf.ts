// ringbuf: records that programs reserve, fill and submit, and that the host drains in order.
//
// Positions advance as in kernel/bpf/ringbuf.c (8-byte header, length rounded up to 8), so a ring is full here when it
// would be full there.

import { RangeViolation, roundUp } from "../../base/index.js";
import type { MapSpec } from "../../object/spec.js";
import { ERRNO, Fault } from "../errors.js";
import { highWord, type Memory, type Segment, SEGMENT_SLOTS } from "../memory.js";
import { VmMap } from "./map.js";

const HEADER_BYTES = 8;
/** Largest record: a quarter of 2^32 (RINGBUF_MAX_RECORD_SZ). */
const MAX_RECORD_BYTES = 0x3fffffff;

interface Record {
  readonly slot: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  state: "busy" | "submitted" | "discarded";
}

/** What `ringbuf_query` can ask (BPF_RB_*), in the order of the uapi numbers. */
const QUERIES = ["avail_data", "ring_size", "cons_pos", "prod_pos"] as const;

export class RingbufMap extends VmMap implements Segment {
  view: DataView = new DataView(new ArrayBuffer(0));
  private readonly segment: number;
  private records: Record[] = [];
  private readonly busy = new Map<number, Record>();
  private nextSlot = 0;
  private produced = 0;
  private consumed = 0;

  constructor(spec: MapSpec, memory: Memory) {
    super(spec);
    this.segment = memory.reserve(SEGMENT_SLOTS, () => this);
  }

  /** Reserves `size` bytes; the slot of the new record, or -1 when they do not fit. */
  reserve(size: number): number {
    const length = roundUp(size + HEADER_BYTES, 8);
    if (size > MAX_RECORD_BYTES || this.produced + length - this.consumed >= this.spec.maxEntries) return -1;
    const bytes = new Uint8Array(size);
    const slot = this.nextSlot++ % SEGMENT_SLOTS;
    const record: Record = { slot, bytes, view: new DataView(bytes.buffer), state: "busy" };
    this.records.push(record);
    this.busy.set(slot, record);
    this.produced += length;
    return slot;
  }

  /** Ends a reservation. @throws {@link Fault} unless `hi:lo` is a pointer that {@link RingbufMap.reserve} gave */
  finish(slot: number, state: "submitted" | "discarded"): void {
    const record = this.busy.get(slot);
    if (record === undefined) throw new Fault("the ring buffer record was already submitted or discarded");
    record.state = state;
    this.busy.delete(slot);
  }

  /** Copies a whole record in; 0 or a negative error number. */
  output(bytes: Uint8Array): number {
    const slot = this.reserve(bytes.length);
    if (slot < 0) return -ERRNO.EAGAIN;
    this.busy.get(slot)!.bytes.set(bytes);
    this.finish(slot, "submitted");
    return 0;
  }

  query(what: number): number {
    const facts: Readonly<globalThis.Record<(typeof QUERIES)[number], number>> = {
      avail_data: this.produced - this.consumed,
      ring_size: this.spec.maxEntries,
      cons_pos: this.consumed,
      prod_pos: this.produced,
    };
    const name = QUERIES[what];
    return name === undefined ? 0 : facts[name];
  }

  /** Records reserved and neither submitted nor discarded; a verified program leaves none behind. */
  get nBusy(): number {
    return this.busy.size;
  }

  /** Discards what a program run left behind. */
  override endRun(): void {
    for (const slot of this.busy.keys()) this.finish(slot, "discarded");
  }

  /** Takes the records up to the first one that is still being filled, oldest first; discarded ones are skipped. */
  override drain(): Uint8Array[] {
    const stop = this.records.findIndex((record) => record.state === "busy");
    const done = this.records.splice(0, stop < 0 ? this.records.length : stop);
    for (const { bytes } of done) this.consumed += roundUp(bytes.length + HEADER_BYTES, 8);
    return done.filter((record) => record.state === "submitted").map((record) => record.bytes);
  }

  locate(slot: number, offset: number, size: number, write: boolean): number {
    const record = this.busy.get(slot);
    const access = `${write ? "write" : "read"} of ${size} bytes at offset ${offset} of a record of ring buffer ${JSON.stringify(this.spec.name)}`;
    if (record === undefined) throw new Fault(`${access}: it is no longer reserved`);
    if (offset < 0 || offset + size > record.bytes.length)
      throw new Fault(`${access}: the record has ${record.bytes.length} bytes`);
    this.view = record.view;
    return offset;
  }

  address(slot: number): number {
    return highWord(this.segment, slot);
  }

  /** The slot that a high word names, -1 when it points elsewhere. */
  slotOf(hi: number): number {
    return (hi & ~(SEGMENT_SLOTS - 1)) === highWord(this.segment, 0) ? hi & (SEGMENT_SLOTS - 1) : -1;
  }

  find(): never {
    throw this.misuse("looked up");
  }
  put(): never {
    throw this.misuse("updated");
  }
  remove(): never {
    throw this.misuse("deleted from");
  }
  entries(): never {
    throw this.misuse("iterated");
  }
  protected valueAt(): never {
    throw this.misuse("read");
  }

  private misuse(verb: string): RangeViolation {
    return new RangeViolation(`Ring buffer ${JSON.stringify(this.spec.name)} cannot be ${verb}: use drain()`);
  }
}
