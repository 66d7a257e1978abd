// Random packets: mostly valid ones of every protocol that the parser knows, and of each a share that is cut off,
// padded, inconsistent or plainly damaged. The same seed gives the same packets. Addresses, ports and tags come from
// POOLS, so that random flow tables match them.

import {
  type Address,
  buildPacket,
  type ExtSpec,
  type L3Spec,
  type L4Spec,
  type PacketSpec,
} from "./packet-builder.js";
import { POOLS } from "./pools.js";
import { Random } from "./random.js";

/** Payload sizes: mostly small, some up to what an Ethernet MTU holds. */
const payload = (r: Random): Uint8Array => r.bytes(r.oneIn(20) ? r.below(1400) : r.below(40));

const port = (r: Random): number => (r.oneIn(8) ? r.below(65536) : r.pick(POOLS.l4ports));

const ndOption = (r: Random): { type: number; mac: Address } | Uint8Array => {
  if (r.oneIn(5)) return r.pick([Uint8Array.of(14, 1, 0, 0, 0, 0, 0, 9), new Uint8Array(8), r.bytes(8), r.bytes(4)]);
  if (r.oneIn(8)) return { type: r.pick([1, 2]), mac: new Uint8Array(6) };
  return { type: r.pick([1, 1, 2]), mac: r.pick(POOLS.macs) };
};

const nd = (r: Random): L4Spec => ({
  kind: "nd",
  type: r.pick([135, 136]),
  reserved: r.oneIn(2) ? 0 : r.u32(),
  target: r.pick(POOLS.ipv6s),
  options: Array.from({ length: r.pick([0, 1, 1, 1, 2, 3]) }, () => ndOption(r)),
});

const l4 = (r: Random, ipv6: boolean): L4Spec => {
  const ports = { src: port(r), dst: port(r), payload: payload(r) };
  switch (r.below(12)) {
    case 0:
    case 1:
    case 2:
      return {
        kind: "tcp",
        ...ports,
        flags: r.pick([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0xfff]),
        options: new Uint8Array(r.pick([0, 0, 12, 40])).fill(1),
      };
    case 3:
    case 4:
      return { kind: "udp", ...ports, unchecked: !ipv6 && r.oneIn(4) };
    case 5:
      return { kind: "sctp", ...ports };
    case 6:
    case 7:
      return {
        // Once in a while the protocol of the other IP version, which is parsed all the same.
        kind: ipv6 !== r.oneIn(20) ? "icmpv6" : "icmp",
        type: r.pick([0, 3, 8, 128, 129, 135]),
        code: r.pick([0, 0, 1]),
        rest: r.u32(),
        payload: payload(r),
      };
    case 8:
      return { kind: "igmp", type: 0x16, code: 0, rest: 0xe0000005 };
    case 9:
    case 10:
      return ipv6 || r.oneIn(10) ? nd(r) : { kind: "udp", ...ports };
    default:
      return { kind: "raw", proto: r.pick([0, 4, 41, 47, 50, 59, 89, 255, 6, 17, 132]), payload: payload(r) };
  }
};

const extensions = (r: Random): ExtSpec[] => {
  const one = (): ExtSpec => {
    const data = r.bytes(r.pick([0, 0, 8, 16]));
    switch (r.below(6)) {
      case 0:
        return { kind: "hopopts", data };
      case 1:
        return { kind: "dstopts", data };
      case 2:
        return { kind: "routing", segmentsLeft: r.pick([0, 0, 1]), data };
      case 3:
        return { kind: "ah", data: r.bytes(r.pick([4, 12])) };
      default:
        return {
          kind: "fragment",
          offset: r.pick([0, 0, 1, 185]),
          more: r.oneIn(2),
          reserved2: r.oneIn(10) ? r.below(4) : 0,
        };
    }
  };
  return Array.from({ length: r.pick([0, 0, 0, 0, 1, 1, 2, 3, 9]) }, one);
};

/** Label stack entries, the bottom bit sometimes early, sometimes missing. */
const mplsPayload = (r: Random): Uint8Array => {
  const out = r.bytes(4 * r.pick([0, 1, 1, 2, 3, 4, 5]) + r.pick([0, 0, 2, 30]));
  const bottom = r.pick([0, 0, 1, 2, 3, 9]);
  for (let i = 0; 4 * i + 3 < out.length; i++) {
    out.set([0, r.below(2), (r.below(8) << 1) | (i === bottom ? 1 : 0), r.pick([0, 1, 64, 255])], 4 * i);
  }
  return out;
};

/** A network service header, mostly valid. */
const nshPayload = (r: Random): Uint8Array => {
  const mdtype = r.pick([1, 1, 1, 2, 3]);
  const words = r.oneIn(6) ? r.below(16) : mdtype === 1 ? 6 : r.between(2, 8);
  const out = new Uint8Array(4 * words + r.pick([0, 4, 40]));
  out.set(r.bytes(out.length));
  const first = (r.oneIn(10) ? 1 << 14 : 0) | (r.below(4) << 12) | (r.below(64) << 6) | words;
  out.set([first >> 8, first & 0xff, mdtype, r.between(1, 5)].slice(0, out.length));
  return r.oneIn(6) ? out.slice(0, r.below(30)) : out;
};

const l3 = (r: Random): L3Spec => {
  const kind = r.below(17);
  if (kind === 16) {
    const isNsh = r.oneIn(2);
    const type = isNsh ? 0x894f : r.pick([0x8847, 0x8848]);
    return { kind: "raw", type, payload: isNsh ? nshPayload(r) : mplsPayload(r) };
  }
  if (kind < 7)
    return {
      kind: "ipv4",
      src: r.pick(POOLS.ipv4s),
      dst: r.pick(POOLS.ipv4s),
      tos: r.oneIn(3) ? r.below(256) : 0,
      ttl: r.pick([0, 1, 2, 64, 255]),
      dontFragment: r.oneIn(3),
      ...(r.oneIn(6) && { options: new Uint8Array(r.pick([4, 12, 40])).fill(1) }),
      ...(r.oneIn(6) && { fragment: { offset: r.pick([0, 1, 185]), more: r.oneIn(2) } }),
      l4: l4(r, false),
    };
  if (kind < 13)
    return {
      kind: "ipv6",
      src: r.pick(POOLS.ipv6s),
      dst: r.pick(POOLS.ipv6s),
      trafficClass: r.oneIn(3) ? r.below(256) : 0,
      flowLabel: r.oneIn(3) ? r.below(1 << 20) : 0,
      hopLimit: r.pick([0, 1, 2, 64, 255]),
      ext: extensions(r),
      l4: l4(r, true),
    };
  if (kind < 15)
    return {
      kind: r.oneIn(5) ? "rarp" : "arp",
      op: r.pick([1, 1, 2, 3, 255, 256, 0x0102]),
      sha: r.pick(POOLS.macs),
      spa: r.pick(POOLS.ipv4s),
      tha: r.pick(POOLS.macs),
      tpa: r.pick(POOLS.ipv4s),
    };
  return {
    kind: "raw",
    type: r.pick([0x0000, 0x0026, 0x05ff, 0x0600, 0x88cc, 0x8847, 0x894f, 0x8100, 0x0800, 0x86dd]),
    payload: payload(r),
  };
};

const vlans = (r: Random): { tpid: number; tci: number }[] =>
  Array.from({ length: r.pick([0, 0, 0, 0, 1, 1, 2, 3]) }, () => ({
    tpid: r.pick([0x8100, 0x8100, 0x88a8]),
    tci: r.pick(POOLS.vlans) | (r.below(16) << 12),
  }));

/** Headers that contradict themselves or the frame. */
const overrides = (r: Random): NonNullable<PacketSpec["override"]> =>
  r.pick<NonNullable<PacketSpec["override"]>>([
    { ipv4: { ihl: r.below(16) } },
    { ipv4: { totalLength: r.below(120) } },
    { ipv4: { version: r.below(16) } },
    { ipv4: { reserved: 1 } },
    { ipv6: { payloadLength: r.below(120) } },
    { ipv6: { version: r.below(16) } },
    { ipv6Ext: { length: r.below(40) } },
    { ah: { length: r.below(40) } },
    { ipv6Frag: { fragOffset: r.below(8192) } },
    { tcp: { dataOffset: r.below(16) } },
    { udp: { length: r.below(64) } },
    { arp: { hardware: r.below(3) } },
    { arp: { hardwareSize: r.below(8) } },
    { arp: { protocolSize: r.below(8) } },
    { arp: { protocol: 0x86dd } },
    { llcSnap: { control: 0 } },
    { llcSnap: { org: 1 } },
    { llcSnap: { type: 0x0100 } },
  ]);

/** How a packet is bent after it was built. */
const damage = (r: Random, packet: Uint8Array): Uint8Array => {
  switch (r.below(10)) {
    case 0:
      return packet.slice(0, 14 + r.below(Math.max(1, packet.length - 14)));
    case 1: {
      const copy = packet.slice();
      for (let n = r.between(1, 3); n > 0; n--) copy[12 + r.below(copy.length - 12)] = r.below(256);
      return copy;
    }
    case 2: {
      const copy = packet.slice();
      copy[r.below(Math.min(copy.length, 90))]! ^= 1 << r.below(8);
      return copy;
    }
    default:
      return packet;
  }
};

/** One packet of 14..1518 bytes. */
export const randomPacket = (r: Random): Uint8Array => {
  if (r.oneIn(12)) return randomShimPacket(r);
  const spec: PacketSpec = {
    dst: r.pick(POOLS.macs),
    src: r.pick(POOLS.macs),
    vlans: vlans(r),
    snap: r.oneIn(12),
    l3: l3(r),
    ...(r.oneIn(3) && { minSize: 60, padding: r.pick([0, 0xa5]) }),
    ...(r.oneIn(8) && { override: overrides(r) }),
  };
  return damage(r, buildPacket(spec)).slice(0, 1518);
};

/** A packet without its Ethernet header and tags: what labels and service headers carry. */
const withoutEthernet = (r: Random): Uint8Array =>
  buildPacket({ dst: r.pick(POOLS.macs), src: r.pick(POOLS.macs), vlans: [], snap: false, l3: l3(r) }).slice(14);

const labels = (r: Random): Uint8Array => {
  const n = r.pick([1, 1, 1, 2, 2, 3, 4]);
  const out = new Uint8Array(4 * n);
  for (let i = 0; i < n; i++) {
    const isLast = i === n - 1 && !r.oneIn(20);
    out.set([0, r.below(2), (r.below(8) << 1) | (isLast ? 1 : 0), r.pick([0, 1, 2, 64, 255])], 4 * i);
  }
  return out;
};

const concatenated = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A network service header of type 1 or 2 in front of what its next protocol says. */
const serviceHeader = (r: Random): Uint8Array => {
  const [np, inside] = r.pick<readonly [number, (r: Random) => Uint8Array]>([
    [1, withoutEthernet],
    [2, withoutEthernet],
    [3, randomPacket],
    [3, randomPacket],
    [4, (of) => (of.oneIn(3) ? nshPayload(of) : serviceHeader(of))],
    [5, withoutEthernet],
  ]);
  const mdtype = r.pick([1, 1, 1, 2]);
  const words = mdtype === 1 ? 6 : r.between(2, 6);
  const header = r.bytes(4 * words);
  const first = (r.below(4) << 12) | (r.pick([0, 1, 2, 63]) << 6) | words;
  header.set([first >> 8, first & 0xff, mdtype, np]);
  return concatenated([header, inside(r)]);
};

/** A packet with MPLS labels or a service header in front of another packet; now and then one cut off. */
export const randomShimPacket = (r: Random): Uint8Array => {
  const isNsh = r.oneIn(2);
  const payload = isNsh ? serviceHeader(r) : concatenated([labels(r), withoutEthernet(r)]);
  const type = isNsh ? 0x894f : r.pick([0x8847, 0x8847, 0x8848]);
  const outer = { dst: r.pick(POOLS.macs), src: r.pick(POOLS.macs), vlans: vlans(r), snap: r.oneIn(20) };
  const packet = buildPacket({ ...outer, l3: { kind: "raw", type, payload } });
  return (r.oneIn(12) ? damage(r, packet) : packet).slice(0, 1518);
};

/** `n` packets from one seed. */
export const randomPackets = (seed: number, n: number): Uint8Array[] => {
  const r = new Random(seed);
  return Array.from({ length: n }, () => randomPacket(r));
};
