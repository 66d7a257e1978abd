// Counters as fields of their own, as OpenFlow 1.5 has them in statistics of flows: a list like that of a match.

import { ByteReader, type ByteWriter } from "./bytes.js";
import { OpenFlowError } from "./errors.js";

/** Statistics as fields, OpenFlow 1.5.1 section 7.2.4. */
const OXS = { durationS: 0, idleAge: 1, flows: 3, packets: 4, bytes: 5 } as const;
const OXS_CLASS = 0x8002;

/** Counters that travel as fields. Numbers are exact up to 2^53. */
export interface WireCounters<Count = bigint | number> {
  readonly durationS?: number;
  readonly durationNs?: number;
  readonly idleAge?: number;
  readonly packets?: Count;
  readonly bytes?: Count;
  readonly flows?: number;
}

/** Counters as fields, padded to 8 bytes. */
export const putOxs = (writer: ByteWriter, counters: WireCounters): void => {
  const start = writer.length;
  const head = (field: number, bytes: number): ByteWriter =>
    writer
      .u16(OXS_CLASS)
      .u8(field << 1)
      .u8(bytes);
  writer.u16(0).u16(0);
  const { durationS, durationNs = 0, idleAge, packets, bytes, flows } = counters;
  if (durationS !== undefined) head(OXS.durationS, 8).u32(durationS).u32(durationNs);
  if (idleAge !== undefined) head(OXS.idleAge, 8).u32(idleAge).u32(0);
  if (packets !== undefined) head(OXS.packets, 8).u64(packets);
  if (bytes !== undefined) head(OXS.bytes, 8).u64(bytes);
  if (flows !== undefined) head(OXS.flows, 4).u32(flows);
  writer.set16(start + 2, writer.length - start).pad8(start);
};

const badStats = (reason: string): never => {
  throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read statistics: ${reason}`);
};

/** Reads counters that are fields; those that nobody knows are left out. @throws {@link OpenFlowError} */
export const readOxs = (reader: ByteReader): WireCounters<bigint> => {
  const head = new ByteReader(reader.bytes.subarray(reader.at), "OFPBMC_BAD_LEN");
  const length = head.skip(2).u16();
  const whole = (length + 7) & ~7;
  if (length < 4 || whole > reader.left) badStats(`they say that they have ${length} bytes`);
  const fields = head.part(length - 4);
  reader.skip(whole);
  let counters: WireCounters<bigint> = {};
  while (fields.left > 0) {
    const cls = fields.u16();
    const code = fields.u8();
    const value = fields.part(fields.u8());
    if (cls !== OXS_CLASS || (code & 1) !== 0) continue;
    const field = code >>> 1;
    const { left } = value;
    if (field === OXS.durationS && left === 8)
      counters = { ...counters, durationS: value.u32(), durationNs: value.u32() };
    else if (field === OXS.idleAge && left === 8) counters = { ...counters, idleAge: value.u32() };
    else if (field === OXS.packets && left === 8) counters = { ...counters, packets: value.u64() };
    else if (field === OXS.bytes && left === 8) counters = { ...counters, bytes: value.u64() };
    else if (field === OXS.flows && left === 4) counters = { ...counters, flows: value.u32() };
  }
  return counters;
};
