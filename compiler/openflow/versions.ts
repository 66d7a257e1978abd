// Which versions of OpenFlow can carry a flow. OVS refuses a flow that no single version can express, and prints a
// parsed flow as the lowest version that can carry it would transport it; both are decided with these sets.

import { FIELDS, type FieldName, type FieldSpec } from "./fields.js";

/**
 * The dialects that OVS tells apart (ofp-protocol.h, `ofputil_protocol`), as bits, lowest first: OpenFlow 1.0 with its
 * own match and with the Nicira match, each without and with table numbers, then 1.1 to 1.5.
 */
export const PROTOCOL = {
  "OpenFlow10-table_id": 0x001,
  "OpenFlow10+table_id": 0x002,
  "NXM-table_id": 0x004,
  "NXM+table_id": 0x008,
  OpenFlow11: 0x010,
  OpenFlow12: 0x020,
  OpenFlow13: 0x040,
  OpenFlow14: 0x080,
  OpenFlow15: 0x100,
} as const;

export type Protocol = keyof typeof PROTOCOL;

/** Protocols from lowest to highest. */
export const PROTOCOLS = Object.keys(PROTOCOL) as readonly Protocol[];

const STD_10 = PROTOCOL["OpenFlow10-table_id"] | PROTOCOL["OpenFlow10+table_id"];
const NXM = PROTOCOL["NXM-table_id"] | PROTOCOL["NXM+table_id"];
const FROM_15 = PROTOCOL.OpenFlow15;
const FROM_13 = PROTOCOL.OpenFlow13 | PROTOCOL.OpenFlow14 | FROM_15;
const FROM_12 = PROTOCOL.OpenFlow12 | FROM_13;
const FROM_11 = PROTOCOL.OpenFlow11 | FROM_12;

/** Sets of {@link PROTOCOL} bits that the language refers to. */
export const CARRIED_BY = {
  any: STD_10 | NXM | FROM_11,
  openflow10: STD_10 | NXM,
  openflow11Up: FROM_11,
  openflow12Up: FROM_12,
  openflow13Up: FROM_13,
  nxmOrOxm: NXM | FROM_12,
  nxmOrOpenflow11Up: NXM | FROM_11,
  tableNumbers: PROTOCOL["OpenFlow10+table_id"] | PROTOCOL["NXM+table_id"] | FROM_11,
} as const;

/** What to call a set in a message. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [CARRIED_BY.openflow10, "OpenFlow 1.0"],
  [CARRIED_BY.openflow11Up, "OpenFlow 1.1 and later"],
  [CARRIED_BY.openflow12Up, "OpenFlow 1.2 and later"],
  [CARRIED_BY.openflow13Up, "OpenFlow 1.3 and later"],
  [CARRIED_BY.nxmOrOxm, "the Nicira extensions and OpenFlow 1.2 and later"],
  [CARRIED_BY.nxmOrOpenflow11Up, "the Nicira extensions and OpenFlow 1.1 and later"],
]);

export const describeProtocols = (set: number): string =>
  NAMES.get(set) ?? PROTOCOLS.filter((name) => (PROTOCOL[name] & set) !== 0).join(", ");

/** Protocols of whose match a row says that it carries the field: with any mask, with a prefix, or exactly. */
const carried = (field: FieldName, mask: "exact" | "prefix" | "any"): number => {
  const { codes, openflow10, openflow11 } = FIELDS[field] as FieldSpec;
  const by10 = openflow10 !== undefined && (mask === "exact" || (mask === "prefix" && openflow10 === "cidr"));
  const by11 = openflow11 !== undefined && (mask === "exact" || openflow11 === "masked");
  // The two fields without a code that OpenFlow 1.0 has are carried by others on the wire of later versions.
  const byCode = codes.length > 0 || openflow10 !== undefined;
  return (by10 ? STD_10 : 0) | (by11 ? PROTOCOL.OpenFlow11 : 0) | (byCode ? CARRIED_BY.nxmOrOxm : 0);
};

/** Protocols that can match or set the whole field; 0 for a field that none can. */
export const exactProtocols = (field: FieldName): number => carried(field, "exact");

/**
 * Protocols that can match the field with a mask.
 *
 * @param prefix - whether the mask is a run of ones and then zeros (of an IPv4 address; elsewhere it does not matter)
 */
export const maskedProtocols = (field: FieldName, prefix: boolean): number => carried(field, prefix ? "prefix" : "any");
