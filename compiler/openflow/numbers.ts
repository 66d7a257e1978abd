// What the language says about VLAN tags in numbers. Numbers of protocols are in the table of headers.

import { VLAN_CFI } from "../packet/headers.js";

/** Bit of a VLAN TCI that stands for "there is a tag" in flows (the CFI or DEI bit on the wire). */
export const VLAN_PRESENT = VLAN_CFI;

/** `dl_vlan` value that means "no tag" (openflow-1.0.h OFP10_VLAN_NONE). */
export const VLAN_NONE = 0xffff;
