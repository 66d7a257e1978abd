// Subfields in text: FIELD[], FIELD[bit] or FIELD[first..last], FIELD by its own, NXM or OXM name.

import { codeName, FIELD_WIDTH, fieldByCodeName, fieldByName, fieldSpec } from "../field-access.js";
import type { FieldName } from "../fields.js";
import type { Subfield } from "../types.js";
import type { ParseContext } from "./context.js";
import type { Piece } from "./source.js";

/** The field called `name`. @throws CompileError naming a field that is unknown */
export const requireField = (context: ParseContext, piece: Piece, lookUp = fieldByName): FieldName => {
  const field = lookUp(piece.text);
  if (field !== undefined) return field;
  const meant = fieldByCodeName(piece.text);
  if (meant !== undefined) return context.fail(piece.at, `Cannot use ${piece.text} here: want its name ${meant}`);
  return context.fail(piece.at, `Cannot find field "${piece.text}": want a name like reg0 or eth_dst`);
};

/** @throws CompileError if actions may not write the field */
export const requireWritable = (context: ParseContext, field: FieldName, piece: Piece): void => {
  if (!fieldSpec(field).writable) context.fail(piece.at, `Cannot set ${piece.text}: it is read-only`);
  requireCode(context, field, piece);
};

/** What to use for the fields that no action can name on the wire, where there is something. */
const INSTEAD: Partial<Record<FieldName, FieldName>> = { dl_vlan: "vlan_vid", dl_vlan_pcp: "vlan_pcp" };

/** @throws CompileError for a field that no action can name on the wire */
const requireCode = (context: ParseContext, field: FieldName, piece: Piece): void => {
  if (codeName(field) === field) {
    const instead = INSTEAD[field];
    const want = instead === undefined ? "no version of OpenFlow can carry it" : `want ${instead}`;
    context.fail(piece.at, `Cannot use ${piece.text} in an action: ${want}`);
  }
};

/**
 * Reads a subfield from the beginning of `piece`.
 *
 * @returns the subfield, the piece of its field name, and what follows
 */
export const parseSubfield = (
  context: ParseContext,
  piece: Piece,
): { subfield: Subfield; name: Piece; rest: Piece } => {
  const { text, at } = piece;
  const nameEnd = text.search(/[[-]/);
  const nameText = nameEnd < 0 ? text : text.slice(0, nameEnd);
  const name = { text: nameText, at };
  const field = requireField(context, { text: nameText.replace(/_W$/, ""), at }, fieldByCodeName);
  requireCode(context, field, name);
  const width = FIELD_WIDTH[field];
  const bracket = text.startsWith("[", nameText.length);
  let end = nameText.length;
  let first = 0;
  let last = width - 1;
  if (bracket) {
    const range = /^\[(?:(\d{1,9})(?:\.\.(\d{1,9}))?)?\]/.exec(text.slice(nameText.length));
    if (range === null)
      return context.fail(at + end, `Cannot read ${text.slice(end)}: want [], [BIT] or [FIRST..LAST]`);
    if (range[1] !== undefined) {
      first = Number(range[1]);
      last = range[2] === undefined ? first : Number(range[2]);
    }
    end += range[0].length;
  }
  if (first > last) context.fail(at + nameText.length, `Cannot use bits ${first}..${last}: want the lower bit first`);
  if (last >= width) {
    context.fail(at + nameText.length, `Cannot use bit ${last} of ${nameText}: it is ${width} bits wide`);
  }
  return {
    subfield: { field, lsb: first, bits: last - first + 1 },
    name,
    rest: { text: text.slice(end), at: at + end },
  };
};
