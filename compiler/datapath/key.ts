// The flow key of a datapath program and the subtables it is looked up in.
//
// The full key lives on the program's stack and holds only the members that can matter to the loaded tables, each as
// big-endian bytes at its natural alignment (in_port holds the interface index in host order instead of the OpenFlow port:
// that is what the hook knows). A subtable is one mask: its compact key is the 8-byte words of the full key in which
// the mask has a bit, masked. The emitter unrolls word indices and masks as constants; the runtime builds the same bytes.

import { RangeViolation, roundUp, toHex, type Origin } from "ebpf-assembler";
import { FLOW, getBits, type FlowWords, type Member } from "../openflow/flow.js";
import { HASH_MEMBERS, HASH_SOURCES } from "../packet/dp-hash.js";

/** One member in the full key; `off` and `size` in bytes. */
export interface KeyField {
  readonly member: Member;
  readonly off: number;
  readonly size: number;
}

export interface KeyLayout {
  readonly fields: readonly KeyField[];
  /** Bytes, a multiple of 8. */
  readonly size: number;
}

/** Members of the tunnel that a packet came by, in the order in which they are laid out: behind all others, from a word on. */
export const TUNNEL_MEMBERS = [
  ...(["tun_id", "tun_src", "tun_dst", "tun_ipv6_src", "tun_ipv6_dst"] as const),
  ...(["tun_flags", "tun_gbp_id", "tun_tos", "tun_ttl", "tun_gbp_flags"] as const),
] as const satisfies readonly Member[];

const isTunnelMember: ReadonlySet<Member> = new Set(TUNNEL_MEMBERS);

/** Order in which members are laid out: wide ones first within their group so that nothing needs padding. */
const LAYOUT_ORDER: readonly Member[] = [
  "in_port",
  "dl_type",
  "vlan0_tci",
  "dl_dst",
  "dl_src",
  "nw_proto",
  "nw_frag",
  "nw_tos",
  "nw_ttl",
  "nw_src",
  "nw_dst",
  "tp_src",
  "tp_dst",
  "tcp_flags",
  "vlan0_tpid",
  "vlan1_tpid",
  "vlan1_tci",
  "ipv6_src",
  "ipv6_dst",
  "ipv6_label",
  "nd_target",
  "arp_sha",
  "arp_tha",
  "nd_reserved",
  "nd_options_type",
  "nsh_flags",
  "nsh_ttl",
  "nsh_mdtype",
  "nsh_np",
  "nsh_path",
  "nsh_c1",
  "nsh_c2",
  "nsh_c3",
  "nsh_c4",
  "mpls_lse0",
  "mpls_lse1",
  "mpls_lse2",
  ...HASH_MEMBERS,
];

/** Members that a packet can have a value in. */
export const PACKET_MEMBERS: ReadonlySet<Member> = new Set(LAYOUT_ORDER);

/** Members that are not always zero when a packet comes in: its own, and those of its tunnel; registers and metadata are. */
export const INPUT_MEMBERS: ReadonlySet<Member> = new Set([...LAYOUT_ORDER, ...TUNNEL_MEMBERS]);

const alignOf = (size: number): number => (size === 6 ? 2 : Math.min(size, 4));

/**
 * Lays out the full key for a set of members, and for those that they follow from; members without a value in a fresh packet
 * are left out.
 */
export const keyLayout = (members: ReadonlySet<Member>): KeyLayout => {
  const wanted = HASH_MEMBERS.some((member) => members.has(member)) ? new Set([...members, ...HASH_SOURCES]) : members;
  const fields: KeyField[] = [];
  let at = 0;
  let hasTunnel = false;
  for (const member of INPUT_MEMBERS) {
    if (!wanted.has(member)) continue;
    if (!hasTunnel && isTunnelMember.has(member)) {
      at = roundUp(at, 8);
      hasTunnel = true;
    }
    const size = FLOW[member].bits >>> 3;
    const align = alignOf(size);
    at = Math.ceil(at / align) * align;
    fields.push({ member, off: at, size });
    at += size;
  }
  return { fields, size: Math.max(8, roundUp(at, 8)) };
};

/** Where the members of tunnels begin, a multiple of 8; `size` when there are none. */
export const tunnelPartOf = ({ fields, size }: KeyLayout): number =>
  fields.find(({ member }) => isTunnelMember.has(member))?.off ?? size;

/** Writes one member of `flow` (or of a mask) as big-endian bytes. */
const putMember = (out: Uint8Array, field: KeyField, flow: FlowWords): void => {
  const at = FLOW[field.member].at;
  for (let i = 0; i < field.size; i++) out[field.off + i] = getBits(flow, at + 8 * i, 8);
};

/**
 * Writes the full key of `flow` into `out` (layout.size bytes; padding becomes zero).
 * @param ifindex - interface index that stands for the flow's in_port
 */
export const putKey = (layout: KeyLayout, flow: FlowWords, ifindex: number, out: Uint8Array): void => {
  out.fill(0, 0, layout.size);
  for (const field of layout.fields) {
    if (field.member === "in_port") {
      for (let i = 0; i < 4; i++) out[field.off + i] = ifindex >>> (8 * i);
    } else putMember(out, field, flow);
  }
};

/** The mask in full-key bytes. A mask of in_port must be all ones or zero. */
export const keyMask = (layout: KeyLayout, mask: FlowWords): Uint8Array => {
  const out = new Uint8Array(layout.size);
  for (const field of layout.fields) putMember(out, field, mask);
  return out;
};

/** Members of `mask` that have bits but no place in the layout: the program must be built anew to carry such a mask. */
export const missingMembers = (layout: KeyLayout, mask: FlowWords): Member[] => {
  const have = new Set(layout.fields.map((f) => f.member));
  const missing: Member[] = [];
  for (const member of INPUT_MEMBERS) {
    if (have.has(member)) continue;
    const { at, bits } = FLOW[member];
    for (let i = 0; i < bits; i += 8) {
      if (getBits(mask, at + i, 8) !== 0) {
        missing.push(member);
        break;
      }
    }
  }
  return missing;
};

/** One mask of the megaflow cache and the map that holds its megaflows. */
export interface Subtable {
  /** Name, at most 15 characters: of its map when it has one of its own. */
  readonly map: string;
  /** Its number in the plan's megaflow table, when it lies there. */
  readonly number?: number;
  /** Identity of the mask: hex of its full-key bytes. */
  readonly id: string;
  /** Full-key bytes of the mask. */
  readonly mask: Uint8Array;
  /** Indices of the 8-byte words of the full key that the compact key takes. */
  readonly words: readonly number[];
  /** Bytes of the compact key: 8 for each word. */
  readonly keySize: number;
  /** What led to the mask, for line information. */
  readonly from?: Origin;
}

export const maskId = (mask: Uint8Array): string => toHex(mask);

/**
 * The subtable of a mask, in a map of its own.
 * @throws {@link RangeViolation} for a mask without any bit: in_port is always matched
 */
export const subtable = (map: string, mask: Uint8Array, from?: Origin): Subtable => {
  const words: number[] = [];
  for (let w = 0; w < mask.length >>> 3; w++) {
    if (mask.subarray(8 * w, 8 * w + 8).some((byte) => byte !== 0)) words.push(w);
  }
  if (words.length === 0)
    throw new RangeViolation(`Cannot make subtable ${map}: its mask has no bit, want at least in_port`);
  return { map, id: maskId(mask), mask, words, keySize: 8 * words.length, ...(from === undefined ? {} : { from }) };
};

/** The same subtable in the plan's megaflow table. @param number - 1 to 65,535, no other's */
export const inTable = (table: Subtable, number: number): Subtable => ({ ...table, number });

/** The exact-match subtable: every bit of every member of the layout. */
export const exactSubtable = (map: string, layout: KeyLayout): Subtable => {
  const mask = new Uint8Array(layout.size);
  for (const field of layout.fields) mask.fill(0xff, field.off, field.off + field.size);
  return subtable(map, mask);
};

/** Writes the compact key: the subtable's words of `fullKey`, masked. */
export const putCompactKey = (table: Subtable, fullKey: Uint8Array, out: Uint8Array): void => {
  let at = 0;
  for (const w of table.words) {
    for (let i = 8 * w; i < 8 * w + 8; i++) out[at++] = fullKey[i]! & table.mask[i]!;
  }
};
