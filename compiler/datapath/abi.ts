// What datapath programs and the runtime agree on: map names, value layout, upcall records, verdict of a miss.
// Numbers of messages and attributes are those of Linux uapi openvswitch.h, so that one codec serves upcalls and dpctl.

/** Maps that every datapath object has, beside one map per subtable. */
export const MAPS = {
  /** PROG_ARRAYs behind the attached stubs; slot 0 is what runs; slot 1 the megaflow program when a direct one runs. */
  progs: { xdp: "progs_xdp", tc: "progs_tc" },
  /** DEVMAP from interface index to interface, for XDP redirects; `portSlots` entries. */
  ports: "ports",
  /** Ring buffer of upcall records. */
  upcalls: "upcalls",
  /** One-entry mmapable array, see {@link CONTROL}. */
  control: "control",
  /** Mmapable array of u64 by interface index: upcalls lost because the ring was full. */
  lost: "lost",
  /** Mmapable array of meter slots (pipeline/meter-table.ts); there once a program meters. */
  meters: "meters",
} as const;

/** Value of the `control` map: byte offsets, u32 each. */
export const CONTROL = {
  /** Non-zero while the consumer is draining: producers need not wake it. */
  awake: 0,
  /** Zero while a direct program must leave all packets to the megaflow program behind it. */
  direct: 4,
  size: 64,
} as const;

/** Above all interface indices: what stands for the port in the key of a packet that came by a tunnel. */
const FIRST_VPORT = 0x4000_0000;

/** By number of the tunnel's kind and UDP port, and by the hook of the uplink, whose program carries the packet. */
export const vportIndex = (number: number, hook: "xdp" | "tc"): number =>
  FIRST_VPORT + 2 * number + (hook === "tc" ? 1 : 0);

/** The hook in a {@link vportIndex}; undefined for an interface index. */
export const hookOfVport = (index: number): "xdp" | "tc" | undefined =>
  index < FIRST_VPORT ? undefined : (index & 1) === 1 ? "tc" : "xdp";

/** Head of a megaflow value, bytes; arguments of the action shape follow. All in host order unless said. */
export const VALUE = {
  packets: 0, // u64, atomic
  bytes: 8, // u64, atomic; length with the L2 header
  shape: 16, // u32
  entry: 20, // u32, user space's own number of the entry; programs leave it alone
  args: 24,
} as const;

/**
 * Bit of an output's argument besides the interface index: at TC the packet goes straight to the other end of that veth pair,
 * into its network namespace (bpf_redirect_peer), and passes neither the queue nor the second receive path in between.
 */
export const OUTPUT_PEER = 0x8000_0000;

/** Argument of an output in a NIC's program: back to the wire, or up to the host. */
export const NIC_OUTPUT = { hairpin: 0, host: 1 } as const;

/** Shape numbers with a fixed meaning; compiled shapes start at {@link FIRST_SHAPE}. */
export const SHAPE_SLOW = 0; // hand the packet to user space (OVS_PACKET_CMD_ACTION)
export const SHAPE_DROP = 1;
export const FIRST_SHAPE = 2;

/**
 * An upcall record: nlmsghdr, genlmsghdr, ovs_header, attributes; constant offsets since the packet comes last. Host
 * order throughout, as netlink; attribute lengths include their 4-byte header.
 */
export const UPCALL = {
  nlLen: 0, // u32
  nlType: 4, // u16
  nlFlags: 6, // u16
  nlSeq: 8, // u32
  nlPid: 12, // u32
  cmd: 16, // u8, OVS_PACKET_CMD_*
  version: 17, // u8
  dpIfindex: 20, // u32
  key: 24, // attribute OVS_PACKET_ATTR_KEY, nested
  inPort: 32, // u32 payload of OVS_KEY_ATTR_IN_PORT at 28: the interface index
  len: 40, // u32 payload of OVS_PACKET_ATTR_LEN at 36: length of the whole packet
  gso: 48, // u32 payload of ATTR_GSO at 44: gso_size | gso_segs << 16
  time: 56, // u64 payload of ATTR_TIME at 52: CLOCK_MONOTONIC nanoseconds
  packetAttr: 64, // attribute OVS_PACKET_ATTR_PACKET
  packet: 68, // packet bytes; a tag in skb metadata has been put back in
} as const;

/** Netlink message type of our packet family: user-defined, since no kernel family is asked. */
export const PACKET_FAMILY = 0x20;

export const OVS_PACKET_CMD = { MISS: 1, ACTION: 2, EXECUTE: 3 } as const;
export const OVS_PACKET_ATTR = { PACKET: 1, KEY: 2, ACTIONS: 3, USERDATA: 4, MRU: 9, LEN: 10, HASH: 11 } as const;
export const OVS_KEY_ATTR_IN_PORT = 3;
export const NLA_F_NESTED = 0x8000;
/** Attributes of our own, above all of OVS's. */
export const ATTR_GSO = 64;
export const ATTR_TIME = 65;

/** Sizes of ring records, smallest first: a program reserves the smallest that holds the packet. */
export const UPCALL_RECORD_SIZES: readonly number[] = [256, 2048, 9728, 66048];
