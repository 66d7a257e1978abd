// What compiling needs of a switch, as plain data: it can be sent to another thread, and does not change meanwhile.

import type { Flow, Match } from "../openflow/types.js";
import type { BucketEntry, GroupEntry } from "../pipeline/group-table.js";
import type { Port } from "../pipeline/ports.js";
import type { Switch } from "../pipeline/switch.js";
import type { Rule } from "../pipeline/table.js";

/** A rule as tables have it: the flow that it was made of. */
export type PlainRule = Omit<Flow, "source"> & { readonly source: Flow["source"] | undefined };

/** A group as tables have it. */
export interface PlainGroup {
  readonly group: GroupEntry["group"];
  readonly buckets: readonly Pick<BucketEntry, "bucket">[];
}

/** The state of a switch that a direct program depends on. */
export interface Tables {
  /** Of each table that has any: the one that wins first, and of equal priority the one of the earlier mask. */
  readonly rules: ReadonlyMap<number, readonly PlainRule[]>;
  /** By ascending number. */
  readonly ports: ReadonlyMap<number, Port>;
  readonly groups: ReadonlyMap<number, PlainGroup>;
  /** Slots of the meters that programs can meter by, by number of the meter. */
  readonly meters: ReadonlyMap<number, number>;
  /** Whether a controller gets the packets that no rule matches. */
  readonly missesToController: boolean;
  /** What becomes of IP fragments. */
  readonly fragMode: Switch["fragMode"];
}

/** Rules of a table in the order of {@link Tables.rules}. */
export const rankedRules = (sw: Switch, table: number): readonly Rule[] => {
  const standalone = table === 0 ? sw.standaloneRule : undefined;
  if (standalone !== undefined) return [standalone];
  return [...(sw.tableIfAny(table)?.rules ?? [])].sort((a, b) => b.priority - a.priority);
};

/** {@link Tables} that share rules and groups with their switch: those that counters are credited to. */
export interface SwitchTables extends Tables {
  readonly rules: ReadonlyMap<number, readonly Rule[]>;
  readonly groups: ReadonlyMap<number, GroupEntry>;
}

/** The tables of a switch as they are now. */
export const tablesOf = (sw: Switch): SwitchTables => {
  const ids = new Set([0, ...[...sw.tables()].map(({ id }) => id)]);
  return {
    rules: new Map([...ids].sort((a, b) => a - b).map((id) => [id, rankedRules(sw, id)])),
    ports: new Map(sw.ports.map((port) => [port.number, port])),
    groups: new Map([...sw.groups()].map((entry) => [entry.group.id, entry])),
    meters: new Map(
      [...sw.meters].flatMap(({ meter, slot }) =>
        meter.bands.some(({ type }) => type === "dscp_remark") ? [] : [[meter.id, slot] as const],
      ),
    ),
    missesToController: sw.missesToController,
    fragMode: sw.fragMode,
  };
};

const tunMetadataOf = ({ tunMetadata }: Match): Pick<Match, "tunMetadata"> =>
  tunMetadata === undefined ? {} : { tunMetadata };

/** A copy without what changes and without what no program depends on, to be sent to another thread. */
export const plainTables = ({ rules, ports, groups, meters, missesToController, fragMode }: SwitchTables): Tables => ({
  rules: new Map(
    [...rules].map(([id, list]) => [
      id,
      list.map(
        ({
          table,
          priority,
          cookie,
          idleTimeout,
          hardTimeout,
          importance,
          flags,
          match,
          actions,
          source,
        }): PlainRule => ({
          table,
          priority,
          cookie,
          idleTimeout,
          hardTimeout,
          importance,
          flags,
          // Tables keep matches in another form.
          match: { value: match.value, mask: match.mask, ...tunMetadataOf(match) },
          actions,
          source,
        }),
      ),
    ]),
  ),
  ports,
  groups: new Map(
    [...groups].map(([id, { group, buckets }]) => [id, { group, buckets: buckets.map(({ bucket }) => ({ bucket })) }]),
  ),
  meters,
  missesToController,
  fragMode,
});
