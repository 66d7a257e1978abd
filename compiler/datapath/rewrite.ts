// Where a program is while it rewrites one packet, and the checks before the first change: each finds a header and leaves for user
// space when the packet is odd in a way that the code behind it does not expect.

import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { ETH_TYPE, IP_PROTO, MAX_VLANS, arp, ethernet, icmp, ipv4, ipv6, tcp, udp, vlan } from "../packet/headers.js";
import { be16, be32, forget } from "./emit.js";
import { EXT_HEADERS } from "./parse-l3.js";

/** Where the program is while it applies one shape. `data` and `dataEnd` are read anew after calls that move the packet. */
export interface Rewrite {
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

export const reload = (w: Rewrite): void => {
  w.b.mov(w.data, w.b.ctx("data"));
  w.b.mov(w.dataEnd, w.b.ctx("data_end"));
};

/** A pointer to `bytes` checked bytes at a constant or variable offset. */
export const at = (w: Rewrite, off: VReg | number, bytes: number, otherwise: BlockId = w.drop): VReg => {
  const pointer = w.b.alu("add", w.data, off, "at");
  const end = w.b.alu("add", pointer, bytes, "end");
  w.b.unless("gt", end, w.dataEnd, otherwise);
  return pointer;
};

/** Offset of L3 in the linear data, by the tags that are inline now. Goes to `slow` for frames without a type. */
export const findL3 = (w: Rewrite): void => {
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

export const checkIpv4 = (w: Rewrite, withL4: boolean): void => {
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

export const checkIpv6 = (w: Rewrite, withL4: boolean): void => {
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

export const checkArp = (w: Rewrite): void => {
  const { b } = w;
  const l3 = at(w, w.l3, arp.minBytes, w.slow);
  b.unless("ne", b.load("u32", l3, 0, "arp_types"), be32(0x0001_0800), w.slow, 32);
  b.unless("ne", b.load("u16", l3, arp.fields.hardwareSize.byteOffset, "arp_sizes"), be16(0x0604), w.slow);
};
