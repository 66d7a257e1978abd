// The parser of the commonest packets: untagged, IPv4 without options, no fragment, TCP or UDP where L4 matters. Every
// offset is a constant; whatever differs goes to the general parser, which starts over.

import type { BlockId, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { ETH_TYPE, IP_PROTO, ethernet, ipv4, tcp, udp } from "../packet/headers.js";
import { be16, clearKey, copyMembers, forget, leftFrom, need, putRegister, wants, type Emit } from "./emit.js";
import { checkTcp, L4_MEMBERS } from "./parse-l4.js";

const L3 = ethernet.minBytes;
const L4 = L3 + ipv4.minBytes;

/** Members that every path through this parser stores. */
const STORED: readonly Member[] = ["in_port", "dl_type", "dl_dst", "dl_src", "nw_src", "nw_dst", "nw_proto"];
const STORED_IP: readonly Member[] = ["nw_tos", "nw_ttl"];
const PORTS: readonly (readonly [Member, number])[] = [
  ["tp_src", L4],
  ["tp_dst", L4 + 2],
];

/** Ethernet type IPv4, then version 4 and five words of header: the first three bytes of a little-endian word at 12. */
const TYPE_AND_VERSION = be16(ETH_TYPE.IPV4) | (0x45 << 16);

const parsePorts = (e: Emit, total: VReg, general: BlockId, parsed: BlockId): void => {
  const { b } = e;
  const f = ipv4.fields;
  const proto = b.load("u8", e.data, L3 + f.proto.byteOffset, "proto");
  const other = b.block("not_udp");
  b.unless("ne", proto, IP_PROTO.UDP, other);
  b.unless("lt", total, ipv4.minBytes + udp.minBytes, general);
  copyMembers(e, e.data, PORTS);
  b.jump(parsed);
  b.place(other);
  b.unless("ne", proto, IP_PROTO.TCP, general);
  b.unless("lt", total, ipv4.minBytes + tcp.minBytes, general);
  need(e, e.data, L4 + tcp.minBytes, general);
  const control = checkTcp(e, e.data, L4, b.alu("sub", total, ipv4.minBytes, "l4_size"), general);
  copyMembers(e, e.data, PORTS);
  if (wants(e, "tcp_flags")) putRegister(e, "tcp_flags", b.alu("and", control, be16(0x0fff), "tcp_flags"));
  b.jump(parsed);
};

/** Goes to `parsed` with packets that this parser understands, on in the current block with all others. */
export const parseCommon = (e: Emit, parsed: BlockId): void => {
  const { b } = e;
  const f = ipv4.fields;
  const general = b.block("general");
  const withL4 = e.needs.l4 || wants(e, ...L4_MEMBERS);
  need(e, e.data, withL4 ? L4 + udp.minBytes : L4, general);
  // At TC the frame may have a tag that is not in its bytes.
  if (b.hook === "tc" && wants(e, "vlan0_tpid", "vlan0_tci")) b.unless("ne", b.ctx("vlan_present"), 0, general);
  const type = b.load("u32", e.data, ethernet.fields.type.byteOffset, "type_and_version");
  b.unless("ne", b.alu("and", type, 0x00ff_ffff), TYPE_AND_VERSION, general);
  const total = b.swap(16, b.load("u16", e.data, L3 + f.totalLength.byteOffset, "total"), "total");
  if (!withL4) b.unless("lt", total, ipv4.minBytes, general);
  b.unless("gt", total, leftFrom(e, L3), general);
  if (withL4 || wants(e, "nw_frag")) {
    const fragment = b.load("u16", e.data, L3 + f.reserved.byteOffset, "fragment");
    b.unless("set", fragment, be16(0x3fff), general);
  }
  clearKey(e, new Set([...STORED, ...STORED_IP, ...(withL4 ? PORTS.map(([member]) => member) : [])]));
  putRegister(e, "in_port", e.inPort ?? e.ifindex);
  putRegister(e, "dl_type", be16(ETH_TYPE.IPV4));
  copyMembers(e, e.data, [
    ["dl_dst", ethernet.fields.dst.byteOffset],
    ["dl_src", ethernet.fields.src.byteOffset],
    ["nw_tos", L3 + f.dscp.byteOffset],
    ["nw_ttl", L3 + f.ttl.byteOffset],
    ["nw_proto", L3 + f.proto.byteOffset],
    ["nw_src", L3 + f.src.byteOffset],
    ["nw_dst", L3 + f.dst.byteOffset],
  ]);
  b.mov(e.found.l3, L3);
  b.mov(e.found.l4, withL4 ? L4 : 0);
  // The general parser finds headers elsewhere: both are verified once from here on.
  if (e.needs.families.size > 0) forget(e, e.found.l3);
  if (e.needs.l4) forget(e, e.found.l4);
  if (withL4) parsePorts(e, total, general, parsed);
  else b.jump(parsed);
  b.place(general);
};
