// The address space of the interpreter. Every pointer names what it points into, so that no access can leave it:
//
//   bits 63..54  segment: what kind of thing (stack, packet, the values of one map, …)
//   bits 53..32  slot: which one (stack frame, packet generation, map value, ring buffer record)
//   bits 31..0   ORIGIN + byte offset
//
// Segments start at 0x200, so neither small scalars nor small negative ones are addresses. ORIGIN keeps up to 1 GiB of
// pointer arithmetic in both directions inside the same slot: an out-of-range pointer still names its object, and
// subtracting two pointers into one object gives the plain difference, as programs expect.

import { Fault } from "./errors.js";

/** Low word of a pointer to the first byte of a slot. */
export const ORIGIN = 0x40000000;
export const SEGMENT_SHIFT = 22;
/** Slots in a segment. */
export const SEGMENT_SLOTS = 1 << SEGMENT_SHIFT;

/** Numbers of the fixed segments; those of maps follow from {@link SEGMENTS}.firstMap. */
export const SEGMENTS = {
  stack: 0x200,
  ctx: 0x201,
  packet: 0x202,
  mapObject: 0x203,
  func: 0x204,
  firstMap: 0x210,
} as const;
/** The last segment would contain the small negative numbers. */
const LAST_SEGMENT = 0x3fe;

/** High word of a pointer into `slot` of `segment`. */
export const highWord = (segment: number, slot: number): number => (segment << SEGMENT_SHIFT) | slot | 0;

/** A run of memory of one kind. */
export interface Segment {
  /** Bytes of all slots; replaced when the storage grows, so read it anew after every {@link Segment.locate}. */
  readonly view: DataView;
  /**
   * Index into `view` of `size` bytes at `offset` of `slot`.
   * @throws {@link Fault} when any of these bytes may not be read (or written, if `write`)
   */
  locate(slot: number, offset: number, size: number, write: boolean): number;
}

/** The segments of one machine. */
export class Memory {
  /** The view that the last {@link Memory.locate} points into. */
  view: DataView = new DataView(new ArrayBuffer(0));
  private readonly segments: (Segment | undefined)[] = new Array<undefined>(LAST_SEGMENT + 1).fill(undefined);
  private nextMapSegment: number = SEGMENTS.firstMap;

  /** Installs one of the fixed segments. */
  install(segment: number, what: Segment): void {
    this.segments[segment] = what;
  }

  /**
   * Reserves consecutive segments for `nSlots` slots; `make` gives each by the number of its first slot.
   * @returns number of the first
   */
  reserve(nSlots: number, make: (firstSlot: number) => Segment): number {
    const first = this.nextMapSegment;
    const n = Math.max(1, Math.ceil(nSlots / SEGMENT_SLOTS));
    if (first + n > LAST_SEGMENT + 1)
      throw new Fault(`the maps want more than ${LAST_SEGMENT + 1 - SEGMENTS.firstMap} address segments`);
    for (let i = 0; i < n; i++) this.segments[first + i] = make(i * SEGMENT_SLOTS);
    this.nextMapSegment = first + n;
    return first;
  }

  /**
   * Index into {@link Memory.view} of `size` bytes at the address `hi:lo` + `offset`.
   * @throws {@link Fault} when the bytes are not wholly inside one accessible object
   */
  locate(hi: number, lo: number, offset: number, size: number, write: boolean): number {
    const segment = this.segments[hi >>> SEGMENT_SHIFT];
    if (segment === undefined)
      throw new Fault(
        `${write ? "write" : "read"} of ${size} bytes at ${hex64(hi, lo)}${sum(offset)}: not a pointer to memory`,
      );
    const at = segment.locate(hi & (SEGMENT_SLOTS - 1), (lo | 0) - ORIGIN + offset, size, write);
    this.view = segment.view;
    return at;
  }

  /** The bytes at a pointer, not a copy: valid until a map grows or the packet changes. */
  bytes(hi: number, lo: number, size: number, write: boolean): Uint8Array {
    if (size === 0) return new Uint8Array(0);
    const at = this.locate(hi, lo, 0, size, write);
    return new Uint8Array(this.view.buffer, this.view.byteOffset + at, size);
  }
}

/** Bytes of a stack frame (MAX_BPF_STACK) and frames of a call chain (MAX_CALL_FRAMES), linux/bpf.h. */
export const FRAME_BYTES = 512;
export const MAX_FRAMES = 8;

/** The stack frames; keeps for every byte whether it was written, and refuses to read one that was not. */
export class StackSegment implements Segment {
  readonly view = new DataView(new ArrayBuffer(FRAME_BYTES * MAX_FRAMES));
  private readonly written = new Uint8Array(FRAME_BYTES * MAX_FRAMES);
  /** Frames in use. */
  private nFrames = 0;

  /** Enters a frame with nothing in it; returns its slot. */
  push(): number {
    if (this.nFrames === MAX_FRAMES) throw new Fault(`call chain is deeper than ${MAX_FRAMES} frames`);
    const slot = this.nFrames++;
    this.clear(slot);
    return slot;
  }

  /** Forgets the contents of a frame (a tail call starts with an empty one). */
  clear(slot: number): void {
    this.written.fill(0, slot * FRAME_BYTES, (slot + 1) * FRAME_BYTES);
  }

  pop(): void {
    this.nFrames--;
  }

  reset(): void {
    this.nFrames = 0;
  }

  locate(slot: number, offset: number, size: number, write: boolean): number {
    const fp = offset - FRAME_BYTES;
    if (offset < 0 || offset + size > FRAME_BYTES)
      throw new Fault(`${verb(write)} of ${size} bytes at stack offset ${fp}: outside -${FRAME_BYTES}..0`);
    if (slot >= this.nFrames) throw new Fault(`${verb(write)} of ${size} bytes in a stack frame that has returned`);
    const at = slot * FRAME_BYTES + offset;
    if (write) this.written.fill(1, at, at + size);
    else {
      for (let i = at; i < at + size; i++) {
        if (this.written[i] === 0)
          throw new Fault(`read of ${size} bytes at stack offset ${fp}: byte ${fp + i - at} was never written`);
      }
    }
    return at;
  }
}

/** Fixed-size values of a map, one a slot. Grows up to `maxSlots`; a slot keeps its address for ever. */
export class ValueStore {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /** Bytes from slot to slot: values start 8-byte aligned. */
  readonly stride: number;
  nSlots: number;

  constructor(
    readonly map: string,
    readonly valueSize: number,
    readonly maxSlots: number,
    readonly readOnly: boolean,
    readonly writeOnly: boolean,
    initialSlots: number,
  ) {
    this.stride = (valueSize + 7) & ~7;
    this.nSlots = Math.min(maxSlots, initialSlots);
    this.bytes = new Uint8Array(this.stride * this.nSlots);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes `slot` exist. */
  need(slot: number): void {
    if (slot < this.nSlots) return;
    this.nSlots = Math.min(this.maxSlots, Math.max(slot + 1, 2 * this.nSlots));
    const bytes = new Uint8Array(this.stride * this.nSlots);
    bytes.set(this.bytes);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }

  /** The value in `slot`, not a copy. */
  at(slot: number): Uint8Array {
    return this.bytes.subarray(slot * this.stride, slot * this.stride + this.valueSize);
  }
}

/** The part of a {@link ValueStore} that starts at `firstSlot`, seen from programs. */
export class ValueSegment implements Segment {
  constructor(
    private readonly store: ValueStore,
    private readonly firstSlot: number,
  ) {}

  get view(): DataView {
    return this.store.view;
  }

  locate(slot: number, offset: number, size: number, write: boolean): number {
    const { store } = this;
    if (offset < 0 || offset + size > store.valueSize)
      throw new Fault(
        `${verb(write)} of ${size} bytes at offset ${offset} of a value of map ${JSON.stringify(store.map)}: ` +
          `the value has ${store.valueSize} bytes`,
      );
    if (write ? store.readOnly : store.writeOnly)
      throw new Fault(`${verb(write)} of a value of map ${JSON.stringify(store.map)}: the map's flags forbid it`);
    const index = this.firstSlot + slot;
    if (index >= store.nSlots)
      throw new Fault(`${verb(write)} of value ${index} of map ${JSON.stringify(store.map)}: no such value`);
    return index * store.stride + offset;
  }
}

const verb = (write: boolean): string => (write ? "write" : "read");
const sum = (offset: number): string => (offset < 0 ? `-${-offset}` : `+${offset}`);
const hex32 = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
/** A register as 16 hexadecimal digits. */
export const hex64 = (hi: number, lo: number): string => `0x${hex32(hi)}${hex32(lo)}`;
