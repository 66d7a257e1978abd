// Groups: which buckets a packet takes, and carrying their actions out on a copy of it. Liveness, scores and hashes as in
// OVS (ofproto-dpif-xlate.h), so that a packet takes the bucket that it takes there.
//
// One way differs: for dp_hash OVS sends the packet through the datapath a second time, with the hash computed there. Here
// the hash is known at once, and those of its bits that choose the bucket become part of the megaflow; the bucket is the same.

import { FIELD_NAMES, type FieldName } from "../../openflow/fields.js";
import { meetsPrerequisites, readField } from "../../openflow/field-access.js";
import { get, isEqualMember, type FlowWords } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import { HASH_SOURCES, type HashMember } from "../../packet/dp-hash.js";
import { ETH_TYPE, IP_PROTO } from "../../packet/headers.js";
import { portToText } from "../../openflow/ports.js";
import { PORT, type Bucket, type Group } from "../../openflow/types.js";
import { orderActionSet } from "../action-set.js";
import type { BucketEntry, GroupEntry, Selection } from "../group-table.js";
import { hash5Tuple, hashBytes, hashInt, hashUint64, symmetricL3L4, symmetricL4 } from "../ovs-hash.js";
import type { Switch } from "../switch.js";
import type { Context, XlateError } from "./context.js";
import { finishFreezing, triggerFreeze } from "./freeze.js";
import { markField } from "./set-field.js";

/** Groups that watch groups that watch groups (OVS MAX_LIVENESS_RECURSION). */
const MAX_LIVENESS_DEPTH = 128;

/** Whether packets may take a bucket at all: in a select group, only with weight. */
const isUsable = ({ type }: Group, bucket: Bucket): boolean => type !== "select" || bucket.weight !== 0;

const portIsLive = (sw: Switch, number: number): boolean => {
  if (number === PORT.CONTROLLER) return sw.hasController;
  const port = sw.port(number);
  return port !== undefined && port.up && !port.config.portDown;
};

/** Whether a bucket lives without regard to the group that it watches. */
const isLiveItself = (sw: Switch, { watchPort, watchGroup }: Bucket): boolean =>
  watchPort === undefined ? watchGroup === undefined : portIsLive(sw, watchPort);

/**
 * Whether a group, or one that it watches, or one that that watches and so on, has a bucket that lives by itself. Looked
 * for level by level, so that groups that watch each other in circles cost no more than there are.
 */
const groupIsLive = (sw: Switch, id: number): boolean => {
  const seen = new Set([id]);
  let level: readonly number[] = [id];
  for (let depth = 1; depth < MAX_LIVENESS_DEPTH && level.length > 0; depth++) {
    const next: number[] = [];
    for (const entry of level.map((each) => sw.group(each))) {
      for (const { bucket } of entry?.buckets ?? []) {
        if (!isUsable(entry!.group, bucket)) continue;
        if (isLiveItself(sw, bucket)) return true;
        const { watchGroup } = bucket;
        if (watchGroup === undefined || seen.has(watchGroup)) continue;
        seen.add(watchGroup);
        next.push(watchGroup);
      }
    }
    level = next;
  }
  return false;
};

const isLive = (sw: Switch, group: Group, { bucket }: BucketEntry): boolean =>
  isUsable(group, bucket) &&
  (isLiveItself(sw, bucket) || (bucket.watchGroup !== undefined && groupIsLive(sw, bucket.watchGroup)));

/** OVS's words, in which groups are ports. */
const noteDead = (ctx: Context, { id, watchPort, watchGroup }: Bucket): void => {
  const port = watchPort === undefined ? [] : [`port ${portToText(watchPort)}`];
  const group = watchGroup === undefined ? [] : [`port ${watchGroup}`];
  ctx.trace?.note(`bucket ${id}: not live due to ${[...port, ...group].join(" and ")}`);
};

/** Says which buckets do not live in the groups that a bucket watches. */
const noteWatched = (ctx: Context, bucket: Bucket, seen: Set<number>): void => {
  const { watchGroup } = bucket;
  if (watchGroup === undefined || seen.has(watchGroup) || isLiveItself(ctx.sw, bucket)) return;
  seen.add(watchGroup);
  const entry = ctx.sw.group(watchGroup);
  if (entry !== undefined) firstLive(ctx, entry, seen);
};

const firstLive = (ctx: Context, { group, buckets }: GroupEntry, seen: Set<number>): BucketEntry | undefined => {
  for (const entry of buckets) {
    if (ctx.trace !== undefined) noteWatched(ctx, entry.bucket, seen);
    if (isLive(ctx.sw, group, entry)) return entry;
    noteDead(ctx, entry.bucket);
  }
  return undefined;
};

/** The live bucket with the highest score of its id, its weight and the hash; the last of equals. */
const bestLive = (ctx: Context, { group, buckets }: GroupEntry, hash: number): BucketEntry | undefined => {
  let best: BucketEntry | undefined;
  let bestScore = 0;
  for (const entry of buckets) {
    const { id, weight } = entry.bucket;
    if (ctx.trace !== undefined) noteWatched(ctx, entry.bucket, new Set());
    if (!isLive(ctx.sw, group, entry)) {
      noteDead(ctx, entry.bucket);
      continue;
    }
    const score = Math.imul(hashInt(id, hash) & 0xffff, weight) >>> 0;
    ctx.trace?.note(`bucket ${id}: score ${score}`);
    if (score >= bestScore) {
      best = entry;
      bestScore = score;
    }
  }
  return best;
};

const markAddresses = (ctx: Context): void => {
  const ipv4 = ctx.dlType === ETH_TYPE.IPV4;
  ctx.markAll(ipv4 ? "nw_src" : "ipv6_src");
  ctx.markAll(ipv4 ? "nw_dst" : "ipv6_dst");
  ctx.markAll("nw_proto");
};

const markPorts = (ctx: Context): void => {
  ctx.markAll("tp_src");
  ctx.markAll("tp_dst");
};

const markVlanIds = (ctx: Context): void => {
  ctx.mark("vlan0_tci", 0x0fff | VLAN_PRESENT);
  ctx.mark("vlan1_tci", 0x0fff | VLAN_PRESENT);
};

const markMacs = (ctx: Context): void => {
  ctx.markAll("dl_src");
  ctx.markAll("dl_dst");
};

const hasPorts = (flow: FlowWords, protos: readonly number[]): boolean => protos.includes(get(flow, "nw_proto"));

type DpHash = Extract<Selection, { method: "dp_hash" }>;

interface HashAlgorithm {
  readonly of: (flow: FlowWords, basis: number) => number;
  /** Notes all that the hash covers. */
  readonly mark: (ctx: Context) => void;
  /** The member of a packet's flow that is this hash, with a basis of 0. */
  readonly member: HashMember;
}

const HASHES: Readonly<Record<DpHash["algorithm"], HashAlgorithm>> = {
  sym_l4: {
    of: (flow, basis) => symmetricL3L4(flow, basis, false),
    mark: (ctx) => {
      if (ctx.isIp) {
        markAddresses(ctx);
        if (hasPorts(ctx.flow, [IP_PROTO.TCP, IP_PROTO.SCTP])) markPorts(ctx);
      } else {
        markMacs(ctx);
        markVlanIds(ctx);
      }
    },
    member: "hash_sym_l4",
  },
  l4: {
    of: (flow, basis) => hashInt(hash5Tuple(flow, 0), basis),
    mark: (ctx) => {
      if (ctx.isIp) {
        markAddresses(ctx);
        markPorts(ctx);
      } else if (ctx.dlType === ETH_TYPE.ARP) {
        ctx.markAll("nw_src");
        ctx.markAll("nw_dst");
        ctx.markAll("nw_proto");
      }
    },
    member: "hash_l4",
  },
};

/** Whether a hash is of the packet as it came in: what is hashed nobody has changed. Who changes a field has marked it. */
const isOfOriginal = (ctx: Context, { basis }: DpHash): boolean =>
  basis === 0 && ctx.isIp && HASH_SOURCES.every((member) => isEqualMember(ctx.flow, ctx.original, member));

const byDpHash = (ctx: Context, entry: GroupEntry, selection: DpHash): BucketEntry | undefined => {
  const { of, mark, member } = HASHES[selection.algorithm];
  const last = selection.buckets.length - 1;
  if (isOfOriginal(ctx, selection)) ctx.mark(member, last);
  else mark(ctx);
  const hash = of(ctx.flow, selection.basis);
  for (let i = 0; i <= last; i++) {
    const candidate = selection.buckets[(hash + i) & last]!;
    if (isLive(ctx.sw, entry.group, candidate)) return candidate;
  }
  return undefined;
};

const byDefaultHash = (ctx: Context, entry: GroupEntry): BucketEntry | undefined => {
  markMacs(ctx);
  markVlanIds(ctx);
  if (ctx.isIp) {
    markAddresses(ctx);
    if (hasPorts(ctx.flow, [IP_PROTO.TCP, IP_PROTO.SCTP])) markPorts(ctx);
  }
  return bestLive(ctx, entry, symmetricL4(ctx.flow, 0));
};

const byFields = (ctx: Context, entry: GroupEntry): BucketEntry | undefined => {
  const { param, fields, masks } = entry.group.selection!;
  let hash = hashUint64(param);
  const chosen: ReadonlySet<FieldName> = new Set(fields);
  // In the order of the field table, whatever the order they were written in.
  for (const field of FIELD_NAMES) {
    if (!chosen.has(field) || !meetsPrerequisites(ctx.flow, field, ctx.mask)) continue;
    const ones = masks?.[field];
    markField(ctx, field, ones);
    const value = readField(ctx.flow, field);
    hash = hashBytes(ones === undefined ? value : value.map((byte, i) => byte & ones[i]!), hash);
  }
  return bestLive(ctx, entry, hash);
};

const select = (ctx: Context, entry: GroupEntry): BucketEntry | undefined => {
  const { selection } = entry;
  switch (selection.method) {
    case "default":
      return byDefaultHash(ctx, entry);
    case "fields":
      return byFields(ctx, entry);
    case "dp_hash":
      return byDpHash(ctx, entry, selection);
  }
};

/** Errors that concern one bucket only. */
const OWN_ERRORS: ReadonlySet<XlateError> = new Set<XlateError>(["too_many_mpls_labels", "unsupported_packet_type"]);

/** Carries one bucket out on a copy of the packet. */
const runBucket = (ctx: Context, { bucket }: BucketEntry): void => {
  ctx.trace?.bucket(bucket.id);
  const before = ctx.flow.slice();
  const { wasMpls } = ctx;
  ctx.depth++;
  ctx.run(ctx, orderActionSet(bucket.actions), true);
  ctx.depth--;
  if (ctx.freezing) finishFreezing(ctx);
  ctx.flow.set(before);
  ctx.wasMpls = wasMpls;
  // What ends the bucket does not end what follows the group.
  ctx.exit = false;
  if (ctx.error !== undefined && OWN_ERRORS.has(ctx.error)) ctx.error = undefined;
  ctx.trace?.end();
};

/** The `group` action on a group that exists. */
export const runGroup = (ctx: Context, entry: GroupEntry): void => {
  const { group, buckets } = entry;
  if (group.type === "all" || group.type === "indirect") {
    const { isLast } = ctx;
    for (const [i, bucket] of buckets.entries()) {
      ctx.isLast = isLast && i === buckets.length - 1;
      runBucket(ctx, bucket);
    }
    ctx.groups.push({ group: entry, bucket: undefined });
    return;
  }
  if (group.type === "select" && ctx.wasMpls) {
    // The hash may be of what was behind the labels.
    triggerFreeze(ctx);
    ctx.trace?.note("no live bucket");
    return;
  }
  const bucket = group.type === "select" ? select(ctx, entry) : firstLive(ctx, entry, new Set([group.id]));
  if (bucket === undefined) {
    ctx.trace?.note("no live bucket");
    return;
  }
  ctx.trace?.note(`using bucket ${bucket.bucket.id}`);
  runBucket(ctx, bucket);
  ctx.groups.push({ group: entry, bucket });
};
