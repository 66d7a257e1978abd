// Emits the rewriting of one field each, with the checksums that follow it. The headers were found and checked before
// (rewrite.ts).

import { RangeViolation } from "ebpf-assembler";
import type { VReg } from "../ir/types.js";
import { IP_PROTO, arp, ethernet, icmp, ipv4, ipv6, tcp, udp } from "../packet/headers.js";
import type { DpAction, SetTarget } from "../pipeline/dp-action.js";
import { updatedChecksum } from "./checksum.js";
import { be32, pieces, sizeOf } from "./emit.js";
import { TARGET_SIZE } from "./plan.js";
import { at, reload, type Rewrite } from "./rewrite.js";

export type SetAction = Extract<DpAction, { kind: "set" }>;

/** Copies an argument over packet bytes. */
const put = (w: Rewrite, target: VReg, off: number, arg: number, bytes: number): void => {
  for (const piece of pieces(arg, bytes)) {
    const part = w.b.load(sizeOf(piece.bytes), w.args, arg + piece.at, "arg");
    w.b.store(sizeOf(piece.bytes), target, off + piece.at, part);
  }
};

const BPF_F_PSEUDO_HDR = 0x10;
const BPF_F_MARK_MANGLED_0 = 0x20;

/** Whose addresses a pseudo header holds. */
type Pseudo = "ipv4" | "ipv6";

/** Place of the checksum in each L4 header, whether a zero means "none", and the pseudo headers that it covers. */
const L4_CHECKSUMS: readonly { proto: number; off: number; optional: boolean; pseudo: readonly Pseudo[] }[] = [
  { proto: IP_PROTO.TCP, off: tcp.fields.checksum.byteOffset, optional: false, pseudo: ["ipv4", "ipv6"] },
  { proto: IP_PROTO.UDP, off: udp.fields.checksum.byteOffset, optional: true, pseudo: ["ipv4", "ipv6"] },
  { proto: IP_PROTO.ICMPV6, off: icmp.fields.checksum.byteOffset, optional: false, pseudo: ["ipv6"] },
  { proto: IP_PROTO.ICMP, off: icmp.fields.checksum.byteOffset, optional: false, pseudo: [] },
];

/**
 * Brings the L4 checksum up to date with changed words.
 * @param pseudo - the words are part of this pseudo header; absent: of the segment itself
 */
const fixL4 = (w: Rewrite, changes: readonly (readonly [VReg, VReg])[], size: 2 | 4, pseudo?: Pseudo): void => {
  const { b, proto } = w;
  if (proto === undefined) throw new RangeViolation("Cannot fix an L4 checksum: the headers were checked without L4");
  const fixed = b.block("l4_fixed");
  for (const sum of L4_CHECKSUMS) {
    if (pseudo !== undefined && !sum.pseudo.includes(pseudo)) continue;
    const next = b.block("");
    b.unless("ne", proto, sum.proto, next);
    if (b.hook === "tc") {
      // skb checksums may be left to the NIC: the helper knows.
      const flags = size | (pseudo === undefined ? 0 : BPF_F_PSEUDO_HDR) | (sum.optional ? BPF_F_MARK_MANGLED_0 : 0);
      const off = b.alu("add", w.l4, sum.off, "check_off");
      for (const [before, after] of changes) b.call("l4_csum_replace", ["ctx", off, before, after, flags]);
    } else {
      const p = at(w, w.l4, sum.off + 2);
      const check = b.load("u16", p, sum.off, "check");
      if (sum.optional) b.unless("eq", check, 0, fixed);
      const result = updatedChecksum(b, check, changes, size);
      if (sum.optional) {
        b.aluTo("and", result, 0xffff);
        const nonZero = b.block("");
        const zero = b.block("");
        b.branch("eq", result, 0, zero, nonZero, "else");
        b.place(zero);
        b.mov(result, 0xffff);
        b.place(nonZero);
      }
      b.store("u16", p, sum.off, result);
    }
    b.jump(fixed);
    b.place(next);
  }
  b.place(fixed);
  if (b.hook === "tc") reload(w);
};

/** Writes one 16-bit word of the IPv4 header and its checksum. */
const putIpv4Word = (w: Rewrite, off: number, change: (old: VReg) => VReg): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv4.minBytes);
  const before = b.load("u16", l3, off, "old");
  const after = change(before);
  const check = b.load("u16", l3, ipv4.fields.checksum.byteOffset, "check");
  b.store("u16", l3, off, after);
  b.store("u16", l3, ipv4.fields.checksum.byteOffset, updatedChecksum(b, check, [[before, after]], 2));
};

const setIpv4Address = (w: Rewrite, off: number, arg: number): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv4.minBytes);
  const before = b.load("u32", l3, off, "old");
  const after = b.load("u32", w.args, arg, "new");
  const check = b.load("u16", l3, ipv4.fields.checksum.byteOffset, "check");
  b.store("u32", l3, off, after);
  b.store("u16", l3, ipv4.fields.checksum.byteOffset, updatedChecksum(b, check, [[before, after]], 4));
  fixL4(w, [[before, after]], 4, "ipv4");
};

const setIpv6Address = (w: Rewrite, off: number, arg: number): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv6.minBytes);
  const changes: [VReg, VReg][] = [];
  for (let i = 0; i < 16; i += 4) {
    const before = b.load("u32", l3, off + i, "old");
    const after = b.load("u32", w.args, arg + i, "new");
    b.store("u32", l3, off + i, after);
    changes.push([before, after]);
  }
  fixL4(w, changes, 4, "ipv6");
};

/** Traffic class lies across the first two bytes: version(4) class(8) label(20). */
const setIpv6Class = (w: Rewrite, arg: number): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv6.minBytes);
  const host = b.swap(16, b.load("u16", l3, 0, "first"), "first");
  const kept = b.alu("and", host, 0xf00f, "kept");
  const tos = b.alu("lsh", b.load("u8", w.args, arg, "tos"), 4, "tos");
  b.store("u16", l3, 0, b.swap(16, b.alu("or", kept, tos), "first"));
};

const setIpv6Label = (w: Rewrite, arg: number): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv6.minBytes);
  const kept = b.alu("and", b.load("u32", l3, 0, "first"), be32(0xfff00000 | 0), "kept", 32);
  const label = b.alu("and", b.load("u32", w.args, arg, "label"), be32(0x000fffff), "label", 32);
  b.store("u32", l3, 0, b.alu("or", kept, label, "first", 32));
};

const setPort = (w: Rewrite, off: number, arg: number): void => {
  const { b } = w;
  const p = at(w, w.l4, off + 2);
  const before = b.load("u16", p, off, "old");
  const after = b.load("u16", w.args, arg, "new");
  b.store("u16", p, off, after);
  fixL4(w, [[before, after]], 2);
};

/** Type is the low, code the high byte of the first word as loaded. */
const setIcmp = (w: Rewrite, off: 0 | 1, arg: number): void => {
  const { b } = w;
  const p = at(w, w.l4, icmp.minBytes);
  const before = b.load("u16", p, 0, "old");
  const byte = b.load("u8", w.args, arg, "new");
  const after =
    off === 0
      ? b.alu("or", b.alu("and", before, 0xff00), byte, "new")
      : b.alu("or", b.alu("and", before, 0x00ff), b.alu("lsh", byte, 8), "new");
  b.store("u16", p, 0, after);
  fixL4(w, [[before, after]], 2);
};

const arpField =
  (off: number) =>
  (w: Rewrite, action: SetAction, arg: number): void =>
    put(w, at(w, w.l3, arp.minBytes), off, arg, TARGET_SIZE[action.target]);

const ethField =
  (off: number) =>
  (w: Rewrite, _: SetAction, arg: number): void =>
    put(w, at(w, 0, ethernet.minBytes), off, arg, 6);

export const SETTERS: Readonly<Partial<Record<SetTarget, (w: Rewrite, action: SetAction, arg: number) => void>>> = {
  eth_dst: ethField(ethernet.fields.dst.byteOffset),
  eth_src: ethField(ethernet.fields.src.byteOffset),
  arp_op: arpField(arp.fields.op.byteOffset),
  arp_spa: arpField(arp.fields.spa.byteOffset),
  arp_tpa: arpField(arp.fields.tpa.byteOffset),
  arp_sha: arpField(arp.fields.sha.byteOffset),
  arp_tha: arpField(arp.fields.tha.byteOffset),
  nw_src: (w, _, arg) => setIpv4Address(w, ipv4.fields.src.byteOffset, arg),
  nw_dst: (w, _, arg) => setIpv4Address(w, ipv4.fields.dst.byteOffset, arg),
  ipv6_src: (w, _, arg) => setIpv6Address(w, ipv6.fields.src.byteOffset, arg),
  ipv6_dst: (w, _, arg) => setIpv6Address(w, ipv6.fields.dst.byteOffset, arg),
  ipv6_label: (w, _, arg) => setIpv6Label(w, arg),
  nw_tos: (w, action, arg) => {
    if (action.family === "ipv6") return setIpv6Class(w, arg);
    // The word is version and IHL, then TOS: the high byte as loaded.
    putIpv4Word(w, 0, (old) =>
      w.b.alu("or", w.b.alu("and", old, 0x00ff), w.b.alu("lsh", w.b.load("u8", w.args, arg, "tos"), 8), "new"),
    );
  },
  nw_ttl: (w, action, arg) => {
    if (action.family === "ipv6") {
      put(w, at(w, w.l3, ipv6.minBytes), ipv6.fields.hopLimit.byteOffset, arg, 1);
      return;
    }
    // The word is TTL, then protocol: TTL is the low byte as loaded.
    putIpv4Word(w, ipv4.fields.ttl.byteOffset, (old) =>
      w.b.alu("or", w.b.alu("and", old, 0xff00), w.b.load("u8", w.args, arg, "ttl"), "new"),
    );
  },
  tp_src: (w, _, arg) => setPort(w, 0, arg),
  tp_dst: (w, _, arg) => setPort(w, 2, arg),
  icmp_type: (w, _, arg) => setIcmp(w, 0, arg),
  icmp_code: (w, _, arg) => setIcmp(w, 1, arg),
};
