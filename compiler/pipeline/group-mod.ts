// Carrying out the lines of a group file: adding and deleting groups, and changing their buckets, with the rules of OVS
// ofproto (copy_buckets_for_insert_bucket, copy_buckets_for_remove_bucket).

import { ALL_GROUPS, type BucketPlace, type GroupCommand, type GroupMod } from "../openflow/parse/groups.js";
import type { Bucket } from "../openflow/types.js";
import { GroupModError, type GroupEntry } from "./group-table.js";
import type { Switch } from "./switch.js";

type Apply = (sw: Switch, mod: GroupMod, nowMs: number) => void;

const known = (sw: Switch, { command, group: { id } }: GroupMod): GroupEntry => {
  const entry = sw.group(id);
  if (entry !== undefined) return entry;
  throw new GroupModError("unknown_group", `Cannot ${command} group ${id}: there is no such group`);
};

/** Where in a list a place is. @throws {@link GroupModError} `unknown_bucket` */
const indexOf = (buckets: readonly Bucket[], place: BucketPlace, { command, group }: GroupMod): number => {
  if (place === "first") return 0;
  if (place === "last") return buckets.length - 1;
  const index = buckets.findIndex(({ id }) => id === place);
  if (index >= 0) return index;
  throw new GroupModError(
    "unknown_bucket",
    `Cannot ${command} at bucket ${place} of group ${group.id}: there is no such bucket`,
  );
};

const insertBuckets: Apply = (sw, mod, nowMs) => {
  const { group } = known(sw, mod);
  const old = group.buckets;
  // Behind the place, but `first` is before all of them.
  const at = mod.place === "first" ? 0 : indexOf(old, mod.place, mod) + 1;
  const taken = mod.group.buckets.find(({ id }) => old.some((bucket) => bucket.id === id));
  if (taken !== undefined) {
    throw new GroupModError(
      "bucket_exists",
      `Cannot insert bucket ${taken.id} into group ${group.id}: it exists already`,
    );
  }
  const buckets = [...old.slice(0, at), ...mod.group.buckets, ...old.slice(at)];
  sw.modifyGroup({ ...group, buckets }, nowMs);
};

const removeBuckets: Apply = (sw, mod, nowMs) => {
  const { group } = known(sw, mod);
  const gone = mod.place === "all" ? undefined : indexOf(group.buckets, mod.place, mod);
  const buckets = gone === undefined ? [] : group.buckets.filter((_, i) => i !== gone);
  sw.modifyGroup({ ...group, buckets }, nowMs);
};

const deleteGroups: Apply = (sw, { group: { id } }) => {
  const ids = id === ALL_GROUPS ? [...sw.groups()].map(({ group }) => group.id) : [id];
  for (const each of ids) sw.deleteGroup(each);
};

const APPLY: Readonly<Record<GroupCommand, Apply>> = {
  add: (sw, { group }, nowMs) => sw.addGroup(group, nowMs),
  modify: (sw, { group }, nowMs) => sw.modifyGroup(group, nowMs),
  add_or_mod: (sw, { group }, nowMs) =>
    sw.group(group.id) === undefined ? sw.addGroup(group, nowMs) : sw.modifyGroup(group, nowMs),
  delete: deleteGroups,
  insert_bucket: insertBuckets,
  remove_bucket: removeBuckets,
};

/** Carries out one change of groups. @throws {@link GroupModError} for what the switch refuses; nothing has changed then */
export const applyGroupMod = (sw: Switch, mod: GroupMod, nowMs: number): void => APPLY[mod.command](sw, mod, nowMs);
