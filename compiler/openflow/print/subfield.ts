// Subfields in text, and loads of more bits than one action can carry.

import { codeName, FIELD_WIDTH, sliceBits } from "../field-access.js";
import type { ActionOf, Subfield } from "../action.js";

/** `NXM_NX_REG0[0..15]` */
export const subfieldText = ({ field, lsb, bits }: Subfield): string => {
  const range = lsb === 0 && bits === FIELD_WIDTH[field] ? "" : bits === 1 ? `${lsb}` : `${lsb}..${lsb + bits - 1}`;
  return `${codeName(field)}[${range}]`;
};

/** Most bits of one `load` on the wire; OVS writes wider ones as several. */
const LOAD_BITS = 64;

/** A load of more than 64 bits as the loads of its parts, lowest first. */
export const splitLoad = (load: ActionOf<"reg_load">): ActionOf<"reg_load">[] => {
  const parts: ActionOf<"reg_load">[] = [];
  const { field, lsb, bits } = load.dst;
  for (let from = 0; from < bits; from += LOAD_BITS) {
    const n = Math.min(LOAD_BITS, bits - from);
    parts.push({ kind: "reg_load", value: sliceBits(load.value, from, n), dst: { field, lsb: lsb + from, bits: n } });
  }
  return parts;
};
