// The headers that ofxdp parses, builds and rewrites, and the numbers that tell which header follows. Field names are
// those of the RFCs in camelCase; variable parts (options, payload) are not fields.

import { header } from "./header.js";

/** Ethernet types with a meaning to the parser. */
export const ETH_TYPE = {
  /** Values from here up are types, smaller ones are 802.3 lengths (IEEE 802.3-2018 clause 3.2.6). */
  MIN: 0x0600,
  IPV4: 0x0800,
  ARP: 0x0806,
  RARP: 0x8035,
  VLAN: 0x8100,
  QINQ: 0x88a8,
  IPV6: 0x86dd,
  MPLS: 0x8847,
  MPLS_MCAST: 0x8848,
  /** Transparent Ethernet bridging: an Ethernet frame follows. */
  TEB: 0x6558,
  NSH: 0x894f,
  /** What OVS puts into dl_type for a frame that has no Ethernet type (OFP_DL_TYPE_NOT_ETH_TYPE). */
  NONE: 0x05ff,
} as const;

/** IP protocol numbers with a meaning to the parser (IANA). */
export const IP_PROTO = {
  HOPOPTS: 0,
  ICMP: 1,
  IGMP: 2,
  TCP: 6,
  UDP: 17,
  ROUTING: 43,
  FRAGMENT: 44,
  GRE: 47,
  AH: 51,
  ICMPV6: 58,
  DSTOPTS: 60,
  SCTP: 132,
} as const;

/** Neighbour discovery messages and options that are parsed (RFC 4861 sections 4.3, 4.4, 4.6.1). */
export const ND = { SOLICIT: 135, ADVERT: 136, OPT_SLL: 1, OPT_TLL: 2 } as const;

/** Bits of `nw_frag` (OVS FLOW_NW_FRAG_*): a fragment at all; one whose offset is not 0. */
export const NW_FRAG = { ANY: 1, LATER: 2 } as const;

/** Tags that the flow can hold (OVS FLOW_MAX_VLAN_HEADERS). */
export const MAX_VLANS = 2;

/** The CFI bit of a TCI; in the flow it means that a tag is present. */
export const VLAN_CFI = 0x1000;

const byEthType = {
  [ETH_TYPE.IPV4]: "ipv4",
  [ETH_TYPE.ARP]: "arp",
  [ETH_TYPE.RARP]: "arp",
  [ETH_TYPE.VLAN]: "vlan",
  [ETH_TYPE.QINQ]: "vlan",
  [ETH_TYPE.IPV6]: "ipv6",
} as const;

const byProto = {
  [IP_PROTO.ICMP]: "icmp",
  [IP_PROTO.IGMP]: "igmp",
  [IP_PROTO.TCP]: "tcp",
  [IP_PROTO.UDP]: "udp",
  [IP_PROTO.ICMPV6]: "icmpv6",
  [IP_PROTO.SCTP]: "sctp",
} as const;

const byNextHeader = {
  ...byProto,
  [IP_PROTO.HOPOPTS]: "ipv6Ext",
  [IP_PROTO.ROUTING]: "ipv6Ext",
  [IP_PROTO.DSTOPTS]: "ipv6Ext",
  [IP_PROTO.AH]: "ah",
  [IP_PROTO.FRAGMENT]: "ipv6Frag",
} as const;

export const ethernet = header(
  "ethernet",
  "IEEE 802.3-2018 clause 3.1",
  [
    ["dst", 48],
    ["src", 48],
    ["type", 16],
  ],
  { next: { field: "type", map: byEthType } },
);

/** A tag as it follows the type that announces it: `ethernet.type` or the `type` of the tag outside is its TPID. */
export const vlan = header(
  "vlan",
  "IEEE 802.1Q-2018 clause 9.6",
  [
    ["pcp", 3],
    ["cfi", 1],
    ["vid", 12],
    ["type", 16],
  ],
  { next: { field: "type", map: byEthType } },
);

/** 802.2 LLC with SNAP, after a length in place of the Ethernet type. */
export const llcSnap = header(
  "llcSnap",
  "IEEE 802-2014 clause 9",
  [
    ["dsap", 8],
    ["ssap", 8],
    ["control", 8],
    ["org", 24],
    ["type", 16],
  ],
  { next: { field: "type", map: byEthType } },
);

/** One MPLS label stack entry; the one with `bos` set is the last. */
export const mpls = header("mpls", "RFC 3032 section 2.1", [
  ["label", 20],
  ["tc", 3],
  ["bos", 1],
  ["ttl", 8],
]);

/** Whether an Ethernet type announces label stack entries, of unicast or of multicast. */
export const isMplsType = (type: number): boolean => type === ETH_TYPE.MPLS || type === ETH_TYPE.MPLS_MCAST;

/** Label stack entries that the flow can hold (OVS FLOW_MAX_MPLS_LABELS). */
export const MAX_MPLS_LABELS = 3;

/** Network service header: base and path; four context words follow with metadata type 1. */
export const nsh = header(
  "nsh",
  "RFC 8300 section 2.2",
  [
    ["version", 2],
    ["flags", 2],
    ["ttl", 6],
    ["length", 6],
    ["mdtype", 8],
    ["np", 8],
    ["path", 32],
  ],
  { length: { field: "length", unit: 4 } },
);

/** The metadata type with four context words, and its header's size in bytes. */
export const NSH_TYPE_1 = { MDTYPE: 1, BYTES: 24, CONTEXTS: 4 } as const;

/** What is inside a network service header, by its next protocol: packet types (RFC 8300 section 2.2; OVS NSH_P_*). */
export const NSH_INSIDE: Readonly<Record<number, number>> = { 1: 0x10800, 2: 0x186dd, 3: 0, 4: 0x1894f };

/** ARP or RARP for Ethernet and IPv4. */
export const arp = header("arp", "RFC 826", [
  ["hardware", 16],
  ["protocol", 16],
  ["hardwareSize", 8],
  ["protocolSize", 8],
  ["op", 16],
  ["sha", 48],
  ["spa", 32],
  ["tha", 48],
  ["tpa", 32],
]);

export const ipv4 = header(
  "ipv4",
  "RFC 791 section 3.1",
  [
    ["version", 4],
    ["ihl", 4],
    ["dscp", 6],
    ["ecn", 2],
    ["totalLength", 16],
    ["id", 16],
    ["reserved", 1],
    ["dontFragment", 1],
    ["moreFragments", 1],
    ["fragOffset", 13],
    ["ttl", 8],
    ["proto", 8],
    ["checksum", 16],
    ["src", 32],
    ["dst", 32],
  ],
  { length: { field: "ihl", unit: 4 }, next: { field: "proto", map: byProto } },
);

export const ipv6 = header(
  "ipv6",
  "RFC 8200 section 3",
  [
    ["version", 4],
    ["trafficClass", 8],
    ["flowLabel", 20],
    ["payloadLength", 16],
    ["nextHeader", 8],
    ["hopLimit", 8],
    ["src", 128],
    ["dst", 128],
  ],
  { next: { field: "nextHeader", map: byNextHeader } },
);

/** Hop-by-hop options, destination options and routing; the four bytes of data are the routing header's first ones. */
export const ipv6Ext = header(
  "ipv6Ext",
  "RFC 8200 sections 4.3, 4.4, 4.6",
  [
    ["nextHeader", 8],
    ["length", 8],
    ["routingType", 8],
    ["segmentsLeft", 8],
    ["data", 32],
  ],
  { length: { field: "length", unit: 8, base: 8 }, next: { field: "nextHeader", map: byNextHeader } },
);

/** Authentication header; only the part that the walk over the extension headers needs. */
export const ah = header(
  "ah",
  "RFC 4302 section 2",
  [
    ["nextHeader", 8],
    ["length", 8],
    ["reserved", 16],
    ["spi", 32],
  ],
  { length: { field: "length", unit: 4, base: 8 }, next: { field: "nextHeader", map: byNextHeader } },
);

export const ipv6Frag = header(
  "ipv6Frag",
  "RFC 8200 section 4.5",
  [
    ["nextHeader", 8],
    ["reserved", 8],
    ["fragOffset", 13],
    ["reserved2", 2],
    ["moreFragments", 1],
    ["id", 32],
  ],
  { next: { field: "nextHeader", map: byNextHeader } },
);

export const tcp = header(
  "tcp",
  "RFC 9293 section 3.1",
  [
    ["src", 16],
    ["dst", 16],
    ["seq", 32],
    ["ack", 32],
    ["dataOffset", 4],
    // Twelve bits, as OVS matches tcp_flags: four reserved ones, then CWR ECE URG ACK PSH RST SYN FIN.
    ["flags", 12],
    ["window", 16],
    ["checksum", 16],
    ["urgent", 16],
  ],
  { length: { field: "dataOffset", unit: 4 } },
);

export const udp = header("udp", "RFC 768", [
  ["src", 16],
  ["dst", 16],
  ["length", 16],
  ["checksum", 16],
]);

/** VXLAN with the group policy extension; without it, flags are 8 and `policy` 0. */
export const vxlan = header("vxlan", "RFC 7348 section 5, draft-smith-vxlan-group-policy", [
  ["flags", 8],
  ["policyFlags", 8],
  ["policy", 16],
  ["vni", 24],
  ["reserved", 8],
]);

export const geneve = header("geneve", "RFC 8926 section 3.4", [
  ["version", 2],
  // In words of 4 bytes.
  ["optionsLength", 6],
  ["oam", 1],
  ["critical", 1],
  ["reserved", 6],
  ["protocol", 16],
  ["vni", 24],
  ["reserved2", 8],
]);

/** The part that every GRE packet has; checksum, key and sequence number follow, four bytes each, if their flag is set. */
export const gre = header("gre", "RFC 2784 section 2.1, RFC 2890 section 2", [
  ["flags", 16],
  ["protocol", 16],
]);

/** Flags of GRE version 0. */
export const GRE_FLAG = { CSUM: 0x8000, KEY: 0x2000, SEQ: 0x1000 } as const;

export const sctp = header("sctp", "RFC 9260 section 3.1", [
  ["src", 16],
  ["dst", 16],
  ["tag", 32],
  // CRC32c, stored with its least significant byte first.
  ["checksum", 32],
]);

export const icmp = header("icmp", "RFC 792", [
  ["type", 8],
  ["code", 8],
  ["checksum", 16],
  ["rest", 32],
]);

export const igmp = header("igmp", "RFC 2236 section 2", [
  ["type", 8],
  ["code", 8],
  ["checksum", 16],
  ["group", 32],
]);

/** `rest` is `nd_reserved` in neighbour discovery. */
export const icmpv6 = header("icmpv6", "RFC 4443 section 2.1", [
  ["type", 8],
  ["code", 8],
  ["checksum", 16],
  ["rest", 32],
]);

/** Neighbour solicitation or advertisement, up to its options. */
export const nd = header("nd", "RFC 4861 sections 4.3 and 4.4", [
  ["type", 8],
  ["code", 8],
  ["checksum", 16],
  ["reserved", 32],
  ["target", 128],
]);

/** A link-layer address option of Ethernet. */
export const ndOption = header(
  "ndOption",
  "RFC 4861 section 4.6.1",
  [
    ["type", 8],
    ["length", 8],
    ["mac", 48],
  ],
  { length: { field: "length", unit: 8 } },
);

/** All of them by name. */
export const HEADERS = {
  ethernet,
  vlan,
  llcSnap,
  arp,
  ipv4,
  ipv6,
  ipv6Ext,
  ah,
  ipv6Frag,
  tcp,
  udp,
  vxlan,
  geneve,
  gre,
  sctp,
  icmp,
  igmp,
  icmpv6,
  nd,
  ndOption,
} as const;

export type HeaderName = keyof typeof HEADERS;
