// Emits the packet parser: fills the full key from the packet, by the rules at the head of compiler/packet/extract.ts, and
// nothing beyond the members that the plan's key holds. What is costly in BPF and rare in packets (long chains of IPv6
// extension headers, many ND options, headers beyond the linear part of an skb) is handed to user space as a miss.
//
// Pointers: `l3` and `l4` are packet pointers, each checked once per header. Sizes: `size` counts what is left of the packet
// by its own length fields, as OVS counts it; the linear part may end earlier, which is no property of the packet.

import type { BlockId, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import {
  ETH_TYPE,
  IP_PROTO,
  MAX_VLANS,
  ND,
  NW_FRAG,
  VLAN_CFI,
  ah,
  arp,
  ethernet,
  icmpv6,
  ipv4,
  ipv6,
  ipv6Ext,
  ipv6Frag,
  llcSnap,
  nd,
  ndOption,
  sctp,
  tcp,
  udp,
  vlan,
} from "../packet/headers.js";
import { be16, be32, copyMembers, forget, keyField, need, putRegister, wants, type Emit } from "./emit.js";

/** IPv6 extension headers and ND options that the program follows; longer chains go to user space. */
export const MAX_EXT_HEADERS = 4;
export const MAX_ND_OPTIONS = 3;

const L4_MEMBERS: readonly Member[] = ["tp_src", "tp_dst", "tcp_flags"];
const ND_MEMBERS: readonly Member[] = ["nd_target", "nd_reserved", "nd_options_type", "arp_sha", "arp_tha"];
const IP_MEMBERS: readonly Member[] = ["nw_tos", "nw_ttl", "nw_proto", "nw_frag"];
const IPV4_MEMBERS: readonly Member[] = ["nw_src", "nw_dst", ...IP_MEMBERS, ...L4_MEMBERS];
const IPV6_MEMBERS: readonly Member[] = [
  "ipv6_src",
  "ipv6_dst",
  "ipv6_label",
  ...IP_MEMBERS,
  ...L4_MEMBERS,
  ...ND_MEMBERS,
];
const ARP_MEMBERS: readonly Member[] = ["nw_src", "nw_dst", "nw_proto", "arp_sha", "arp_tha"];

/** Members that every path through the parser stores: their bytes need no clearing. */
const ALWAYS: ReadonlySet<Member> = new Set(["in_port", "dl_type", "dl_dst", "dl_src"]);

/**
 * Zeroes the 8-byte words of the key that some path leaves unwritten, padding included. The verifier must not know that
 * they are zeros: it would keep paths apart by which bytes they have overwritten.
 */
const clearKey = (e: Emit): void => {
  const zero = e.b.value("zero", 0);
  forget(e, zero);
  for (let word = 0; word < e.plan.key.size; word += 8) {
    const written = e.plan.key.fields
      .filter((f) => ALWAYS.has(f.member))
      .reduce((n, f) => n + Math.max(0, Math.min(f.off + f.size, word + 8) - Math.max(f.off, word)), 0);
    if (written < 8) e.b.store("u64", e.key, word, zero);
  }
};

/** What the L2 parser knows when it is done; mutable registers. */
interface L2 {
  /** Ethernet type in network order. */
  readonly type: VReg;
  /** Offset of L3 from the start of the linear data. */
  readonly l3Off: VReg;
}

/** L2 with the pointer made of the offset. */
interface L3 extends L2 {
  readonly l3: VReg;
}

const TAGS = [
  { tpid: "vlan0_tpid", tci: "vlan0_tci" },
  { tpid: "vlan1_tpid", tci: "vlan1_tci" },
] as const satisfies readonly { tpid: Member; tci: Member }[];

/** Takes up to `TAGS.length - first` tags off the packet bytes; goes to `done` when there are no more. */
const parseTags = (e: Emit, l2: L2, first: number, done: BlockId): void => {
  const { b } = e;
  for (let i = first; i < MAX_VLANS; i++) {
    const at = ethernet.minBytes + (i - first) * vlan.minBytes;
    const tagged = b.block(`tag${i}`);
    const maybe = b.block("");
    b.branch("eq", l2.type, be16(ETH_TYPE.VLAN), tagged, maybe);
    b.place(maybe);
    b.branch("eq", l2.type, be16(ETH_TYPE.QINQ), tagged, done);
    b.place(tagged);
    need(e, e.data, at + vlan.minBytes, done);
    const { tpid, tci } = TAGS[i]!;
    putRegister(e, tpid, l2.type);
    if (keyField(e, tci) !== undefined) {
      putRegister(e, tci, b.alu("or", b.load("u16", e.data, at, "tci"), be16(VLAN_CFI), "tci"));
    }
    b.loadTo(l2.type, "u16", e.data, at + vlan.fields.type.byteOffset);
    b.mov(l2.l3Off, at + vlan.minBytes);
  }
  b.jump(done);
};

/** At TC the outer tag may be in skb metadata, invisible in the packet bytes. */
const parseMetadataTag = (e: Emit, l2: L2, done: BlockId): void => {
  const { b } = e;
  const present = b.ctx("vlan_present");
  const inline = b.block("inline_tags");
  const next = b.block("metadata_tag");
  b.branch("eq", present, 0, inline, next, "then");
  b.place(next);
  if (wants(e, "vlan0_tpid")) putRegister(e, "vlan0_tpid", b.ctx("vlan_proto"));
  if (wants(e, "vlan0_tci")) {
    const tci = b.alu("or", b.ctx("vlan_tci"), VLAN_CFI, "tci");
    putRegister(e, "vlan0_tci", b.swap(16, tci, "tci"));
  }
  parseTags(e, l2, 1, done);
  b.place(inline);
};

/** 802.2 frames: the type in SNAP, or OVS's "no type". */
const parseLlc = (e: Emit, l2: L2, done: BlockId): void => {
  const { b } = e;
  const none = b.block("no_type");
  const llc = b.alu("add", e.data, l2.l3Off, "llc");
  need(e, llc, llcSnap.minBytes, none);
  b.unless("ne", b.load("u32", llc, 0, "llc"), be32(0xaaaa0300), none, 32);
  b.unless("ne", b.load("u16", llc, 4, "org"), 0, none);
  const inner = b.load("u16", llc, llcSnap.fields.type.byteOffset, "snap_type");
  b.unless("lt", b.swap(16, inner), ETH_TYPE.MIN, none);
  b.mov(l2.type, inner);
  b.aluTo("add", l2.l3Off, llcSnap.minBytes);
  b.jump(done);
  b.place(none);
  b.mov(l2.type, be16(ETH_TYPE.NONE));
  b.jump(done);
};

/** Ethernet, tags, type. */
const parseL2 = (e: Emit): L2 => {
  const { b } = e;
  need(e, e.data, ethernet.minBytes, e.drop);
  putRegister(e, "in_port", e.ifindex);
  copyMembers(e, e.data, [
    ["dl_dst", ethernet.fields.dst.byteOffset],
    ["dl_src", ethernet.fields.src.byteOffset],
  ]);
  const l2: L2 = {
    type: b.load("u16", e.data, ethernet.fields.type.byteOffset, "eth_type"),
    l3Off: b.value("l3_off", ethernet.minBytes),
  };
  const typed = b.block("typed");
  if (b.hook === "tc") parseMetadataTag(e, l2, typed);
  parseTags(e, l2, 0, typed);
  b.place(typed);
  const llc = b.block("llc");
  const known = b.block("l2_done");
  b.branch("lt", b.swap(16, l2.type), ETH_TYPE.MIN, llc, known, "else");
  b.place(llc);
  parseLlc(e, l2, known);
  b.place(known);
  putRegister(e, "dl_type", l2.type);
  return l2;
};

/** What the L3 parsers hand to L4: protocol number, offset in the linear data, bytes left by the IP length. */
interface L4 {
  readonly proto: VReg;
  readonly off: VReg;
  readonly size: VReg;
}

/** L4 with the pointer made of the offset. */
interface L4At extends L4 {
  readonly l4: VReg;
}

const parseIpv4 = (e: Emit, l2: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = ipv4.fields;
  need(e, l3, ipv4.minBytes, done);
  const headerSize = b.alu("lsh", b.alu("and", b.load("u8", l3, 0, "vhl"), 0x0f), 2, "ip_header_size");
  b.unless("lt", headerSize, ipv4.minBytes, done);
  const total = b.swap(16, b.load("u16", l3, f.totalLength.byteOffset, "total"), "total");
  b.unless("gt", headerSize, total, done);
  b.unless("gt", total, b.alu("sub", e.len, l2.l3Off, "left"), done);
  copyMembers(e, l3, [
    ["nw_tos", f.dscp.byteOffset],
    ["nw_ttl", f.ttl.byteOffset],
    ["nw_proto", f.proto.byteOffset],
    ["nw_src", f.src.byteOffset],
    ["nw_dst", f.dst.byteOffset],
  ]);
  if (!wants(e, "nw_frag") && l4Block === undefined) {
    b.jump(done);
    return;
  }
  // Bit 15 is reserved, 14 "don't fragment", 13 "more fragments", the rest the offset.
  const fragment = b.load("u16", l3, f.reserved.byteOffset, "fragment");
  const whole = b.block("ipv4_whole");
  const fragmented = b.block("ipv4_fragment");
  b.branch("set", fragment, be16(0x3fff), fragmented, whole, "else");
  b.place(fragmented);
  const later = b.block("ipv4_later");
  putRegister(e, "nw_frag", NW_FRAG.ANY);
  b.branch("set", fragment, be16(0x1fff), later, whole);
  b.place(later);
  putRegister(e, "nw_frag", NW_FRAG.ANY | NW_FRAG.LATER);
  b.jump(done);
  b.place(whole);
  if (l4Block === undefined) {
    b.jump(done);
    return;
  }
  b.mov(l4.proto, b.load("u8", l3, f.proto.byteOffset, "proto"));
  b.mov(l4.off, b.alu("add", l2.l3Off, headerSize));
  b.mov(l4.size, b.alu("sub", total, headerSize));
  b.jump(l4Block);
};

const EXT_HEADERS = [IP_PROTO.HOPOPTS, IP_PROTO.ROUTING, IP_PROTO.DSTOPTS, IP_PROTO.FRAGMENT, IP_PROTO.AH] as const;

/** Walks the extension headers; ends at `terminal` with proto, l4, size and frag set, at `done` when the chain is cut off. */
const walkExtHeaders = (e: Emit, l4: L4, frag: VReg, terminal: BlockId, done: BlockId): void => {
  const { b } = e;
  for (let i = 0; i < MAX_EXT_HEADERS; i++) {
    const option = b.block(`ext${i}`);
    const auth = b.block(`ah${i}`);
    const fragment = b.block(`frag${i}`);
    const advance = b.block(`advance${i}`);
    const kinds: readonly (readonly [number, BlockId])[] = [
      [IP_PROTO.HOPOPTS, option],
      [IP_PROTO.ROUTING, option],
      [IP_PROTO.DSTOPTS, option],
      [IP_PROTO.FRAGMENT, fragment],
      [IP_PROTO.AH, auth],
    ];
    for (const [proto, block] of kinds) b.unless("eq", l4.proto, proto, block);
    b.jump(terminal);
    const extSize = b.reg("ext_size");
    const header = b.reg("ext_header", "packet");
    const open = (): void => {
      b.unless("lt", l4.size, 8, done);
      b.mov(header, b.alu("add", e.data, l4.off));
      need(e, header, 8, e.miss);
    };
    b.place(option);
    open();
    b.loadTo(extSize, "u8", header, ipv6Ext.fields.length.byteOffset);
    b.aluTo("add", extSize, 1);
    b.aluTo("lsh", extSize, 3);
    b.jump(advance);
    b.place(auth);
    open();
    b.loadTo(extSize, "u8", header, ah.fields.length.byteOffset);
    b.aluTo("add", extSize, 2);
    b.aluTo("lsh", extSize, 2);
    b.jump(advance);
    b.place(fragment);
    open();
    b.mov(extSize, ipv6Frag.minBytes);
    const word = b.load("u16", header, ipv6Frag.fields.fragOffset.byteOffset, "frag_word");
    b.unless("eq", word, 0, advance);
    b.mov(frag, NW_FRAG.ANY);
    const later = b.block(`later${i}`);
    b.branch("set", word, be16(0xfff8), later, advance);
    b.place(later);
    // The chain of a later fragment is not followed; its protocol stays 44.
    b.mov(frag, NW_FRAG.ANY | NW_FRAG.LATER);
    b.jump(terminal);
    b.place(advance);
    b.unless("gt", extSize, l4.size, done);
    b.loadTo(l4.proto, "u8", header, 0);
    b.aluTo("add", l4.off, extSize);
    forget(e, l4.off);
    b.aluTo("sub", l4.size, extSize);
  }
  for (const proto of EXT_HEADERS) b.unless("eq", l4.proto, proto, e.miss);
  b.jump(terminal);
};

const parseIpv6 = (e: Emit, l2: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = ipv6.fields;
  need(e, l3, ipv6.minBytes, done);
  b.mov(l4.size, b.swap(16, b.load("u16", l3, f.payloadLength.byteOffset, "payload")));
  const left = b.alu("sub", e.len, l2.l3Off, "left");
  b.unless("gt", b.alu("add", l4.size, ipv6.minBytes, "total"), left, done);
  copyMembers(e, l3, [
    ["ipv6_src", f.src.byteOffset],
    ["ipv6_dst", f.dst.byteOffset],
  ]);
  if (!wants(e, "ipv6_label", ...IP_MEMBERS) && l4Block === undefined) {
    b.jump(done);
    return;
  }
  const frag = b.value("frag", 0);
  b.mov(l4.proto, b.load("u8", l3, f.nextHeader.byteOffset, "next_header"));
  b.mov(l4.off, b.alu("add", l2.l3Off, ipv6.minBytes));
  const terminal = b.block("ipv6_terminal");
  walkExtHeaders(e, l4, frag, terminal, done);
  b.place(terminal);
  forget(e, frag);
  if (wants(e, "nw_tos")) {
    const first = b.swap(16, b.load("u16", l3, 0, "first"));
    putRegister(e, "nw_tos", b.alu("rsh", first, 4, "tos"));
  }
  if (wants(e, "ipv6_label")) {
    putRegister(e, "ipv6_label", b.alu("and", b.load("u32", l3, 0, "first"), be32(0xfffff), "label", 32));
  }
  copyMembers(e, l3, [["nw_ttl", f.hopLimit.byteOffset]]);
  putRegister(e, "nw_proto", l4.proto);
  putRegister(e, "nw_frag", frag);
  if (l4Block === undefined) {
    b.jump(done);
    return;
  }
  b.branch("set", frag, NW_FRAG.LATER, done, l4Block, "else");
};

const parseArp = (e: Emit, l2: L3, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = arp.fields;
  need(e, l3, arp.minBytes, done);
  b.unless("ne", b.load("u32", l3, 0, "arp_types"), be32(0x0001_0800), done, 32);
  b.unless("ne", b.load("u16", l3, f.hardwareSize.byteOffset, "arp_sizes"), be16(0x0604), done);
  copyMembers(e, l3, [
    ["arp_sha", f.sha.byteOffset],
    ["nw_src", f.spa.byteOffset],
    ["arp_tha", f.tha.byteOffset],
    ["nw_dst", f.tpa.byteOffset],
  ]);
  if (wants(e, "nw_proto")) {
    b.unless("ne", b.load("u8", l3, f.op.byteOffset, "op_high"), 0, done);
    copyMembers(e, l3, [["nw_proto", f.op.byteOffset + 1]]);
  }
  b.jump(done);
};

/** Neighbour discovery, from the ICMPv6 header at l4. */
const parseNd = (e: Emit, l4: L4At, done: BlockId): void => {
  const { b } = e;
  copyMembers(e, l4.l4, [["nd_reserved", nd.fields.reserved.byteOffset]]);
  if (!wants(e, "nd_target", "nd_options_type", "arp_sha", "arp_tha")) {
    b.jump(done);
    return;
  }
  b.unless("lt", l4.size, nd.minBytes, done);
  need(e, l4.l4, nd.minBytes, e.miss);
  copyMembers(e, l4.l4, [["nd_target", nd.fields.target.byteOffset]]);
  const at = b.alu("add", l4.l4, nd.minBytes, "option");
  const left = b.alu("sub", l4.size, nd.minBytes, "options_left");
  const seen = b.value("options_seen", 0);
  for (let i = 0; i < MAX_ND_OPTIONS; i++) {
    b.unless("lt", left, ndOption.minBytes, done);
    need(e, at, ndOption.minBytes, e.miss);
    const size = b.alu("lsh", b.load("u8", at, ndOption.fields.length.byteOffset, "units"), 3, "option_size");
    b.unless("eq", size, 0, done);
    b.unless("gt", size, left, done);
    const next = b.block(`option${i}_done`);
    b.unless("ne", size, ndOption.minBytes, next);
    const type = b.load("u8", at, 0, "option_type");
    for (const [kind, member] of [
      [ND.OPT_SLL, "arp_sha"],
      [ND.OPT_TLL, "arp_tha"],
    ] as const) {
      const other = b.block("");
      b.unless("ne", type, kind, other);
      // A second option of one kind invalidates the first: rare enough for user space.
      b.unless("set", seen, kind, e.miss);
      copyMembers(e, at, [[member, ndOption.fields.mac.byteOffset]]);
      const first = b.block("");
      const counted = b.block("");
      b.branch("eq", seen, 0, first, counted);
      b.place(first);
      putRegister(e, "nd_options_type", kind);
      b.place(counted);
      b.aluTo("or", seen, kind);
      b.jump(next);
      b.place(other);
    }
    b.place(next);
    b.aluTo("add", at, size);
    b.aluTo("sub", left, size);
    forget(e, seen);
  }
  b.unless("ge", left, ndOption.minBytes, e.miss);
  b.jump(done);
};

/** L4 by protocol number, whatever the IP version. */
const parseL4 = (e: Emit, from: L4, done: BlockId): void => {
  const { b } = e;
  forget(e, from.off);
  const l4: L4At = { ...from, l4: b.alu("add", e.data, from.off, "l4") };
  const ports: readonly (readonly [Member, number])[] = [
    ["tp_src", 0],
    ["tp_dst", 2],
  ];
  const whole = (bytes: number): void => {
    b.unless("lt", l4.size, bytes, done);
    need(e, l4.l4, bytes, e.miss);
  };
  const withPorts = (bytes: number) => (): void => {
    whole(bytes);
    copyMembers(e, l4.l4, ports);
    b.jump(done);
  };
  const parseTcp = (): void => {
    whole(tcp.minBytes);
    const control = b.load("u16", l4.l4, tcp.fields.dataOffset.byteOffset, "tcp_control");
    const size = b.alu("rsh", b.alu("and", control, 0xf0), 2, "tcp_header_size");
    b.unless("lt", size, tcp.minBytes, done);
    b.unless("gt", size, l4.size, done);
    copyMembers(e, l4.l4, ports);
    if (wants(e, "tcp_flags")) putRegister(e, "tcp_flags", b.alu("and", control, be16(0x0fff), "tcp_flags"));
    b.jump(done);
  };
  /** Type and code are one byte each; the members hold 16 bits, the upper byte zero. */
  const parseIcmp = (withNd: boolean) => (): void => {
    whole(icmpv6.minBytes);
    for (const [member, off] of [
      ["tp_src", 0],
      ["tp_dst", 1],
    ] as const) {
      const field = keyField(e, member);
      if (field !== undefined) b.store("u8", e.key, field.off + 1, b.load("u8", l4.l4, off, "icmp"));
    }
    if (withNd && wants(e, ...ND_MEMBERS)) {
      const isNd = b.block("nd");
      b.unless("ne", b.load("u8", l4.l4, icmpv6.fields.code.byteOffset, "code"), 0, done);
      const type = b.load("u8", l4.l4, 0, "type");
      b.unless("eq", type, ND.SOLICIT, isNd);
      b.branch("eq", type, ND.ADVERT, isNd, done);
      b.place(isNd);
      parseNd(e, l4, done);
      return;
    }
    b.jump(done);
  };
  const parsers: readonly (readonly [number, () => void])[] = [
    [IP_PROTO.TCP, parseTcp],
    [IP_PROTO.UDP, withPorts(udp.minBytes)],
    [IP_PROTO.ICMP, parseIcmp(false)],
    [IP_PROTO.ICMPV6, parseIcmp(true)],
    [IP_PROTO.SCTP, withPorts(sctp.minBytes)],
    [IP_PROTO.IGMP, parseIcmp(false)],
  ];
  for (const [proto, parse] of parsers) {
    const next = b.block("");
    b.unless("ne", l4.proto, proto, next);
    parse();
    b.place(next);
  }
  b.jump(done);
};

/** Frames with and without tags are verified once from here on. */
const makeL3 = (e: Emit, l2: L2): L3 => {
  forget(e, l2.l3Off);
  return { ...l2, l3: e.b.alu("add", e.data, l2.l3Off, "l3") };
};

/** Emits the whole parser; goes on in the current block with the key filled in. */
export const emitParser = (e: Emit): void => {
  const { b } = e;
  clearKey(e);
  const l2 = parseL2(e);
  const done = b.block("parsed");
  const l4: L4 = { proto: b.reg("proto"), off: b.reg("l4_off"), size: b.reg("l4_size") };
  const l4Block = wants(e, ...L4_MEMBERS, ...ND_MEMBERS) ? b.block("l4") : undefined;
  const l3 = makeL3(e, l2);
  const families: readonly (readonly [readonly number[], readonly Member[], () => void])[] = [
    [[ETH_TYPE.IPV4], IPV4_MEMBERS, () => parseIpv4(e, l3, l4, l4Block, done)],
    [[ETH_TYPE.IPV6], IPV6_MEMBERS, () => parseIpv6(e, l3, l4, l4Block, done)],
    [[ETH_TYPE.ARP, ETH_TYPE.RARP], ARP_MEMBERS, () => parseArp(e, l3, done)],
  ];
  let reachesL4 = false;
  for (const [types, members, parse] of families) {
    if (!wants(e, ...members)) continue;
    const family = b.block("family");
    const next = b.block("");
    for (const type of types.slice(0, -1)) b.unless("eq", l2.type, be16(type), family);
    b.branch("eq", l2.type, be16(types.at(-1)!), family, next);
    b.place(family);
    parse();
    b.place(next);
    reachesL4 = true;
  }
  b.jump(done);
  if (l4Block !== undefined && reachesL4) {
    b.place(l4Block);
    parseL4(e, l4, done);
  }
  b.place(done);
};
