// What of a switch can be direct: which tables packets come to, what each rule does, and for each what stands in the way.
// A pure function of the tables; compile.ts makes the program, report.ts the words.

import { OffloadError, type ExitCode, type Origin } from "ebpf-assembler";
import { originOf } from "../analysis/forecast.js";
import type { Hook } from "../ir/types.js";
import { FLOW, getBits, setBytes, type FlowWords, type Member } from "../openflow/flow.js";
import type { KeyLayout } from "../datapath/key.js";
import { isEdit } from "./act.js";
import { counting, type Counting } from "./counts.js";
import { lower, slow as slowOps, writtenBy, type GroupUse, type Op } from "./ops.js";
import { specialise } from "./specialise.js";
import { cut, type Part } from "./parts.js";
import { isHeld, stateLayout, TAG_MEMBERS, wanting, type Want } from "./state.js";
import type { PlainRule, Tables } from "./tables.js";

/** A rule as a direct program has it. */
export interface DirectRule {
  readonly rule: PlainRule;
  /** Its place in {@link Tables.rules} of its table. */
  readonly index: number;
  /** What of its match is left to look at. */
  readonly mask: FlowWords;
  readonly ops: readonly Op[];
  /** Groups that each packet of it passes. */
  readonly groups: readonly GroupUse[];
  /** Why packets that match what the program can look at of it are not the program's. */
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
  /** Whether packets that no rule of a table matches are not the program's. */
  readonly missesAreSlow: boolean;
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

/** Tables that the operations go to. */
const targets = (ops: readonly Op[]): number[] => ops.flatMap((op) => (op.op === "resubmit" ? [op.table] : []));

/** A rule that packets of which are not the program's. */
const madeSlow = (rule: DirectRule, why: string): DirectRule => ({ ...rule, ops: slowOps(why), groups: [], slow: why });

/**
 * The tables, callers first. Rules by which packets could go round are made slow.
 * @throws {@link DirectRefusal} for them, if `isStrict`
 */
const inOrder = (rules: Map<number, readonly DirectRule[]>, isStrict: boolean): number[] => {
  const done: number[] = [];
  const open: number[] = [];
  const visit = (id: number): void => {
    if (done.includes(id)) return;
    open.push(id);
    const back = (ops: readonly Op[]): number | undefined => targets(ops).find((to) => open.includes(to));
    const list = (rules.get(id) ?? []).map((rule) => {
      const to = back(rule.ops);
      if (to === undefined) return rule;
      const why = `packets can come back to table ${to} (${[...open.slice(open.indexOf(to)), to].join(", ")})`;
      if (isStrict) throw new DirectRefusal(to, why, rule.from);
      return madeSlow(rule, why);
    });
    rules.set(id, list);
    for (const to of new Set(list.flatMap(({ ops }) => targets(ops)))) visit(to);
    open.pop();
    done.push(id);
  };
  visit(0);
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

export interface AnalyseOptions {
  /** Interface index of an OpenFlow port. */
  readonly ifindexOf: (port: number) => number;
  /** Nobody else takes what the program cannot do: tables that it cannot hold as a whole are refused. Default false. */
  readonly isStrict?: boolean;
  /** Tables that are left out, with the reason: packets that come to them are not the program's. */
  readonly without?: ReadonlyMap<number, string>;
}

/** Words of a mask that the program can look at. */
const heldPart = (mask: FlowWords, members: readonly Member[]): FlowWords => {
  const held = mask.slice();
  for (const member of members)
    if (!isHeld(member)) setBytes(held, FLOW[member].at, FLOW[member].bits, new Uint8Array(FLOW[member].bits >>> 3));
  return held;
};

/** Why a program cannot tell whether a packet matches a rule. */
const unseen = ({ match, actions }: PlainRule, members: readonly Member[]): string | undefined => {
  const member = members.find((one) => !isHeld(one));
  if (member !== undefined) return `it matches ${member}`;
  if (match.tunMetadata !== undefined) return "it matches tunnel options";
  return actions.some(({ kind }) => kind === "conjunction") ? "it has conjunctions" : undefined;
};

/**
 * Analyses the pipeline from table 0 on.
 *
 * @throws {@link DirectRefusal} for tables that no direct program can hold at all
 */
export const analyse = (
  from: Tables,
  { ifindexOf, isStrict = false, without = new Map() }: AnalyseOptions,
): Analysis => {
  const blocked = [...from.ports.values()].find(({ config }) => config.noReceive);
  if (blocked !== undefined) throw new DirectRefusal(0, `port ${blocked.number} does not receive`);
  // Packets come by it that no hook sees, and what goes out by it goes out by another.
  const tunnel = [...from.ports.values()].find((port) => port.tunnel !== undefined);
  if (tunnel !== undefined) throw new DirectRefusal(0, `port ${tunnel.number} is a tunnel`);
  if (from.fragMode !== "normal") throw new DirectRefusal(0, `fragments are handled by ${from.fragMode}`);
  const atFirst = without.get(0);
  if (atFirst !== undefined) throw new DirectRefusal(0, atFirst);
  const byTable = new Map<number, readonly DirectRule[]>();
  // Rules of a table share their masks.
  const inMask = new Map<FlowWords, readonly Member[]>();
  const matched = (mask: FlowWords): readonly Member[] => {
    let found = inMask.get(mask);
    if (found === undefined) inMask.set(mask, (found = membersOf(mask)));
    return found;
  };
  const heldMasks = new Map<FlowWords, FlowWords>();
  const heldOf = (mask: FlowWords): FlowWords => {
    let held = heldMasks.get(mask);
    if (held === undefined) heldMasks.set(mask, (held = heldPart(mask, matched(mask))));
    return held;
  };
  const queue = [0];
  for (const id of queue) {
    if (byTable.has(id)) continue;
    const rules = (from.rules.get(id) ?? []).map((rule, index): DirectRule => {
      const origin = originOf(rule);
      const { match } = rule;
      const why = unseen(rule, matched(match.mask));
      if (why !== undefined) {
        if (isStrict) throw new DirectRefusal(id, why, origin);
        // It may be this one: whoever matches the rest of it is not the program's.
        return { rule, index, mask: heldOf(match.mask), ops: slowOps(why), groups: [], slow: why, from: origin };
      }
      const { ops, groups } = lower(from, id, match, rule.actions);
      const slow = ops.find((op) => op.op === "slow")?.why;
      const made: DirectRule = { rule, index, mask: match.mask, ops, groups, slow, from: origin };
      const outside = targets(ops).find((to) => without.has(to));
      return outside === undefined ? made : madeSlow(made, `table ${outside}: ${without.get(outside)!}`);
    });
    byTable.set(id, rules);
    for (const { ops } of rules) queue.push(...targets(ops));
  }
  const special = specialise(inOrder(byTable, isStrict), byTable, readBy);
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
    const wants = rules.map(({ rule, mask }) => {
      const { value } = rule.match;
      return wantOf({ value, mask }, ifindexOf(getBits(value, FLOW.in_port.at, 32)));
    });
    tables.set(id, { id, rules, wants, parts: cut(layout, wants), firstRule: all.length });
    for (const rule of rules) all.push(rule);
  }
  return {
    layout,
    tables,
    rules: all,
    counts: counting(tables),
    written,
    hasActionSet,
    missesAreSlow: from.missesToController && !isStrict,
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
