// Groups with their statistics, and what a select group needs prepared: the table by which dp_hash spreads hash values
// over buckets, built by the same method as in OVS (ofproto-dpif.c, group_setup_dp_hash_table), so that a packet takes
// the same bucket here and there.

import { OffloadError } from "ebpf-assembler";
import type { Bucket, Group } from "../openflow/types.js";

/** Why a change of groups was refused; the names are those of the OpenFlow errors. */
export type GroupModProblem = "group_exists" | "unknown_group" | "unknown_bucket" | "bucket_exists";

/** A change of groups that the switch refuses. */
export class GroupModError extends OffloadError {
  readonly code = "EGROUPMOD";

  constructor(
    readonly problem: GroupModProblem,
    message: string,
  ) {
    super(message);
  }
}

export interface BucketEntry {
  readonly bucket: Bucket;
  packets: number;
  bytes: number;
}

/** Hash algorithms of the dp_hash method (OVS_HASH_ALG_*). */
export type HashAlgorithm = "l4" | "sym_l4";

/** How a select group picks: `default` and `fields` score the buckets, `dp_hash` indexes a table. */
export type Selection =
  | { readonly method: "default" }
  | { readonly method: "fields" }
  | {
      readonly method: "dp_hash";
      readonly algorithm: HashAlgorithm;
      readonly basis: number;
      /** 16 or a greater power of two entries. */
      readonly buckets: readonly BucketEntry[];
    };

export interface GroupEntry {
  readonly group: Group;
  readonly buckets: readonly BucketEntry[];
  readonly selection: Selection;
  readonly createdMs: number;
  packets: number;
  bytes: number;
  /** Replaced or deleted: a translation that still holds it must not be used any more. */
  removed: boolean;
}

/** Most entries of the table when the user named no method, and when dp_hash was asked for (MAX_SELECT_GROUP_HASH_VALUES). */
const MAX_HASHES = { unasked: 256, asked: 65536 } as const;

/** Spreads hash values over buckets by Webster's method; nothing when no bucket has weight or the table grows too large. */
const hashTable = (buckets: readonly BucketEntry[], most: number): readonly BucketEntry[] | undefined => {
  const weights = buckets.map(({ bucket }) => bucket.weight);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (total === 0) return undefined;
  const slots = Math.ceil(total / Math.min(...weights.filter((weight) => weight > 0)));
  const size = Math.max(16, 2 ** Math.ceil(Math.log2(slots)));
  if (size > most) return undefined;
  const shares = buckets.map((entry) => ({ entry, divisor: 1, value: entry.bucket.weight }));
  return Array.from({ length: size }, () => {
    const winner = shares.reduce((best, share) => (share.value > best.value ? share : best));
    winner.divisor += 2;
    winner.value = winner.entry.bucket.weight / winner.divisor;
    return winner.entry;
  });
};

/** As OVS group_set_selection_method: without a method, dp_hash when the weights allow, else the score of every bucket. */
const selectionOf = (group: Group, buckets: readonly BucketEntry[]): Selection => {
  const asked = group.selection;
  if (asked?.method === "hash") return { method: asked.fields.length > 0 ? "fields" : "default" };
  const table = hashTable(buckets, asked === undefined ? MAX_HASHES.unasked : MAX_HASHES.asked);
  if (table === undefined) return { method: "default" };
  if (asked === undefined) return { method: "dp_hash", algorithm: "sym_l4", basis: 0, buckets: table };
  const basis = Number(asked.param & 0xffffffffn);
  return { method: "dp_hash", algorithm: asked.param >> 32n === 1n ? "sym_l4" : "l4", basis, buckets: table };
};

/**
 * An entry for a group.
 *
 * @param old - the entry that it replaces: buckets that are the same objects in both keep their counters
 */
export const groupEntry = (group: Group, nowMs: number, old?: GroupEntry): GroupEntry => {
  const kept = new Map(old?.buckets.map((entry) => [entry.bucket, entry]));
  const buckets = group.buckets.map((bucket): BucketEntry => kept.get(bucket) ?? { bucket, packets: 0, bytes: 0 });
  return {
    group,
    buckets,
    selection: group.type === "select" ? selectionOf(group, buckets) : { method: "default" },
    createdMs: old?.createdMs ?? nowMs,
    packets: 0,
    bytes: 0,
    removed: false,
  };
};
