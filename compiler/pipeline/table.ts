// One flow table: rules, and the commands of a flow-mod on them, with the rules of OVS ofproto (add_flow_start,
// modify_flows_start__, collect_rules_loose, collect_rules_strict).

import { OffloadError } from "ebpf-assembler";
import type { Action, Flow, FlowFlag, Match } from "../openflow/types.js";
import { Classifier, covers, overlaps, type Clause } from "./classifier.js";
import { MatchKeeper } from "./kept-match.js";
import { outputsTo, RuleIndex, usesGroup } from "./rule-index.js";

/** A flow in a table, with what has happened to it since. */
export interface Rule {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  readonly cookie: bigint;
  readonly actions: readonly Action[];
  /** Seconds; 0 = never. A fin_timeout action shortens them. */
  idleTimeout: number;
  hardTimeout: number;
  readonly importance: number;
  readonly flags: readonly FlowFlag[];
  /** Of conjunctions, for a rule that is part of some. */
  readonly clauses: readonly Clause[] | undefined;
  /** Not of the user's making: not listed, not deleted, never expires. */
  readonly hidden: boolean;
  readonly source: Flow["source"] | undefined;
  createdMs: number;
  modifiedMs: number;
  /** When last a packet was credited; {@link createdMs} before the first. */
  usedMs: number;
  packets: number;
  bytes: number;
  /** Out of its table: a translation that still holds it must not be used any more. */
  removed: boolean;
  /** The rule that took this one's place: packets still credited here belong to it. */
  successor: { readonly rule: Rule; readonly keepCounts: boolean } | undefined;
}

/** Why a flow-mod was refused; the names are those of the OpenFlow errors. */
export type FlowModProblem =
  "overlap" | "bad_table_id" | "bad_out_group" | "invalid_meter" | "table_full" | "invalid_tlv_field";

/** A flow-mod that the switch refuses. */
export class FlowModError extends OffloadError {
  readonly code = "EFLOWMOD";

  constructor(
    readonly problem: FlowModProblem,
    message: string,
  ) {
    super(message);
  }
}

/** Which rules a modify or delete is about, beside the match. */
export interface RuleFilter {
  /** Only these bits of the cookie must be equal; default none. */
  readonly cookie?: { readonly value: bigint; readonly mask: bigint };
  /** Only rules that output to this port. */
  readonly outPort?: number;
  /** Only rules with this group among their actions. */
  readonly outGroup?: number;
}

const ALL_64 = 0xffffffffffffffffn;

const matchesCookie = (cookie: bigint, { value, mask }: NonNullable<RuleFilter["cookie"]>): boolean =>
  mask === ALL_64 ? cookie === value : ((cookie ^ value) & mask) === 0n;

const passes = (rule: Rule, filter: RuleFilter): boolean => {
  const { cookie, outPort, outGroup } = filter;
  if (rule.hidden) return false;
  if (cookie !== undefined && !matchesCookie(rule.cookie, cookie)) return false;
  if (outPort !== undefined && !outputsTo(rule.actions, outPort)) return false;
  return outGroup === undefined || usesGroup(rule.actions, outGroup);
};

/** Whether a rule is among those that {@link Table.collect} finds for a loose match. */
export const isCollected = (rule: Rule, match: Match, filter: RuleFilter): boolean =>
  covers(match, rule.match) && passes(rule, filter);

const clausesOf = (actions: readonly Action[]): readonly Clause[] | undefined => {
  const clauses = actions.filter((action) => action.kind === "conjunction");
  return clauses.length === 0 ? undefined : clauses;
};

/** A fresh rule made of a flow. */
export const ruleOf = (flow: Flow, nowMs: number, hidden = false): Rule => ({
  table: flow.table,
  priority: flow.priority,
  match: flow.match,
  cookie: flow.cookie,
  actions: flow.actions,
  idleTimeout: flow.idleTimeout,
  hardTimeout: flow.hardTimeout,
  importance: flow.importance,
  flags: flow.flags,
  hidden,
  source: flow.source,
  clauses: clausesOf(flow.actions),
  createdMs: nowMs,
  modifiedMs: nowMs,
  usedMs: nowMs,
  packets: 0,
  bytes: 0,
  removed: false,
  successor: undefined,
});

/** What a modify leaves as it was. */
const pickKept = (rule: Rule): Omit<Flow, "cookie" | "actions"> => ({
  table: rule.table,
  match: rule.match,
  priority: rule.priority,
  idleTimeout: rule.idleTimeout,
  hardTimeout: rule.hardTimeout,
  importance: rule.importance,
  flags: rule.flags,
  ...(rule.source === undefined ? {} : { source: rule.source }),
});

/** A rule that went into its table or out of it. */
export interface RuleChange {
  readonly kind: "insert" | "remove";
  readonly rule: Rule;
}

/** Takes down what happens to the rules of a switch, while somebody may want to undo it. */
export class RuleJournal {
  #changes: RuleChange[] | undefined;

  get isOpen(): boolean {
    return this.#changes !== undefined;
  }

  open(): void {
    this.#changes = [];
  }

  /** What has happened since it was opened, in order. */
  close(): readonly RuleChange[] {
    const changes = this.#changes ?? [];
    this.#changes = undefined;
    return changes;
  }

  note(kind: RuleChange["kind"], rule: Rule): void {
    this.#changes?.push({ kind, rule });
  }
}

const NO_FLAGS: readonly FlowFlag[] = [];

export class Table {
  readonly rules = new Classifier<Rule>();
  readonly index = new RuleIndex();
  readonly #keeper = new MatchKeeper();

  constructor(
    readonly id: number,
    private readonly journal = new RuleJournal(),
  ) {}

  get size(): number {
    return this.rules.size;
  }

  /**
   * Adds a flow, in the place of one with the same match and priority, whose counters it takes over unless the flow
   * says `reset_counts`.
   *
   * @throws {@link FlowModError} `overlap` when the flow says `check_overlap` and another of its priority overlaps
   */
  add(flow: Flow, nowMs: number): { readonly rule: Rule; readonly replaced?: Rule } {
    const replaced = this.rules.find(flow.match, flow.priority);
    if (replaced === undefined && flow.flags.includes("check_overlap")) {
      for (const other of this.rules) {
        if (other.priority === flow.priority && overlaps(other.match, flow.match)) {
          throw new FlowModError(
            "overlap",
            `Cannot add a flow to table ${this.id}: another flow of priority ${flow.priority} overlaps it`,
          );
        }
      }
    }
    const rule = ruleOf(this.#kept(flow), nowMs);
    if (replaced === undefined) {
      this.#insert(rule);
      return { rule };
    }
    this.#replace(replaced, rule, !flow.flags.includes("reset_counts"));
    return { rule, replaced };
  }

  /** Gives a rule other actions, and with `newCookie` another cookie; everything else of it stays, as in OVS. */
  modify(old: Rule, flow: Flow, nowMs: number, newCookie: boolean): Rule {
    const rule = ruleOf({ ...flow, ...pickKept(old), cookie: newCookie ? flow.cookie : old.cookie }, nowMs);
    this.#replace(old, rule, !flow.flags.includes("reset_counts"));
    rule.createdMs = old.createdMs;
    return rule;
  }

  /** Takes `rule` out. */
  remove(rule: Rule): void {
    this.#takeOut(rule);
    this.journal.note("remove", rule);
  }

  /** Makes a change unhappen; the changes after it must be undone already. */
  undo({ kind, rule }: RuleChange): void {
    if (kind === "insert") this.#takeOut(rule);
    else {
      this.#putIn(rule);
      rule.removed = false;
      rule.successor = undefined;
    }
  }

  /** The flow as a table keeps it: with the mask that other rules have already, for most tables have few. */
  #kept(flow: Flow): Flow {
    const match = this.#keeper.keep(flow.match, this.rules.shapeOf(flow.match.mask));
    return { ...flow, match, flags: flow.flags.length === 0 ? NO_FLAGS : flow.flags };
  }

  #putIn(rule: Rule): void {
    this.rules.insert(rule);
    this.index.add(rule);
  }

  #takeOut(rule: Rule): void {
    this.rules.remove(rule);
    this.index.delete(rule);
    rule.removed = true;
  }

  #insert(rule: Rule): void {
    this.#putIn(rule);
    this.journal.note("insert", rule);
  }

  /** How many rules have this cookie. */
  countCookie(cookie: bigint): number {
    const filter = { cookie: { value: cookie, mask: ALL_64 } };
    const rules = this.index.among(filter);
    if (rules !== undefined) return rules.size;
    let count = 0;
    for (const rule of this.rules) if (rule.cookie === cookie) count++;
    return count;
  }

  /** The rules that a strict or loose modify or delete of `match` means. */
  collect(match: Match, priority: number, strict: boolean, filter: RuleFilter): Rule[] {
    if (strict) {
      const rule = this.rules.find(match, priority);
      return rule !== undefined && passes(rule, filter) ? [rule] : [];
    }
    const known = this.index.among(filter);
    if (known !== undefined) return [...known].filter((rule) => isCollected(rule, match, filter));
    const rules: Rule[] = [];
    this.rules.visitCovered(match, (rule) => {
      if (passes(rule, filter)) rules.push(rule);
    });
    return rules;
  }

  #replace(old: Rule, rule: Rule, keepCounts: boolean): void {
    this.remove(old);
    this.#insert(rule);
    old.successor = { rule, keepCounts };
    rule.usedMs = old.usedMs;
    if (!keepCounts) return;
    rule.packets = old.packets;
    rule.bytes = old.bytes;
  }
}
