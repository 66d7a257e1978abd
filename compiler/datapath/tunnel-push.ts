// Emits outer headers put in front of a packet and taken off it, as packet/tunnel.ts does in user space.
//
// XDP makes room in front of the packet. TC makes room behind the Ethernet header, which lets the kernel know what is inside: it
// can then cut super-packets into segments that each get the outer headers. That helper wants IP inside; for the rest there is room
// in front, and no segments.

import type { VReg } from "../ir/types.js";
import { ethernet, ETH_TYPE, IP_PROTO, ipv4, ipv6, udp } from "../packet/headers.js";
import { ENTROPY, ENTROPY_WORDS, outerLayout } from "../packet/tunnel.js";
import type { DpAction } from "../pipeline/dp-action.js";
import { be16, pieces, sizeOf } from "./emit.js";
import { TUNNEL_ARGS } from "./plan.js";
import { at, reload, type Rewrite } from "./rewrite.js";

const L3 = ethernet.minBytes;

/** skb_adjust_room (uapi/linux/bpf.h). */
const ADJ_ROOM_MAC = 1;
const ROOM = {
  FIXED_GSO: 1n << 0n,
  ENCAP_L3_IPV4: 1n << 1n,
  ENCAP_L3_IPV6: 1n << 2n,
  ENCAP_L4_GRE: 1n << 3n,
  ENCAP_L4_UDP: 1n << 4n,
  ENCAP_L2_ETH: 1n << 6n,
  DECAP_L3_IPV4: 1n << 7n,
  DECAP_L3_IPV6: 1n << 8n,
  /** Bytes of the inner L2 header. */
  L2_SHIFT: 56n,
} as const;

/** Headers inside a TCP segment with time stamps, by which segments are judged to fit. */
const TCP_HEADERS = { ipv4: ipv4.minBytes + 32, ipv6: ipv6.minBytes + 32 } as const;

/** An Ethernet header in registers: its addresses as three words, and its type. */
interface Frame {
  readonly macs: readonly VReg[];
  readonly type: VReg;
}

const loadFrame = (w: Rewrite, p: VReg): Frame => ({
  macs: [0, 4, 8].map((off) => w.b.load("u32", p, off, "macs")),
  type: w.b.load("u16", p, ethernet.fields.type.byteOffset, "inner_type"),
});

const storeFrame = (w: Rewrite, p: VReg, off: number, { macs, type }: Frame): void => {
  macs.forEach((word, i) => w.b.store("u32", p, off + 4 * i, word));
  w.b.store("u16", p, off + ethernet.fields.type.byteOffset, type);
};

/** What must hold before anything is changed; leaves for user space otherwise. */
export const checkTunnels = (w: Rewrite, actions: readonly DpAction[], outer: VReg | undefined, args: number): void => {
  const push = actions.find((action) => action.kind === "tnl_push");
  if (push === undefined) return;
  const { b } = w;
  const outside = b.alu("add", w.len, push.header.length - L3, "outer_len");
  const mtu = b.load("u32", w.args, args + TUNNEL_ARGS.mtu, "mtu");
  const fits = b.block("fits");
  if (b.hook === "tc") {
    // A tag in metadata would stay outside.
    b.unless("ne", b.ctx("vlan_present"), 0, w.slow);
    const gso = b.ctx("gso_size");
    const single = b.block("no_gso");
    const several = b.block("gso");
    b.branch("eq", gso, 0, single, several, "then");
    b.place(several);
    // The kernel puts a super-packet into one tunnel only.
    if (outer !== undefined) b.unless("ne", outer, 0, w.slow);
    b.jump(fits);
    b.place(single);
  }
  b.unless("gt", outside, mtu, w.slow);
  b.jump(fits);
  b.place(fits);
};

/** Takes off what came before the packet, if anything did; the frame inside begins at the start of the data then. */
export const stripOuter = (w: Rewrite, outer: VReg): void => {
  const { b } = w;
  const [strip, bare] = [b.block("strip"), b.block("stripped")];
  b.branch("eq", outer, 0, bare, strip);
  b.place(strip);
  if (b.hook === "xdp") b.unless("ne", b.call("xdp_adjust_head", ["ctx", outer]), 0, w.slow);
  else stripRoom(w, outer);
  b.jump(bare);
  b.place(bare);
  reload(w);
};

const stripRoom = (w: Rewrite, outer: VReg): void => {
  const { b } = w;
  const frame = loadFrame(w, at(w, 0, L3, w.slow));
  const less = b.alu("sub", b.value("zero", 0), outer, "less");
  const stripped = b.block("room_stripped");
  const shrink = (flags: bigint): VReg => b.call("skb_adjust_room", ["ctx", less, ADJ_ROOM_MAC, flags]);
  // From Linux 6.3 on the kernel takes the word for what is inside; before, it goes by the outer header.
  const [isV6, isOther] = [b.block("ipv6_inside"), b.block("ipv4_inside")];
  const older = b.block("older_kernel");
  b.branch("eq", frame.type, be16(ETH_TYPE.IPV6), isV6, isOther);
  b.place(isV6);
  b.branch("eq", shrink(ROOM.FIXED_GSO | ROOM.DECAP_L3_IPV6), 0, stripped, older);
  b.place(isOther);
  b.branch("eq", shrink(ROOM.FIXED_GSO | ROOM.DECAP_L3_IPV4), 0, stripped, older);
  b.place(older);
  b.unless("ne", shrink(ROOM.FIXED_GSO), 0, w.slow);
  b.jump(stripped);
  b.place(stripped);
  reload(w);
  storeFrame(w, at(w, 0, L3), 0, frame);
};

/** The UDP source port, in network order: sourcePortOf() in packet/tunnel.ts. */
const emitSourcePort = (w: Rewrite): VReg => {
  const { b } = w;
  const words = ENTROPY_WORDS;
  const hash = b.value("entropy", ENTROPY.SEED | 0);
  const mix = (p: VReg, off: number): void => {
    b.aluTo("xor", hash, b.load("u32", p, off, "word"), 32);
    b.aluTo("mul", hash, ENTROPY.MIX | 0, 32);
    b.aluTo("xor", hash, b.alu("rsh", hash, ENTROPY.SHIFT, "high", 32), 32);
  };
  const [plain, done] = [b.block("no_addresses"), b.block("entropy_done")];
  const head = at(w, 0, L3);
  const type = b.load("u16", head, ethernet.fields.type.byteOffset, "type");
  const ports = (off: number, proto: VReg): void => {
    const yes = b.block("ports");
    b.unless("eq", proto, IP_PROTO.TCP, yes);
    b.branch("eq", proto, IP_PROTO.UDP, yes, done);
    b.place(yes);
    mix(at(w, off, 4, done), 0);
    b.jump(done);
  };
  const v6 = b.block("");
  b.unless("ne", type, be16(ETH_TYPE.IPV4), v6);
  const four = at(w, L3, ipv4.minBytes, plain);
  b.unless("ne", b.load("u8", four, 0, "vhl"), 0x45, plain);
  for (const off of words.ipv4) mix(four, off - L3);
  b.unless("set", b.load("u16", four, ipv4.fields.reserved.byteOffset, "fragment"), be16(0x3fff), done);
  ports(words.ipv4Ports, b.load("u8", four, ipv4.fields.proto.byteOffset, "proto"));
  b.place(v6);
  b.unless("ne", type, be16(ETH_TYPE.IPV6), plain);
  const six = at(w, L3, ipv6.minBytes, plain);
  for (const off of words.ipv6) mix(six, off - L3);
  ports(words.ipv6Ports, b.load("u8", six, ipv6.fields.nextHeader.byteOffset, "proto"));
  b.place(plain);
  const macs = at(w, 0, L3);
  for (const off of words.macs) mix(macs, off);
  b.jump(done);
  b.place(done);
  const port = b.alu("or", b.alu("rsh", hash, 16, "port", 32), 0xc000, "port", 32);
  return b.swap(16, port, "source_port");
};

const growRoom = (w: Rewrite, push: Extract<DpAction, { kind: "tnl_push" }>, args: number): Frame => {
  const { b } = w;
  const bytes = push.header.length;
  const { isV4, isUdp } = outerLayout(push.header);
  const frame = loadFrame(w, at(w, 0, L3));
  const kind =
    (isV4 ? ROOM.ENCAP_L3_IPV4 : ROOM.ENCAP_L3_IPV6) |
    (isUdp ? ROOM.ENCAP_L4_UDP : ROOM.ENCAP_L4_GRE) |
    ROOM.ENCAP_L2_ETH |
    (BigInt(L3) << ROOM.L2_SHIFT);
  const grow = (flags: bigint): VReg => b.call("skb_adjust_room", ["ctx", bytes, ADJ_ROOM_MAC, flags]);
  const [grown, otherwise, smaller, fixed] = ["grown", "no_ip_inside", "smaller_segments", "same_segments"].map(
    (hint) => b.block(hint),
  ) as [number, number, number, number];
  // Segments that would not fit any more get smaller.
  const gso = b.ctx("gso_size");
  const headers = b.value("headers", TCP_HEADERS.ipv4 + bytes);
  const known = b.block("headers_known");
  b.unless("ne", frame.type, be16(ETH_TYPE.IPV6), known);
  b.mov(headers, TCP_HEADERS.ipv6 + bytes);
  b.jump(known);
  b.place(known);
  const segment = b.alu("add", gso, headers, "segment");
  b.branch("gt", segment, b.load("u32", w.args, args + TUNNEL_ARGS.mtu, "mtu"), smaller, fixed);
  b.place(smaller);
  b.branch("eq", grow(kind), 0, grown, otherwise);
  b.place(fixed);
  b.branch("eq", grow(kind | ROOM.FIXED_GSO), 0, grown, otherwise);
  b.place(otherwise);
  b.unless("ne", b.ctx("gso_size"), 0, w.drop);
  b.unless("ne", b.call("skb_change_head", ["ctx", bytes, 0]), 0, w.drop);
  b.jump(grown);
  b.place(grown);
  return frame;
};

/** Puts the outer headers in front, and fills in what depends on the packet. @param args - {@link TUNNEL_ARGS} */
export const pushTunnel = (w: Rewrite, push: Extract<DpAction, { kind: "tnl_push" }>, args: number): void => {
  const { b } = w;
  const bytes = push.header.length;
  const { isV4, l4, isUdp } = outerLayout(push.header);
  const source = isUdp ? emitSourcePort(w) : undefined;
  let frame: Frame | undefined;
  if (b.hook === "tc") frame = growRoom(w, push, args);
  else b.unless("ne", b.call("xdp_adjust_head", ["ctx", -bytes]), 0, w.drop);
  reload(w);
  const p = at(w, 0, bytes + L3);
  const header = args + TUNNEL_ARGS.header;
  for (const { at: off, bytes: n } of pieces(header, bytes))
    b.store(sizeOf(n), p, off, b.load(sizeOf(n), w.args, header + off, "outer"));
  if (frame !== undefined) storeFrame(w, p, bytes, frame);
  const lengthOf = (from: number): VReg => b.swap(16, b.alu("add", w.len, bytes - from, "length"), "length");
  if (isV4) {
    const length = lengthOf(L3);
    b.store("u16", p, L3 + ipv4.fields.totalLength.byteOffset, length);
    const checksum = L3 + ipv4.fields.checksum.byteOffset;
    const before = b.load("u16", w.args, header + checksum, "checksum");
    const sum = b.alu("add", b.alu("xor", before, 0xffff, "sum"), length, "sum");
    const folded = b.alu("add", b.alu("and", sum, 0xffff), b.alu("rsh", sum, 16), "folded");
    b.store("u16", p, checksum, b.alu("xor", folded, 0xffff, "checksum"));
  } else b.store("u16", p, L3 + ipv6.fields.payloadLength.byteOffset, lengthOf(l4));
  if (source === undefined) return;
  b.store("u16", p, l4 + udp.fields.src.byteOffset, source);
  b.store("u16", p, l4 + udp.fields.length.byteOffset, lengthOf(l4));
};
