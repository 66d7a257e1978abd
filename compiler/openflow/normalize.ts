// Drops what a match demands of headers that it does not ask for: OVS forgets such demands (nw_src without ip) when it
// sends a flow to a switch, and so a flow means the same however it came.

import { FIELD_BYTES, FIELD_PLACE, fieldSpec, matchesField, matchField, meetsPrerequisites } from "./field-access.js";
import { FIELD_NAMES, type FieldName } from "./fields.js";
import type { Match } from "./types.js";

/** Fields that share their place with others: what is demanded stays if any of them is meaningful. */
const CONDITIONAL: readonly FieldName[] = FIELD_NAMES.filter(
  (name) => fieldSpec(name).needs !== "none" && fieldSpec(name).in !== "vlan0_tci",
);

const SHARING: ReadonlyMap<FieldName, readonly FieldName[]> = new Map(
  CONDITIONAL.map((name) => [
    name,
    CONDITIONAL.filter((other) => {
      const [a, b] = [FIELD_PLACE[name], FIELD_PLACE[other]];
      return a.at < b.at + b.bits && b.at < a.at + a.bits;
    }),
  ]),
);

/**
 * Removes demands on fields whose prerequisites the match does not meet, from the outermost header in.
 *
 * @param match - changed in place
 * @returns a name of each field that was dropped
 */
export const normalizeMatch = (match: Match): readonly FieldName[] => {
  const dropped: FieldName[] = [];
  for (const field of CONDITIONAL) {
    if (!matchesField(match, field)) continue;
    if (SHARING.get(field)!.some((other) => meetsPrerequisites(match.value, other))) continue;
    matchField(match, field, new Uint8Array(FIELD_BYTES[field]), new Uint8Array(FIELD_BYTES[field]));
    dropped.push(field);
  }
  return dropped;
};
