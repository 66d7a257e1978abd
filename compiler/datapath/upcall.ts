// Emits the upcall: one netlink message in the ring buffer with the packet in it, then the packet is gone. Records come in a
// few sizes (the kernel wants constants); the smallest that holds the packet is reserved. A full ring is counted per port.

import type { BlockId, VReg } from "../ir/types.js";
import type { IrBuilder } from "../ir/builder.js";
import {
  ATTR_GSO,
  ATTR_TIME,
  CONTROL,
  MAPS,
  NLA_F_NESTED,
  OVS_KEY_ATTR_IN_PORT,
  OVS_PACKET_ATTR,
  PACKET_FAMILY,
  UPCALL,
  UPCALL_RECORD_SIZES,
} from "./abi.js";
import { ethernet, vlan } from "../packet/headers.js";

const BPF_RB_NO_WAKEUP = 1;
const NLA_HEADER = 4;

/** Offset in the packet where a tag from skb metadata goes: after the two MAC addresses. */
const TAG_AT = ethernet.fields.type.byteOffset;

/** `length | type << 16`: an attribute header as one little-endian u32. */
const nla = (payload: number, type: number): number => (type << 16) | (NLA_HEADER + payload) | 0;

interface Message {
  readonly b: IrBuilder;
  readonly cmd: VReg;
  readonly ifindex: VReg;
  /** Bytes of packet data in the linear and non-linear parts. */
  readonly len: VReg;
  /** At TC: length added by a tag in metadata, 0 or 4. */
  readonly tag: VReg | 0;
}

const fixedPart = (m: Message, record: VReg, total: VReg): void => {
  const { b } = m;
  b.store("u32", record, UPCALL.nlLen, b.alu("add", total, UPCALL.packet, "nl_len"));
  b.store("u32", record, UPCALL.nlType, PACKET_FAMILY);
  b.store("u64", record, UPCALL.nlSeq, 0);
  b.store("u32", record, UPCALL.cmd, b.alu("or", m.cmd, 1 << 8, "genl"));
  b.store("u32", record, UPCALL.dpIfindex, 0);
  b.store("u32", record, UPCALL.key, nla(8, OVS_PACKET_ATTR.KEY | NLA_F_NESTED));
  b.store("u32", record, UPCALL.inPort - NLA_HEADER, nla(4, OVS_KEY_ATTR_IN_PORT));
  b.store("u32", record, UPCALL.inPort, m.ifindex);
  b.store("u32", record, UPCALL.len - NLA_HEADER, nla(4, OVS_PACKET_ATTR.LEN));
  b.store("u32", record, UPCALL.len, total);
  b.store("u32", record, UPCALL.gso - NLA_HEADER, nla(4, ATTR_GSO));
  if (b.hook === "tc") {
    const segments = b.alu("lsh", b.ctx("gso_segs"), 16, "gso");
    b.store("u32", record, UPCALL.gso, b.alu("or", segments, b.ctx("gso_size"), "gso"));
  } else b.store("u32", record, UPCALL.gso, 0);
  b.store("u32", record, UPCALL.time - NLA_HEADER, nla(8, ATTR_TIME));
  b.store("u64", record, UPCALL.time, b.call("ktime_get_ns", []));
  const header = b.alu("add", total, NLA_HEADER, "packet_nla");
  b.store("u32", record, UPCALL.packetAttr, b.alu("or", header, OVS_PACKET_ATTR.PACKET << 16, "packet_nla"));
};

/** Copies the packet behind the fixed part; goes to `failed` if the kernel cannot. */
const copyPacket = (m: Message, record: VReg, capacity: number, failed: BlockId): void => {
  const { b } = m;
  const load = (from: number, to: number, length: VReg | number): void => {
    const helper = b.hook === "tc" ? "skb_load_bytes" : "xdp_load_bytes";
    const result = b.call(helper, ["ctx", from, b.alu("add", record, to, "to"), length]);
    b.unless("ne", result, 0, failed);
  };
  /** The verifier wants to see the bounds where the length is used. */
  const bounded = (length: VReg, max: number): void => {
    b.unless("gt", length, max, failed);
    b.unless("lt", length, 1, failed);
  };
  if (m.tag === 0) {
    bounded(m.len, capacity);
    load(0, UPCALL.packet, m.len);
    return;
  }
  const inline = b.block("no_tag");
  const copied = b.block("copied");
  const tagged = b.block("tagged");
  b.branch("eq", m.tag, 0, inline, tagged, "then");
  b.place(tagged);
  load(0, UPCALL.packet, TAG_AT);
  b.store("u16", record, UPCALL.packet + TAG_AT, b.ctx("vlan_proto"));
  b.store("u16", record, UPCALL.packet + TAG_AT + 2, b.swap(16, b.ctx("vlan_tci"), "tci"));
  const rest = b.alu("sub", m.len, TAG_AT, "rest");
  bounded(rest, capacity - TAG_AT - vlan.minBytes);
  load(TAG_AT, UPCALL.packet + TAG_AT + vlan.minBytes, rest);
  b.jump(copied);
  b.place(inline);
  bounded(m.len, capacity);
  load(0, UPCALL.packet, m.len);
  b.place(copied);
};

/**
 * Emits the upcall and jumps to `drop`: user space sends the packet on. A full ring counts the packet as lost.
 * @param cmd - OVS_PACKET_CMD_*
 */
export const emitUpcall = (b: IrBuilder, cmd: VReg, ifindex: VReg, len: VReg, drop: BlockId): void => {
  const tag = b.hook === "tc" ? b.alu("lsh", b.ctx("vlan_present"), 2, "tag") : 0;
  const message: Message = { b, cmd, ifindex, len, tag };
  const total = tag === 0 ? len : b.alu("add", len, tag, "total");
  const lost = b.block("lost");
  for (const size of UPCALL_RECORD_SIZES) {
    const capacity = size - UPCALL.packet;
    const larger = b.block("larger");
    b.unless("gt", total, capacity, larger);
    const record = b.call("ringbuf_reserve", [{ map: MAPS.upcalls }, size, 0], "map_value");
    b.unless("eq", record, 0, lost);
    const failed = b.block("discard");
    fixedPart(message, record, total);
    copyPacket(message, record, capacity, failed);
    // The flag is read after the reservation: a consumer that clears it looks at the ring once more before it sleeps.
    const awake = b.load("u32", b.mapValue(MAPS.control, CONTROL.awake), 0, "awake");
    const wake = b.block("wake");
    const quiet = b.block("quiet");
    b.branch("eq", awake, 0, wake, quiet);
    b.place(quiet);
    b.call("ringbuf_submit", [record, BPF_RB_NO_WAKEUP]);
    b.jump(drop);
    b.place(wake);
    b.call("ringbuf_submit", [record, 0]);
    b.jump(drop);
    b.place(failed);
    b.call("ringbuf_discard", [record, BPF_RB_NO_WAKEUP]);
    b.jump(lost);
    b.place(larger);
  }
  b.jump(lost);
  b.place(lost);
  const index = b.slot("lost_index", 4, 4);
  b.store("u32", index, 0, ifindex);
  const counter = b.call("map_lookup_elem", [{ map: MAPS.lost }, { at: index, off: 0 }], "map_value");
  b.unless("eq", counter, 0, drop);
  b.atomicAdd("u64", counter, 0, b.value("one", 1));
  b.jump(drop);
};
