// Tuple-space classifier: finds the rule of highest priority that matches a flow, and which bits of the flow decided.
// One subtable per mask, highest priority first; stages and prefix tries keep the deciding bits few. It guarantees that
// any flow equal to the looked-up one in the bits it adds to the mask gets the same answer. Methods as in OVS
// lib/classifier.h; no look-up allocates.

import { FLOW, FLOW_WORDS, get, newFlow, set, type FlowWords } from "../openflow/flow.js";
import type { Match } from "../openflow/types.js";
import { KeptMatch, MaskShape } from "./kept-match.js";
import { PrefixTrie, TrieAnswer } from "./prefix-trie.js";
import { Subtable, TRIE_MEMBERS, type Classifiable, type TrieAnswers } from "./subtable.js";

export type { Classifiable, Clause } from "./subtable.js";

const TRIE_WORDS = TRIE_MEMBERS.map((member) => FLOW[member].at >>> 5);

/** The words of a mask that are not zero, mostly a few. */
const keyOf = (mask: FlowWords): string => {
  let key = "";
  for (let word = 0; word < mask.length; word++) if (mask[word] !== 0) key += `${word}:${mask[word]!},`;
  return key;
};

/** The tries of one classifier, and their answers for one flow. */
class Tries implements TrieAnswers {
  readonly #tries = TRIE_MEMBERS.map((member) => new PrefixTrie(FLOW[member].bits));
  readonly #answers = TRIE_MEMBERS.map(() => new TrieAnswer());
  #flow: FlowWords = newFlow();
  #answered = 0;

  start(flow: FlowWords): void {
    this.#flow = flow;
    this.#answered = 0;
  }

  of(trie: number): TrieAnswer {
    const answer = this.#answers[trie]!;
    if ((this.#answered & (1 << trie)) === 0) {
      this.#tries[trie]!.lookup(this.#flow, TRIE_WORDS[trie]!, answer);
      this.#answered |= 1 << trie;
    }
    return answer;
  }

  change(how: "insert" | "remove", value: FlowWords, prefixLengths: readonly number[]): void {
    for (const [trie, length] of prefixLengths.entries()) {
      if (length > 0) this.#tries[trie]![how](value, TRIE_WORDS[trie]!, length);
    }
  }
}

/** Whether all flows that `inner` matches are matched by `outer`. */
export const covers = (outer: Match, inner: Match): boolean => {
  if (inner instanceof KeptMatch) return inner.isCoveredBy(outer);
  const { value, mask } = inner;
  const outerValue = outer.value;
  return outer.mask.every(
    (bits, word) => (bits & ~mask[word]!) === 0 && ((outerValue[word]! ^ value[word]!) & bits) === 0,
  );
};

/** Whether some flow is matched by both. */
export const overlaps = (a: Match, b: Match): boolean => {
  const [{ value, mask }, other] = [a, b.value];
  for (let word = 0; word < FLOW_WORDS; word++) {
    if (((value[word]! ^ other[word]!) & mask[word]! & b.mask[word]!) !== 0) return false;
  }
  return true;
};

export class Classifier<R extends Classifiable> {
  readonly #byMask = new Map<string, Subtable<R>>();
  /** Rules share the masks of their subtables: those need not be looked at again. */
  readonly #byOwnMask = new WeakMap<FlowWords, Subtable<R>>();
  /** Highest maximal priority first. */
  #subtables: Subtable<R>[] = [];
  readonly #tries = new Tries();
  #size = 0;
  /** Rules that are clauses of conjunctions. */
  #nClauses = 0;

  get size(): number {
    return this.#size;
  }

  /** Number of different masks. */
  get masks(): number {
    return this.#subtables.length;
  }

  #subtableOf(mask: FlowWords): Subtable<R> | undefined {
    return this.#byOwnMask.get(mask) ?? this.#byMask.get(keyOf(mask));
  }

  /** The rule with exactly this match and priority. */
  find(match: Match, priority: number): R | undefined {
    return this.#subtableOf(match.mask)?.find(match.value, priority);
  }

  /** What stands for this mask here, so that matches with one mask can share it. */
  shapeOf(mask: FlowWords): MaskShape {
    return this.#subtableOf(mask)?.shape ?? new MaskShape(mask);
  }

  /** Visits the rules all of whose flows `match` covers. */
  visitCovered(match: Match, visit: (rule: R) => void): void {
    for (const subtable of this.#subtables) subtable.visitCovered(match, visit);
  }

  /** Adds `rule`; {@link find} must give nothing for it. */
  insert(rule: R): void {
    const { match } = rule;
    const { value, mask } = match;
    let subtable = this.#subtableOf(mask);
    if (subtable === undefined) {
      subtable = new Subtable<R>(match instanceof KeptMatch ? match.shape : new MaskShape(mask));
      this.#byMask.set(keyOf(mask), subtable);
      this.#byOwnMask.set(subtable.mask, subtable);
      this.#subtables.push(subtable);
    }
    const before = subtable.maxPriority;
    subtable.insert(rule, value);
    if (subtable.maxPriority !== before) this.#sort();
    this.#tries.change("insert", value, subtable.prefixLengths);
    if (rule.clauses !== undefined) this.#nClauses++;
    this.#size++;
  }

  /** Takes out `rule`, which must be in. */
  remove(rule: R): void {
    const { value, mask } = rule.match;
    const subtable = this.#subtableOf(mask)!;
    const before = subtable.maxPriority;
    subtable.remove(rule, value);
    this.#tries.change("remove", value, subtable.prefixLengths);
    if (rule.clauses !== undefined) this.#nClauses--;
    if (subtable.size === 0) {
      this.#byMask.delete(keyOf(subtable.mask));
      this.#byOwnMask.delete(subtable.mask);
      this.#subtables = this.#subtables.filter((other) => other !== subtable);
    } else if (subtable.maxPriority !== before) this.#sort();
    this.#size--;
  }

  /**
   * The rule of highest priority that matches; of several with that priority, any one, always the same. Clauses that
   * match together stand for the rule on their conj_id.
   *
   * @param flow - the same again when this returns
   * @param wc - gets the bits that decided or-ed in, those of the packet type not: it is no part of a packet that comes in
   */
  lookup(flow: FlowWords, wc: FlowWords): R | undefined {
    return this.#nClauses === 0 ? this.#lookupPlain(flow, wc) : this.#lookupWithClauses(flow, wc);
  }

  #lookupPlain(flow: FlowWords, wc: FlowWords): R | undefined {
    this.#tries.start(flow);
    let best: R | undefined;
    let priority = -1;
    for (const subtable of this.#subtables) {
      if (subtable.maxPriority <= priority) break;
      const rule = subtable.lookup(flow, wc, this.#tries);
      if (rule !== undefined && rule.priority > priority) {
        best = rule;
        priority = rule.priority;
      }
    }
    return best;
  }

  /** OVS classifier_lookup__(): clauses count only above the best rule that matches by itself. */
  #lookupWithClauses(flow: FlowWords, wc: FlowWords): R | undefined {
    this.#tries.start(flow);
    let hard: R | undefined;
    let soft: R[] = [];
    const take = (rule: R): void => {
      if (rule.clauses !== undefined) soft.push(rule);
      else if (hard === undefined || rule.priority > hard.priority) hard = rule;
    };
    for (const subtable of this.#subtables) {
      const floor: number = hard?.priority ?? -1;
      if (subtable.maxPriority <= floor) break;
      const rule = subtable.lookup(flow, wc, this.#tries);
      if (rule !== undefined && rule.priority > floor) take(rule);
    }
    for (;;) {
      const floor: number = hard?.priority ?? -1;
      soft = soft.filter((rule) => rule.priority > floor);
      if (soft.length === 0) return hard;
      const priority = Math.max(...soft.map((rule) => rule.priority));
      const highest = soft.filter((rule) => rule.priority === priority);
      const found = this.#lookupConjunctions(flow, wc, highest);
      if (found !== undefined) return found;
      // What these clauses hide are rules with the same match and a lower priority.
      soft = soft.filter((rule) => rule.priority < priority);
      for (const rule of highest) {
        const below = this.#subtableOf(rule.match.mask)!.below(rule);
        if (below !== undefined) take(below);
      }
    }
  }

  /** The rule on the conj_id of a conjunction all of whose clauses are among `clauses`. */
  #lookupConjunctions(flow: FlowWords, wc: FlowWords, rules: readonly R[]): R | undefined {
    const met = new Map<number, Set<number>>();
    for (const { id, clause, clauses } of rules.flatMap((rule) => rule.clauses!)) {
      if (clauses > rules.length) continue;
      const have = met.get(id) ?? new Set();
      met.set(id, have.add(clause));
      if (have.size < clauses) continue;
      const saved = get(flow, "conj_id");
      set(flow, "conj_id", id);
      const found = this.#lookupRules(flow, wc);
      set(flow, "conj_id", saved);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** As if clauses were no rules. */
  #lookupRules(flow: FlowWords, wc: FlowWords): R | undefined {
    this.#tries.start(flow);
    let best: R | undefined;
    for (const subtable of this.#subtables) {
      const floor: number = best?.priority ?? -1;
      if (subtable.maxPriority <= floor) break;
      const rule = subtable.lookup(flow, wc, this.#tries);
      if (rule !== undefined && rule.clauses === undefined && rule.priority > floor) best = rule;
    }
    return best;
  }

  *[Symbol.iterator](): Generator<R> {
    for (const subtable of this.#subtables) yield* subtable.rules();
  }

  /** The masks that rules have, each once. */
  get distinctMasks(): readonly FlowWords[] {
    return this.#subtables.map(({ mask }) => mask);
  }

  #sort(): void {
    this.#subtables.sort((a, b) => b.maxPriority - a.maxPriority);
  }
}
