// What NICs that run BPF programs themselves can carry, as data: helpers, context fields, map types and sizes, verdicts. Such
// a program is loaded for one device and sees only that device's packets; what it does not know it passes to the host.
//
// The numbers of the Netronome driver are in drivers/net/ethernet/netronome/nfp/bpf (Linux 6.1); what its firmware reports
// at run time (sizes, numbers of maps) is taken here at a size that is small for it, and the NIC has the last word.

import type { HelperName, MapType } from "ebpf-assembler";
import type { CtxField } from "../ir/types.js";

export interface NicProfile {
  readonly name: string;
  readonly doc: string;
  readonly helpers: ReadonlySet<HelperName>;
  readonly ctx: ReadonlySet<CtxField>;
  /** Values that a program may return. */
  readonly verdicts: ReadonlySet<number>;
  readonly mapTypes: ReadonlySet<MapType>;
  readonly maxMaps: number;
  readonly maxEntries: number;
  readonly maxKeyBytes: number;
  readonly maxValueBytes: number;
  /** Key and value together. */
  readonly maxEntryBytes: number;
  /** Slots of 8 bytes. */
  readonly maxInstructions: number;
  readonly maxStackBytes: number;
}

/** XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX: there is no other device to redirect to. */
const XDP_VERDICTS: ReadonlySet<number> = new Set([0, 1, 2, 3]);

const MAP_HELPERS: readonly HelperName[] = ["map_lookup_elem", "map_update_elem", "map_delete_elem"];

export const NFP: NicProfile = {
  name: "nfp",
  doc: "Netronome Agilio SmartNICs",
  helpers: new Set<HelperName>([
    ...MAP_HELPERS,
    "get_prandom_u32",
    "xdp_adjust_head",
    "xdp_adjust_tail",
    "perf_event_output",
  ]),
  // nfp_bpf: mem_ldx_xdp() knows data and data_end.
  ctx: new Set<CtxField>(["data", "data_end", "packet_len"]),
  verdicts: XDP_VERDICTS,
  mapTypes: new Set<MapType>(["hash", "array"]),
  maxMaps: 16,
  maxEntries: 32_768,
  maxKeyBytes: 64,
  maxValueBytes: 64,
  maxEntryBytes: 128,
  maxInstructions: 4096,
  maxStackBytes: 512,
};

/** Linux's simulated device: takes what the host's verifier takes, in maps of two entries, and never runs it. */
export const NETDEVSIM: NicProfile = {
  ...NFP,
  name: "netdevsim",
  doc: "the kernel's simulated device, for tests",
  maxMaps: Infinity,
  maxEntries: 2,
  maxKeyBytes: Infinity,
  maxValueBytes: Infinity,
  maxEntryBytes: Infinity,
  maxInstructions: 1_000_000,
};

export const NICS: readonly NicProfile[] = [NFP, NETDEVSIM];
