// What the language says about tags, connections and packet types in numbers. Numbers of protocols are in the table of headers.

import { VLAN_CFI } from "../packet/headers.js";

/** Bit of a VLAN TCI that stands for "there is a tag" in flows (the CFI or DEI bit on the wire). */
export const VLAN_PRESENT = VLAN_CFI;

/** `dl_vlan` value that means "no tag" (openflow-1.0.h OFP10_VLAN_NONE). */
export const VLAN_NONE = 0xffff;

/** Bits of ct_state (OVS packets.h CS_*). */
export const CT_STATE = {
  NEW: 0x01,
  ESTABLISHED: 0x02,
  RELATED: 0x04,
  REPLY: 0x08,
  INVALID: 0x10,
  TRACKED: 0x20,
  SRC_NAT: 0x40,
  DST_NAT: 0x80,
} as const;

/** Namespaces of packet_type (openflow-1.5.h OFPHTN_*). */
export const PACKET_TYPE_NS = { ONF: 0, ETHER_TYPE: 1 } as const;
