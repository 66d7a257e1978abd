// Where a program is while it rewrites one packet, and the checks before the first change: each leaves for user space when the
// packet is odd in a way that the code behind it does not expect. The headers themselves were found by the parser.

import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { IP_PROTO, arp, icmp, ipv4, ipv6, tcp, udp } from "../packet/headers.js";
import type { Emit, Family } from "./emit.js";
import { EXT_HEADERS } from "./parse-l3.js";

/** Where the program is while it applies one shape. */
export interface Rewrite {
  readonly b: IrBuilder;
  /** Arguments, by the offsets of the shape. */
  readonly args: Slot;
  /** Bytes of the packet, without a tag held in skb metadata. */
  len: VReg;
  /** Read anew after calls that move the packet, in code that everything after it comes through. */
  data: VReg;
  dataEnd: VReg;
  /** Byte offsets in the linear data, new registers after a tag was pushed or popped. */
  l3: VReg;
  l4: VReg;
  /** IP protocol, where L4 is rewritten. */
  proto?: VReg;
  readonly outputs: Emit["outputs"];
  readonly slow: BlockId;
  readonly drop: BlockId;
}

/** The packet's bounds anew. Where paths join of which only some have moved the packet, do it behind the join. */
export const reload = (w: Rewrite): void => {
  w.data = w.b.ctx("data");
  w.dataEnd = w.b.ctx("data_end");
};

/** A pointer to `bytes` checked bytes at a constant or variable offset. */
export const at = (w: Rewrite, off: VReg | number, bytes: number, otherwise: BlockId = w.drop): VReg => {
  const pointer = w.b.alu("add", w.data, off, "at");
  const end = w.b.alu("add", pointer, bytes, "end");
  w.b.unless("gt", end, w.dataEnd, otherwise);
  return pointer;
};

/** Bytes of each L3 header that rewriting touches. */
const L3_BYTES: Readonly<Record<Family, number>> = {
  ipv4: ipv4.minBytes,
  ipv6: ipv6.minBytes,
  arp: arp.minBytes,
};

/** Bytes of each L4 header with a checksum that rewriting must keep right. */
const L4_BYTES: readonly (readonly [number, number])[] = [
  [IP_PROTO.TCP, tcp.minBytes],
  [IP_PROTO.UDP, udp.minBytes],
  [IP_PROTO.ICMP, icmp.minBytes],
  [IP_PROTO.ICMPV6, icmp.minBytes],
];

/**
 * Goes to `slow` unless the parser has found the headers. Their bytes are checked again, for the verifier's sake: it knows nothing of
 * what was checked before the look-up.
 */
export const checkHeaders = (w: Rewrite, family: Family, withL4: boolean): void => {
  const { b } = w;
  b.unless("eq", w.l3, 0, w.slow);
  const l3 = at(w, w.l3, L3_BYTES[family], w.slow);
  if (family === "ipv6") {
    const proto = b.load("u8", l3, ipv6.fields.nextHeader.byteOffset, "proto");
    for (const ext of EXT_HEADERS) b.unless("eq", proto, ext, w.slow);
    w.proto = proto;
  }
  if (!withL4) return;
  w.proto ??= b.load("u8", l3, ipv4.fields.proto.byteOffset, "proto");
  b.unless("eq", w.l4, 0, w.slow);
  const checked = b.block("l4_checked");
  for (const [proto, bytes] of L4_BYTES) {
    const next = b.block("");
    b.unless("ne", w.proto, proto, next);
    at(w, w.l4, bytes, w.slow);
    b.jump(checked);
    b.place(next);
  }
  b.place(checked);
};

/** Both MAC addresses as three words, read before the packet moves and written after. */
export const moveMacs = (w: Rewrite, from: number): VReg[] => {
  const p = at(w, from, 12);
  return [0, 4, 8].map((off) => w.b.load("u32", p, off, "macs"));
};
