// Flows that learn actions have made: when two of them are the same, and which cookies they go with.

import { formatActions } from "../openflow/print/actions.js";
import type { Action, Flow, Match } from "../openflow/types.js";
import { visitActions } from "./rule-index.js";
import { ruleOf, type Rule } from "./table.js";

export interface LearnedFlow {
  readonly flow: Flow;
  /** Most rules with this cookie in the table; 0 = any number. */
  readonly limit: number;
}

/** A rule whose life a packet has shortened. */
export interface FinTimeout {
  readonly rule: Rule;
  /** Seconds; 0 = as before. */
  readonly idleTimeout: number;
  readonly hardTimeout: number;
}

/** Whether `rule` is what learning `flow` would make, so that only its time begins anew. */
export const isSameRule = (rule: Rule, flow: Flow): boolean =>
  rule.idleTimeout === flow.idleTimeout &&
  rule.hardTimeout === flow.hardTimeout &&
  rule.importance === flow.importance &&
  rule.cookie === flow.cookie &&
  rule.flags.join() === flow.flags.join() &&
  formatActions(rule.actions) === formatActions(flow.actions);

/** Whether two learned flows make one rule. */
export const isSameFlow = (a: Flow, b: Flow): boolean =>
  a.priority === b.priority && keyOf(a.match) === keyOf(b.match) && isSameRule(ruleOf(a, 0), b);

const keyOf = ({ value, mask }: Match): string => `${value.join()}/${mask.join()}`;

/** Counts rules whose `learn(delete_learned)` names a table and cookie: with the last of them go the flows learned. */
export class LearnedCookies {
  readonly #counts = new Map<string, number>();

  add(actions: readonly Action[]): void {
    this.#change(actions, 1);
  }

  /** @returns the tables and cookies whose last rule this was */
  remove(actions: readonly Action[]): readonly { readonly table: number; readonly cookie: bigint }[] {
    return this.#change(actions, -1);
  }

  #change(actions: readonly Action[], by: 1 | -1): { table: number; cookie: bigint }[] {
    const dead: { table: number; cookie: bigint }[] = [];
    visitActions(actions, (action) => {
      if (action.kind !== "learn" || !action.deleteLearned) return;
      const { table, cookie } = action;
      const key = `${table} ${cookie}`;
      const count = (this.#counts.get(key) ?? 0) + by;
      if (count > 0) this.#counts.set(key, count);
      else {
        this.#counts.delete(key);
        dead.push({ table, cookie });
      }
    });
    return dead;
  }
}
