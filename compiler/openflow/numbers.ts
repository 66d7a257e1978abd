// Protocol numbers that the language has words for.

/** Bit of a VLAN TCI that stands for "there is a tag" in flows (the CFI or DEI bit on the wire). */
export const VLAN_PRESENT = 0x1000;

/** `dl_vlan` value that means "no tag" (openflow-1.0.h OFP10_VLAN_NONE). */
export const VLAN_NONE = 0xffff;

/** Bits of `ip_frag` and the `nw_frag` member (OVS packets.h FLOW_NW_FRAG_*). */
export const NW_FRAG = { ANY: 1, LATER: 2 } as const;

export const ETH_TYPE = { IP: 0x0800, ARP: 0x0806, RARP: 0x8035, VLAN: 0x8100, QINQ: 0x88a8, IPV6: 0x86dd } as const;
export const IP_PROTO = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132 } as const;

/** ICMPv6 types of neighbor solicitation and advertisement, RFC 4861. */
export const ND_TYPE = { SOLICIT: 135, ADVERT: 136 } as const;
