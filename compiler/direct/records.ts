// Rules of a table as data: for those that a look-up finds by number, what to do with their packets.

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
    ops.forEach((op, i) => {
      const at = base + list[ids[rank]!]!.offsets[i]!;
      if (op.op === "set") bytes.set(op.value, at);
      else if (op.op === "meter") view.setUint32(at, op.slot + 1, true);
      else if (op.op === "output") view.setUint32(at, d.ifindexOf(op.port), true);
      else if (op.op === "write_output" && typeof op.port === "number") view.setUint32(at, d.ifindexOf(op.port), true);
    });
  });
  const map = `t${table.id}_rules`;
  d.maps.push(rodata(map, bytes));
  return { map, stride, codes: list };
};
