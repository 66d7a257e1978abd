// What rtnetlink tells about one network interface, as plain data.

import { CodecError, concatBytes } from "ebpf-assembler";
import { formatMac } from "./address.js";
import { parseAttrs, readI32, readString, readU32, readU8 } from "./netlink.js";

/** Interface attributes (uapi/linux/if_link.h). */
export const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  OPERSTATE: 16,
  LINKINFO: 18,
  STATS64: 23,
  NET_NS_FD: 28,
  LINK_NETNSID: 37,
  XDP: 43,
  MIN_MTU: 50,
  MAX_MTU: 51,
  /** Inside LINKINFO. */
  INFO_KIND: 1,
  INFO_DATA: 2,
} as const;

/** Inside IFLA_XDP. */
export const IFLA_XDP = {
  FD: 1,
  ATTACHED: 2,
  FLAGS: 3,
  PROG_ID: 4,
  DRV_PROG_ID: 5,
  SKB_PROG_ID: 6,
  HW_PROG_ID: 7,
  EXPECTED_FD: 8,
} as const;

/** RFC 2863 operational states in the order of IF_OPER_*. */
const OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"] as const;
export type OperState = (typeof OPERSTATES)[number];

/** Which XDP programs are attached, by mode; ids of the kernel. */
export interface XdpState {
  readonly native?: number;
  readonly generic?: number;
  readonly offload?: number;
}

/** `struct rtnl_link_stats64`, the part that ports report. */
export interface InterfaceStats {
  readonly rxPackets: bigint;
  readonly txPackets: bigint;
  readonly rxBytes: bigint;
  readonly txBytes: bigint;
  readonly rxErrors: bigint;
  readonly txErrors: bigint;
  readonly rxDropped: bigint;
  readonly txDropped: bigint;
}
const STATS = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxErrors",
  "txErrors",
  "rxDropped",
  "txDropped",
] as const satisfies readonly (keyof InterfaceStats)[];

/** A network interface. */
export interface Interface {
  readonly index: number;
  readonly name: string;
  /** `02:00:00:00:00:01`; "" when it has no such address. */
  readonly mac: string;
  /** Bytes, without the Ethernet header. */
  readonly mtu: number;
  readonly maxMtu: number;
  /** Administratively up. */
  readonly isUp: boolean;
  /** The driver says that the cable is in. */
  readonly hasCarrier: boolean;
  readonly operState: OperState;
  /** rtnetlink kind: `veth`, `tun`, `vlan`, `bridge`; "" for a physical interface. */
  readonly kind: string;
  /** ARPHRD_*: 1 is Ethernet, 772 loopback. */
  readonly hardwareType: number;
  /** ifindex of the bridge or bond it belongs to; 0 for none. */
  readonly master: number;
  /** ifindex of the veth peer or the lower device; 0 for none. Counts in `peerNetns` when that is present. */
  readonly peer: number;
  /** Id, as this namespace knows it, of the namespace that `peer` lives in; undefined when it is this one. */
  readonly peerNetns: number | undefined;
  readonly xdp: XdpState;
  readonly stats: InterfaceStats | undefined;
}

const IFF_UP = 1;
const IFF_LOWER_UP = 1 << 16;

/** XDP_ATTACHED_*: which mode PROG_ID means when only one program is attached. */
const ATTACHED_MODES = [undefined, "native", "generic", "offload"] as const;

const parseXdp = (bytes: Uint8Array | undefined): XdpState => {
  if (bytes === undefined) return {};
  const attrs = parseAttrs(bytes);
  const state: { -readonly [K in keyof XdpState]: XdpState[K] } = {};
  const mode = ATTACHED_MODES[readU8(attrs.get(IFLA_XDP.ATTACHED)) ?? 0];
  const only = readU32(attrs.get(IFLA_XDP.PROG_ID));
  if (mode !== undefined && only !== undefined) state[mode] = only;
  for (const [name, attr] of [
    ["native", IFLA_XDP.DRV_PROG_ID],
    ["generic", IFLA_XDP.SKB_PROG_ID],
    ["offload", IFLA_XDP.HW_PROG_ID],
  ] as const) {
    const id = readU32(attrs.get(attr));
    if (id !== undefined && id !== 0) state[name] = id;
  }
  return state;
};

const parseStats = (bytes: Uint8Array | undefined): InterfaceStats | undefined => {
  if (bytes === undefined || bytes.length < STATS.length * 8) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const stats: Partial<Record<keyof InterfaceStats, bigint>> = {};
  STATS.forEach((name, i) => (stats[name] = view.getBigUint64(i * 8, true)));
  return stats as InterfaceStats;
};

const INFO_SIZE = 16;

/** A fixed header and attributes after it. */
export const encodeLink = (header: Uint8Array, attrs: readonly Uint8Array[]): Uint8Array =>
  concatBytes(header, ...attrs);

/** Reads the body of RTM_NEWLINK or RTM_DELLINK: `struct ifinfomsg` and attributes. */
export const parseInterface = (body: Uint8Array): Interface => {
  if (body.length < INFO_SIZE)
    throw new CodecError("decode interface message", 0, `want ${INFO_SIZE} bytes of ifinfomsg, got ${body.length}`);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const flags = view.getUint32(8, true);
  const attrs = parseAttrs(body.subarray(INFO_SIZE));
  const linkInfo = attrs.get(IFLA.LINKINFO);
  const kind = linkInfo === undefined ? undefined : readString(parseAttrs(linkInfo).get(IFLA.INFO_KIND));
  return {
    index: view.getInt32(4, true),
    name: readString(attrs.get(IFLA.IFNAME)) ?? "",
    mac: formatMac(attrs.get(IFLA.ADDRESS) ?? new Uint8Array(0)),
    mtu: readU32(attrs.get(IFLA.MTU)) ?? 0,
    maxMtu: readU32(attrs.get(IFLA.MAX_MTU)) ?? 0,
    isUp: (flags & IFF_UP) !== 0,
    hasCarrier: (flags & IFF_LOWER_UP) !== 0,
    operState: OPERSTATES[readU8(attrs.get(IFLA.OPERSTATE)) ?? 0] ?? "unknown",
    kind: kind ?? "",
    hardwareType: view.getUint16(2, true),
    master: readU32(attrs.get(IFLA.MASTER)) ?? 0,
    peer: readU32(attrs.get(IFLA.LINK)) ?? 0,
    peerNetns: readI32(attrs.get(IFLA.LINK_NETNSID)),
    xdp: parseXdp(attrs.get(IFLA.XDP)),
    stats: parseStats(attrs.get(IFLA.STATS64)),
  };
};
