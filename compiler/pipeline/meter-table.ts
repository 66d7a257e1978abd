// Meters: token buckets that several take from at once, programs in the kernel on every CPU and user space among them, and
// their statistics. All of a meter lies in one slot of a piece of memory; who has the slot needs no lock.
//
// A band's bucket fills by `rate` per millisecond up to its burst, and a packet that finds too little in it exceeds the
// band: the arithmetic of OVS lib/dpif-netdev.c, in 1/1000 packets or in bits, with its clock of whole milliseconds. The
// bucket is kept as the one number `drained` = what would have flowed in since the meter was made, less what is in the
// bucket. Filling does not change it, so taking is one compare-and-exchange of 64 bits: exact, whoever else takes.
// Differences are taken modulo 2^64, which is right for pauses of up to 2^63 / rate milliseconds: 24 days at the highest
// rate that can be written, 292 years at 1 Gbit/s.

import { OffloadError } from "ebpf-assembler";
import { MAX_BANDS } from "../openflow/parse/meters.js";
import type { Meter, MeterBand } from "../openflow/types.js";

/** Meters of one switch at most. */
export const MAX_METERS = 1024;

/** A slot: byte offsets, host order. Programs read and write it, too. */
export const METER_SLOT = {
  packets: 0, // u64
  bytes: 8, // u64
  baseMs: 16, // u64: CLOCK_MONOTONIC when the meter was made
  perPacket: 24, // u32: what a packet takes from a bucket
  perByte: 28, // u32: what each of its bytes takes
  nBands: 32, // u32
  bands: 40,
  size: 40 + MAX_BANDS * 40,
} as const;

/** A band within a slot. */
export const METER_BAND = {
  drained: 0, // u64, see above
  most: 8, // u64: a full bucket
  packets: 16, // u64: packets that exceeded this band
  bytes: 24, // u64
  rate: 32, // u32
  precLevel: 36, // u32: 0 = drop
  size: 40,
} as const;

/** Times that a program tries to take from a bucket that others take from, before it counts the packet as exceeding. */
export const METER_TRIES = 16;

/** Why a change of meters was refused; the names are those of the OpenFlow errors. */
export type MeterModProblem = "meter_exists" | "unknown_meter" | "out_of_meters";

/** A change of meters that the switch refuses. */
export class MeterModError extends OffloadError {
  readonly code = "EMETERMOD";

  constructor(
    readonly problem: MeterModProblem,
    message: string,
  ) {
    super(message);
  }
}

export interface MeterEntry {
  readonly meter: Meter;
  /** Number of the slot: what datapath actions know the meter by. */
  readonly slot: number;
  readonly createdMs: number;
}

export interface MeterStats {
  /** All that came to the meter. */
  readonly packets: number;
  readonly bytes: number;
  /** What exceeded each band. */
  readonly bands: readonly { readonly packets: number; readonly bytes: number }[];
}

/** What becomes of a packet: `pass`, `drop`, or by how much to raise its drop precedence. */
export type MeterVerdict = "pass" | "drop" | number;

const bandAt = (band: number): number => METER_SLOT.bands + band * METER_BAND.size;

const u64 = (n: bigint): bigint => BigInt.asUintN(64, n);

/** One slot as numbers. Offsets are those of {@link METER_SLOT}, in bytes, and all of 64-bit ones divide by 8. */
class Slot {
  private readonly words: BigUint64Array;
  private readonly halves: Uint32Array;

  constructor({ buffer, byteOffset }: Uint8Array<ArrayBuffer>, at: number) {
    this.words = new BigUint64Array(buffer, byteOffset + at, METER_SLOT.size / 8);
    this.halves = new Uint32Array(buffer, byteOffset + at, METER_SLOT.size / 4);
  }

  get(at: number): bigint {
    return Atomics.load(this.words, at >>> 3);
  }

  set(at: number, value: bigint): void {
    Atomics.store(this.words, at >>> 3, value);
  }

  add(at: number, value: number): void {
    Atomics.add(this.words, at >>> 3, BigInt(value));
  }

  get32(at: number): number {
    return this.halves[at >>> 2]!;
  }

  set32(at: number, value: number): void {
    Atomics.store(this.halves, at >>> 2, value);
  }

  /** Takes `volume` from the bucket of a band; false if there is less in it. */
  take(band: number, elapsedMs: bigint, volume: bigint): boolean {
    const at = bandAt(band);
    const level = elapsedMs * BigInt(this.get32(at + METER_BAND.rate));
    const most = this.get(at + METER_BAND.most);
    for (;;) {
      const drained = this.get(at + METER_BAND.drained);
      // Below 0 when another reader of the clock was ahead.
      let room = BigInt.asIntN(64, level - drained);
      if (room < 0n) room = 0n;
      if (room > most) room = most;
      if (room < volume) return false;
      const next = u64(level - room + volume);
      if (Atomics.compareExchange(this.words, (at + METER_BAND.drained) >>> 3, drained, next) === drained) return true;
    }
  }
}

/**
 * Meters a packet in one slot.
 *
 * @param bytes - of the packet, with its L2 header
 * @param nowMs - CLOCK_MONOTONIC
 */
const meterPacket = (slot: Slot, bytes: number, nowMs: number): MeterVerdict => {
  slot.add(METER_SLOT.packets, 1);
  slot.add(METER_SLOT.bytes, bytes);
  const elapsedMs = BigInt(Math.floor(nowMs)) - slot.get(METER_SLOT.baseMs);
  const volume = BigInt(slot.get32(METER_SLOT.perPacket) + bytes * slot.get32(METER_SLOT.perByte));
  // Every band gives what it has; of those that have too little, the one with the highest rate acts.
  let acting: number | undefined;
  let highest = 0;
  for (let band = 0; band < slot.get32(METER_SLOT.nBands); band++) {
    const rate = slot.get32(bandAt(band) + METER_BAND.rate);
    if (slot.take(band, elapsedMs, volume) || rate <= highest) continue;
    acting = band;
    highest = rate;
  }
  if (acting === undefined) return "pass";
  const at = bandAt(acting);
  slot.add(at + METER_BAND.packets, 1);
  slot.add(at + METER_BAND.bytes, bytes);
  const precLevel = slot.get32(at + METER_BAND.precLevel);
  return precLevel === 0 ? "drop" : precLevel;
};

const putBand = (slot: Slot, index: number, band: MeterBand): void => {
  const at = bandAt(index);
  const most = BigInt(band.burstSize === 0 ? band.rate : band.burstSize) * 1000n;
  // A full bucket at first.
  slot.set(at + METER_BAND.drained, u64(-most));
  slot.set(at + METER_BAND.most, most);
  slot.set(at + METER_BAND.packets, 0n);
  slot.set(at + METER_BAND.bytes, 0n);
  slot.set32(at + METER_BAND.rate, band.rate);
  slot.set32(at + METER_BAND.precLevel, band.precLevel);
};

/** The meters of a switch. */
export class MeterTable {
  readonly #entries = new Map<number, MeterEntry>();
  readonly #used = new Set<number>();
  #memory = new Uint8Array(0);
  #slots: Slot[] = [];

  get(id: number): MeterEntry | undefined {
    return this.#entries.get(id);
  }

  [Symbol.iterator](): IterableIterator<MeterEntry> {
    return this.#entries.values();
  }

  /**
   * Keeps the meters in `memory` from now on, {@link MAX_METERS} slots at a multiple of 8 bytes: that of a map, so that
   * programs meter by them. What they hold goes with them.
   */
  bind(memory: Uint8Array<ArrayBuffer>): void {
    memory.set(this.#memory);
    this.#memory = memory;
    this.#slots = Array.from({ length: MAX_METERS }, (_, i) => new Slot(memory, i * METER_SLOT.size));
  }

  /** @throws {@link MeterModError} `meter_exists`, `out_of_meters` */
  add(meter: Meter, nowMs: number): MeterEntry {
    const { id } = meter;
    if (this.#entries.has(id)) {
      throw new MeterModError("meter_exists", `Cannot add meter ${id}: it exists already`);
    }
    let slot = 0;
    while (this.#used.has(slot)) slot++;
    if (slot >= MAX_METERS) {
      throw new MeterModError("out_of_meters", `Cannot add meter ${id}: want at most ${MAX_METERS} meters`);
    }
    this.#used.add(slot);
    return this.#put({ meter, slot, createdMs: nowMs }, nowMs);
  }

  /** Other bands for a meter: buckets and statistics start anew, as in OVS. @throws {@link MeterModError} `unknown_meter` */
  modify(meter: Meter, nowMs: number): MeterEntry {
    const old = this.#entries.get(meter.id);
    if (old === undefined) {
      throw new MeterModError("unknown_meter", `Cannot modify meter ${meter.id}: there is no such meter`);
    }
    return this.#put({ ...old, meter }, nowMs);
  }

  delete(id: number): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#slot(entry.slot).set32(METER_SLOT.nBands, 0);
    this.#used.delete(entry.slot);
    return this.#entries.delete(id);
  }

  /** Keeps the meters in memory of its own again, before that of a map goes away. */
  unbind(): void {
    if (this.#slots.length > 0) this.bind(new Uint8Array(MAX_METERS * METER_SLOT.size));
  }

  /**
   * Takes over what a meter held in another memory, by the same clock: buckets and statistics. Nothing when it had other bands.
   * @param memory - as {@link bind} takes it
   * @param from - its slot there
   */
  resume({ meter, slot }: MeterEntry, memory: Uint8Array<ArrayBuffer>, from: number): void {
    const old = new Slot(memory, from * METER_SLOT.size);
    const own = this.#slot(slot);
    const bands = meter.bands.map((_, band) => bandAt(band));
    const isSame =
      old.get32(METER_SLOT.nBands) === bands.length &&
      [METER_SLOT.perPacket, METER_SLOT.perByte].every((at) => old.get32(at) === own.get32(at)) &&
      bands.every(
        (at) =>
          old.get32(at + METER_BAND.rate) === own.get32(at + METER_BAND.rate) &&
          old.get(at + METER_BAND.most) === own.get(at + METER_BAND.most),
      );
    if (!isSame) return;
    for (const at of [METER_SLOT.packets, METER_SLOT.bytes, METER_SLOT.baseMs]) own.set(at, old.get(at));
    for (const band of bands)
      for (const at of [METER_BAND.drained, METER_BAND.packets, METER_BAND.bytes])
        own.set(band + at, old.get(band + at));
  }

  /** A copy of what all meters hold, as {@link resume} takes it. */
  get contents(): Uint8Array<ArrayBuffer> {
    return this.#entries.size === 0 ? new Uint8Array(0) : this.#memory.slice();
  }

  /** Begins anew, by another clock. */
  restart(nowMs: number): void {
    for (const { meter, slot } of [...this.#entries.values()]) this.#put({ meter, slot, createdMs: nowMs }, nowMs);
  }

  /** Meters a packet. A slot without a meter lets it pass. */
  meter(slot: number, bytes: number, nowMs: number): MeterVerdict {
    return this.#used.has(slot) ? meterPacket(this.#slot(slot), bytes, nowMs) : "pass";
  }

  stats({ slot, meter }: MeterEntry): MeterStats {
    const values = this.#slot(slot);
    const counters = (packets: number, bytes: number): { packets: number; bytes: number } => ({
      packets: Number(values.get(packets)),
      bytes: Number(values.get(bytes)),
    });
    return {
      ...counters(METER_SLOT.packets, METER_SLOT.bytes),
      bands: meter.bands.map((_, i) => counters(bandAt(i) + METER_BAND.packets, bandAt(i) + METER_BAND.bytes)),
    };
  }

  #slot(index: number): Slot {
    if (this.#slots.length === 0) this.bind(new Uint8Array(MAX_METERS * METER_SLOT.size));
    return this.#slots[index]!;
  }

  #put(entry: MeterEntry, nowMs: number): MeterEntry {
    const { meter } = entry;
    const slot = this.#slot(entry.slot);
    const countsPackets = meter.flags.includes("pktps");
    // Programs may be looking: without bands a packet passes.
    slot.set32(METER_SLOT.nBands, 0);
    slot.set(METER_SLOT.packets, 0n);
    slot.set(METER_SLOT.bytes, 0n);
    slot.set(METER_SLOT.baseMs, BigInt(Math.floor(nowMs)));
    slot.set32(METER_SLOT.perPacket, countsPackets ? 1000 : 0);
    slot.set32(METER_SLOT.perByte, countsPackets ? 0 : 8);
    meter.bands.forEach((band, i) => putBand(slot, i, band));
    slot.set32(METER_SLOT.nBands, meter.bands.length);
    this.#entries.set(meter.id, entry);
    return entry;
  }
}

/**
 * DSCP with its drop precedence raised by a `dscp_remark` band, up to 3: assured forwarding classes 1 to 4 (RFC 2597) have
 * one; other values stay.
 *
 * @param tos - the whole byte, ECN bits stay
 */
export const remarkTos = (tos: number, precLevel: number): number => {
  const level = tos >>> 5;
  const precedence = (tos >>> 3) & 3;
  const isAssured = level >= 1 && level <= 4 && precedence >= 1 && (tos & 0x04) === 0;
  return isAssured ? (tos & ~0x18) | (Math.min(3, precedence + precLevel) << 3) : tos;
};
