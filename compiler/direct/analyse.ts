// What of a switch can be direct: which tables packets come to, what each rule does, and for each what stands in the way.
// A pure function of the tables; compile.ts makes the program, report.ts the words.

import { OffloadError, type ExitCode, type Origin } from "ebpf-assembler";
import { originOf } from "../analysis/forecast.js";
import type { Hook } from "../ir/types.js";
import { FLOW, getBits, type FlowWords, type Member } from "../openflow/flow.js";
import type { Switch } from "../pipeline/switch.js";
import type { Rule } from "../pipeline/table.js";
import type { KeyLayout } from "../datapath/key.js";
import { isEdit } from "./act.js";
import { counting, type Counting } from "./counts.js";
import { lower, writtenBy, type Op } from "./ops.js";
import { specialise } from "./specialise.js";
import { cut, type Part } from "./parts.js";
import { isHeld, stateLayout, TAG_MEMBERS, wanting, type Want } from "./state.js";

/** A rule as a direct program has it. */
export interface DirectRule {
  readonly rule: Rule;
  /** What of its match is left to look at. */
  readonly mask: FlowWords;
  readonly ops: readonly Op[];
  /** Why only user space can carry its actions out. */
  readonly slow: string | undefined;
  readonly from: Origin;
}

export interface DirectTable {
  readonly id: number;
  /** Those that packets can match, best first. */
  readonly rules: readonly DirectRule[];
  readonly wants: readonly Want[];
  readonly parts: readonly Part[];
  /** Statistics of the first rule. */
  readonly firstRule: number;
}

export interface Analysis {
  readonly layout: KeyLayout;
  /** Tables that packets can come to, by number. */
  readonly tables: ReadonlyMap<number, DirectTable>;
  /** Rules of all of them, in the order of their statistics. */
  readonly rules: readonly DirectRule[];
  readonly counts: Counting;
  readonly written: ReadonlySet<Member>;
  readonly hasActionSet: boolean;
  /** Whether a packet can be sent more than once, as far as lists of operations tell. */
  readonly canSendTwice: boolean;
}

/** Tables that cannot be compiled in direct mode, with the rule and the reason. */
export class DirectRefusal extends OffloadError {
  readonly code = "ENOTDIRECT";

  constructor(
    readonly table: number,
    readonly why: string,
    readonly from?: Origin,
  ) {
    const place = from?.file === undefined ? "" : `${from.file}:${from.line ?? 0}: `;
    const rule = from === undefined ? "" : `, rule ${from.text}`;
    super(`${place}Cannot compile table ${table} in direct mode: ${why}${rule}`);
  }

  override get exitCode(): ExitCode {
    return 4;
  }
}

/** Members that have bits in a mask. */
const membersOf = (mask: FlowWords): readonly Member[] =>
  (Object.entries(FLOW) as [Member, { at: number; bits: number }][]).flatMap(([member, { at, bits }]) => {
    for (let done = 0; done < bits; done += 8) if (getBits(mask, at + done, 8) !== 0) return [member];
    return [];
  });

/** Rules of a table, the one that wins first: as the classifier has it, of equal priority the one of the earlier mask. */
const ranked = (sw: Switch, id: number): Rule[] => {
  const standalone = id === 0 ? sw.standaloneRule : undefined;
  if (standalone !== undefined) return [standalone];
  return [...(sw.tableIfAny(id)?.rules ?? [])].sort((a, b) => b.priority - a.priority);
};

/** Tables that the operations go to. */
const targets = (ops: readonly Op[]): number[] => ops.flatMap((op) => (op.op === "resubmit" ? [op.table] : []));

/** Throws for tables that packets could go round in; returns them callers first. */
const inOrder = (rules: ReadonlyMap<number, readonly DirectRule[]>): number[] => {
  const done: number[] = [];
  const open: number[] = [];
  const visit = (id: number, from: Origin | undefined): void => {
    if (done.includes(id)) return;
    if (open.includes(id))
      throw new DirectRefusal(
        id,
        `packets can come back to it (${[...open.slice(open.indexOf(id)), id].join(", ")})`,
        from,
      );
    open.push(id);
    const next = new Map<number, Origin>();
    for (const rule of rules.get(id) ?? [])
      for (const to of targets(rule.ops)) if (!next.has(to)) next.set(to, rule.from);
    for (const [to, origin] of next) visit(to, origin);
    open.pop();
    done.push(id);
  };
  visit(0, undefined);
  return done.reverse();
};

const sendsTwice = (ops: readonly Op[]): boolean => {
  const first = ops.findIndex(({ op }) => op === "output" || op === "output_in_port" || op === "resubmit");
  return first >= 0 && ops.slice(first + 1).some(({ op }) => op !== "end_copy" && op !== "slow");
};

/** What an operation looks at, besides what it writes. */
const readBy = (op: Op): Member[] => {
  const needs = "needs" in op ? op.needs.flat().map(({ member }) => member) : [];
  return op.op === "move" ? [op.src.member, ...needs] : needs;
};

const ABOVE_L2: ReadonlySet<Member> = new Set<Member>([
  "nw_src",
  "nw_dst",
  "nw_tos",
  "nw_ttl",
  "ipv6_src",
  "ipv6_dst",
  "ipv6_label",
  "tp_src",
  "tp_dst",
  "arp_sha",
  "arp_tha",
  "nw_proto",
]);

/**
 * Analyses the pipeline from table 0 on.
 *
 * @param ifindexOf - interface index of an OpenFlow port
 * @throws {@link DirectRefusal} for tables that no direct program can hold at all
 */
export const analyse = (sw: Switch, ifindexOf: (port: number) => number): Analysis => {
  const blocked = sw.ports.find(({ config }) => config.noReceive);
  if (blocked !== undefined) throw new DirectRefusal(0, `port ${blocked.number} does not receive`);
  const byTable = new Map<number, readonly DirectRule[]>();
  // Rules of a table share their masks.
  const inMask = new Map<FlowWords, readonly Member[]>();
  const matched = (mask: FlowWords): readonly Member[] => {
    let found = inMask.get(mask);
    if (found === undefined) inMask.set(mask, (found = membersOf(mask)));
    return found;
  };
  const queue = [0];
  for (const id of queue) {
    if (byTable.has(id)) continue;
    const rules = ranked(sw, id).map((rule): DirectRule => {
      const from = originOf(rule);
      for (const member of matched(rule.match.mask))
        if (!isHeld(member)) throw new DirectRefusal(id, `it matches ${member}`, from);
      if (rule.match.tunMetadata !== undefined) throw new DirectRefusal(id, "it matches tunnel options", from);
      if (rule.actions.some(({ kind }) => kind === "conjunction"))
        throw new DirectRefusal(id, "it has conjunctions", from);
      const ops = lower(sw, id, rule.match, rule.actions);
      const slow = ops.find((op) => op.op === "slow")?.why;
      return { rule, mask: rule.match.mask, ops, slow, from };
    });
    byTable.set(id, rules);
    for (const { ops } of rules) queue.push(...targets(ops));
  }
  const special = specialise(inOrder(byTable), byTable, readBy);
  const members = new Set<Member>(["in_port", "dl_type"]);
  const written = new Set<Member>();
  let hasActionSet = false;
  let canSendTwice = false;
  for (const rules of special.values())
    for (const { ops, mask } of rules) {
      for (const member of matched(mask)) members.add(member);
      for (const op of ops) {
        for (const member of readBy(op)) if (isHeld(member)) members.add(member);
        for (const member of writtenBy(op)) written.add(member);
        if (op.op === "write_output") hasActionSet = true;
      }
      canSendTwice ||= sendsTwice(ops);
    }
  for (const member of written) members.add(member);
  if ([...written].some((member) => ABOVE_L2.has(member))) members.add("nw_proto");
  if (["tp_src", "tp_dst"].some((member) => members.has(member as Member))) members.add("nw_frag");
  if ([...written].some((member) => TAG_MEMBERS.includes(member)))
    for (const member of TAG_MEMBERS) members.add(member);
  const layout = stateLayout(members);
  const wantOf = wanting(layout);
  const tables = new Map<number, DirectTable>();
  const all: DirectRule[] = [];
  for (const [id, rules] of special) {
    const wants = rules.map(({ rule, mask }) =>
      wantOf({ value: rule.match.value, mask }, ifindexOf(getBits(rule.match.value, FLOW.in_port.at, 32))),
    );
    tables.set(id, { id, rules, wants, parts: cut(layout, wants), firstRule: all.length });
    all.push(...rules);
  }
  return {
    layout,
    tables,
    rules: all,
    counts: counting(tables),
    written,
    hasActionSet,
    canSendTwice: canSendTwice || hasActionSet,
  };
};

/** Why a hook cannot carry a rule out without user space, or undefined when it can. */
export const strictRefusal = (hook: Hook, { ops, slow }: DirectRule): string | undefined => {
  if (slow !== undefined) return slow;
  const firstOutput = ops.findIndex(({ op }) => op === "output" || op === "output_in_port");
  if (firstOutput < 0) return undefined;
  const after = ops.slice(firstOutput + 1);
  if (after.some(isEdit)) return "it rewrites the packet after an output";
  const outputs = ops.filter(({ op }) => op === "output" || op === "output_in_port").length;
  return outputs > 1 && hook === "xdp" ? `${outputs} outputs: XDP cannot clone` : undefined;
};
