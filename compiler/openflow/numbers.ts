// Protocol numbers that the language has words for; those of headers come from the table of headers.

import { ETH_TYPE as TYPES, IP_PROTO, ND as ND_TYPE, NW_FRAG, VLAN_CFI } from "../packet/headers.js";

/** Ethernet types. To OVS, as in `ip`, IPv4 is just IP. */
export const ETH_TYPE = { ...TYPES, IP: TYPES.IPV4 } as const;

export { IP_PROTO, ND_TYPE, NW_FRAG };

/** Bit of a VLAN TCI that stands for "there is a tag" in flows (the CFI or DEI bit on the wire). */
export const VLAN_PRESENT = VLAN_CFI;

/** `dl_vlan` value that means "no tag" (openflow-1.0.h OFP10_VLAN_NONE). */
export const VLAN_NONE = 0xffff;
