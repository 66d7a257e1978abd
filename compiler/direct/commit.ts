// Emits the end of a packet that leaves: what the actions wrote into the flow in hand goes into the packet, in the order
// of OVS (pipeline/xlate/commit.ts), and the packet out of its port. First everything is looked at that could make the packet
// one for user space; then it is counted; only then is anything changed.

import { at, checkHeaders, reload, type Rewrite } from "../datapath/rewrite.js";
import { SETTERS } from "../datapath/setters.js";
import { be16, forget, type Family as L3Family, type Needs } from "../datapath/emit.js";
import { MAPS } from "../datapath/abi.js";
import { arp, ethernet, ETH_TYPE, IP_PROTO, ipv4, ipv6, vlan } from "../packet/headers.js";
import type { Member } from "../openflow/flow.js";
import type { DpAction, SetTarget } from "../pipeline/dp-action.js";
import type { BlockId, VReg } from "../ir/types.js";
import { TAG_PRESENT } from "./act.js";
import { DIRTY, fieldOf, guess, type Direct } from "./emit.js";

type SetAction = Extract<DpAction, { kind: "set" }>;
type Family = SetAction["family"];

/** What a member is in a family's header: which setter writes it, where it lies, which of its bytes count. */
interface Row {
  readonly member: Member;
  readonly target: SetTarget;
  /** Byte offset from L3 and size of what is compared; a member of another size is compared in its last bytes. */
  readonly off: number;
  readonly size: 1 | 2 | 4 | 16;
}

const V4 = ipv4.fields;
const V6 = ipv6.fields;

const ROWS: Readonly<Record<"ipv4" | "ipv6", readonly Row[]>> = {
  ipv4: [
    { member: "nw_src", target: "nw_src", off: V4.src.byteOffset, size: 4 },
    { member: "nw_dst", target: "nw_dst", off: V4.dst.byteOffset, size: 4 },
    { member: "nw_tos", target: "nw_tos", off: V4.dscp.byteOffset, size: 1 },
    { member: "nw_ttl", target: "nw_ttl", off: V4.ttl.byteOffset, size: 1 },
  ],
  ipv6: [
    { member: "ipv6_src", target: "ipv6_src", off: V6.src.byteOffset, size: 16 },
    { member: "ipv6_dst", target: "ipv6_dst", off: V6.dst.byteOffset, size: 16 },
    { member: "nw_ttl", target: "nw_ttl", off: V6.hopLimit.byteOffset, size: 1 },
  ],
};

const ARP_ROWS: readonly (readonly [Member, SetTarget])[] = [
  ["nw_src", "arp_spa"],
  ["nw_dst", "arp_tpa"],
  ["arp_sha", "arp_sha"],
  ["arp_tha", "arp_tha"],
];

/** What the checks find out for the edits. */
export interface Found {
  /** 0 = nothing above L2 changes, else 1 + index into {@link FAMILIES}. */
  readonly family: VReg;
  /** Tags to pop, and to push. */
  readonly pops: VReg | undefined;
  readonly pushes: VReg | undefined;
}

const FAMILIES: readonly {
  readonly family: Exclude<Family, "other">;
  readonly type: number;
  readonly dirty: number;
}[] = [
  { family: "ipv4", type: ETH_TYPE.IPV4, dirty: DIRTY.address | DIRTY.other | DIRTY.l4 },
  { family: "ipv6", type: ETH_TYPE.IPV6, dirty: DIRTY.address | DIRTY.other | DIRTY.l4 },
  { family: "arp", type: ETH_TYPE.ARP, dirty: DIRTY.arp },
];

const writes = (d: Direct, ...members: readonly Member[]): boolean => members.some((member) => d.written.has(member));

const L3_MEMBERS: readonly Member[] = [
  "nw_src",
  "nw_dst",
  "ipv6_src",
  "ipv6_dst",
  "nw_tos",
  "nw_ttl",
  "ipv6_label",
  "arp_sha",
  "arp_tha",
  "nw_proto",
  "tp_src",
  "tp_dst",
];

/** Headers that the parser must find, for what is written. */
export const needsOf = (written: ReadonlySet<Member>): Needs => {
  const has = (...members: readonly Member[]): boolean => members.some((member) => written.has(member));
  const families = new Set<L3Family>();
  const ports = has("tp_src", "tp_dst");
  if (ports || has("nw_src", "nw_dst", "nw_tos", "nw_ttl")) families.add("ipv4");
  if (ports || has("ipv6_src", "ipv6_dst", "ipv6_label", "nw_tos", "nw_ttl")) families.add("ipv6");
  if (has("nw_src", "nw_dst", "nw_proto", "arp_sha", "arp_tha")) families.add("arp");
  return { families, l4: ports || has("nw_src", "nw_dst", "ipv6_src", "ipv6_dst") };
};

/** Whether anything above L2 is ever written. */
export const writesL3 = (written: ReadonlySet<Member>): boolean => L3_MEMBERS.some((member) => written.has(member));

/** Finds and checks the headers that are to change. */
const checkL3 = (d: Direct, w: Rewrite, family: VReg, proto: VReg): void => {
  const { b } = d;
  const done = b.block("headers_checked");
  const all = FAMILIES.reduce((bits, f) => bits | f.dirty, 0);
  const some = b.block("above_l2");
  b.branch("set", d.dirty, all, some, done);
  b.place(some);
  // Without a protocol there is no header, says OVS.
  b.unless("eq", b.load("u8", d.key, fieldOf(d, "nw_proto").off, "protocol"), 0, done);
  const type = b.load("u16", d.key, fieldOf(d, "dl_type").off, "type");
  for (const [i, f] of FAMILIES.entries()) {
    if (!d.needs.families.has(f.family)) continue;
    const next = b.block("");
    b.unless("ne", type, be16(f.type), next);
    const changed = b.block("changed");
    b.branch("set", d.dirty, f.dirty, changed, done);
    b.place(changed);
    b.mov(family, i + 1);
    if (f.family === "arp" || !d.needs.l4) checkHeaders({ ...w }, f.family, false);
    else {
      const deep = b.block("deep");
      const shallow = b.block("shallow");
      b.branch("set", d.dirty, DIRTY.address | DIRTY.l4, deep, shallow);
      b.place(shallow);
      checkHeaders({ ...w }, f.family, false);
      b.jump(done);
      b.place(deep);
      const checked = { ...w };
      checkHeaders(checked, f.family, true);
      b.mov(proto, checked.proto!);
      if (writes(d, "tp_src", "tp_dst")) {
        const ports = b.block("ports_checked");
        b.unless("ne", proto, IP_PROTO.SCTP, ports);
        b.branch("set", d.dirty, DIRTY.l4, d.slow, ports);
        b.place(ports);
      }
    }
    b.jump(done);
    b.place(next);
  }
  b.jump(done);
  b.place(done);
  forget(d, family);
  forget(d, proto);
};

const tagOffsets = (d: Direct): readonly [number, number] => [
  fieldOf(d, "vlan0_tpid").off,
  fieldOf(d, "vlan1_tpid").off,
];

/** The number of tags; `tags` are both as loaded. */
const countTags = (d: Direct, tags: readonly [VReg, VReg]): VReg => {
  const { b } = d;
  const n = b.value("tags", 0);
  const counted = b.block("counted");
  for (const tag of tags) {
    b.unless("eq", b.alu("and", tag, TAG_PRESENT, "present", 32), 0, counted);
    b.aluTo("add", n, 1);
  }
  b.place(counted);
  return n;
};

/** How many tags go off and on: inner tags that are the same stay. */
const checkTags = (d: Direct, base: NonNullable<Direct["baseTags"]>, pops: VReg, pushes: VReg): void => {
  const { b } = d;
  const done = b.block("tags_checked");
  const changed = b.block("tags_written");
  b.branch("set", d.dirty, DIRTY.tags, changed, done);
  b.place(changed);
  const [off0, off1] = tagOffsets(d);
  const have: readonly [VReg, VReg] = [b.load("u32", base, 0, "base0"), b.load("u32", base, 4, "base1")];
  const want: readonly [VReg, VReg] = [b.load("u32", d.key, off0, "tag0"), b.load("u32", d.key, off1, "tag1")];
  const same = b.block("outer_same");
  const differ = b.block("tags_differ");
  b.branch("eq", have[0], want[0], same, differ);
  b.place(same);
  b.branch("eq", have[1], want[1], done, differ);
  b.place(differ);
  b.mov(pops, countTags(d, have));
  b.mov(pushes, countTags(d, want));
  const counted = b.block("tags_counted");
  const inner = (tags: readonly [VReg, VReg], n: VReg): VReg => {
    const tag = b.value("inner", tags[0]);
    const one = b.block("");
    b.unless("ne", n, 2, one);
    b.mov(tag, tags[1]);
    b.place(one);
    return tag;
  };
  for (let i = 0; i < 2; i++) {
    b.unless("eq", pops, 0, counted);
    b.unless("eq", pushes, 0, counted);
    b.unless("ne", inner(have, pops), inner(want, pushes), counted);
    b.aluTo("sub", pops, 1);
    b.aluTo("sub", pushes, 1);
  }
  b.place(counted);
  if (b.hook === "tc") {
    // The helper also takes the next tag into metadata, and fails half-way on a frame that ends inside of it.
    b.unless("eq", pops, 0, done);
    const least = b.alu("add", b.alu("lsh", pops, 2, "tags"), ethernet.minBytes + vlan.minBytes, "least");
    const whole = b.alu("add", b.alu("lsh", b.ctx("vlan_present"), 2, "tag"), d.len, "whole");
    b.unless("lt", whole, least, d.slow);
  }
  b.place(done);
  forget(d, pops);
  forget(d, pushes);
};

const setAction = (target: SetTarget, family: Family): SetAction => ({
  kind: "set",
  target,
  bytes: new Uint8Array(0),
  family,
  proto: 0,
});

/** Goes to `otherwise` when the packet has the member's value already. */
const ifDiffers = (d: Direct, w: Rewrite, base: VReg | number, bytes: number, row: Row, otherwise: BlockId): void => {
  const { b } = d;
  const { off, size } = fieldOf(d, row.member);
  const from = off + size - row.size;
  const p = at(w, base, bytes);
  const width = row.size === 16 ? 4 : row.size;
  const name = width === 4 ? "u32" : width === 2 ? "u16" : "u8";
  const differs = b.block("differs");
  for (let i = 0; i < row.size; i += width) {
    const now = b.load(name, p, row.off + i, "now");
    const then = b.load(name, d.key, from + i, "then");
    b.unless("ne", now, then, differs);
  }
  b.jump(otherwise);
  b.place(differs);
};

/** Behind a join: at TC some of the paths there have called helpers that move the packet's bytes. */
const settle = (w: Rewrite): void => {
  if (w.b.hook === "tc") reload(w);
};

const applyRow = (d: Direct, w: Rewrite, base: VReg | number, bytes: number, row: Row, family: Family): void => {
  const { b } = d;
  const same = b.block("same");
  ifDiffers(d, w, base, bytes, row, same);
  const { off, size } = fieldOf(d, row.member);
  SETTERS[row.target]!(w, setAction(row.target, family), off + size - row.size);
  b.place(same);
  settle(w);
  if (w.proto !== undefined) forget(d, w.proto);
};

/** IPv6 traffic class and label lie across bytes. */
const applyIpv6Odd = (d: Direct, w: Rewrite): void => {
  for (const [member, target] of [
    ["nw_tos", "nw_tos"],
    ["ipv6_label", "ipv6_label"],
  ] as const) {
    // No checksum covers them: writing what is there already does nothing.
    if (writes(d, member)) SETTERS[target]!(w, setAction(target, "ipv6"), fieldOf(d, member).off);
  }
};

const applyL4 = (d: Direct, w: Rewrite, family: "ipv4" | "ipv6"): void => {
  const { b } = d;
  if (!writes(d, "tp_src", "tp_dst")) return;
  const done = b.block("l4_applied");
  const changed = b.block("l4_written");
  b.branch("set", d.dirty, DIRTY.l4, changed, done);
  b.place(changed);
  const ports = b.block("ports");
  const icmp = b.block("icmp");
  b.unless("eq", w.proto!, IP_PROTO.TCP, ports);
  b.unless("eq", w.proto!, IP_PROTO.UDP, ports);
  b.branch("eq", w.proto!, family === "ipv4" ? IP_PROTO.ICMP : IP_PROTO.ICMPV6, icmp, done);
  b.place(ports);
  for (const [member, off] of [
    ["tp_src", 0],
    ["tp_dst", 2],
  ] as const)
    if (writes(d, member)) applyRow(d, w, w.l4, 4, { member, target: member, off, size: 2 }, family);
  b.jump(done);
  b.place(icmp);
  settle(w);
  for (const [member, target, off] of [
    ["tp_src", "icmp_type", 0],
    ["tp_dst", "icmp_code", 1],
  ] as const)
    if (writes(d, member)) applyRow(d, w, w.l4, 4, { member, target, off, size: 1 }, family);
  b.place(done);
  settle(w);
};

const applyL3 = (d: Direct, w: Rewrite, family: VReg): void => {
  const { b } = d;
  const done = b.block("l3_applied");
  for (const [i, f] of FAMILIES.entries()) {
    if (!d.needs.families.has(f.family)) continue;
    const next = b.block("");
    b.unless("ne", family, i + 1, next);
    if (f.family === "arp") {
      for (const [member, target] of ARP_ROWS)
        if (writes(d, member)) SETTERS[target]!(w, setAction(target, "arp"), fieldOf(d, member).off);
      if (writes(d, "nw_proto")) {
        const p = at(w, w.l3, arp.minBytes);
        b.store("u8", p, arp.fields.op.byteOffset, 0);
        b.store("u8", p, arp.fields.op.byteOffset + 1, b.load("u8", d.key, fieldOf(d, "nw_proto").off, "operation"));
      }
    } else {
      const bytes = f.family === "ipv4" ? ipv4.minBytes : ipv6.minBytes;
      for (const row of ROWS[f.family]) if (writes(d, row.member)) applyRow(d, w, w.l3, bytes, row, f.family);
      if (f.family === "ipv6") applyIpv6Odd(d, w);
      applyL4(d, w, f.family);
    }
    b.jump(done);
    b.place(next);
    settle(w);
  }
  b.place(done);
  settle(w);
};

const applyL2 = (d: Direct, w: Rewrite): void => {
  const { b } = d;
  if (!writes(d, "dl_dst", "dl_src")) return;
  const done = b.block("l2_applied");
  const changed = b.block("l2_written");
  b.branch("set", d.dirty, DIRTY.l2, changed, done);
  b.place(changed);
  for (const [member, target] of [
    ["dl_dst", "eth_dst"],
    ["dl_src", "eth_src"],
  ] as const)
    if (writes(d, member)) SETTERS[target]!(w, setAction(target, "other"), fieldOf(d, member).off);
  b.place(done);
};

/** Both MAC addresses as three words, read before the packet moves and written after. */
const macs = (w: Rewrite, from: number): VReg[] => {
  const p = at(w, from, 12);
  return [0, 4, 8].map((off) => w.b.load("u32", p, off, "macs"));
};

const popTag = (w: Rewrite): void => {
  const { b } = w;
  if (b.hook === "tc") {
    b.unless("ne", b.call("skb_vlan_pop", ["ctx"]), 0, w.drop);
    reload(w);
    return;
  }
  const words = macs(w, 0);
  b.unless("ne", b.call("xdp_adjust_head", ["ctx", vlan.minBytes]), 0, w.drop);
  reload(w);
  const p = at(w, 0, ethernet.minBytes);
  words.forEach((word, i) => b.store("u32", p, 4 * i, word));
};

/** Pushes the tag at `off` of the state. */
const pushTag = (d: Direct, w: Rewrite, off: number): void => {
  const { b } = w;
  const tpid = b.load("u16", d.key, off, "tpid");
  // The bit that says "present" in the flow is 0 on the wire.
  const tci = b.alu("and", b.load("u16", d.key, off + 2, "tci"), ~(TAG_PRESENT >>> 16) & 0xffff, "tci");
  if (b.hook === "tc") {
    b.unless("ne", b.call("skb_vlan_push", ["ctx", tpid, b.swap(16, tci, "tci")]), 0, w.drop);
    reload(w);
    return;
  }
  b.unless("ne", b.call("xdp_adjust_head", ["ctx", -vlan.minBytes]), 0, w.drop);
  reload(w);
  const words = macs(w, vlan.minBytes);
  const p = at(w, 0, ethernet.minBytes + vlan.minBytes);
  words.forEach((word, i) => b.store("u32", p, 4 * i, word));
  b.store("u16", p, ethernet.fields.type.byteOffset, tpid);
  b.store("u16", p, ethernet.minBytes, tci);
};

const applyTags = (d: Direct, w: Rewrite, pops: VReg, pushes: VReg): void => {
  const { b } = d;
  const popped = b.block("popped");
  for (let i = 0; i < 2; i++) {
    b.unless("le", pops, i, popped);
    popTag(w);
  }
  b.place(popped);
  reload(w);
  const [off0, off1] = tagOffsets(d);
  const pushed = b.block("pushed");
  const outer = b.block("outer");
  b.unless("eq", pushes, 0, pushed);
  b.unless("ne", pushes, 2, outer);
  pushTag(d, w, off1);
  b.jump(outer);
  b.place(outer);
  reload(w);
  pushTag(d, w, off0);
  b.place(pushed);
};

const XDP_REDIRECT_FAILED = 1; // XDP_DROP: verdict of redirect_map when the port is gone

/**
 * Emits the commit and the output; every path ends. `d.out` is the interface.
 * @param count - emits the counting of a packet that has come through
 * @param useDevmap - whether the object has a devmap with all ports; else the interface index is used as it is
 */
export const emitCommit = (d: Direct, count: (found: Found) => void, useDevmap: boolean): void => {
  const { b } = d;
  b.origin = { text: "rewriting and output" };
  const w: Rewrite = {
    b,
    args: d.key,
    len: d.len,
    data: b.ctx("data"),
    dataEnd: b.ctx("data_end"),
    outputs: d.outputs,
    l3: d.found.l3,
    l4: d.found.l4,
    slow: d.slow,
    drop: d.drop,
  };
  const proto = b.value("proto", 0);
  const found: Found = {
    family: b.value("family", 0),
    pops: d.baseTags && b.value("pops", 0),
    pushes: d.baseTags && b.value("pushes", 0),
  };
  const l3 = writesL3(d.written);
  if (l3 || d.written.size > 0) forget(d, d.dirty);
  if (d.baseTags !== undefined) checkTags(d, d.baseTags, found.pops!, found.pushes!);
  if (l3) checkL3(d, w, found.family, proto);
  w.proto = proto;
  count(found);
  applyL2(d, w);
  if (l3) applyL3(d, w, found.family);
  if (d.baseTags !== undefined) applyTags(d, w, found.pops!, found.pushes!);
  if (d.more !== undefined) {
    const last = b.block("last_output");
    for (let i = 0; i < d.more.slot.size / 4; i++) {
      b.unless("le", guess(d, d.more.n), i, last);
      b.call("clone_redirect", ["ctx", b.load("u32", d.more.slot, 4 * i, "ifindex"), 0]);
    }
    b.place(last);
  }
  const verdict = useDevmap
    ? b.call("redirect_map", [{ map: MAPS.ports }, d.out, XDP_REDIRECT_FAILED])
    : b.call("redirect", [d.out, 0]);
  b.ret(verdict);
};
