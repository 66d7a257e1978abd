// Rules of a table as data: for those that a look-up finds by number, what to do with their packets.

import { MAP_FLAGS } from "ebpf-assembler";
import { argSize, codeOf } from "./act.js";
import type { DirectTable } from "./analyse.js";
import { rodata, type Direct } from "./emit.js";
import type { Op } from "./ops.js";

/** Records of a table: for each rank the number of its code, then the arguments of its operations. */
export interface Records {
  readonly map: string;
  readonly stride: number;
  readonly codes: readonly { readonly ops: readonly Op[]; readonly offsets: readonly number[] }[];
}

/** Bytes of the number of the code. */
const HEAD = 4;

/** Where the records of a table lie while its program runs. Plain data. */
export interface LiveRecords {
  readonly map: string;
  readonly stride: number;
  readonly codes: readonly { readonly text: string; readonly offsets: readonly number[] }[];
}

/** {@link Records} as those see them who change them. */
export const liveRecords = ({ map, stride, codes }: Records): LiveRecords => ({
  map,
  stride,
  codes: codes.map(({ ops, offsets }) => ({ text: ops.map(codeOf).join(";"), offsets })),
});

/** Writes the arguments of a list into the record that begins at `base`. */
const putArgs = (
  record: Uint8Array,
  base: number,
  ops: readonly Op[],
  offsets: readonly number[],
  ifindexOf: (port: number) => number,
): void => {
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  ops.forEach((op, i) => {
    const at = base + offsets[i]!;
    if (op.op === "set") record.set(op.value, at);
    else if (op.op === "meter") view.setUint32(at, op.slot + 1, true);
    else if (op.op === "output") view.setUint32(at, ifindexOf(op.port), true);
    else if (op.op === "write_output" && typeof op.port === "number") view.setUint32(at, ifindexOf(op.port), true);
  });
};

/**
 * How to give a rule other operations while packets come: by one store, so that each sees all of the old or all of the new.
 *
 * @param memory - the map's, shared with the program
 * @returns what does it, or undefined when it cannot be done: other code, more than one word, or other facts for tables behind it
 */
export const changeInPlace = (
  { stride, codes }: LiveRecords,
  memory: ArrayBuffer,
  rank: number,
  ops: readonly Op[],
  ifindexOf: (port: number) => number,
): (() => void) | undefined => {
  if (ops.some(({ op }) => op === "resubmit") && ops.some(({ op }) => op === "set")) return undefined;
  const words = new BigUint64Array(memory, rank * stride, stride / 8);
  const next = words.slice();
  const record = new Uint8Array(next.buffer);
  const code = codes[new DataView(next.buffer).getUint32(0, true)];
  if (code === undefined || code.text !== ops.map(codeOf).join(";")) return undefined;
  putArgs(record, 0, ops, code.offsets, ifindexOf);
  const changed = [...next.keys()].filter((word) => next[word] !== words[word]);
  const [word] = changed;
  if (word === undefined) return () => undefined;
  return changed.length > 1 ? undefined : () => void Atomics.store(words, word, next[word]!);
};

/** Gathers lists of the same code, and writes the arguments of each. */
export const makeRecords = (d: Direct, table: DirectTable): Records => {
  const codes = new Map<string, { ops: readonly Op[]; offsets: readonly number[]; id: number }>();
  const ids: number[] = [];
  let size = HEAD;
  for (const { ops } of table.rules) {
    const text = ops.map(codeOf).join(";");
    let code = codes.get(text);
    if (code === undefined) {
      let at = HEAD;
      const offsets = ops.map((op) => {
        const { size: bytes, phase } = argSize(d, op);
        at = phase < 0 ? Math.ceil(at / 4) * 4 : at + ((phase - (at % 8) + 8) % 8);
        at += bytes;
        return at - bytes;
      });
      size = Math.max(size, at);
      codes.set(text, (code = { ops, offsets, id: codes.size }));
    }
    ids.push(code.id);
  }
  const stride = Math.ceil(size / 8) * 8;
  const bytes = new Uint8Array(stride * table.rules.length);
  const view = new DataView(bytes.buffer);
  const list = [...codes.values()];
  table.rules.forEach(({ ops }, rank) => {
    const base = rank * stride;
    view.setUint32(base, ids[rank]!, true);
    putArgs(bytes, base, ops, list[ids[rank]!]!.offsets, d.ifindexOf);
  });
  const map = `t${table.id}_rules`;
  const spec = rodata(map, bytes);
  // The kernel lets nobody map for writing what programs may only read.
  d.maps.push(d.isLive ? { ...spec, flags: MAP_FLAGS.MMAPABLE } : spec);
  return { map, stride, codes: list };
};
