// What is known of packets when they come to a table: what all who go there have matched and written, and that registers begin
// as zero. Rules that this contradicts never match, what it says already need not be looked at again, and a register
// that then nobody looks at need not be written. A chain of tables comes down to what it asks of a packet.
//
// Known is what holds on every way to a table. What a rule demands of a member is dropped as a whole or not at all: the rest would
// be no prefix any more, and rules of one mask would have several.

import type { DirectRule } from "./analyse.js";
import { isRegister, writtenBy, type Op } from "./ops.js";
import { FLOW, FLOW_WORDS, newFlow, setBytes, setOnes, type FlowWords, type Member } from "../openflow/flow.js";
import { PACKET_MEMBERS } from "../datapath/key.js";

/** Bits that every packet has; `value` has none outside of `mask`. */
interface Known {
  readonly value: FlowWords;
  readonly mask: FlowWords;
}

const MEMBERS = Object.keys(FLOW) as readonly Member[];

const ONES = new Map(
  MEMBERS.map((member) => {
    const mask = newFlow();
    setOnes(mask, FLOW[member].at, FLOW[member].bits);
    return [member, mask] as const;
  }),
);

/** Every packet when it comes in: what it does not bring along is zero. */
const atFirst = (): Known => {
  const mask = newFlow();
  for (const member of MEMBERS)
    if (!PACKET_MEMBERS.has(member)) ONES.get(member)!.forEach((bits, word) => (mask[word]! |= bits));
  return { value: newFlow(), mask };
};

const copyOf = ({ value, mask }: Known): Known => ({ value: value.slice(), mask: mask.slice() });

/** Keeps what also `other` says. */
const meet = ({ value, mask }: Known, other: Known): void => {
  for (let word = 0; word < FLOW_WORDS; word++) {
    mask[word] = mask[word]! & other.mask[word]! & ~(value[word]! ^ other.value[word]!);
    value[word]! &= mask[word]!;
  }
};

const forget = ({ value, mask }: Known, member: Member): void => {
  ONES.get(member)!.forEach((bits, word) => {
    value[word]! &= ~bits;
    mask[word]! &= ~bits;
  });
};

/** A match's value is made when it is asked for: so it is, once. */
const learn = ({ value, mask }: Known, { value: newValue, mask: newMask }: Known): void => {
  for (let word = 0; word < FLOW_WORDS; word++) {
    value[word] = (value[word]! & ~newMask[word]!) | (newValue[word]! & newMask[word]!);
    mask[word]! |= newMask[word]!;
  }
};

const contradicts = (known: Known, { value, mask }: Known): boolean => {
  for (let word = 0; word < FLOW_WORDS; word++)
    if (((known.value[word]! ^ value[word]!) & known.mask[word]! & mask[word]!) !== 0) return true;
  return false;
};

/** `mask` without the members whose bits are all known; the same object when there are none. */
const unknownOf = (known: Known, mask: FlowWords): FlowWords => {
  let left = mask;
  for (const member of MEMBERS) {
    let isUsed = false;
    let isKnown = true;
    ONES.get(member)!.forEach((bits, word) => {
      const used = mask[word]! & bits;
      isUsed ||= used !== 0;
      isKnown &&= (used & ~known.mask[word]!) === 0;
    });
    if (!isUsed || !isKnown) continue;
    if (left === mask) left = mask.slice();
    ONES.get(member)!.forEach((bits, word) => (left[word]! &= ~bits));
  }
  return left;
};

const isAlways = (op: Op): boolean => "needs" in op && op.needs.some((all) => all.length === 0);

/** What is known after an operation; not for those that go elsewhere. */
const apply = (known: Known, op: Op): void => {
  for (const member of writtenBy(op))
    if (op.op !== "set" || member !== op.member || !isAlways(op)) forget(known, member);
  if (op.op !== "set" || !isAlways(op)) return;
  const { at, bits } = FLOW[op.member];
  const written = { value: newFlow(), mask: newFlow() };
  setBytes(written.value, at, bits, op.value);
  setBytes(written.mask, at, bits, op.mask);
  learn(known, written);
};

/** Members that a packet may have written when it comes back from each table. */
const writtenIn = (
  order: readonly number[],
  rules: ReadonlyMap<number, readonly DirectRule[]>,
): ReadonlyMap<number, ReadonlySet<Member>> => {
  const written = new Map<number, ReadonlySet<Member>>();
  for (const id of [...order].reverse()) {
    const members = new Set<Member>();
    for (const { ops } of rules.get(id)!)
      for (const op of ops)
        for (const member of op.op === "resubmit" ? written.get(op.table)! : writtenBy(op)) members.add(member);
    written.set(id, members);
  }
  return written;
};

/** Members that are looked at: by what is left of matches, and by operations. */
const readIn = (tables: Iterable<readonly DirectRule[]>, readBy: (op: Op) => readonly Member[]): Set<Member> => {
  const masks = new Set<FlowWords>();
  const read = new Set<Member>();
  for (const rules of tables)
    for (const { mask, ops } of rules) {
      masks.add(mask);
      for (const op of ops) for (const member of readBy(op)) read.add(member);
    }
  for (const mask of masks)
    for (const member of MEMBERS)
      if (ONES.get(member)!.some((bits, word) => (mask[word]! & bits) !== 0)) read.add(member);
  return read;
};

/**
 * Leaves of each table the rules that packets can match, with what is left to look at and to write.
 *
 * @param order - tables, callers first; packets begin at the first
 * @param readBy - what an operation looks at
 * @returns the tables that packets can still come to, in this order
 */
export const specialise = (
  order: readonly number[],
  rules: ReadonlyMap<number, readonly DirectRule[]>,
  readBy: (op: Op) => readonly Member[],
): ReadonlyMap<number, readonly DirectRule[]> => {
  const written = writtenIn(order, rules);
  // A look-up with another port matches that.
  const knowsPort = ![...rules.values()].some((list) =>
    list.some(({ ops }) => ops.some((op) => op.op === "resubmit" && op.inPort !== undefined)),
  );
  const entries = new Map<number, Known>([[order[0]!, atFirst()]]);
  const follow = (from: Known, { rule, ops }: DirectRule): void => {
    const known = copyOf(from);
    learn(known, rule.match);
    if (!knowsPort) forget(known, "in_port");
    for (const op of ops) {
      if (op.op === "slow") return;
      if (op.op !== "resubmit") {
        apply(known, op);
        continue;
      }
      const entry = entries.get(op.table);
      if (entry === undefined) entries.set(op.table, copyOf(known));
      else meet(entry, known);
      for (const member of written.get(op.table)!) forget(known, member);
    }
  };
  const kept = new Map<number, readonly DirectRule[]>();
  for (const id of order) {
    const known = entries.get(id);
    if (known === undefined) continue;
    const masks = new Map<FlowWords, FlowWords>();
    const list: DirectRule[] = [];
    for (const rule of rules.get(id)!) {
      if (contradicts(known, rule.rule.match)) continue;
      let mask = masks.get(rule.mask);
      if (mask === undefined) masks.set(rule.mask, (mask = unknownOf(known, rule.mask)));
      list.push(mask === rule.mask ? rule : { ...rule, mask });
      if (rule.ops.some(({ op }) => op === "resubmit")) follow(known, rule);
      // What comes after a rule that every packet matches none does.
      if (mask.every((word) => word === 0)) break;
    }
    kept.set(id, list);
  }
  const read = readIn(kept.values(), readBy);
  const isDead = (op: Op): boolean =>
    (op.op === "set" || op.op === "move") && writtenBy(op).every((member) => isRegister(member) && !read.has(member));
  return new Map(
    [...kept].map(([id, list]) => [
      id,
      list.map((rule) => (rule.ops.some(isDead) ? { ...rule, ops: rule.ops.filter((op) => !isDead(op)) } : rule)),
    ]),
  );
};
