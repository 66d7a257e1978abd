// The L3 part of the packet parser: IPv4, IPv6 with its extension headers, ARP and RARP.

import type { BlockId, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { IP_PROTO, NW_FRAG, ah, arp, ipv4, ipv6, ipv6Ext, ipv6Frag } from "../packet/headers.js";
import { be16, be32, copyMembers, forget, leftFrom, need, putRegister, wants, type Emit } from "./emit.js";
import type { L2 } from "./parse-l2.js";
import { L4_MEMBERS, MAX_SIZE, ND_MEMBERS, type L4 } from "./parse-l4.js";

/** IPv6 extension headers that the program follows; longer chains go to user space. */
export const MAX_EXT_HEADERS = 4;

const IP_MEMBERS: readonly Member[] = ["nw_tos", "nw_ttl", "nw_proto", "nw_frag"];

/** Members that packets of each family can have beyond L2. */
export const IPV4_MEMBERS: readonly Member[] = ["nw_src", "nw_dst", ...IP_MEMBERS, ...L4_MEMBERS];
export const IPV6_MEMBERS: readonly Member[] = [
  "ipv6_src",
  "ipv6_dst",
  "ipv6_label",
  ...IP_MEMBERS,
  ...L4_MEMBERS,
  ...ND_MEMBERS,
];
export const ARP_MEMBERS: readonly Member[] = ["nw_src", "nw_dst", "nw_proto", "arp_sha", "arp_tha"];

/** L2 with the pointer made of the offset. */
export interface L3 extends L2 {
  readonly l3: VReg;
}

export const parseIpv4 = (e: Emit, l2: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = ipv4.fields;
  need(e, l3, ipv4.minBytes, done);
  const headerSize = b.alu("lsh", b.alu("and", b.load("u8", l3, 0, "vhl"), 0x0f), 2, "ip_header_size");
  b.unless("lt", headerSize, ipv4.minBytes, done);
  const total = b.swap(16, b.load("u16", l3, f.totalLength.byteOffset, "total"), "total");
  b.unless("gt", headerSize, total, done);
  b.unless("gt", total, leftFrom(e, l2.l3Off), done);
  b.mov(e.found.l3, l2.l3Off);
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

/** Next-header values that another header follows. */
export const EXT_HEADERS = [
  IP_PROTO.HOPOPTS,
  IP_PROTO.ROUTING,
  IP_PROTO.DSTOPTS,
  IP_PROTO.FRAGMENT,
  IP_PROTO.AH,
] as const;

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
    forget(e, l4.size, MAX_SIZE);
  }
  for (const proto of EXT_HEADERS) b.unless("eq", l4.proto, proto, e.miss);
  b.jump(terminal);
};

export const parseIpv6 = (e: Emit, l2: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = ipv6.fields;
  need(e, l3, ipv6.minBytes, done);
  b.mov(l4.size, b.swap(16, b.load("u16", l3, f.payloadLength.byteOffset, "payload")));
  const left = leftFrom(e, l2.l3Off);
  b.unless("gt", b.alu("add", l4.size, ipv6.minBytes, "total"), left, done);
  b.mov(e.found.l3, l2.l3Off);
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
  forget(e, l4.proto, 0xff);
  if (wants(e, "nw_tos")) {
    const first = b.swap(16, b.load("u16", l3, 0, "first"));
    putRegister(e, "nw_tos", b.alu("rsh", first, 4, "tos"));
  }
  if (wants(e, "ipv6_label")) {
    putRegister(e, "ipv6_label", b.alu("and", b.load("u32", l3, 0, "first"), be32(0xfffff), "label", 32));
  }
  copyMembers(e, l3, [["nw_ttl", f.hopLimit.byteOffset]]);
  putRegister(e, "nw_proto", l4.proto);
  putRegister(e, "nw_frag", b.alu("and", frag, NW_FRAG.ANY | NW_FRAG.LATER));
  if (l4Block === undefined) {
    b.jump(done);
    return;
  }
  b.branch("set", frag, NW_FRAG.LATER, done, l4Block, "else");
};

export const parseArp = (e: Emit, l2: L3, _l4: L4, _l4Block: BlockId | undefined, done: BlockId): void => {
  const { b } = e;
  const { l3 } = l2;
  const f = arp.fields;
  need(e, l3, arp.minBytes, done);
  b.unless("ne", b.load("u32", l3, 0, "arp_types"), be32(0x0001_0800), done, 32);
  b.unless("ne", b.load("u16", l3, f.hardwareSize.byteOffset, "arp_sizes"), be16(0x0604), done);
  b.mov(e.found.l3, l2.l3Off);
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
