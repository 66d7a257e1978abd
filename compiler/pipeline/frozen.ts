// A translation that was broken off because what comes next depends on bytes that the packet shows only once the actions so
// far have been carried out: what is behind the last MPLS label, or inside an NSH header. OVS calls this freezing; the
// packet goes on ("recirculates") with a new parse, and what is kept here is restored before (ofproto-dpif-xlate.h, frozen
// state in ofproto-dpif-rid.h).

import type { FlowWords } from "../openflow/flow.js";
import type { Action } from "../openflow/types.js";

/** Among actions that were left over: whose they are. */
export interface Unroll {
  readonly kind: "unroll";
  readonly table: number;
  readonly cookie: bigint;
}

/** What is left to do. */
export type Step = Action | Unroll;

export interface Frozen {
  /** Numbers the passes that one translation asks for, from 1; 0 for one that a controller asks for. */
  readonly id: number;
  /** Empty: table 0 is looked up. */
  readonly steps: readonly Step[];
  readonly actionSet: readonly Action[];
  readonly stack: readonly Uint8Array[];
  /** What the pipeline had beside the packet: the words of a flow before PACKET_WORDS_AT. */
  readonly metadata: FlowWords;
}

/** Times that a packet may recirculate (OVS MAX_RECIRC_DEPTH, lib/dpif-netdev.c); after that it is dropped. */
export const MAX_RECIRCULATIONS = 6;
