// Writing fields of the flow in hand: set_field, load, move. A field that the packet does not have stays untouched, and
// what says that it does not have it is marked, as OVS does (mf_are_prereqs_ok, mf_mask_field_masked).

import {
  FIELD_BYTES,
  FIELD_PLACE,
  fieldSpec,
  meetsPrerequisites,
  readSubfield,
  subfieldPlace,
  unwildcardField,
  writeField,
  writeFieldMasked,
  writeSubfield,
} from "../../openflow/field-access.js";
import { fromBytes, toBytes } from "../../openflow/big-endian.js";
import { FIELD_NAMES, type FieldName } from "../../openflow/fields.js";
import { isTunMetadata } from "../../openflow/fields/tun-metadata.js";
import { copyBits, orBytes, setBytes, setOnes } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import type { Subfield } from "../../openflow/types.js";
import type { Context } from "./context.js";

/** Whether the packet has `field`; notes it when not. */
const has = (ctx: Context, field: FieldName): boolean => meetsPrerequisites(ctx.flow, field, ctx.mask);

/** Tunnel options, which no table maps. */
const UNWRITTEN: ReadonlySet<FieldName> = new Set(FIELD_NAMES.filter(isTunMetadata));

/** Gives the translation up before a write that would be lost. @returns whether it was */
const refuses = (ctx: Context, field: FieldName): boolean => {
  if (!UNWRITTEN.has(field)) return false;
  ctx.trace?.note(`field ${field} is not written yet`, "error");
  ctx.error = "unsupported_field";
  return true;
};

/** Marks the bits of a field whose bits in `bytes` (as long as its value) are set. */
export const markField = (ctx: Context, field: FieldName, bytes: Uint8Array | undefined): void => {
  const row = fieldSpec(field);
  if (bytes === undefined || row.valueBits !== undefined || row.valueShift !== undefined) {
    unwildcardField(ctx.mask, field);
  } else {
    const { at, bits } = FIELD_PLACE[field];
    orBytes(ctx.mask, at, bits, bytes);
  }
  if (row.in === "vlan0_tci") ctx.mark("vlan0_tci", VLAN_PRESENT);
};

/** By the subfield as an action has it, which never changes. */
const subfieldMasks = new WeakMap<Subfield, Uint8Array>();

const subfieldMask = (subfield: Subfield): Uint8Array => {
  const known = subfieldMasks.get(subfield);
  if (known !== undefined) return known;
  const { field, lsb, bits } = subfield;
  const mask = new Uint8Array(FIELD_BYTES[field]);
  for (let bit = lsb; bit < lsb + bits; bit++) mask[mask.length - 1 - (bit >>> 3)]! |= 1 << (bit & 7);
  subfieldMasks.set(subfield, mask);
  return mask;
};

export const markSubfield = (ctx: Context, subfield: Subfield): void => {
  const place = subfieldPlace(subfield);
  if (place === undefined) markField(ctx, subfield.field, subfieldMask(subfield));
  else setOnes(ctx.mask, place.at, place.bits);
};

/** `set_field`. */
export const setField = (ctx: Context, field: FieldName, value: Uint8Array, mask?: Uint8Array): void => {
  if (!has(ctx, field)) {
    ctx.trace?.note(`unmet prerequisites for ${field}, set_field ignored`, "warning");
    return;
  }
  if (refuses(ctx, field)) return;
  markField(ctx, field, mask);
  if (mask === undefined) writeField(ctx.flow, field, value);
  else writeFieldMasked(ctx.flow, field, value, mask);
};

/** `load`: OVS treats it as a `set_field` with a mask. */
export const load = (ctx: Context, value: Uint8Array, dst: Subfield): void => {
  if (!has(ctx, dst.field)) {
    ctx.trace?.note(`unmet prerequisites for ${dst.field}, set_field ignored`, "warning");
    return;
  }
  if (refuses(ctx, dst.field)) return;
  markSubfield(ctx, dst);
  const to = subfieldPlace(dst);
  if (to === undefined) writeSubfield(ctx.flow, dst, value);
  else setBytes(ctx.flow, to.at, to.bits, value);
};

/** Writes what is in `src` into `dst`, and marks both. */
const copySubfield = (ctx: Context, src: Subfield, dst: Subfield): void => {
  const from = subfieldPlace(src);
  const to = subfieldPlace(dst);
  // Registers of several widths share their bits.
  if (from === undefined || to === undefined || Math.abs(from.at - to.at) < to.bits) {
    markSubfield(ctx, src);
    markSubfield(ctx, dst);
    writeSubfield(ctx.flow, dst, readSubfield(ctx.flow, src));
    return;
  }
  setOnes(ctx.mask, from.at, from.bits);
  setOnes(ctx.mask, to.at, to.bits);
  copyBits(ctx.flow, to.at, ctx.flow, from.at, to.bits);
};

/** `move`. */
export const move = (ctx: Context, src: Subfield, dst: Subfield): void => {
  if (has(ctx, dst.field) && has(ctx, src.field) && !refuses(ctx, dst.field)) copySubfield(ctx, src, dst);
  ctx.trace?.moved(dst, ctx.flow);
};

/** Writes a number that an action came to into a subfield, as OVS does (nxm_reg_load): whatever the packet has. */
export const writeResult = (ctx: Context, dst: Subfield, value: number): void => {
  if (refuses(ctx, dst.field)) return;
  markSubfield(ctx, dst);
  writeSubfield(ctx.flow, dst, toBytes(BigInt(value), (dst.bits + 7) >>> 3));
};

/** {@link writeResult}, and says so. */
export const loadResult = (ctx: Context, dst: Subfield, value: number): void => {
  writeResult(ctx, dst, value);
  ctx.trace?.moved(dst, ctx.flow);
};

/** The value of a subfield as a number. */
export const numberIn = (ctx: Context, src: Subfield): bigint => fromBytes(readSubfield(ctx.flow, src));

/** `push`. */
export const pushStack = (ctx: Context, src: Subfield): void => {
  markSubfield(ctx, src);
  ctx.stack.push(readSubfield(ctx.flow, src));
};

/** `pop`: the low bits of what was pushed last, zeros above them. */
export const popStack = (ctx: Context, dst: Subfield): void => {
  const value = ctx.stack.pop();
  if (value === undefined) {
    ctx.trace?.note("stack underflow", "error");
    return;
  }
  if (refuses(ctx, dst.field)) return;
  markSubfield(ctx, dst);
  writeSubfield(ctx.flow, dst, value);
  ctx.trace?.moved(dst, ctx.flow);
};
