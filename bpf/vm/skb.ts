// struct __sk_buff (uapi/linux/bpf.h) of a classifier program, and the part of struct sk_buff that its helpers change.
//
// Numbers are in host order here (vlanProto 0x8100, protocol 0x0800); the context shows them as the kernel does.

import { ERRNO, Fault } from "./errors.js";
import type { Context } from "./machine.js";
import { Packet } from "./packet.js";

const HEADROOM = 256;
export const ETH_HLEN = 14;
export const ETH_P = {
  ip: 0x0800,
  ipv6: 0x86dd,
  vlan: 0x8100,
  qinq: 0x88a8,
  ieee802_3: 0x0001,
  ieee802_2: 0x0004,
} as const;
const VLAN_HLEN = 4;
/** Smallest value of the type field that is a protocol, not a length (ETH_P_802_3_MIN). */
const FIRST_ETHERTYPE = 0x600;

/** A VLAN tag: 16-bit control information and TPID, both as numbers (0x8100, not its swapped bytes). */
export interface VlanTag {
  readonly tci: number;
  readonly proto: number;
}

const isVlan = (proto: number): boolean => proto === ETH_P.vlan || proto === ETH_P.qinq;
export const swap16 = (x: number): number => ((x & 0xff) << 8) | ((x >>> 8) & 0xff);

type Access = "read" | "read-write";

interface Field {
  readonly name: string;
  readonly access: Access;
  readonly get: (skb: SkbContext) => number;
  readonly set?: (skb: SkbContext, value: number) => void;
}

const ro = (name: string, get: (skb: SkbContext) => number): Field => ({ name, access: "read", get });
const rw = (name: string, get: Field["get"], set: (skb: SkbContext, value: number) => void): Field => ({
  name,
  access: "read-write",
  get,
  set,
});

/** 4-byte fields by offset; those that a classifier may write have `set` (tc_cls_act_is_valid_access). */
const FIELDS: { readonly [offset: number]: Field } = {
  0: ro("len", (s) => s.packet.length),
  4: ro("pkt_type", (s) => s.pktType),
  8: rw(
    "mark",
    (s) => s.mark,
    (s, v) => void (s.mark = v),
  ),
  // A value of 0xffff means "not set" to the kernel: it stores value + 1 in 16 bits and ignores such a write.
  12: rw(
    "queue_mapping",
    (s) => s.queueMapping,
    (s, v) => void (v < 0xffff && (s.queueMapping = v)),
  ),
  16: ro("protocol", (s) => swap16(s.protocol)),
  20: ro("vlan_present", (s) => (s.vlan === undefined ? 0 : 1)),
  24: ro("vlan_tci", (s) => s.vlan?.tci ?? 0),
  28: ro("vlan_proto", (s) => swap16(s.vlan?.proto ?? 0)),
  32: rw(
    "priority",
    (s) => s.priority,
    (s, v) => void (s.priority = v),
  ),
  36: ro("ingress_ifindex", (s) => s.ingressIfindex),
  40: ro("ifindex", (s) => s.ifindex),
  44: rw(
    "tc_index",
    (s) => s.tcIndex,
    (s, v) => void (s.tcIndex = v & 0xffff),
  ),
  68: ro("hash", (s) => s.hash),
  72: rw(
    "tc_classid",
    (s) => s.tcClassid,
    (s, v) => void (s.tcClassid = v & 0xffff),
  ),
  84: ro("napi_id", () => 0),
  160: ro("wire_len", (s) => s.wireLength),
  164: ro("gso_segs", (s) => s.gsoSegs),
  176: ro("gso_size", (s) => s.gsoSize),
  180: ro("tstamp_type", () => 0),
};

/** Fields that are pointers: only 4-byte loads at exactly these offsets. */
const POINTERS: { readonly [offset: number]: (packet: Packet) => number } = {
  76: (packet) => packet.start,
  80: (packet) => packet.linearEnd,
  140: (packet) => packet.metaStart,
};

const CB_START = 48;
const CB_END = 68;
const TSTAMP = 152;
const SK = 168;

export class SkbContext implements Context {
  pktType = 0;
  mark = 0;
  queueMapping = 0;
  protocol = 0;
  vlan: VlanTag | undefined;
  priority = 0;
  ingressIfindex = 0;
  ifindex = 0;
  tcIndex = 0;
  tcClassid = 0;
  hash = 0;
  wireLength = 0;
  gsoSegs = 0;
  gsoSize = 0;
  /** Whether an L4 checksum is still to be computed by the device (CHECKSUM_PARTIAL). */
  hasPartialChecksum = false;
  /** Bytes from the start of the packet to the network header. */
  networkOffset = ETH_HLEN;
  private readonly cb = new DataView(new ArrayBuffer(CB_END - CB_START));
  private tstampLo = 0;
  private tstampHi = 0;

  constructor(readonly packet: Packet) {}

  /** Starts with a packet as the driver hands it over: everything at its initial value but what the caller sets next. */
  begin(bytes: Uint8Array, linear: number): void {
    this.packet.load(bytes, HEADROOM, HEADROOM + bytes.length, linear);
    for (let at = 0; at < this.cb.byteLength; at += 4) this.cb.setUint32(at, 0);
    this.mark = this.queueMapping = this.priority = this.tcIndex = this.tcClassid = this.hash = 0;
    this.tstampLo = this.tstampHi = 0;
    this.gsoSegs = this.gsoSize = 0;
    this.hasPartialChecksum = false;
    this.vlan = undefined;
    this.networkOffset = ETH_HLEN;
    this.wireLength = bytes.length;
    this.protocol = this.typeAt(12);
    // PACKET_OTHERHOST, PACKET_BROADCAST, PACKET_MULTICAST (uapi/linux/if_packet.h): no address is the device's own.
    this.pktType = (bytes[0]! & 1) === 0 ? 3 : bytes.subarray(0, 6).every((byte) => byte === 0xff) ? 1 : 2;
  }

  load(R: Int32Array, dst: number, offset: number, size: number): void {
    const { packet } = this;
    const pointer = POINTERS[offset];
    if (pointer !== undefined && size === 4) return packet.pointer(R, dst, pointer(packet));
    R[dst + 1] = 0;
    if (offset >= CB_START && offset + size <= CB_END && offset % size === 0) {
      const at = offset - CB_START;
      R[dst] =
        size === 1 ? this.cb.getUint8(at) : size === 2 ? this.cb.getUint16(at, true) : this.cb.getInt32(at, true);
      if (size === 8) R[dst + 1] = this.cb.getInt32(at + 4, true);
      return;
    }
    if (size === 8 && (offset === TSTAMP || offset === SK)) {
      R[dst] = offset === SK ? 0 : this.tstampLo;
      R[dst + 1] = offset === SK ? 0 : this.tstampHi;
      return;
    }
    const field = FIELDS[offset & ~3];
    if (field === undefined || size === 8 || offset % size !== 0)
      throw new Fault(
        `read of ${size} bytes at offset ${offset} of struct __sk_buff: no field that a classifier may read so`,
      );
    const value = field.get(this);
    R[dst] = size === 4 ? value : (value >>> (8 * (offset & 3))) & (size === 1 ? 0xff : 0xffff);
  }

  store(offset: number, size: number, lo: number, hi: number): void {
    if (offset >= CB_START && offset + size <= CB_END && offset % size === 0) {
      const at = offset - CB_START;
      if (size === 1) this.cb.setInt8(at, lo);
      else if (size === 2) this.cb.setInt16(at, lo, true);
      else this.cb.setInt32(at, lo, true);
      if (size === 8) this.cb.setInt32(at + 4, hi, true);
      return;
    }
    if (offset === TSTAMP && size === 8) {
      this.tstampLo = lo;
      this.tstampHi = hi;
      return;
    }
    const set = FIELDS[offset]?.set;
    if (set === undefined || size !== 4)
      throw new Fault(
        `write of ${size} bytes at offset ${offset} of struct __sk_buff: no field that a classifier may write so`,
      );
    set(this, lo >>> 0);
  }

  /** skb_vlan_push: a tag that is there already moves into the packet. */
  pushVlan(tag: VlanTag): number {
    const { packet, vlan } = this;
    if (vlan !== undefined) {
      packet.insert(12, VLAN_HLEN);
      packet.view.setUint16(packet.start + 12, vlan.proto);
      packet.view.setUint16(packet.start + 14, vlan.tci);
      this.networkOffset += VLAN_HLEN;
      this.protocol = vlan.proto;
    }
    this.vlan = { tci: tag.tci, proto: isVlan(tag.proto) ? tag.proto : ETH_P.vlan };
    return 0;
  }

  /** skb_vlan_pop: drops the outer tag; a tag below it moves out of the packet. */
  popVlan(): number {
    if (this.vlan !== undefined) this.vlan = undefined;
    else {
      if (!isVlan(this.protocol)) return 0;
      const tag = this.removeTag();
      if (tag === undefined) return -ERRNO.ENOMEM;
    }
    const proto = this.protocol;
    if (!isVlan(proto)) return 0;
    const tci = this.removeTag();
    if (tci === undefined) return -ERRNO.ENOMEM;
    this.vlan = { tci, proto };
    return 0;
  }

  /** Takes the tag at byte 12 out of the packet; its control information, or undefined when the packet is too short. */
  private removeTag(): number | undefined {
    const { packet } = this;
    if (!packet.pull(ETH_HLEN + VLAN_HLEN)) return undefined;
    const tci = packet.view.getUint16(packet.start + 14);
    packet.remove(12, VLAN_HLEN);
    this.protocol = this.typeAt(12);
    this.networkOffset = Math.max(this.networkOffset - VLAN_HLEN, ETH_HLEN);
    return tci;
  }

  /** The protocol that the type field at `at` stands for (eth_type_trans, vlan_set_encap_proto). */
  private typeAt(at: number): number {
    const { view, start, end } = this.packet;
    if (end - start < at + 2) return 0;
    const type = view.getUint16(start + at);
    if (type >= FIRST_ETHERTYPE) return type;
    return end - start >= at + 4 && view.getUint16(start + at + 2) === 0xffff ? ETH_P.ieee802_3 : ETH_P.ieee802_2;
  }
}
