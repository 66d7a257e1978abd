// Outer headers of tunnels: building them, putting one in front of a packet, and finding out what a packet came by. User space and
// the datapath programs (datapath/tunnel-*.ts) do the same byte for byte.
//
// A header is built without what depends on the packet inside; encapsulate() fills in lengths, checksums and the UDP source port,
// which is a hash of the flow inside, so that the network between the tunnel's ends spreads flows.

import { unreachable } from "ebpf-assembler";
import { foldSum, sumWords, updateChecksum } from "./checksum.js";
import { ethernet, ETH_TYPE, geneve, gre, GRE_FLAG, IP_PROTO, ipv4, ipv6, udp, vxlan } from "./headers.js";
import type { TunnelType } from "../pipeline/tunnel/config.js";
import { read16, read32, write16, write32 } from "./words.js";

/** Bits of the flow's tun_flags (OVS FLOW_TNL_F_*): only oam is for users. */
export const TNL_F = { OAM: 1, DF: 2, CSUM: 4, KEY: 8 } as const;

/** What the outer headers of a packet say. */
export interface TunnelKey {
  readonly type: TunnelType;
  /** 4 or 16 bytes; of a packet to be sent, all zeros: the host's choice. */
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly tunId: bigint;
  readonly tos: number;
  readonly ttl: number;
  /** {@link TNL_F} */
  readonly flags: number;
  /** UDP port that the packet goes to; 0 when there is none. */
  readonly dstPort: number;
  /** Group policy, where VXLAN carries one. */
  readonly gbp?: { readonly id: number; readonly flags: number };
  /** The packet has a sequence number (GRE). */
  readonly seq?: boolean;
}

/** The first step of a packet towards the tunnel's other end. */
export interface Hop {
  readonly ifindex: number;
  /** Six bytes each; the other end's is undefined while the host does not know it. */
  readonly srcMac: Uint8Array;
  readonly dstMac: Uint8Array | undefined;
  /** The address that packets go out from, as long as the other end's. */
  readonly src: Uint8Array;
  readonly mtu: number;
}

const DONT_FRAGMENT = 0x4000;
/** Of VXLAN: there is a VNI; there is a group policy. */
const [VXLAN_I, VXLAN_G] = [0x08, 0x80];
/** Of GBP: don't learn, policy applied. */
const GBP_FLAGS = 0x48;
/** Marks that the UDP checksum is to be computed. */
const CSUM_WANTED = 0xffff;
/** Above every port that services listen to (RFC 7348 section 5 asks for the dynamic range). */
const FIRST_SOURCE_PORT = 0xc000;

/** IP header bytes by address length. */
const ipBytes = (dst: Uint8Array): number => (dst.length === 4 ? ipv4.minBytes : ipv6.minBytes);

/** Bytes between IP header and inner packet. */
const shimBytes = ({ type, flags, seq }: TunnelKey): number => {
  switch (type) {
    case "vxlan":
      return udp.minBytes + vxlan.minBytes;
    case "geneve":
      return udp.minBytes + geneve.minBytes;
    case "gre":
      return (
        gre.minBytes +
        ((flags & TNL_F.CSUM) !== 0 ? 4 : 0) +
        ((flags & TNL_F.KEY) !== 0 ? 4 : 0) +
        (seq === true ? 4 : 0)
      );
    default:
      return unreachable(type);
  }
};

const putShim = (out: Uint8Array, start: number, key: TunnelKey): void => {
  const { type, flags, tunId, dstPort, gbp } = key;
  let at = start;
  if (type !== "gre") {
    write16(out, at + udp.fields.dst.byteOffset, dstPort);
    if ((flags & TNL_F.CSUM) !== 0) write16(out, at + udp.fields.checksum.byteOffset, CSUM_WANTED);
    at += udp.minBytes;
  }
  const vni = Number(BigInt.asUintN(24, tunId)) * 256;
  switch (type) {
    case "vxlan":
      out[at] = VXLAN_I;
      if (gbp !== undefined && (gbp.id !== 0 || gbp.flags !== 0)) {
        out[at]! |= VXLAN_G;
        out[at + vxlan.fields.policyFlags.byteOffset] = gbp.flags & GBP_FLAGS;
        write16(out, at + vxlan.fields.policy.byteOffset, gbp.id);
      }
      write32(out, at + vxlan.fields.vni.byteOffset, vni);
      return;
    case "geneve":
      out[at + 1] = (flags & TNL_F.OAM) !== 0 ? 0x80 : 0;
      write16(out, at + geneve.fields.protocol.byteOffset, ETH_TYPE.TEB);
      write32(out, at + geneve.fields.vni.byteOffset, vni);
      return;
    case "gre": {
      const [hasCsum, hasKey] = [(flags & TNL_F.CSUM) !== 0, (flags & TNL_F.KEY) !== 0];
      write16(
        out,
        at,
        (hasCsum ? GRE_FLAG.CSUM : 0) | (hasKey ? GRE_FLAG.KEY : 0) | (key.seq === true ? GRE_FLAG.SEQ : 0),
      );
      write16(out, at + gre.fields.protocol.byteOffset, ETH_TYPE.TEB);
      at += gre.minBytes + (hasCsum ? 4 : 0);
      if (hasKey) write32(out, at, Number(BigInt.asUintN(32, tunId)));
      return;
    }
    default:
      unreachable(type);
  }
};

/**
 * The outer headers of a packet from Ethernet on, without lengths, source port, and checksums but that of the IPv4 header as it is
 * so far. MAC addresses that are not known are zeros.
 */
export const buildOuter = (key: TunnelKey, hop?: Hop): Uint8Array => {
  const { dst, tos, ttl, flags } = key;
  const l3 = ethernet.minBytes;
  const l4 = l3 + ipBytes(dst);
  const out = new Uint8Array(l4 + shimBytes(key));
  if (hop !== undefined) {
    if (hop.dstMac !== undefined) out.set(hop.dstMac, ethernet.fields.dst.byteOffset);
    out.set(hop.srcMac, ethernet.fields.src.byteOffset);
  }
  const src = hop !== undefined && key.src.every((byte) => byte === 0) ? hop.src : key.src;
  const proto = key.type === "gre" ? IP_PROTO.GRE : IP_PROTO.UDP;
  if (dst.length === 4) {
    write16(out, ethernet.fields.type.byteOffset, ETH_TYPE.IPV4);
    out[l3] = 0x45;
    out[l3 + 1] = tos;
    write16(out, l3 + ipv4.fields.reserved.byteOffset, (flags & TNL_F.DF) !== 0 ? DONT_FRAGMENT : 0);
    out[l3 + ipv4.fields.ttl.byteOffset] = ttl;
    out[l3 + ipv4.fields.proto.byteOffset] = proto;
    out.set(src, l3 + ipv4.fields.src.byteOffset);
    out.set(dst, l3 + ipv4.fields.dst.byteOffset);
    write16(out, l3 + ipv4.fields.checksum.byteOffset, ~foldSum(sumWords(out, l3, l4)) & 0xffff);
  } else {
    write16(out, ethernet.fields.type.byteOffset, ETH_TYPE.IPV6);
    write32(out, l3, 0x6000_0000 + tos * 2 ** 20);
    out[l3 + ipv6.fields.nextHeader.byteOffset] = proto;
    out[l3 + ipv6.fields.hopLimit.byteOffset] = ttl;
    out.set(src, l3 + ipv6.fields.src.byteOffset);
    out.set(dst, l3 + ipv6.fields.dst.byteOffset);
  }
  putShim(out, l4, key);
  return out;
};

/** Where things are in outer headers of {@link buildOuter}. */
export const outerLayout = (
  header: Uint8Array,
): { readonly isV4: boolean; readonly l4: number; readonly isUdp: boolean; readonly wantsSum: boolean } => {
  const l3 = ethernet.minBytes;
  const isV4 = read16(header, ethernet.fields.type.byteOffset) === ETH_TYPE.IPV4;
  const l4 = l3 + (isV4 ? ipv4.minBytes : ipv6.minBytes);
  const proto = header[l3 + (isV4 ? ipv4.fields.proto : ipv6.fields.nextHeader).byteOffset];
  const isUdp = proto === IP_PROTO.UDP;
  const wantsSum = isUdp
    ? read16(header, l4 + udp.fields.checksum.byteOffset) !== 0
    : (read16(header, l4) & GRE_FLAG.CSUM) !== 0;
  return { isV4, l4, isUdp, wantsSum };
};

// The hash of a flow. It reads words where the commonest headers have addresses and ports, in host order as a program loads them.

/** Odd constants of MurmurHash3's finaliser; what a hash begins with. */
export const ENTROPY = { MIX: 0x85eb_ca6b, SHIFT: 15, SEED: 0x9747_b28c } as const;
const L3 = ethernet.minBytes;
/** Offsets in the packet, of runs of 32-bit words that are hashed. */
export const ENTROPY_WORDS = {
  macs: [0, 4, 8],
  ipv4: [L3 + ipv4.fields.src.byteOffset, L3 + ipv4.fields.dst.byteOffset],
  ipv4Ports: L3 + ipv4.minBytes,
  ipv6: Array.from({ length: 8 }, (_, i) => L3 + ipv6.fields.src.byteOffset + 4 * i),
  ipv6Ports: L3 + ipv6.minBytes,
} as const;

const swap32 = (word: number): number =>
  (word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24);

/** Whether ports follow an IP header of this protocol. */
const hasPorts = (proto: number | undefined): boolean => proto === IP_PROTO.TCP || proto === IP_PROTO.UDP;

const entropyWords = (packet: Uint8Array): readonly number[] => {
  const w = ENTROPY_WORDS;
  const type = read16(packet, ethernet.fields.type.byteOffset);
  if (type === ETH_TYPE.IPV4 && packet.length >= w.ipv4Ports && packet[L3] === 0x45) {
    const isFragment = (read16(packet, L3 + ipv4.fields.reserved.byteOffset) & 0x3fff) !== 0;
    const ports =
      !isFragment && hasPorts(packet[L3 + ipv4.fields.proto.byteOffset]) && packet.length >= w.ipv4Ports + 4;
    return ports ? [...w.ipv4, w.ipv4Ports] : w.ipv4;
  }
  if (type === ETH_TYPE.IPV6 && packet.length >= w.ipv6Ports) {
    const ports = hasPorts(packet[L3 + ipv6.fields.nextHeader.byteOffset]) && packet.length >= w.ipv6Ports + 4;
    return ports ? [...w.ipv6, w.ipv6Ports] : w.ipv6;
  }
  return w.macs;
};

/** The UDP source port of a packet that is put into a tunnel: the same for all packets of a flow. */
export const sourcePortOf = (packet: Uint8Array): number => {
  let hash: number = ENTROPY.SEED;
  for (const at of entropyWords(packet)) {
    hash = Math.imul(hash ^ swap32(read32(packet, at)), ENTROPY.MIX);
    hash ^= hash >>> ENTROPY.SHIFT;
  }
  return FIRST_SOURCE_PORT | ((hash >>> 16) & (0xffff - FIRST_SOURCE_PORT));
};

/** Sum over the UDP pseudo header and datagram from `l4` on. */
const udpChecksum = (packet: Uint8Array, isV4: boolean, l4: number): number => {
  const l3 = ethernet.minBytes;
  const src = l3 + (isV4 ? ipv4 : ipv6).fields.src.byteOffset;
  const addresses = isV4 ? 8 : 32;
  const length = packet.length - l4;
  const sum = sumWords(packet, src, src + addresses, IP_PROTO.UDP + length);
  const checksum = ~foldSum(sumWords(packet, l4, packet.length, sum)) & 0xffff;
  return checksum === 0 ? 0xffff : checksum;
};

/**
 * The packet with outer headers before it.
 * @param header - of {@link buildOuter}
 * @param inner - an Ethernet frame
 * @param sequence - of GRE headers that have one: it is their end
 */
export const encapsulate = (header: Uint8Array, inner: Uint8Array, sequence?: number): Uint8Array => {
  const packet = new Uint8Array(header.length + inner.length);
  packet.set(header);
  packet.set(inner, header.length);
  if (sequence !== undefined) write32(packet, header.length - 4, sequence);
  const { isV4, l4, isUdp, wantsSum } = outerLayout(header);
  const l3 = ethernet.minBytes;
  if (isV4) {
    const length = packet.length - l3;
    write16(packet, l3 + ipv4.fields.totalLength.byteOffset, length);
    const at = l3 + ipv4.fields.checksum.byteOffset;
    write16(packet, at, updateChecksum(read16(packet, at), 0, length));
  } else write16(packet, l3 + ipv6.fields.payloadLength.byteOffset, packet.length - l4);
  if (isUdp) {
    write16(packet, l4 + udp.fields.src.byteOffset, sourcePortOf(inner));
    write16(packet, l4 + udp.fields.length.byteOffset, packet.length - l4);
    const at = l4 + udp.fields.checksum.byteOffset;
    write16(packet, at, 0);
    if (wantsSum) write16(packet, at, udpChecksum(packet, isV4, l4));
  } else if (wantsSum) {
    write16(packet, l4 + gre.minBytes, ~foldSum(sumWords(packet, l4, packet.length)) & 0xffff);
  }
  return packet;
};

/** A packet that came by a tunnel. */
export interface Decapsulated {
  readonly key: TunnelKey;
  /** Bytes of outer headers. */
  readonly outerBytes: number;
}

/**
 * What outer headers a packet has; undefined when it has none that a tunnel port could have sent: another protocol, IP options, a
 * fragment, a header that is cut off.
 * @param typeOf - the kind of tunnel whose packets come to a UDP port
 */
export const decapsulate = (
  packet: Uint8Array,
  typeOf: (udpPort: number) => Exclude<TunnelType, "gre"> | undefined,
): Decapsulated | undefined => {
  const l3 = ethernet.minBytes;
  if (packet.length < l3 + ipv4.minBytes) return undefined;
  const type = read16(packet, ethernet.fields.type.byteOffset);
  let l4: number;
  let end: number;
  let proto: number;
  let base: Pick<TunnelKey, "src" | "dst" | "tos" | "ttl">;
  let flags = 0;
  if (type === ETH_TYPE.IPV4) {
    const f = ipv4.fields;
    const fragment = read16(packet, l3 + f.reserved.byteOffset);
    if (packet[l3] !== 0x45 || (fragment & 0x3fff) !== 0) return undefined;
    l4 = l3 + ipv4.minBytes;
    end = l3 + read16(packet, l3 + f.totalLength.byteOffset);
    proto = packet[l3 + f.proto.byteOffset]!;
    const [src, dst] = [l3 + f.src.byteOffset, l3 + f.dst.byteOffset];
    base = {
      src: packet.slice(src, src + 4),
      dst: packet.slice(dst, dst + 4),
      tos: packet[l3 + 1]!,
      ttl: packet[l3 + f.ttl.byteOffset]!,
    };
    if ((fragment & DONT_FRAGMENT) !== 0) flags |= TNL_F.DF;
  } else if (type === ETH_TYPE.IPV6 && packet.length >= l3 + ipv6.minBytes) {
    const f = ipv6.fields;
    l4 = l3 + ipv6.minBytes;
    end = l4 + read16(packet, l3 + f.payloadLength.byteOffset);
    proto = packet[l3 + f.nextHeader.byteOffset]!;
    const [src, dst] = [l3 + f.src.byteOffset, l3 + f.dst.byteOffset];
    base = {
      src: packet.slice(src, src + 16),
      dst: packet.slice(dst, dst + 16),
      tos: (read16(packet, l3) >>> 4) & 0xff,
      ttl: packet[l3 + f.hopLimit.byteOffset]!,
    };
  } else return undefined;
  if (end > packet.length) return undefined;
  if (proto === IP_PROTO.GRE) return decapsulateGre(packet, l4, end, { ...base, flags });
  if (proto !== IP_PROTO.UDP || end - l4 < udp.minBytes + vxlan.minBytes) return undefined;
  const dstPort = read16(packet, l4 + udp.fields.dst.byteOffset);
  const kind = typeOf(dstPort);
  if (kind === undefined) return undefined;
  if (read16(packet, l4 + udp.fields.checksum.byteOffset) !== 0) flags |= TNL_F.CSUM;
  const shim = l4 + udp.minBytes;
  const common = { ...base, type: kind, dstPort, tunId: BigInt(read32(packet, shim + 4) >>> 8) };
  if (kind === "vxlan") {
    const isPolicy = (packet[shim]! & VXLAN_G) !== 0;
    if ((packet[shim]! & VXLAN_I) === 0) return undefined;
    const gbp = { id: read16(packet, shim + 2), flags: packet[shim + 1]! & GBP_FLAGS };
    return finish(shim + vxlan.minBytes, end, {
      ...common,
      flags: flags | TNL_F.KEY,
      ...(isPolicy ? { gbp } : {}),
    });
  }
  const first = packet[shim]!;
  if (first >>> 6 !== 0 || read16(packet, shim + geneve.fields.protocol.byteOffset) !== ETH_TYPE.TEB) return undefined;
  if ((packet[shim + 1]! & 0x80) !== 0) flags |= TNL_F.OAM;
  return finish(shim + geneve.minBytes + 4 * (first & 0x3f), end, { ...common, flags: flags | TNL_F.KEY });
};

const finish = (outerBytes: number, end: number, key: TunnelKey): Decapsulated | undefined =>
  outerBytes + ethernet.minBytes <= end ? { key, outerBytes } : undefined;

const GRE_KNOWN = GRE_FLAG.CSUM | GRE_FLAG.KEY | GRE_FLAG.SEQ;

const decapsulateGre = (
  packet: Uint8Array,
  l4: number,
  end: number,
  base: Pick<TunnelKey, "src" | "dst" | "tos" | "ttl" | "flags">,
): Decapsulated | undefined => {
  if (end - l4 < gre.minBytes) return undefined;
  const bits = read16(packet, l4);
  if ((bits & ~GRE_KNOWN) !== 0 || read16(packet, l4 + gre.fields.protocol.byteOffset) !== ETH_TYPE.TEB)
    return undefined;
  let at = l4 + gre.minBytes;
  let { flags } = base;
  let tunId = 0n;
  if ((bits & GRE_FLAG.CSUM) !== 0) {
    flags |= TNL_F.CSUM;
    at += 4;
  }
  if ((bits & GRE_FLAG.KEY) !== 0) {
    if (end - at < 4) return undefined;
    flags |= TNL_F.KEY;
    tunId = BigInt(read32(packet, at));
    at += 4;
  }
  const seq = (bits & GRE_FLAG.SEQ) !== 0;
  if (seq) at += 4;
  return finish(at, end, { ...base, type: "gre", dstPort: 0, tunId, flags, seq });
};
