// The OpenFlow language as plain data: what the text parser and the wire codec produce and the translator walks.
// Instructions (goto_table, write_actions, clear_actions, write_metadata) stand in the action list in the order that
// OVS keeps them, as OVS ofpacts do.

import type { FieldName } from "./fields.js";
import type { FlowWords } from "./flow.js";

/** Reserved ports, OpenFlow 1.1+ 32-bit numbers (openflow-1.1.h). */
export const PORT = {
  UNSET: 0xfffffff7,
  IN_PORT: 0xfffffff8,
  TABLE: 0xfffffff9,
  NORMAL: 0xfffffffa,
  FLOOD: 0xfffffffb,
  ALL: 0xfffffffc,
  CONTROLLER: 0xfffffffd,
  LOCAL: 0xfffffffe,
  NONE: 0xffffffff,
} as const;

/** Priority of a flow that gives none (OFP_DEFAULT_PRIORITY). */
export const DEFAULT_PRIORITY = 0x8000;

/** What a flow matches: a packet matches when `(packet ^ value) & mask` is 0 everywhere. `value` has no bit outside `mask`. */
export interface Match {
  readonly value: FlowWords;
  readonly mask: FlowWords;
}

/** Bits `lsb` .. `lsb + bits - 1` of a field, counted from its least significant bit: `NXM_OF_IP_SRC[8..15]`. */
export interface Subfield {
  readonly field: FieldName;
  readonly lsb: number;
  readonly bits: number;
}

/** Why a packet goes to the controller, OpenFlow 1.0 to 1.4 (`ofp_packet_in_reason`). */
export const PACKET_IN_REASONS = ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"] as const;

export type PacketInReason = (typeof PACKET_IN_REASONS)[number];

/**
 * One action or instruction. `kind` is the name of the OVS ofpact in lower case; a `value` of several bits is big-endian
 * bytes, right-aligned in ceil(bits / 8) bytes, as on the wire.
 */
export type Action =
  | { readonly kind: "output"; readonly port: number; readonly maxLen: number }
  | { readonly kind: "controller"; readonly maxLen: number; readonly reason: PacketInReason; readonly id: number }
  | { readonly kind: "group"; readonly group: number }
  | {
      /** `set_field:VALUE[/MASK]->FIELD`. `mask` absent = the whole field. */
      readonly kind: "set_field";
      readonly field: FieldName;
      readonly value: Uint8Array;
      readonly mask?: Uint8Array;
    }
  /** `load:VALUE->FIELD[a..b]` (NXAST_REG_LOAD). `value` has ceil(dst.bits / 8) bytes. */
  | { readonly kind: "reg_load"; readonly value: Uint8Array; readonly dst: Subfield }
  /** `move:SRC->DST`. */
  | { readonly kind: "reg_move"; readonly src: Subfield; readonly dst: Subfield }
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
  /** `dec_ttl` or `dec_ttl(ID,...)`. */
  | { readonly kind: "dec_ttl"; readonly ids: readonly number[] }
  | {
      /** `resubmit:PORT`, `resubmit(PORT,TABLE)`; absent parts keep the current in_port or table. */
      readonly kind: "resubmit";
      readonly inPort?: number;
      readonly table?: number;
    }
  | { readonly kind: "write_metadata"; readonly value: bigint; readonly mask: bigint }
  | { readonly kind: "clear_actions" }
  | { readonly kind: "write_actions"; readonly actions: readonly Action[] }
  | { readonly kind: "goto_table"; readonly table: number };

export type ActionKind = Action["kind"];

/** One flow as written in text or sent on the wire. */
export interface Flow {
  readonly table: number;
  /** 0..65535. */
  readonly priority: number;
  readonly cookie: bigint;
  /** Seconds; 0 = never. */
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly importance: number;
  readonly flags: readonly FlowFlag[];
  readonly match: Match;
  /** Empty = drop. */
  readonly actions: readonly Action[];
  /** Where it was written. */
  readonly source?: { readonly file: string; readonly line: number; readonly text: string };
}

export type FlowFlag = "send_flow_rem" | "check_overlap" | "reset_counts" | "no_packet_counts" | "no_byte_counts";

export type GroupType = "all" | "select" | "indirect" | "ff";

export interface Bucket {
  readonly id: number;
  readonly weight: number;
  readonly watchPort?: number;
  readonly watchGroup?: number;
  readonly actions: readonly Action[];
}

/** A group as `ovs-ofctl add-group` takes it. */
export interface Group {
  readonly id: number;
  readonly type: GroupType;
  readonly buckets: readonly Bucket[];
  /** selection_method and fields of a select group; default: OVS's default hash. */
  readonly selection?: {
    readonly method: "hash" | "dp_hash";
    readonly param: bigint;
    readonly fields: readonly FieldName[];
    /** Which bits of a field count, for fields of which not all do: as long as values of `set_field`. */
    readonly masks?: Readonly<Partial<Record<FieldName, Uint8Array>>>;
  };
}
