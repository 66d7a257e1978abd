// Emits a meter: the token buckets of pipeline/meter-table.ts, by the same arithmetic on the same memory. No lock: a bucket is
// one number, taken from by compare-and-exchange, so that CPUs and user space never take the same tokens twice.
//
//   slot ─► count ─► for each band: take ─► enough: next band
//                                   └─► too little: the band with the highest rate acts ─► count, drop

import { MAX_BANDS } from "../openflow/parse/meters.js";
import { METER_BAND, METER_SLOT, METER_TRIES } from "../pipeline/meter-table.js";
import type { BlockId, VReg } from "../ir/types.js";
import type { IrBuilder } from "../ir/builder.js";
import { MAPS } from "./abi.js";
import { forget } from "./emit.js";
import type { Rewrite } from "./rewrite.js";

/** What a meter needs of the program that it is in: the number of the slot is among the arguments. */
type Metered = Pick<Rewrite, "b" | "args" | "len" | "drop">;

const NS_PER_MS = 1_000_000;

/** Bytes as statistics count them: with a tag that is held in metadata. */
const packetBytes = ({ b, len }: Metered): VReg =>
  b.hook === "tc" ? b.alu("add", b.alu("lsh", b.ctx("vlan_present"), 2), len, "bytes") : len;

const count = (b: IrBuilder, at: VReg, counters: typeof METER_SLOT | typeof METER_BAND, bytes: VReg): void => {
  b.atomicAdd("u64", at, counters.packets, b.value("one", 1));
  b.atomicAdd("u64", at, counters.bytes, bytes);
};

/** Takes `volume` from a band's bucket: goes to `taken`, or to `exceeded` when there is less in it. */
const take = (b: IrBuilder, band: VReg, level: VReg, volume: VReg, taken: BlockId, exceeded: BlockId): void => {
  const most = b.load("u64", band, METER_BAND.most, "most");
  const tries = b.value("tries", 0);
  const again = b.block("take");
  b.place(again);
  const drained = b.load("u64", band, METER_BAND.drained, "drained");
  const room = b.alu("sub", level, drained, "room");
  // Below 0 when another CPU's clock was ahead.
  const behind = b.block("behind");
  const clamped = b.block("clamped");
  const enough = b.block("enough");
  b.unless("slt", room, 0, behind);
  b.branch("le", room, most, clamped, enough);
  b.place(behind);
  b.mov(room, 0);
  b.jump(clamped);
  b.place(enough);
  b.mov(room, most);
  b.place(clamped);
  b.unless("lt", room, volume, exceeded);
  const next = b.alu("add", b.alu("sub", level, room, "next"), volume, "next");
  b.unless("eq", b.call("cmpxchg_u64", [band, drained, next]), drained, taken);
  b.aluTo("add", tries, 1);
  b.branch("lt", tries, METER_TRIES, again, exceeded, "else");
};

/** Emits a meter; goes on in the current block with a packet that passes. @param arg - offset of the slot's number */
export const emitMeter = (w: Metered, arg: number): void => {
  const { b } = w;
  const passes = b.block("passes");
  const key = b.slot("meter_slot", 4, 4);
  b.store("u32", key, 0, b.load("u32", w.args, arg, "meter"));
  const meter = b.call("map_lookup_elem", [{ map: MAPS.meters }, { at: key, off: 0 }], "map_value");
  b.unless("eq", meter, 0, passes);
  const bytes = packetBytes(w);
  count(b, meter, METER_SLOT, bytes);
  const ms = b.alu("div", b.call("ktime_get_ns", []), NS_PER_MS, "ms");
  const elapsed = b.alu("sub", ms, b.load("u64", meter, METER_SLOT.baseMs), "elapsed");
  const perByte = b.alu("mul", bytes, b.load("u32", meter, METER_SLOT.perByte), "volume");
  const volume = b.alu("add", perByte, b.load("u32", meter, METER_SLOT.perPacket), "volume");
  const nBands = b.load("u32", meter, METER_SLOT.nBands, "n_bands");

  // Number of the acting band from 1 on, 0 = none; the verifier need not know which.
  const acting = b.value("acting", 0);
  forget(w, acting);
  const highest = b.value("highest", 0);
  const index = b.value("band", 0);
  const loop = b.block("bands");
  const done = b.block("metered");
  b.place(loop);
  b.unless("ge", index, nBands, done);
  b.unless("ge", index, MAX_BANDS, done);
  const bandAt = (number: VReg): VReg => {
    const at = b.alu("add", b.alu("mul", number, METER_BAND.size, "at"), METER_SLOT.bands, "at");
    return b.alu("add", meter, at, "band");
  };
  const band = bandAt(index);
  const rate = b.load("u32", band, METER_BAND.rate, "rate");
  const taken = b.block("taken");
  const exceeded = b.block("exceeded");
  take(b, band, b.alu("mul", elapsed, rate, "level"), volume, taken, exceeded);
  b.place(exceeded);
  b.unless("le", rate, highest, taken);
  b.mov(highest, rate);
  b.mov(acting, b.alu("add", index, 1, "acting"));
  forget(w, acting);
  b.place(taken);
  b.aluTo("add", index, 1);
  b.jump(loop);

  b.place(done);
  b.unless("eq", acting, 0, passes);
  b.unless("gt", acting, MAX_BANDS, w.drop);
  count(b, bandAt(b.alu("sub", acting, 1, "acting")), METER_BAND, bytes);
  b.jump(w.drop);
  b.place(passes);
};
