// What follows from a translation beside its actions: statistics, learned addresses; and what follows from time passing.
// Kept apart from translating, so that a revalidator can translate again without doing these twice.

import type { BucketEntry } from "./group-table.js";
import type { RemovalReason } from "./rule-events.js";
import type { Switch } from "./switch.js";
import type { Rule } from "./table.js";
import type { Translation } from "./translate.js";

interface Counters {
  packets: number;
  bytes: number;
}

const count = (counters: Counters, packets: number, bytes: number): void => {
  counters.packets += packets;
  counters.bytes += bytes;
};

/** The rule that stands now where `rule` stood, and whether packets of `rule` still count for it. */
const heir = (rule: Rule): { readonly rule: Rule; readonly counts: boolean } => {
  let counts = true;
  while (rule.successor !== undefined) {
    counts &&= rule.successor.keepCounts;
    ({ rule } = rule.successor);
  }
  return { rule, counts };
};

/**
 * Credits packets that took a translation to every rule and group they passed. Packets of a rule that has been replaced
 * since are credited to its successor.
 *
 * @param usedMs - when the last of them came
 */
export const creditTranslation = (
  translation: Pick<Translation, "rules" | "groups">,
  packets: number,
  bytes: number,
  usedMs: number,
): void => {
  for (const passed of translation.rules) {
    const { rule, counts } = heir(passed);
    if (counts) count(rule, packets, bytes);
    if (packets > 0 && usedMs > rule.usedMs) rule.usedMs = usedMs;
  }
  for (const { group, bucket } of translation.groups) {
    count(group, packets, bytes);
    const buckets: readonly BucketEntry[] = bucket === undefined ? group.buckets : [bucket];
    for (const entry of buckets) count(entry, packets, bytes);
  }
};

/** Whether packets of a translation change more than counters. */
export const teaches = ({ learns, learned, finTimeouts }: Pick<Translation, Lessons>): boolean =>
  learns.length > 0 || learned.length > 0 || finTimeouts.length > 0;

type Lessons = "learns" | "learned" | "finTimeouts";

/**
 * Learns what packets of a translation teach: source addresses, flows of learn actions, connections that end.
 *
 * @returns whether the MAC table or a flow table changed
 */
export const learnFrom = (sw: Switch, translation: Pick<Translation, Lessons>, nowMs: number): boolean => {
  const { version } = sw;
  for (const sighting of translation.learns) sw.macs.learn(sighting, nowMs);
  for (const flow of translation.learned) sw.learn(flow, nowMs);
  for (const { rule, idleTimeout, hardTimeout } of translation.finTimeouts) {
    sw.reduceTimeouts(heir(rule).rule, idleTimeout, hardTimeout);
  }
  return sw.version !== version;
};

/** Takes out the rules and learned addresses whose time is over; credit what is pending first. */
export const expireRules = (
  sw: Switch,
  nowMs: number,
): readonly { readonly rule: Rule; readonly reason: RemovalReason }[] => sw.expire(nowMs);
