// The OpenFlow language as plain data: what the text parser and the wire codec produce and the translator walks. Actions
// are in action.ts.

import type { Action } from "./action.js";
import type { FieldName } from "./fields.js";
import type { TunMetadataName } from "./fields/tun-metadata.js";
import type { FlowWords } from "./flow.js";

export * from "./action.js";

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
  /** Demands on tunnel options, which are not in the flow: a packet that came by no tunnel has none of them. */
  readonly tunMetadata?: ReadonlyMap<TunMetadataName, TunMetadataDemand>;
}

/** What a match demands of one tunnel option; `value` and `mask` are of one length, that of the option. */
export interface TunMetadataDemand {
  readonly value: Uint8Array;
  /** Absent = exact; all zeros = that the option is there. */
  readonly mask?: Uint8Array;
}

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

export type MeterFlag = "kbps" | "pktps" | "burst" | "stats";

export type MeterBandType = "drop" | "dscp_remark";

export interface MeterBand {
  readonly type: MeterBandType;
  /** Packets, or 1000 bits, per second. */
  readonly rate: number;
  /** Packets, or 1000 bits; 0 = as many as `rate`. */
  readonly burstSize: number;
  /** By how much a `dscp_remark` raises the drop precedence; otherwise 0. */
  readonly precLevel: number;
}

/** A meter as `ovs-ofctl add-meter` takes it. Without `pktps` it counts bits. */
export interface Meter {
  readonly id: number;
  readonly flags: readonly MeterFlag[];
  readonly bands: readonly MeterBand[];
}
