// The flow: everything OpenFlow can match about one packet, as one fixed string of bits.
//
// A flow (and equally a mask of it) is a Uint32Array of FLOW_WORDS words. Bit 0 of the string is the most significant
// bit of word 0; a member of the layout occupies `bits` consecutive bits with its own most significant bit first, so a
// word holds numeric values, never byte-swapped ones. Members of up to 32 bits never straddle a word; wider ones
// start at a 16-bit (48-bit members) or 32-bit boundary. Member names and meanings are those of OVS `struct flow`
// (include/openvswitch/flow.h): VLAN TCIs keep the CFI bit as "present", nw_frag is FLOW_NW_FRAG_*, ICMP type and
// code are in tp_src and tp_dst, the ARP opcode is in nw_proto, ARP addresses in nw_src and nw_dst, ND link-layer
// addresses in arp_sha (source) and arp_tha (target). Members up to the Ethernet addresses are not of the packet: port,
// metadata, registers, connection and tunnel. All but port and tunnel are zero when a packet comes in.

/** Members in order, with their width in bits. */
const MEMBERS = [
  ["in_port", 32],
  ["actset_output", 32],
  ["metadata", 64],
  ["reg0", 32],
  ["reg1", 32],
  ["reg2", 32],
  ["reg3", 32],
  ["reg4", 32],
  ["reg5", 32],
  ["reg6", 32],
  ["reg7", 32],
  ["reg8", 32],
  ["reg9", 32],
  ["reg10", 32],
  ["reg11", 32],
  ["reg12", 32],
  ["reg13", 32],
  ["reg14", 32],
  ["reg15", 32],
  ["pkt_mark", 32],
  ["skb_priority", 32],
  ["dp_hash", 32],
  ["recirc_id", 32],
  ["conj_id", 32],
  ["packet_type", 32],
  ["ct_state", 8],
  ["ct_nw_proto", 8],
  ["ct_zone", 16],
  ["ct_mark", 32],
  ["ct_label", 128],
  ["ct_nw_src", 32],
  ["ct_nw_dst", 32],
  ["ct_ipv6_src", 128],
  ["ct_ipv6_dst", 128],
  ["ct_tp_src", 16],
  ["ct_tp_dst", 16],
  ["tun_id", 64],
  ["tun_src", 32],
  ["tun_dst", 32],
  ["tun_ipv6_src", 128],
  ["tun_ipv6_dst", 128],
  ["tun_flags", 16],
  ["tun_ttl", 8],
  ["tun_tos", 8],
  ["tun_gbp_id", 16],
  ["tun_gbp_flags", 8],
  ["tun_gtpu_flags", 8],
  ["tun_gtpu_msgtype", 8],
  ["tun_erspan_ver", 8],
  ["tun_erspan_dir", 8],
  ["tun_erspan_hwid", 8],
  ["tun_erspan_idx", 32],
  // Options of tunnels have no bits: see fields/tun-metadata.ts.
  ["tun_metadata", 0],
  ["dl_dst", 48],
  ["dl_src", 48],
  ["vlan0_tpid", 16],
  ["vlan0_tci", 16],
  ["vlan1_tpid", 16],
  ["vlan1_tci", 16],
  ["dl_type", 16],
  ["nw_frag", 8],
  ["nw_proto", 8],
  ["nw_tos", 8],
  ["nw_ttl", 8],
  ["tp_src", 16],
  ["tp_dst", 16],
  ["tcp_flags", 16],
  ["nw_src", 32],
  ["nw_dst", 32],
  ["ipv6_src", 128],
  ["ipv6_dst", 128],
  ["ipv6_label", 32],
  ["nd_target", 128],
  ["arp_sha", 48],
  ["arp_tha", 48],
  ["nd_reserved", 32],
  ["nd_options_type", 8],
  ["nsh_flags", 8],
  ["nsh_ttl", 8],
  ["nsh_mdtype", 8],
  ["nsh_np", 8],
  ["mpls_lse0", 32],
  ["mpls_lse1", 32],
  ["mpls_lse2", 32],
  ["nsh_path", 32],
  ["nsh_c1", 32],
  ["nsh_c2", 32],
  ["nsh_c3", 32],
  ["nsh_c4", 32],
  // Follow from the others: packet/dp-hash.ts.
  ["hash_l4", 32],
  ["hash_sym_l4", 32],
] as const satisfies readonly (readonly [string, number])[];

export type Member = (typeof MEMBERS)[number][0];

/** Place of a member: `at` is the offset of its most significant bit in the bit string. */
export interface Place {
  readonly at: number;
  readonly bits: number;
}

const layOut = (): { places: Record<Member, Place>; words: number } => {
  const places = {} as Record<Member, Place>;
  let at = 0;
  for (const [name, bits] of MEMBERS) {
    const align = bits === 48 ? 16 : Math.max(1, Math.min(bits, 32));
    at = Math.ceil(at / align) * align;
    places[name] = { at, bits };
    at += bits;
  }
  return { places, words: Math.ceil(at / 32) };
};

const layout = layOut();

/** Where each member lies. */
export const FLOW: Readonly<Record<Member, Place>> = layout.places;

/**
 * Words that a packet can have a value in when it comes in start here, beside the port: those of its tunnel, then its own. Before
 * them lie metadata, registers and connection.
 */
export const INPUT_WORDS_AT: number = FLOW.tun_id.at >>> 5;

/** Words of the packet's own fields start here. */
export const PACKET_WORDS_AT: number = FLOW.dl_dst.at >>> 5;

/** Length of a flow or mask in 32-bit words. */
export const FLOW_WORDS: number = layout.words;

/** A flow, or a mask of one: FLOW_WORDS words. */
export type FlowWords = Uint32Array;

/** A flow of zeros: no packet, or a mask that matches anything. */
export const newFlow = (): FlowWords => new Uint32Array(FLOW_WORDS);

/** Makes `to` equal to `from`. */
export const copyFlow = (to: FlowWords, from: FlowWords): void => to.set(from);

/** The bits `at`..`at+bits` (at most 32, may straddle two words) as an unsigned number. */
export const getBits = (flow: FlowWords, at: number, bits: number): number => {
  const word = at >>> 5;
  const end = (at & 31) + bits;
  if (end <= 32) return bits === 32 ? flow[word]! : (flow[word]! >>> (32 - end)) & ((1 << bits) - 1);
  const low = end - 32;
  return (getBits(flow, at, bits - low) * 2 ** low + getBits(flow, at + bits - low, low)) >>> 0;
};

/** Stores the low `bits` (at most 32) bits of `value` at `at`. */
export const setBits = (flow: FlowWords, at: number, bits: number, value: number): void => {
  const word = at >>> 5;
  const end = (at & 31) + bits;
  if (end <= 32) {
    if (bits === 32) {
      flow[word] = value;
      return;
    }
    const shift = 32 - end;
    const mask = ((1 << bits) - 1) << shift;
    flow[word] = (flow[word]! & ~mask) | ((value << shift) & mask);
    return;
  }
  const low = end - 32;
  setBits(flow, at, bits - low, Math.floor(value / 2 ** low));
  setBits(flow, at + bits - low, low, value % 2 ** low);
};

/** A member of at most 32 bits. */
export const get = (flow: FlowWords, member: Member): number => {
  const place = FLOW[member];
  return getBits(flow, place.at, place.bits);
};

/** Stores a member of at most 32 bits. */
export const set = (flow: FlowWords, member: Member, value: number): void => {
  const place = FLOW[member];
  setBits(flow, place.at, place.bits, value);
};

/** `bits` bits at `at` as big-endian bytes, right-aligned in ceil(bits/8) bytes. */
export const getBytes = (flow: FlowWords, at: number, bits: number): Uint8Array => {
  const bytes = new Uint8Array((bits + 7) >>> 3);
  let left = bits;
  for (let i = bytes.length - 1; left > 0; i--) {
    const n = Math.min(8, left);
    left -= n;
    bytes[i] = getBits(flow, at + left, n);
  }
  return bytes;
};

/** Sets those of `bits` bits at `at` that are set in big-endian bytes, right-aligned. */
export const orBytes = (flow: FlowWords, at: number, bits: number, bytes: Uint8Array): void => {
  let left = bits;
  for (let i = bytes.length - 1; left > 0; i--) {
    const n = Math.min(8, left);
    left -= n;
    if (bytes[i] !== 0) setBits(flow, at + left, n, getBits(flow, at + left, n) | bytes[i]!);
  }
};

/** Stores big-endian bytes, right-aligned, into `bits` bits at `at`. */
export const setBytes = (flow: FlowWords, at: number, bits: number, bytes: Uint8Array): void => {
  let left = bits;
  for (let i = bytes.length - 1; left > 0; i--) {
    const n = Math.min(8, left);
    left -= n;
    setBits(flow, at + left, n, bytes[i] ?? 0);
  }
};

/** Sets every bit of `bits` bits at `at`: marks them as having mattered. */
export const setOnes = (mask: FlowWords, at: number, bits: number): void => {
  for (let done = 0; done < bits;) {
    const n = Math.min(32 - ((at + done) & 31), bits - done);
    setBits(mask, at + done, n, 0xffffffff);
    done += n;
  }
};

/** Makes `bits` bits of `to` at `toAt` those of `from` at `fromAt`; the two runs must not overlap. */
export const copyBits = (to: FlowWords, toAt: number, from: FlowWords, fromAt: number, bits: number): void => {
  for (let done = 0; done < bits;) {
    const n = Math.min(32 - ((toAt + done) & 31), bits - done);
    setBits(to, toAt + done, n, getBits(from, fromAt + done, n));
    done += n;
  }
};

/** Whether `bits` bits at `at` are the same in both. */
export const equalBits = (a: FlowWords, b: FlowWords, at: number, bits: number): boolean => {
  for (let done = 0; done < bits;) {
    const n = Math.min(32 - ((at + done) & 31), bits - done);
    if (getBits(a, at + done, n) !== getBits(b, at + done, n)) return false;
    done += n;
  }
  return true;
};

/** {@link setOnes} for a whole member. */
export const unwildcard = (mask: FlowWords, member: Member): void => setOnes(mask, FLOW[member].at, FLOW[member].bits);

/** Whether a member is the same in two flows. */
export const isEqualMember = (a: FlowWords, b: FlowWords, member: Member): boolean =>
  equalBits(a, b, FLOW[member].at, FLOW[member].bits);

/** Makes a member of `to` what it is in `from`. */
export const copyMember = (to: FlowWords, from: FlowWords, member: Member): void => {
  const { at, bits } = FLOW[member];
  copyBits(to, at, from, at, bits);
};

/** Makes a member 0. */
export const clearMember = (flow: FlowWords, member: Member): void => {
  const { at, bits } = FLOW[member];
  for (let done = 0; done < bits; done += 16) setBits(flow, at + done, Math.min(16, bits - done), 0);
};
