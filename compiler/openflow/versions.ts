// Which versions of OpenFlow can carry a flow. OVS refuses a flow that no single version can express, and prints a
// parsed flow as the lowest version that can carry it would transport it; both are decided with these sets.

import type { FieldName } from "./fields.js";

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

/** Fields that the plain OpenFlow 1.0 match has no room for, and those it and OpenFlow 1.1 lack. */
const EXACT_FROM_11: readonly FieldName[] = ["metadata", "in_port_oxm", "nw_ecn", "sctp_src", "sctp_dst"];
const EXACT_ANY: readonly FieldName[] = [
  ...(["in_port", "eth_src", "eth_dst", "eth_type", "vlan_tci", "dl_vlan", "vlan_vid", "dl_vlan_pcp"] as const),
  ...(["vlan_pcp", "ip_src", "ip_dst", "nw_proto", "nw_tos", "ip_dscp", "arp_op", "arp_spa", "arp_tpa"] as const),
  ...(["tcp_src", "tcp_dst", "udp_src", "udp_dst", "icmp_type", "icmp_code"] as const),
];
const MASKED_FROM_11: readonly FieldName[] = ["metadata", "eth_src", "eth_dst"];
const CIDR_ANY: readonly FieldName[] = ["ip_src", "ip_dst", "arp_spa", "arp_tpa"];

const exactAny = new Set(EXACT_ANY);
const exactFrom11 = new Set(EXACT_FROM_11);
const maskedFrom11 = new Set(MASKED_FROM_11);
const cidrAny = new Set(CIDR_ANY);

/** Protocols that can match or set the whole field. */
export const exactProtocols = (field: FieldName): number =>
  exactAny.has(field) ? CARRIED_BY.any : exactFrom11.has(field) ? CARRIED_BY.nxmOrOpenflow11Up : CARRIED_BY.nxmOrOxm;

/**
 * Protocols that can match the field with a mask.
 *
 * @param prefix - whether the mask is a run of ones and then zeros (of an IPv4 address; elsewhere it does not matter)
 */
export const maskedProtocols = (field: FieldName, prefix: boolean): number =>
  cidrAny.has(field)
    ? prefix
      ? CARRIED_BY.any
      : CARRIED_BY.nxmOrOpenflow11Up
    : maskedFrom11.has(field)
      ? CARRIED_BY.nxmOrOpenflow11Up
      : CARRIED_BY.nxmOrOxm;
