// Finds the rules of a table by what deletions ask for beside the match: cookie, output port, group, meter. Without it, each
// would look at all rules.

import { nestedActions, PORT, type Action } from "../openflow/types.js";
import type { Rule, RuleFilter } from "./table.js";

/** Calls `visit` with each action, those inside others too. */
export const visitActions = (actions: readonly Action[], visit: (action: Action) => void): void => {
  for (const action of actions) {
    visit(action);
    visitActions(nestedActions(action), visit);
  }
};

/** Ports that an action sends packets out of. */
const portOf = (action: Action): number | undefined =>
  action.kind === "output" || action.kind === "enqueue"
    ? action.port
    : action.kind === "controller"
      ? PORT.CONTROLLER
      : undefined;

const groupOf = (action: Action): number | undefined => (action.kind === "group" ? action.group : undefined);

const meterOf = (action: Action): number | undefined => (action.kind === "meter" ? action.meter : undefined);

type NumberOf = (action: Action) => number | undefined;

const mentions = (actions: readonly Action[], numberOf: NumberOf, number: number): boolean => {
  let found = false;
  visitActions(actions, (action) => (found ||= numberOf(action) === number));
  return found;
};

/** Whether an action list sends packets out of `port`. */
export const outputsTo = (actions: readonly Action[], port: number): boolean => mentions(actions, portOf, port);

/** Whether an action list uses group `id`. */
export const usesGroup = (actions: readonly Action[], id: number): boolean => mentions(actions, groupOf, id);

/** Sets of rules by a key. Most keys of cookies have one rule, for which a set would take ten times the memory. */
class RulesBy<K> {
  readonly #rules = new Map<K, Rule | Set<Rule>>();

  add(key: K, rule: Rule): void {
    const have = this.#rules.get(key);
    if (have === undefined || have === rule) this.#rules.set(key, rule);
    else if (have instanceof Set) have.add(rule);
    else this.#rules.set(key, new Set([have, rule]));
  }

  delete(key: K, rule: Rule): void {
    const have = this.#rules.get(key);
    if (have === rule) this.#rules.delete(key);
    else if (have instanceof Set && have.delete(rule) && have.size === 0) this.#rules.delete(key);
  }

  get(key: K): ReadonlySet<Rule> {
    const have = this.#rules.get(key);
    return have instanceof Set ? have : new Set(have === undefined ? [] : [have]);
  }
}

/** The cookie of most rules: looking for it is no search. */
const COMMON_COOKIE = 0n;

const ALL_64 = 0xffffffffffffffffn;

export class RuleIndex {
  readonly #cookies = new RulesBy<bigint>();
  readonly #ports = new RulesBy<number>();
  readonly #groups = new RulesBy<number>();
  readonly #meters = new RulesBy<number>();
  readonly #byNumber = [
    [portOf, this.#ports],
    [groupOf, this.#groups],
    [meterOf, this.#meters],
  ] as const;

  add(rule: Rule): void {
    if (rule.cookie !== COMMON_COOKIE) this.#cookies.add(rule.cookie, rule);
    this.#eachNumber(rule, (rules, number) => rules.add(number, rule));
  }

  delete(rule: Rule): void {
    if (rule.cookie !== COMMON_COOKIE) this.#cookies.delete(rule.cookie, rule);
    this.#eachNumber(rule, (rules, number) => rules.delete(number, rule));
  }

  #eachNumber(rule: Rule, act: (rules: RulesBy<number>, number: number) => void): void {
    visitActions(rule.actions, (action) => {
      for (const [numberOf, rules] of this.#byNumber) {
        const number = numberOf(action);
        if (number !== undefined) act(rules, number);
      }
    });
  }

  withGroup(id: number): ReadonlySet<Rule> {
    return this.#groups.get(id);
  }

  withMeter(id: number): ReadonlySet<Rule> {
    return this.#meters.get(id);
  }

  /** Rules among which are all that `filter` lets through, as few as can be told; undefined when that may be any rule. */
  among({ cookie, outPort, outGroup }: RuleFilter): ReadonlySet<Rule> | undefined {
    const sets: ReadonlySet<Rule>[] = [];
    if (cookie?.mask === ALL_64 && cookie.value !== COMMON_COOKIE) sets.push(this.#cookies.get(cookie.value));
    if (outPort !== undefined) sets.push(this.#ports.get(outPort));
    if (outGroup !== undefined) sets.push(this.#groups.get(outGroup));
    return sets.length === 0 ? undefined : sets.reduce((least, set) => (set.size < least.size ? set : least));
  }
}
