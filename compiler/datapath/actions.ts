// Emits action shapes: straight code for a list of actions, their arguments read from the stack, where the look-up has put them.
//
// A shape first checks every header that it will touch and leaves for user space while nothing has been changed yet: packets
// that are odd in any way (truncated headers, later fragments whose checksum lies elsewhere, IPv6 extension headers) are
// rewritten there. After that a failed check can only be the verifier's worry, and drops.

import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { ETH_TYPE, IP_PROTO, MAX_VLANS, arp, ethernet, icmp, ipv4, ipv6, tcp, udp, vlan } from "../packet/headers.js";
import type { DpAction, SetTarget } from "../pipeline/dp-action.js";
import { MAPS } from "./abi.js";
import { updatedChecksum } from "./checksum.js";
import { be16, be32, forget, pieces, sizeOf, type Emit } from "./emit.js";
import { EXT_HEADERS } from "./parse-l3.js";
import { TARGET_SIZE, type Shape } from "./plan.js";

type SetAction = Extract<DpAction, { kind: "set" }>;
type Layer = "l2" | "arp" | "l3" | "l4";

/** Deepest layer that a set has to find, and whether L4 checksums follow it. */
const SET_LAYER: Readonly<Partial<Record<SetTarget, Layer>>> = {
  eth_dst: "l2",
  eth_src: "l2",
  arp_op: "arp",
  arp_spa: "arp",
  arp_tpa: "arp",
  arp_sha: "arp",
  arp_tha: "arp",
  nw_tos: "l3",
  nw_ttl: "l3",
  ipv6_label: "l3",
  nw_src: "l4",
  nw_dst: "l4",
  ipv6_src: "l4",
  ipv6_dst: "l4",
  tp_src: "l4",
  tp_dst: "l4",
  icmp_type: "l4",
  icmp_code: "l4",
};

/** Where the program is while it applies one shape. `data` and `dataEnd` are read anew after calls that move the packet. */
interface Rewrite {
  readonly b: IrBuilder;
  /** Arguments, by the offsets of the shape. */
  readonly args: Slot;
  readonly len: VReg;
  readonly data: VReg;
  readonly dataEnd: VReg;
  /** Byte offsets in the linear data; mutable. */
  readonly l3: VReg;
  readonly l4: VReg;
  readonly proto: VReg;
  readonly slow: BlockId;
  readonly drop: BlockId;
}

const reload = (w: Rewrite): void => {
  w.b.mov(w.data, w.b.ctx("data"));
  w.b.mov(w.dataEnd, w.b.ctx("data_end"));
};

/** A pointer to `bytes` checked bytes at a constant or variable offset. */
const at = (w: Rewrite, off: VReg | number, bytes: number, otherwise: BlockId = w.drop): VReg => {
  const pointer = w.b.alu("add", w.data, off, "at");
  const end = w.b.alu("add", pointer, bytes, "end");
  w.b.unless("gt", end, w.dataEnd, otherwise);
  return pointer;
};

/** Offset of L3 in the linear data, by the tags that are inline now. Goes to `slow` for frames without a type. */
const findL3 = (w: Rewrite): void => {
  const { b } = w;
  const found = b.block("l3_found");
  for (const [i, off] of [
    ethernet.minBytes,
    ethernet.minBytes + vlan.minBytes,
    ethernet.minBytes + 2 * vlan.minBytes,
  ].entries()) {
    const p = at(w, off - 2, 2, w.slow);
    const type = b.load("u16", p, 0, "type");
    b.mov(w.l3, off);
    if (i === MAX_VLANS) {
      b.branch("lt", b.swap(16, type), ETH_TYPE.MIN, w.slow, found, "else");
      break;
    }
    const tagged = b.block("tagged");
    const maybe = b.block("");
    b.branch("eq", type, be16(ETH_TYPE.VLAN), tagged, maybe, "else");
    b.place(maybe);
    const untagged = b.block("untagged");
    b.branch("eq", type, be16(ETH_TYPE.QINQ), tagged, untagged, "else");
    b.place(untagged);
    b.branch("lt", b.swap(16, type), ETH_TYPE.MIN, w.slow, found, "else");
    b.place(tagged);
  }
  b.place(found);
  forget(w, w.l3);
};

const checkIpv4 = (w: Rewrite, withL4: boolean): void => {
  const { b } = w;
  const f = ipv4.fields;
  const l3 = at(w, w.l3, ipv4.minBytes, w.slow);
  const size = b.alu("lsh", b.alu("and", b.load("u8", l3, 0, "vhl"), 0x0f), 2, "header_size");
  const total = b.swap(16, b.load("u16", l3, f.totalLength.byteOffset, "total"), "total");
  b.unless("lt", size, ipv4.minBytes, w.slow);
  b.unless("gt", size, total, w.slow);
  b.unless("gt", total, b.alu("sub", w.len, w.l3, "left"), w.slow);
  if (!withL4) return;
  b.unless("set", b.load("u16", l3, f.reserved.byteOffset, "fragment"), be16(0x1fff), w.slow);
  b.mov(w.proto, b.load("u8", l3, f.proto.byteOffset, "proto"));
  b.mov(w.l4, b.alu("add", w.l3, size));
  checkL4(w, b.alu("sub", total, size, "l4_size"));
};

const checkIpv6 = (w: Rewrite, withL4: boolean): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv6.minBytes, w.slow);
  const payload = b.swap(16, b.load("u16", l3, ipv6.fields.payloadLength.byteOffset, "payload"), "payload");
  const left = b.alu("sub", b.alu("sub", w.len, w.l3, "left"), ipv6.minBytes, "left");
  b.unless("sgt", payload, left, w.slow);
  b.mov(w.proto, b.load("u8", l3, ipv6.fields.nextHeader.byteOffset, "proto"));
  for (const proto of EXT_HEADERS) b.unless("eq", w.proto, proto, w.slow);
  if (!withL4) return;
  b.mov(w.l4, b.alu("add", w.l3, ipv6.minBytes));
  checkL4(w, payload);
};

/** Size of each L4 header with a checksum that rewriting must keep right. */
const L4_BYTES: readonly (readonly [number, number])[] = [
  [IP_PROTO.TCP, tcp.minBytes],
  [IP_PROTO.UDP, udp.minBytes],
  [IP_PROTO.ICMP, icmp.minBytes],
  [IP_PROTO.ICMPV6, icmp.minBytes],
  [IP_PROTO.SCTP, 12],
];

const checkL4 = (w: Rewrite, size: VReg): void => {
  const { b } = w;
  const checked = b.block("l4_checked");
  for (const [proto, bytes] of L4_BYTES) {
    const next = b.block("");
    b.unless("ne", w.proto, proto, next);
    b.unless("lt", size, bytes, w.slow);
    const l4 = at(w, w.l4, bytes, w.slow);
    if (proto === IP_PROTO.TCP) {
      // A header that contradicts its own length is not rewritten in the same way by every set: user space knows.
      const control = b.load("u8", l4, tcp.fields.dataOffset.byteOffset, "tcp_control");
      const length = b.alu("rsh", b.alu("and", control, 0xf0), 2, "tcp_length");
      b.unless("lt", length, tcp.minBytes, w.slow);
      b.unless("gt", length, size, w.slow);
    }
    b.jump(checked);
    b.place(next);
  }
  b.place(checked);
  forget(w, w.l4);
  forget(w, w.proto);
};

const checkArp = (w: Rewrite): void => {
  const { b } = w;
  const l3 = at(w, w.l3, arp.minBytes, w.slow);
  b.unless("ne", b.load("u32", l3, 0, "arp_types"), be32(0x0001_0800), w.slow, 32);
  b.unless("ne", b.load("u16", l3, arp.fields.hardwareSize.byteOffset, "arp_sizes"), be16(0x0604), w.slow);
};

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
  const { b } = w;
  const fixed = b.block("l4_fixed");
  for (const sum of L4_CHECKSUMS) {
    if (pseudo !== undefined && !sum.pseudo.includes(pseudo)) continue;
    const next = b.block("");
    b.unless("ne", w.proto, sum.proto, next);
    if (b.hook === "tc") {
      // skb checksums may be left to the NIC: the helper knows.
      const flags = size | (pseudo === undefined ? 0 : BPF_F_PSEUDO_HDR) | (sum.optional ? BPF_F_MARK_MANGLED_0 : 0);
      const off = b.alu("add", w.l4, sum.off, "check_off");
      for (const [before, after] of changes) b.call("l4_csum_replace", ["ctx", off, before, after, flags]);
      reload(w);
    } else {
      const p = at(w, w.l4, sum.off + 2);
      const check = b.load("u16", p, sum.off, "check");
      if (sum.optional) b.unless("eq", check, 0, fixed);
      const result = updatedChecksum(b, check, changes);
      if (sum.optional) {
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
};

/** Writes one 16-bit word of the IPv4 header and its checksum. */
const putIpv4Word = (w: Rewrite, off: number, change: (old: VReg) => VReg): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv4.minBytes);
  const before = b.load("u16", l3, off, "old");
  const after = change(before);
  const check = b.load("u16", l3, ipv4.fields.checksum.byteOffset, "check");
  b.store("u16", l3, off, after);
  b.store("u16", l3, ipv4.fields.checksum.byteOffset, updatedChecksum(b, check, [[before, after]]));
};

const setIpv4Address = (w: Rewrite, off: number, arg: number): void => {
  const { b } = w;
  const l3 = at(w, w.l3, ipv4.minBytes);
  const before = b.load("u32", l3, off, "old");
  const after = b.load("u32", w.args, arg, "new");
  const check = b.load("u16", l3, ipv4.fields.checksum.byteOffset, "check");
  b.store("u32", l3, off, after);
  b.store("u16", l3, ipv4.fields.checksum.byteOffset, updatedChecksum(b, check, [[before, after]]));
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

const SETTERS: Readonly<Partial<Record<SetTarget, (w: Rewrite, action: SetAction, arg: number) => void>>> = {
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

/** Both MAC addresses as three words, read before the packet moves and written after. */
const moveMacs = (w: Rewrite, from: number): VReg[] => {
  const p = at(w, from, 12);
  return [0, 4, 8].map((off) => w.b.load("u32", p, off, "macs"));
};

const pushVlan = (w: Rewrite, arg: number): void => {
  const { b } = w;
  if (b.hook === "tc") {
    const tpid = b.swap(16, b.load("u16", w.args, arg, "tpid"), "tpid");
    const tci = b.load("u16", w.args, arg + 2, "tci");
    const result = b.call("skb_vlan_push", ["ctx", tpid, tci]);
    b.unless("ne", result, 0, w.drop);
    reload(w);
    return;
  }
  const result = b.call("xdp_adjust_head", ["ctx", -vlan.minBytes]);
  b.unless("ne", result, 0, w.drop);
  reload(w);
  const macs = moveMacs(w, vlan.minBytes);
  const p = at(w, 0, ethernet.minBytes + vlan.minBytes);
  macs.forEach((word, i) => b.store("u32", p, 4 * i, word));
  b.store("u16", p, 12, b.swap(16, b.load("u16", w.args, arg, "tpid"), "tpid"));
  b.store("u16", p, 14, b.swap(16, b.load("u16", w.args, arg + 2, "tci"), "tci"));
};

const popVlan = (w: Rewrite): void => {
  const { b } = w;
  if (b.hook === "tc") {
    const result = b.call("skb_vlan_pop", ["ctx"]);
    b.unless("ne", result, 0, w.drop);
    reload(w);
    return;
  }
  const macs = moveMacs(w, 0);
  const result = b.call("xdp_adjust_head", ["ctx", vlan.minBytes]);
  b.unless("ne", result, 0, w.drop);
  reload(w);
  const p = at(w, 0, ethernet.minBytes);
  macs.forEach((word, i) => b.store("u32", p, 4 * i, word));
};

const XDP_REDIRECT_FAILED = 1; // XDP_DROP: verdict of redirect_map when the port is gone

const output = (w: Rewrite, arg: number, last: boolean): void => {
  const { b } = w;
  const ifindex = b.load("u32", w.args, arg, "ifindex");
  if (!last) {
    b.call("clone_redirect", ["ctx", ifindex, 0]);
    reload(w);
    return;
  }
  const verdict =
    b.hook === "tc"
      ? b.call("redirect", [ifindex, 0])
      : b.call("redirect_map", [{ map: MAPS.ports }, ifindex, XDP_REDIRECT_FAILED]);
  b.ret(verdict);
};

/** Layers that the list has to find before it changes anything. */
const layersOf = (actions: readonly DpAction[]): { layer: Layer; family: SetAction["family"] } => {
  const order: readonly Layer[] = ["l2", "arp", "l3", "l4"];
  let layer: Layer = "l2";
  let family: SetAction["family"] = "other";
  for (const action of actions) {
    if (action.kind !== "set") continue;
    const wanted = SET_LAYER[action.target] ?? "l2";
    if (wanted !== "l2") family = wanted === "arp" ? "arp" : action.family;
    if (order.indexOf(wanted) > order.indexOf(layer)) layer = wanted;
  }
  return { layer, family };
};

/**
 * Emits one shape that the hook carries (see pipeline/carriers.ts); every path ends.
 * @param args - the megaflow's arguments
 * @param packet - data and dataEnd as they are now; registers of the caller that the shape may overwrite
 */
export const emitShape = (
  b: IrBuilder,
  shape: Shape,
  args: Slot,
  packet: Pick<Emit, "data" | "dataEnd" | "len">,
  slow: BlockId,
  drop: BlockId,
): void => {
  const lastOutput = shape.example.findLastIndex((a) => a.kind === "output");
  if (lastOutput < 0) {
    b.jump(drop);
    return;
  }
  const actions = shape.example.slice(0, lastOutput + 1);
  const w: Rewrite = {
    b,
    args,
    ...packet,
    l3: b.reg("l3_off"),
    l4: b.reg("l4_off"),
    proto: b.reg("proto"),
    slow,
    drop,
  };
  const pops = actions.filter(({ kind }) => kind === "pop_vlan").length;
  if (b.hook === "tc" && pops > 0) {
    // The helper also takes the next tag into metadata, and fails half-way on a frame that ends inside of it.
    const whole = b.alu("add", b.alu("lsh", b.ctx("vlan_present"), 2), w.len, "whole");
    b.unless("lt", whole, ethernet.minBytes + (pops + 1) * vlan.minBytes, slow);
  }
  const { layer, family } = layersOf(actions);
  if (layer !== "l2") {
    b.mov(w.l4, 0);
    findL3(w);
    if (family === "arp") checkArp(w);
    else if (family === "ipv6") checkIpv6(w, layer === "l4");
    else checkIpv4(w, layer === "l4");
  }
  actions.forEach((action, i) => {
    const arg = shape.offsets[i]!;
    switch (action.kind) {
      case "set":
        SETTERS[action.target]?.(w, action, arg);
        break;
      case "push_vlan":
        pushVlan(w, arg);
        if (layer !== "l2") moveL3(w, vlan.minBytes);
        break;
      case "pop_vlan":
        popVlan(w);
        if (layer !== "l2") moveL3(w, -vlan.minBytes);
        break;
      case "output":
        output(w, arg, i === lastOutput);
        break;
      case "controller":
        break;
    }
  });
};

/** After a tag was pushed or popped: L3 and L4 have moved; at TC by what is inline now, since tags may be metadata. */
const moveL3 = (w: Rewrite, by: number): void => {
  const { b } = w;
  if (b.hook === "xdp") {
    b.aluTo("add", w.l3, by);
    b.aluTo("add", w.l4, by);
    forget(w, w.l3);
  } else {
    b.aluTo("sub", w.l4, w.l3);
    findL3(w);
    b.aluTo("add", w.l4, w.l3);
  }
  forget(w, w.l4);
};
