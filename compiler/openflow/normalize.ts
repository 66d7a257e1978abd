// Drops what a match demands of headers that it does not ask for: OVS forgets such demands (nw_src without ip) when it
// sends a flow to a switch, and so a flow means the same however it came.

import {
  etherType,
  FIELD_BYTES,
  FIELD_PLACE,
  fieldSpec,
  matchesField,
  matchField,
  matchMeetsPrerequisites,
  meetsPrerequisites,
} from "./field-access.js";
import { FIELD_NAMES, type FieldName } from "./fields.js";
import { get, PACKET_WORDS_AT, set } from "./flow.js";
import { ETH_TYPE } from "../packet/headers.js";
import type { Match } from "./types.js";

/** Fields that share their place with others: what is demanded stays if any of them is meaningful. */
const CONDITIONAL: readonly FieldName[] = FIELD_NAMES.filter(
  (name) => !["none", "nsh", "ct"].includes(fieldSpec(name).needs) && fieldSpec(name).in !== "vlan0_tci",
);

/** Fields that OVS sends as they are, and the switch refuses: demands without the header or state they need. */
const STRICT: readonly FieldName[] = FIELD_NAMES.filter((name) => ["nsh", "ct"].includes(fieldSpec(name).needs));

/** Address fields of connections, and the Ethernet type that they need besides what the table says. */
const CT_ADDRESSES: readonly (readonly [FieldName, number])[] = [
  ["ct_nw_src", ETH_TYPE.IPV4],
  ["ct_nw_dst", ETH_TYPE.IPV4],
  ["ct_ipv6_src", ETH_TYPE.IPV6],
  ["ct_ipv6_dst", ETH_TYPE.IPV6],
];

/** A field of connections whose addresses are not of the packet's kind. */
export const foreignAddress = (match: Match): FieldName | undefined =>
  CT_ADDRESSES.find(([field, type]) => matchesField(match, field) && etherType(match.value) !== type)?.[0];

/** A field that the match demands something of without meeting its prerequisites, and that is not simply left out. */
export const unmetField = (match: Match): FieldName | undefined =>
  STRICT.find((field) => matchesField(match, field) && !matchMeetsPrerequisites(match, field));

const SHARING: ReadonlyMap<FieldName, readonly FieldName[]> = new Map(
  CONDITIONAL.map((name) => [
    name,
    CONDITIONAL.filter((other) => {
      const [a, b] = [FIELD_PLACE[name], FIELD_PLACE[other]];
      return a.at < b.at + b.bits && b.at < a.at + a.bits;
    }),
  ]),
);

/** That the packet is Ethernet goes without saying as soon as anything of its headers is demanded. */
export const forgetEthernet = (match: Match): void => {
  const isEthernet = get(match.mask, "packet_type") !== 0 && get(match.value, "packet_type") === 0;
  if (isEthernet && match.mask.some((word, i) => word !== 0 && i >= PACKET_WORDS_AT)) set(match.mask, "packet_type", 0);
};

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
  // No protocol, no ports: OVS sends none of the three then.
  if (get(match.value, "ct_nw_proto") === 0) {
    for (const member of ["ct_nw_proto", "ct_tp_src", "ct_tp_dst"] as const) {
      set(match.value, member, 0);
      set(match.mask, member, 0);
    }
  }
  forgetEthernet(match);
  return dropped;
};
