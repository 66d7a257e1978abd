// Groups in text, to the character as OVS's ofp_print_group() prints them.

import { carryActions, minorVersion } from "../carry.js";
import { FIELD_NAMES } from "../fields.js";
import { newFlow } from "../flow.js";
import type { GroupCommand, GroupMod } from "../parse/groups.js";
import { portToText, type PortNames } from "../ports.js";
import type { Bucket, Group } from "../types.js";
import { PROTOCOL, PROTOCOLS, type Protocol } from "../versions.js";
import { formatActions } from "./actions.js";
import { fieldValueText } from "./values.js";

export interface GroupFormat {
  readonly ports?: PortNames;
  /** {@link PROTOCOL} bits of the versions to choose from. Default: all. */
  readonly protocols?: number;
}

const anyMatch = { value: newFlow(), mask: newFlow() };

const selectionText = ({ method, param, fields, masks }: NonNullable<Group["selection"]>): string[] => {
  const list = FIELD_NAMES.filter((field) => fields.includes(field)).map((field) => {
    const mask = masks?.[field];
    return mask === undefined ? field : `${field}=${fieldValueText(field, mask)}`;
  });
  return [
    `selection_method=${method}`,
    ...(param === 0n ? [] : [`selection_method_param=${param}`]),
    ...(list.length === 0 ? [] : [list.length === 1 ? `fields=${list[0]!}` : `fields(${list.join(",")})`]),
  ];
};

/** Groups of OpenFlow 1.1 to 1.4 have neither numbers of buckets nor selection methods. */
const hasProperties = (protocol: Protocol): boolean => {
  const minor = minorVersion(protocol);
  return minor === 0 || minor >= 5;
};

const bucketText = (bucket: Bucket, group: Group, protocol: Protocol, ports: PortNames | undefined): string => {
  const { actions } = bucket;
  const parts = [
    ...(hasProperties(protocol) ? [`bucket_id:${bucket.id}`] : []),
    ...(bucket.weight === (group.type === "select" ? 1 : 0) ? [] : [`weight:${bucket.weight}`]),
    ...(bucket.watchPort === undefined ? [] : [`watch_port:${portToText(bucket.watchPort, ports)}`]),
    ...(bucket.watchGroup === undefined ? [] : [`watch_group:${bucket.watchGroup}`]),
    `actions=${formatActions(actions, ports === undefined ? {} : { ports })}`,
  ];
  return `bucket=${parts.join(",")}`;
};

/** A group in the words of a version. */
const carryGroup = (group: Group, protocol: Protocol): Group => ({
  ...group,
  buckets: group.buckets.map((bucket) => ({
    ...bucket,
    actions: carryActions(bucket.actions, anyMatch, protocol) ?? bucket.actions,
  })),
});

const selectionOf = ({ selection }: Group, protocol: Protocol): string[] =>
  selection === undefined || !hasProperties(protocol) ? [] : selectionText(selection);

const groupText = (group: Group, head: readonly string[], protocol: Protocol, ports: PortNames | undefined): string =>
  [
    ...head,
    ...selectionOf(group, protocol),
    ...group.buckets.map((bucket) => bucketText(bucket, group, protocol, ports)),
  ].join(",");

/** A group that came in the words of a version, as `ovs-ofctl dump-groups` prints it. */
export const formatArrivedGroup = (group: Group, protocol: Protocol, ports?: PortNames): string =>
  groupText(group, [`group_id=${group.id}`, `type=${group.type}`], protocol, ports);

/** A group as a version of OpenFlow carries it. */
export const formatGroup = (group: Group, protocol: Protocol = "OpenFlow15", ports?: PortNames): string =>
  formatArrivedGroup(carryGroup(group, protocol), protocol, ports);

/** What OVS prints for a command; a group that is added goes without. */
const COMMAND_WORDS: Readonly<Record<GroupCommand, string>> = {
  add: "",
  modify: "MOD ",
  add_or_mod: "ADD_OR_MOD ",
  delete: "DEL ",
  insert_bucket: "INSERT_BUCKET ",
  remove_bucket: "REMOVE_BUCKET ",
};

/** What stands before the buckets: a change of buckets has a place, and no type. */
const headOf = ({ command, group, place }: GroupMod, protocol: Protocol): string[] =>
  command === "insert_bucket" || command === "remove_bucket"
    ? [...(hasProperties(protocol) ? [`command_bucket_id:${place}`] : []), `group_id=${group.id}`]
    : [`group_id=${group.id}`, `type=${group.type}`];

/** A change of groups that came in the words of a version. */
export const formatArrivedGroupMod = (mod: GroupMod, protocol: Protocol, ports?: PortNames): string =>
  `${COMMAND_WORDS[mod.command]}${groupText(mod.group, headOf(mod, protocol), protocol, ports)}`;

/**
 * A group and its command as the lowest version of OpenFlow carries them that can: what `ovs-ofctl parse-group` prints
 * behind `ADD `.
 *
 * @returns undefined if none of `protocols` can carry it
 */
export const formatGroupMod = (
  mod: GroupMod,
  { ports, protocols = mod.protocols }: GroupFormat = {},
): string | undefined => {
  const protocol = PROTOCOLS.find((name) => (PROTOCOL[name] & mod.protocols & protocols) !== 0);
  return protocol === undefined
    ? undefined
    : formatArrivedGroupMod({ ...mod, group: carryGroup(mod.group, protocol) }, protocol, ports);
};
