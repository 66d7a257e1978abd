// Helpers of classifier programs (net/core/filter.c).

import { csumAdd, csumFold, csumSub, replace2, replace4, replaceByDiff } from "../checksum.js";
import { ERRNO } from "../errors.js";
import { ETH_HLEN, ETH_P, swap16, type SkbContext } from "../skb.js";
import { flagsOf, type Helper, type HelperTable, type Host, readable, s32, TC, u32, writable } from "./helper.js";

const INT_MAX = 0x7fffffff;
/** BPF_SKB_MAX_LEN: four pages less an skb_shared_info (SKB_MAX_ALLOC). */
const MAX_LENGTH = 4 * 4096 - 320;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;

/** Flags of the checksum helpers. */
const FIELD_SIZE = 0xf;
const PSEUDO_HEADER = 0x10;
const MANGLED_0 = 0x20;
const ENFORCE = 0x40;
const IS_IPV6 = 0x80;

/** Flags of skb_store_bytes: recompute a complete checksum, forget the hash. */
const INVALIDATE_HASH = 2;
const STORE_FLAGS = 1 | INVALIDATE_HASH;

/** skb_adjust_room: modes and flags (BPF_ADJ_ROOM_*, BPF_F_ADJ_ROOM_*). */
const ROOM_NET = 0;
const ROOM_MAC = 1;
const ROOM = {
  FIXED_GSO: 1 << 0,
  ENCAP_L3_IPV4: 1 << 1,
  ENCAP_L3_IPV6: 1 << 2,
  ENCAP_L4_GRE: 1 << 3,
  ENCAP_L4_UDP: 1 << 4,
  NO_CSUM_RESET: 1 << 5,
  ENCAP_L2_ETH: 1 << 6,
  DECAP_L3_IPV4: 1 << 7,
  DECAP_L3_IPV6: 1 << 8,
} as const;
const ENCAP_L3 = ROOM.ENCAP_L3_IPV4 | ROOM.ENCAP_L3_IPV6;
const ENCAP_L4 = ROOM.ENCAP_L4_GRE | ROOM.ENCAP_L4_UDP;
const ENCAP = ENCAP_L3 | ENCAP_L4 | ROOM.ENCAP_L2_ETH;
const DECAP = ROOM.DECAP_L3_IPV4 | ROOM.DECAP_L3_IPV6;
const ROOM_FLAGS = ROOM.FIXED_GSO | ENCAP | ROOM.NO_CSUM_RESET | DECAP;
const MAX_ROOM = 0xfff;

const networkBytes = (protocol: number): number =>
  protocol === ETH_P.ip ? IPV4_BYTES : protocol === ETH_P.ipv6 ? IPV6_BYTES : 0;

/** Lets the program write a checksum field; its index in the packet's buffer, or a negative error number. */
const checksumAt = (host: Host, offset: number): number => {
  const { packet } = host;
  if (offset > 0xffff || (offset & 1) !== 0 || !packet.pull(offset + 2)) return -ERRNO.EFAULT;
  return packet.start + offset;
};

const l3Replace = (host: Host): number => {
  const { machine, packet } = host;
  const flags = flagsOf(machine, 5);
  if ((flags & ~FIELD_SIZE) !== 0) return -ERRNO.EINVAL;
  const at = checksumAt(host, u32(machine, 2));
  if (at < 0) return at;
  const field = packet.view.getUint16(at, true);
  const next = replaced(host, flags & FIELD_SIZE, field);
  if (next < 0) return next;
  packet.view.setUint16(at, next, true);
  return 0;
};

/** The new checksum for a helper's `from` (r3), `to` (r4) and field size, or a negative error number. */
const replaced = (host: Host, size: number, field: number): number => {
  const { machine } = host;
  const from = u32(machine, 3);
  const to = u32(machine, 4);
  if (size === 0) return from !== 0 || machine.R[7] !== 0 ? -ERRNO.EINVAL : replaceByDiff(field, to);
  if (size === 2) return replace2(field, from & 0xffff, to & 0xffff);
  return size === 4 ? replace4(field, from, to) : -ERRNO.EINVAL;
};

const l4Replace = (host: Host): number => {
  const { machine, packet, skb } = host;
  const flags = flagsOf(machine, 5);
  if ((flags & ~(FIELD_SIZE | PSEUDO_HEADER | MANGLED_0 | ENFORCE | IS_IPV6)) !== 0) return -ERRNO.EINVAL;
  const at = checksumAt(host, u32(machine, 2));
  if (at < 0) return at;
  const field = packet.view.getUint16(at, true);
  const keepsZero = (flags & MANGLED_0) !== 0;
  if (keepsZero && (flags & ENFORCE) === 0 && field === 0) return 0;
  const size = flags & FIELD_SIZE;
  const from = size === 2 ? u32(machine, 3) & 0xffff : u32(machine, 3);
  const to = size === 2 ? u32(machine, 4) & 0xffff : u32(machine, 4);
  if (size === 0 ? from !== 0 || machine.R[7] !== 0 : size !== 2 && size !== 4) return -ERRNO.EINVAL;
  let next = field;
  if (!skb.hasPartialChecksum) next = size === 0 ? replaceByDiff(field, to) : replace4(field, from, to);
  // The field of a partial checksum is the plain sum of the pseudo header.
  else if ((flags & PSEUDO_HEADER) !== 0)
    next = ~csumFold(size === 0 ? csumAdd(to, field) : csumAdd(csumSub(field, from), to)) & 0xffff;
  packet.view.setUint16(at, keepsZero && next === 0 ? 0xffff : next, true);
  return 0;
};

const changeTail = ({ machine, packet, skb }: Host): number => {
  const length = u32(machine, 2);
  if (flagsOf(machine, 3) !== 0 || length > MAX_LENGTH || length < skb.networkOffset) return -ERRNO.EINVAL;
  packet.pull(packet.length);
  packet.resize(length);
  return 0;
};

const changeHead = ({ machine, packet, skb }: Host): number => {
  const room = s32(machine, 2);
  if (flagsOf(machine, 3) !== 0 || room < 0 || (skb.gsoSize === 0 && packet.length + room > MAX_LENGTH))
    return -ERRNO.EINVAL;
  packet.insert(0, room);
  skb.networkOffset += room;
  return 0;
};

const adjustRoom = (host: Host): number => {
  const { machine, packet, skb } = host;
  const diff = s32(machine, 2);
  const size = Math.abs(diff);
  const mode = u32(machine, 3);
  const flags = u32(machine, 4);
  const l2Bytes = machine.R[9]! >>> 24;
  if ((flags & ~ROOM_FLAGS) !== 0 || (machine.R[9]! & 0xffffff) !== 0) return -ERRNO.EINVAL;
  if (size > MAX_ROOM) return -ERRNO.EFAULT;
  if (skb.protocol !== ETH_P.ip && skb.protocol !== ETH_P.ipv6) return -ERRNO.ENOTSUPP;
  if (mode !== ROOM_MAC && mode !== ROOM_NET) return -ERRNO.ENOTSUPP;
  const at = skb.networkOffset + (mode === ROOM_NET ? networkBytes(skb.protocol) : 0);
  let shortest = networkBytes(skb.protocol);
  if ((flags & DECAP) !== 0) {
    if (diff >= 0 || (flags & DECAP) === DECAP) return -ERRNO.EINVAL;
    shortest = (flags & ROOM.DECAP_L3_IPV4) !== 0 ? IPV4_BYTES : IPV6_BYTES;
  }
  const payload = packet.length - skb.networkOffset;
  if (diff < 0 && (size >= payload || payload - size < shortest)) return -ERRNO.ENOTSUPP;
  if (diff >= 0 && packet.length + size > MAX_LENGTH && skb.gsoSize === 0) return -ERRNO.ENOTSUPP;
  return diff < 0 ? shrink(skb, at, size, flags) : grow(skb, at, size, flags, l2Bytes);
};

/** bpf_skb_net_grow */
const grow = (skb: SkbContext, at: number, size: number, flags: number, l2Bytes: number): number => {
  if ((flags & ENCAP) !== 0) {
    if ((flags & ENCAP_L3) === ENCAP_L3 || (flags & ENCAP_L4) === ENCAP_L4) return -ERRNO.EINVAL;
    if ((flags & ROOM.ENCAP_L2_ETH) !== 0 && l2Bytes < ETH_HLEN) return -ERRNO.EINVAL;
    if (l2Bytes > size) return -ERRNO.EINVAL;
  }
  skb.packet.insert(at, size);
  if ((flags & ROOM.ENCAP_L3_IPV4) !== 0) skb.protocol = ETH_P.ip;
  if ((flags & ROOM.ENCAP_L3_IPV6) !== 0) skb.protocol = ETH_P.ipv6;
  if (skb.gsoSize > 0 && (flags & ROOM.FIXED_GSO) === 0) skb.gsoSize -= size;
  return 0;
};

/** bpf_skb_net_shrink */
const shrink = (skb: SkbContext, at: number, size: number, flags: number): number => {
  if ((flags & ~(ROOM.FIXED_GSO | DECAP | ROOM.NO_CSUM_RESET)) !== 0) return -ERRNO.EINVAL;
  if (!skb.packet.pull(at + size)) return -ERRNO.ENOMEM;
  skb.packet.remove(at, size);
  if ((flags & ROOM.DECAP_L3_IPV4) !== 0) skb.protocol = ETH_P.ip;
  if ((flags & ROOM.DECAP_L3_IPV6) !== 0) skb.protocol = ETH_P.ipv6;
  if (skb.gsoSize > 0 && (flags & ROOM.FIXED_GSO) === 0) skb.gsoSize += size;
  return 0;
};

/** bpf_skb_change_proto: makes or takes away the room by which IPv6 headers are longer. */
const changeProtocol = ({ machine, skb }: Host): number => {
  const to = swap16(u32(machine, 2));
  if (flagsOf(machine, 3) !== 0) return -ERRNO.EINVAL;
  const difference = IPV6_BYTES - IPV4_BYTES;
  if (skb.protocol === ETH_P.ip && to === ETH_P.ipv6) skb.packet.insert(skb.networkOffset, difference);
  else if (skb.protocol === ETH_P.ipv6 && to === ETH_P.ip) {
    if (!skb.packet.pull(skb.networkOffset + difference)) return -ERRNO.ENOMEM;
    skb.packet.remove(skb.networkOffset, difference);
  } else return -ERRNO.ENOTSUPP;
  skb.protocol = to;
  skb.hash = 0;
  return 0;
};

const cloneRedirect = ({ machine, packet, skb, clones, mtuOf }: Host): number => {
  const ifindex = u32(machine, 2);
  const flags = flagsOf(machine, 3);
  if ((flags & ~1) !== 0 || mtuOf(ifindex) === undefined) return -ERRNO.EINVAL;
  clones.push({ ifindex, flags, packet: packet.copy(), ...(skb.vlan === undefined ? {} : { vlan: skb.vlan }) });
  return 0;
};

const loadBytes = ({ machine, packet }: Host): number => {
  const offset = u32(machine, 2);
  const to = writable(machine, 3, u32(machine, 4));
  if (offset > INT_MAX || offset + to.length > packet.length) {
    to.fill(0);
    return -ERRNO.EFAULT;
  }
  to.set(packet.data().subarray(offset, offset + to.length));
  return 0;
};

const storeBytes = ({ machine, packet, skb }: Host): number => {
  const offset = u32(machine, 2);
  const from = readable(machine, 3, u32(machine, 4));
  const flags = flagsOf(machine, 5);
  if ((flags & ~STORE_FLAGS) !== 0) return -ERRNO.EINVAL;
  if (offset > INT_MAX || !packet.pull(offset + from.length)) return -ERRNO.EFAULT;
  packet.data().set(from, offset);
  if ((flags & INVALIDATE_HASH) !== 0) skb.hash = 0;
  return 0;
};

/** BPF_CSUM_LEVEL_QUERY; the others change what only CHECKSUM_UNNECESSARY has. */
const LEVEL_QUERY = 0;
const MAX_LEVEL = 3;

/** A helper that may change the packet and answers with a number. */
const changes = (run: (host: Host) => number): Helper => ({
  hooks: TC,
  takesContext: true,
  invalidates: true,
  run: (host) => host.machine.result(run(host)),
});

/** A helper that leaves the packet alone and answers with a number. */
const asks = (run: (host: Host) => number): Helper => ({ ...changes(run), invalidates: false });

export const SKB_HELPERS: HelperTable = {
  skb_store_bytes: changes(storeBytes),
  l3_csum_replace: changes(l3Replace),
  l4_csum_replace: changes(l4Replace),
  clone_redirect: changes(cloneRedirect),
  skb_vlan_push: changes(({ machine, skb }) =>
    skb.pushVlan({ proto: swap16(u32(machine, 2)), tci: u32(machine, 3) & 0xffff }),
  ),
  skb_vlan_pop: changes(({ skb }) => skb.popVlan()),
  skb_load_bytes: asks(loadBytes),
  skb_change_proto: changes(changeProtocol),
  skb_change_type: asks(({ machine, skb }) => {
    const type = u32(machine, 2);
    // PACKET_OTHERHOST is the last type that a program may set.
    if (type > 3 || skb.pktType > 3) return -ERRNO.EINVAL;
    skb.pktType = type;
    return 0;
  }),
  skb_change_tail: changes(changeTail),
  skb_pull_data: changes(({ machine, packet }) => {
    const length = u32(machine, 2);
    return packet.pull(length === 0 ? packet.linearEnd - packet.start : length) ? 0 : -ERRNO.ENOMEM;
  }),
  // A complete checksum (CHECKSUM_COMPLETE) is never there.
  csum_update: asks(() => -ERRNO.ENOTSUPP),
  set_hash_invalid: asks(({ skb }) => (skb.hash = 0)),
  skb_change_head: changes(changeHead),
  set_hash: asks(({ machine, skb }) => {
    skb.hash = u32(machine, 2);
    return 0;
  }),
  skb_adjust_room: changes(adjustRoom),
  csum_level: asks(({ machine }) => {
    const level = flagsOf(machine, 2);
    return level === LEVEL_QUERY ? -ERRNO.EACCES : level > MAX_LEVEL || level < 0 ? -ERRNO.EINVAL : 0;
  }),
};
