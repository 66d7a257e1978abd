// The L2 part of the packet parser: addresses, tags (in the bytes or in skb metadata), Ethernet type, 802.2 LLC.

import type { BlockId, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { ETH_TYPE, MAX_VLANS, VLAN_CFI, ethernet, llcSnap, vlan } from "../packet/headers.js";
import { be16, be32, copyMembers, keyField, need, putRegister, wants, type Emit } from "./emit.js";

/** What the L2 parser knows when it is done; mutable registers. */
export interface L2 {
  /** Ethernet type in network order. */
  readonly type: VReg;
  /** Offset of L3 from the start of the linear data. */
  readonly l3Off: VReg;
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

/**
 * Ethernet, tags, type.
 * @param common - an Ethernet type that most frames have, to be asked for before everything else
 */
export const parseL2 = (e: Emit, common?: number): L2 => {
  const { b } = e;
  need(e, e.data, ethernet.minBytes, e.drop);
  putRegister(e, "in_port", e.inPort ?? e.ifindex);
  copyMembers(e, e.data, [
    ["dl_dst", ethernet.fields.dst.byteOffset],
    ["dl_src", ethernet.fields.src.byteOffset],
  ]);
  const l2: L2 = {
    type: b.load("u16", e.data, ethernet.fields.type.byteOffset, "eth_type"),
    l3Off: b.value("l3_off", ethernet.minBytes),
  };
  const typed = b.block("typed");
  const known = b.block("l2_done");
  if (b.hook === "tc") parseMetadataTag(e, l2, typed);
  if (common !== undefined) {
    const other = b.block("");
    b.branch("eq", l2.type, be16(common), known, other, "then");
    b.place(other);
  }
  parseTags(e, l2, 0, typed);
  b.place(typed);
  const llc = b.block("llc");
  b.branch("lt", b.swap(16, l2.type), ETH_TYPE.MIN, llc, known, "else");
  b.place(llc);
  parseLlc(e, l2, known);
  b.place(known);
  putRegister(e, "dl_type", l2.type);
  return l2;
};
