// The L4 part of the packet parser: TCP, UDP, SCTP, ICMP, IGMP, ICMPv6 and neighbour discovery, whatever the IP version.

import type { BlockId, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { IP_PROTO, ND, icmpv6, nd, ndOption, sctp, tcp, udp } from "../packet/headers.js";
import { be16, copyMembers, forget, keyField, need, putRegister, wants, type Emit } from "./emit.js";

/** ND options that the program follows; longer lists go to user space. */
export const MAX_ND_OPTIONS = 3;

export const L4_MEMBERS: readonly Member[] = ["tp_src", "tp_dst", "tcp_flags"];
export const ND_MEMBERS: readonly Member[] = ["nd_target", "nd_reserved", "nd_options_type", "arp_sha", "arp_tha"];

/** The most that a length field of IP counts. */
export const MAX_SIZE = 0xffff;

/** What the L3 parsers hand to L4: protocol number, offset in the linear data, bytes left by the IP length. */
export interface L4 {
  readonly proto: VReg;
  readonly off: VReg;
  readonly size: VReg;
}

/** L4 with the pointer made of the offset. */
interface L4At extends L4 {
  readonly l4: VReg;
}

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
    forget(e, left, MAX_SIZE);
    forget(e, seen);
  }
  b.unless("ge", left, ndOption.minBytes, e.miss);
  b.jump(done);
};

/**
 * Goes to `odd` for a TCP header that contradicts its own length.
 * @param base - packet pointer, checked for the header at `off`
 * @param size - bytes of the segment
 * @returns data offset and flags as loaded
 */
export const checkTcp = (e: Emit, base: VReg, off: number, size: VReg, odd: BlockId): VReg => {
  const { b } = e;
  const control = b.load("u16", base, off + tcp.fields.dataOffset.byteOffset, "tcp_control");
  const length = b.alu("rsh", b.alu("and", control, 0xf0), 2, "tcp_header_size");
  b.unless("lt", length, tcp.minBytes, odd);
  b.unless("gt", length, size, odd);
  return control;
};

/** L4 by protocol number, whatever the IP version. */
export const parseL4 = (e: Emit, from: L4, done: BlockId): void => {
  const { b } = e;
  forget(e, from.off);
  forget(e, from.size, MAX_SIZE);
  const l4: L4At = { ...from, l4: b.alu("add", e.data, from.off, "l4") };
  const ports: readonly (readonly [Member, number])[] = [
    ["tp_src", 0],
    ["tp_dst", 2],
  ];
  const whole = (bytes: number): void => {
    b.unless("lt", l4.size, bytes, done);
    need(e, l4.l4, bytes, e.miss);
  };
  const found = (): void => b.mov(e.found.l4, l4.off);
  const withPorts = (bytes: number) => (): void => {
    whole(bytes);
    found();
    copyMembers(e, l4.l4, ports);
    b.jump(done);
  };
  const parseTcp = (): void => {
    whole(tcp.minBytes);
    const control = checkTcp(e, l4.l4, 0, l4.size, done);
    found();
    copyMembers(e, l4.l4, ports);
    if (wants(e, "tcp_flags")) putRegister(e, "tcp_flags", b.alu("and", control, be16(0x0fff), "tcp_flags"));
    b.jump(done);
  };
  /** Type and code are one byte each; the members hold 16 bits, the upper byte zero. */
  const parseIcmp = (withNd: boolean) => (): void => {
    whole(icmpv6.minBytes);
    found();
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
  found();
  b.jump(done);
};
