// The tables of a switch as plain data and back: rules, groups, meters, what ports are set to. Rules have numbers, by which
// counters that are saved more often name them.

import {
  newFlow,
  type Flow,
  type FlowWords,
  type Group,
  type Match,
  type MeterEntry,
  type PortConfig,
  type Rule,
  type Switch,
} from "#compiler";

/** A match: its mask, and its value in those words where the mask has bits. */
interface SavedMatch {
  readonly mask: FlowWords;
  readonly words: Uint32Array;
  readonly tunMetadata?: NonNullable<Match["tunMetadata"]>;
}

type SavedFlow = Omit<Flow, "match" | "source"> & { readonly match: SavedMatch };

/** A rule with what time and packets did to it until it was saved. */
export interface SavedRule extends RuleCounters {
  readonly id: number;
  readonly flow: SavedFlow;
}

export interface RuleCounters {
  readonly packets: number;
  readonly bytes: number;
  readonly createdMs: number;
  readonly modifiedMs: number;
  readonly usedMs: number;
}

export interface SavedTables {
  /** What names the input that the switch began with. */
  readonly input: string;
  readonly rules: readonly SavedRule[];
  readonly groups: readonly { readonly group: Group; readonly createdMs: number }[];
  readonly meters: readonly Pick<MeterEntry, "meter" | "createdMs">[];
  readonly ports: readonly SavedPort[];
}

/** A port and what was done to have it. */
export interface SavedPort {
  readonly number: number;
  readonly name: string;
  readonly config: PortConfig;
}

/** Gives rules their numbers. */
export class RuleNumbers {
  private readonly ids = new WeakMap<Rule, number>();
  private next = 1;

  of(rule: Rule): number {
    const known = this.ids.get(rule);
    if (known !== undefined) return known;
    this.ids.set(rule, this.next);
    return this.next++;
  }

  /** A rule that has a number from before. */
  set(rule: Rule, id: number): void {
    this.ids.set(rule, id);
    this.next = Math.max(this.next, id + 1);
  }
}

export const countersOf = ({ packets, bytes, createdMs, modifiedMs, usedMs }: Rule): RuleCounters => ({
  packets,
  bytes,
  createdMs,
  modifiedMs,
  usedMs,
});

const saveMatch = ({ mask, value, tunMetadata }: Match): SavedMatch => ({
  mask,
  words: value.filter((_, word) => mask[word] !== 0),
  ...(tunMetadata === undefined ? {} : { tunMetadata }),
});

const restoreMatch = ({ mask, words, tunMetadata }: SavedMatch): Match => {
  const value = newFlow();
  let at = 0;
  mask.forEach((bits, word) => {
    if (bits !== 0) value[word] = words[at++]!;
  });
  return { value, mask, ...(tunMetadata === undefined ? {} : { tunMetadata }) };
};

const flowOf = (rule: Rule): SavedFlow => ({
  table: rule.table,
  priority: rule.priority,
  match: saveMatch(rule.match),
  cookie: rule.cookie,
  actions: rule.actions,
  idleTimeout: rule.idleTimeout,
  hardTimeout: rule.hardTimeout,
  importance: rule.importance,
  // They ask something of the moment when the flow is added, which was long ago.
  flags: rule.flags.filter((flag) => flag !== "check_overlap" && flag !== "reset_counts"),
});

/** Steps of the work between which a caller may pause. */
const STEP = 64;

/** The tables as they are; yields now and then. */
export function* saveTables(sw: Switch, input: string, numbers: RuleNumbers): Generator<void, SavedTables> {
  const rules: SavedRule[] = [];
  for (const rule of [...sw.rules()]) {
    if (rule.hidden || rule.removed) continue;
    rules.push({ id: numbers.of(rule), flow: flowOf(rule), ...countersOf(rule) });
    if (rules.length % STEP === 0) yield;
  }
  return {
    input,
    rules,
    groups: Array.from(sw.groups(), ({ group, createdMs }) => ({ group, createdMs })),
    meters: Array.from(sw.meters, ({ meter, createdMs }) => ({ meter, createdMs })),
    ports: sw.ports.map(({ number, name, config }) => ({ number, name, config })),
  };
}

/** Gives a rule what it had counted and lived. */
export const restoreCounters = (rule: Rule, counters: RuleCounters): void => {
  rule.packets = counters.packets;
  rule.bytes = counters.bytes;
  rule.createdMs = counters.createdMs;
  rule.modifiedMs = counters.modifiedMs;
  rule.usedMs = counters.usedMs;
};

/**
 * Makes the tables of an empty switch what they were.
 * @throws {@link FlowModError}, {@link GroupModError}, {@link MeterModError} for tables that cannot have been
 */
export const restoreTables = (sw: Switch, saved: SavedTables, numbers: RuleNumbers): Map<number, Rule> => {
  for (const { meter, createdMs } of saved.meters) sw.addMeter(meter, createdMs);
  for (const { group, createdMs } of saved.groups) sw.addGroup(group, createdMs);
  const rules = new Map<number, Rule>();
  for (const { id, flow, ...counters } of saved.rules) {
    const rule = sw.add({ ...flow, match: restoreMatch(flow.match) }, counters.createdMs);
    restoreCounters(rule, counters);
    numbers.set(rule, id);
    rules.set(id, rule);
  }
  return rules;
};
