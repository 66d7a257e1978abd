// Every action and instruction of ovs-actions(7) as plain data. Instructions (meter, clear_actions, write_actions,
// write_metadata, goto_table) stand in the action list in the order that OVS keeps them, as OVS ofpacts do. What there is
// to know about one of them (text, checks, wire) is its row in actions/table.ts.

import type { FieldName } from "./fields.js";

/** Bits `lsb` .. `lsb + bits - 1` of a field, counted from its least significant bit: `NXM_OF_IP_SRC[8..15]`. */
export interface Subfield {
  readonly field: FieldName;
  readonly lsb: number;
  readonly bits: number;
}

/** Why a packet goes to the controller, OpenFlow 1.0 to 1.4 (`ofp_packet_in_reason`). */
export const PACKET_IN_REASONS = ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"] as const;

export type PacketInReason = (typeof PACKET_IN_REASONS)[number];

/** What `bundle` and `multipath` hash, by its number on the wire (`enum nx_hash_fields`). */
export const HASH_FIELDS = [
  "eth_src",
  "symmetric_l4",
  "symmetric_l3l4",
  "symmetric_l3l4+udp",
  "nw_src",
  "nw_dst",
  "symmetric_l3",
] as const;

export type HashFields = (typeof HASH_FIELDS)[number];

/** How `multipath` makes a link of a hash, by number on the wire (`enum nx_mp_algorithm`). */
export const MULTIPATH_ALGORITHMS = ["modulo_n", "hash_threshold", "hrw", "iter_hash"] as const;

/** How `bundle` chooses a member, by number on the wire (`enum nx_bd_algorithm`). */
export const BUNDLE_ALGORITHMS = ["active_backup", "hrw"] as const;

/** One part of a `learn`: what the learned flow matches or does, made of bits of the packet or of a constant. */
export interface LearnSpec {
  readonly bits: number;
  /** Bits of the packet, or a constant of ceil(bits / 8) big-endian bytes. */
  readonly src: Subfield | Uint8Array;
  /** `match` and `load` have a `dst`; an `output` always comes from a field. */
  readonly to: "match" | "load" | "output";
  readonly dst?: Subfield;
}

/** A property of an NSH header that `encap(nsh(...))` makes. */
export type EncapProperty =
  | { readonly kind: "md_type"; readonly mdType: number }
  | { readonly kind: "tlv"; readonly cls: number; readonly type: number; readonly value: Uint8Array };

/** Addresses and ports of a `nat`; addresses have 4 or 16 bytes. A missing maximum is the minimum. */
export interface NatRange {
  readonly min: Uint8Array;
  readonly max?: Uint8Array;
  readonly portMin?: number;
  readonly portMax?: number;
}

/** namespace(16) | type(16), OpenFlow 1.5.1 section 7.2.3.11. */
export const PACKET_TYPE = {
  ETHERNET: 0,
  MPLS: 0x18847,
  MPLS_MULTICAST: 0x18848,
  NSH: 0x1894f,
  /** Whatever the decapsulated header says. */
  USE_NEXT_PROTO: 0xfffe,
  UNKNOWN: 0xffffffff,
} as const;

/** The packet type of a packet that begins where an Ethernet header of this type ends. */
export const etherPacketType = (ethertype: number): number => 0x10000 + ethertype;

/**
 * One action or instruction. `kind` is the name of the OVS ofpact in lower case; a `value` of several bits is big-endian
 * bytes, right-aligned in ceil(bits / 8) bytes, as on the wire.
 */
export type Action =
  // Output
  | { readonly kind: "output"; readonly port: number; readonly maxLen: number }
  /** `output(port=PORT,max_len=BYTES)`: what is beyond `maxLen` is cut off. */
  | { readonly kind: "output_trunc"; readonly port: number; readonly maxLen: number }
  /** `output:FIELD[a..b]`; `maxLen` is for the controller. */
  | { readonly kind: "output_reg"; readonly src: Subfield; readonly maxLen: number }
  | { readonly kind: "enqueue"; readonly port: number; readonly queue: number }
  | {
      readonly kind: "controller";
      readonly maxLen: number;
      readonly reason: PacketInReason;
      readonly id: number;
      readonly userdata?: Uint8Array;
      readonly pause?: true;
      readonly meter?: number;
    }
  | { readonly kind: "group"; readonly group: number }
  | {
      /** `bundle`, and with `dst` `bundle_load`. */
      readonly kind: "bundle";
      readonly fields: HashFields;
      readonly basis: number;
      readonly algorithm: (typeof BUNDLE_ALGORITHMS)[number];
      readonly members: readonly number[];
      readonly dst?: Subfield;
    }
  // Headers
  | {
      /** `set_field:VALUE[/MASK]->FIELD`. `mask` absent = the whole field. */
      readonly kind: "set_field";
      readonly field: FieldName;
      readonly value: Uint8Array;
      readonly mask?: Uint8Array;
      /** It is a load in truth, one that looks like this because the old form of load cannot name the field. */
      readonly loaded?: true;
    }
  /** `load:VALUE->FIELD[a..b]` (NXAST_REG_LOAD). `value` has ceil(dst.bits / 8) bytes. */
  | { readonly kind: "reg_load"; readonly value: Uint8Array; readonly dst: Subfield }
  /** `move:SRC->DST`. */
  | { readonly kind: "reg_move"; readonly src: Subfield; readonly dst: Subfield }
  | { readonly kind: "stack_push"; readonly src: Subfield }
  | { readonly kind: "stack_pop"; readonly dst: Subfield }
  | { readonly kind: "delete_field"; readonly field: FieldName }
  /** `mod_vlan_vid` adds a tag to a packet without one, `set_vlan_vid` leaves such a packet alone; pcp likewise. */
  | { readonly kind: "set_vlan_vid"; readonly vid: number; readonly pushIfNeeded: boolean }
  | { readonly kind: "set_vlan_pcp"; readonly pcp: number; readonly pushIfNeeded: boolean }
  /** `strip_vlan`, or the same as `pop_vlan`, its name from OpenFlow 1.1 on. */
  | { readonly kind: "strip_vlan"; readonly spelling: "strip_vlan" | "pop_vlan" }
  | { readonly kind: "push_vlan"; readonly ethertype: number }
  | { readonly kind: "set_eth_src"; readonly mac: Uint8Array }
  | { readonly kind: "set_eth_dst"; readonly mac: Uint8Array }
  | { readonly kind: "set_ipv4_src"; readonly addr: Uint8Array }
  | { readonly kind: "set_ipv4_dst"; readonly addr: Uint8Array }
  /** `mod_nw_tos`: all 8 bits of tos as written, the two ECN bits are zero. */
  | { readonly kind: "set_ip_dscp"; readonly tos: number }
  | { readonly kind: "set_ip_ecn"; readonly ecn: number }
  | { readonly kind: "set_ip_ttl"; readonly ttl: number }
  | { readonly kind: "set_l4_src_port"; readonly port: number }
  | { readonly kind: "set_l4_dst_port"; readonly port: number }
  /** `dec_ttl`, the same as `dec_ttl(0)` but for its looks, or `dec_ttl(ID,...)`; `ids` is empty for the first. */
  | { readonly kind: "dec_ttl"; readonly ids: readonly number[] }
  | { readonly kind: "set_mpls_label"; readonly label: number }
  | { readonly kind: "set_mpls_tc"; readonly tc: number }
  | { readonly kind: "set_mpls_ttl"; readonly ttl: number }
  | { readonly kind: "dec_mpls_ttl" }
  | { readonly kind: "push_mpls"; readonly ethertype: number }
  | { readonly kind: "pop_mpls"; readonly ethertype: number }
  | { readonly kind: "dec_nsh_ttl" }
  | { readonly kind: "encap"; readonly packetType: number; readonly properties: readonly EncapProperty[] }
  /** `packetType` absent: as the header says. */
  | { readonly kind: "decap"; readonly packetType?: number }
  // Metadata
  /** `set_tunnel64` where `wide`. */
  | { readonly kind: "set_tunnel"; readonly tunId: bigint; readonly wide: boolean }
  | { readonly kind: "set_queue"; readonly queue: number }
  | { readonly kind: "pop_queue" }
  | { readonly kind: "fin_timeout"; readonly idleTimeout: number; readonly hardTimeout: number }
  | {
      readonly kind: "multipath";
      readonly fields: HashFields;
      readonly basis: number;
      readonly algorithm: (typeof MULTIPATH_ALGORITHMS)[number];
      /** Number of links - 1. */
      readonly maxLink: number;
      readonly arg: number;
      readonly dst: Subfield;
    }
  | { readonly kind: "check_pkt_larger"; readonly length: number; readonly dst: Subfield }
  // Flow of control
  | {
      /** `resubmit:PORT`, `resubmit(PORT,TABLE,ct)`; absent parts keep the current in_port or table. */
      readonly kind: "resubmit";
      readonly inPort?: number;
      readonly table?: number;
      /** Look up with the original direction's tuple of the connection. */
      readonly ct?: true;
    }
  | {
      readonly kind: "learn";
      readonly table: number;
      readonly priority: number;
      readonly cookie: bigint;
      /** Seconds; 0 = never. */
      readonly idleTimeout: number;
      readonly hardTimeout: number;
      readonly finIdleTimeout: number;
      readonly finHardTimeout: number;
      readonly sendFlowRem: boolean;
      readonly deleteLearned: boolean;
      /** Most flows with this cookie in the table; 0 = any number. */
      readonly limit: number;
      /** One bit that says whether a flow was learned. */
      readonly resultDst?: Subfield;
      readonly specs: readonly LearnSpec[];
    }
  /** Part `clause` (from 0) of `clauses`. */
  | { readonly kind: "conjunction"; readonly id: number; readonly clause: number; readonly clauses: number }
  | { readonly kind: "clone"; readonly actions: readonly Action[] }
  | { readonly kind: "exit" }
  | { readonly kind: "note"; readonly data: Uint8Array }
  | {
      readonly kind: "sample";
      /** Of 65535; not 0. */
      readonly probability: number;
      readonly collectorSet: number;
      readonly obsDomain: number;
      readonly obsPoint: number;
      readonly samplingPort?: number;
      readonly direction?: "ingress" | "egress";
    }
  | {
      readonly kind: "ct";
      readonly commit: boolean;
      readonly force: boolean;
      /** Table that the packet goes on in, once more. */
      readonly table?: number;
      readonly zone: number | Subfield;
      /** TCP or UDP port of the protocol whose helper to use; 0 = none. */
      readonly alg: number;
      readonly actions: readonly Action[];
    }
  | { readonly kind: "ct_clear" }
  | {
      readonly kind: "nat";
      readonly direction?: "src" | "dst";
      readonly persistent: boolean;
      readonly protocol?: "hash" | "random";
      readonly range?: NatRange;
    }
  | { readonly kind: "debug_recirc" }
  | { readonly kind: "debug_slow" }
  // Instructions
  /** An action in OpenFlow 1.5. */
  | { readonly kind: "meter"; readonly meter: number }
  | { readonly kind: "clear_actions" }
  | { readonly kind: "write_actions"; readonly actions: readonly Action[] }
  | { readonly kind: "write_metadata"; readonly value: bigint; readonly mask: bigint }
  | { readonly kind: "goto_table"; readonly table: number };

export type ActionKind = Action["kind"];

export type ActionOf<K extends ActionKind> = Extract<Action, { readonly kind: K }>;

/** The actions inside an action; none for most. */
export const nestedActions = (action: Action): readonly Action[] =>
  action.kind === "write_actions" || action.kind === "clone" || action.kind === "ct" ? action.actions : [];
