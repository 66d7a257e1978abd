// One tuple of the tuple-space classifier: all rules with one mask, found by hash. The mask is looked at in stages
// (metadata, L2, L3, L4 ports), as in OVS: an early stage whose bits already rule every entry out ends the look-up, and
// the later stages' bits stay wildcarded. Looking up allocates nothing.

import { FLOW, FLOW_WORDS, PACKET_WORDS_AT, type FlowWords, type Member } from "../openflow/flow.js";
import type { Match } from "../openflow/types.js";
import { KeptMatch, MatchKeeper, type MaskShape } from "./kept-match.js";
import { PrefixTrie, TrieAnswer } from "./prefix-trie.js";

/** What the classifier needs to know of a rule. */
export interface Classifiable {
  readonly match: Match;
  readonly priority: number;
  /** Absent: the rule is a match by itself. Else it is a clause, which matches only together with the others. */
  readonly clauses?: readonly Clause[] | undefined;
}

/** Clause `clause` (from 0) of the `clauses` of a conjunction. */
export interface Clause {
  readonly id: number;
  readonly clause: number;
  readonly clauses: number;
}

/** Number of stages. */
export const N_STAGES = 4;

// Members of the stages; all others are L3. OVS segments alike (lib/flow.h, FLOW_SEGMENT_*_ENDS_AT).
const L2: readonly Member[] = ["dl_dst", "dl_src", "vlan0_tpid", "vlan0_tci", "vlan1_tpid", "vlan1_tci", "dl_type"];
const L4: readonly Member[] = ["tp_src", "tp_dst"];
const stageOf = (member: Member): number =>
  FLOW[member].at < FLOW.dl_dst.at ? 0 : L2.includes(member) ? 1 : L4.includes(member) ? 3 : 2;

/** Per stage, the words of its bits. */
const STAGES: readonly Uint32Array[] = (() => {
  const stages = Array.from({ length: N_STAGES }, () => new Uint32Array(FLOW_WORDS));
  for (const [member, { at, bits }] of Object.entries(FLOW) as [Member, { at: number; bits: number }][]) {
    const stage = stages[stageOf(member)]!;
    for (let bit = at; bit < at + bits; bit++) stage[bit >>> 5]! |= 1 << (31 - (bit & 31));
  }
  return stages;
})();

/** Fields with a trie shared by the whole classifier. All start at a word. */
export const TRIE_MEMBERS = ["nw_src", "nw_dst", "ipv6_src", "ipv6_dst"] as const satisfies readonly Member[];

/** Stage in which each of {@link TRIE_MEMBERS} lies. */
export const TRIE_STAGE = 2;

/** The length of the prefix that `mask` has of a member that starts at a word, 0 when it has none or no prefix. */
const prefixLength = (mask: FlowWords, member: Member): number => {
  const { at, bits } = FLOW[member];
  let length = 0;
  let ended = false;
  for (let word = at >>> 5; word < (at + bits) >>> 5; word++) {
    const value = mask[word]!;
    if (ended ? value !== 0 : (~value & (~value + 1)) !== 0) return 0;
    if (ended) continue;
    const ones = Math.clz32(~value);
    length += ones;
    ended = ones < 32;
  }
  return length;
};

const PACKET_TYPE_WORD = FLOW.packet_type.at >>> 5;
const TP_SRC_WORD = FLOW.tp_src.at >>> 5;
const TP_SRC_SHIFT = 16 - (FLOW.tp_src.at & 31);
const TP_DST_WORD = FLOW.tp_dst.at >>> 5;
const TP_DST_SHIFT = 16 - (FLOW.tp_dst.at & 31);

/** Both ports of a flow or mask as one word, the source port first. */
const portsOf = (flow: FlowWords): number =>
  ((((flow[TP_SRC_WORD]! >>> TP_SRC_SHIFT) & 0xffff) << 16) | ((flow[TP_DST_WORD]! >>> TP_DST_SHIFT) & 0xffff)) >>> 0;

const orPorts = (mask: FlowWords, ports: number): void => {
  mask[TP_SRC_WORD]! |= (ports >>> 16) << TP_SRC_SHIFT;
  mask[TP_DST_WORD]! |= (ports & 0xffff) << TP_DST_SHIFT;
};

/** The nonzero words of one stage of the mask. */
interface Stage {
  readonly at: Uint8Array;
  readonly masks: Uint32Array;
  /** Stage number, 0..3. */
  readonly stage: number;
}

/** Rules with one value, and the rest of the chain: another value with the same hash. */
interface Bucket<R> {
  readonly match: KeptMatch;
  /** Of the highest priority. */
  rule: R;
  /** The others, sorted by priority, highest first; mostly there are none. */
  others: readonly R[] | undefined;
  readonly next: Bucket<R> | undefined;
}

const NO_RULES: readonly never[] = [];

const rulesOf = <R>({ rule, others }: Bucket<R>): readonly R[] => (others === undefined ? [rule] : [rule, ...others]);

/** Makes `rules`, of which there is one at least, those of a bucket. */
const setRules = <R>(bucket: Bucket<R>, [first, ...others]: readonly R[]): void => {
  bucket.rule = first!;
  bucket.others = others.length === 0 ? undefined : others;
};

const mix = (hash: number, word: number): number => {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  hash ^= Math.imul(k, 0x1b873593);
  hash = (hash << 13) | (hash >>> 19);
  return (Math.imul(hash, 5) + 0xe6546b64) | 0;
};

const hashStage = (flow: FlowWords, stage: Stage, basis: number): number => {
  const { at, masks } = stage;
  for (let i = 0; i < at.length; i++) basis = mix(basis, flow[at[i]!]! & masks[i]!);
  return basis;
};

const orStage = (mask: FlowWords, stage: Stage): void => {
  const { at, masks } = stage;
  for (let i = 0; i < at.length; i++) mask[at[i]!]! |= masks[i]!;
};

/** The answers of the shared tries for the flow in hand, in the order of {@link TRIE_MEMBERS}; taken on demand. */
export interface TrieAnswers {
  of(trie: number): TrieAnswer;
}

const PREFIX_PLACES = TRIE_MEMBERS.map((member) => FLOW[member].at >>> 5);

/** Whether the first `bits` bits at word `at` are all set. */
const prefixIsSet = (mask: FlowWords, at: number, bits: number): boolean => {
  for (; bits >= 32; bits -= 32, at++) if (mask[at] !== 0xffffffff) return false;
  return bits === 0 || (mask[at]! | (0xffffffff >>> bits)) >>> 0 === 0xffffffff;
};

const setPrefix = (mask: FlowWords, at: number, bits: number): void => {
  for (; bits >= 32; bits -= 32, at++) mask[at] = 0xffffffff;
  if (bits > 0) mask[at]! |= ~(0xffffffff >>> bits);
};

export class Subtable<R extends Classifiable> {
  /** Prefix length of each of {@link TRIE_MEMBERS} in the mask; 0 = no prefix. */
  readonly prefixLengths: readonly number[];
  /** Highest priority of any rule, -1 without rules; the classifier keeps its subtables in this order. */
  maxPriority = -1;
  size = 0;

  readonly #stages: readonly Stage[];
  /** Per stage but the last: how many rules have each hash of the stages so far. */
  readonly #counts: readonly Map<number, number>[];
  readonly #buckets = new Map<number, Bucket<R>>();
  readonly #priorities = new Map<number, number>();
  readonly #usesTries: boolean;
  /** Who looks at headers without saying what the packet begins with means an Ethernet header. */
  readonly #isEthernet: boolean;

  // Trie of the ports, when the last stage is nothing but ports: a miss there costs a prefix of them.
  readonly #portsMask: number;
  readonly #portsLength: number;
  readonly #portsTrie: PrefixTrie | undefined;
  readonly #portsValue = new Uint32Array(1);
  readonly #portsAnswer = new TrieAnswer();

  /** Keeps matches that nobody else does. */
  #keeper: MatchKeeper | undefined;

  constructor(readonly shape: MaskShape) {
    const { mask } = shape;
    this.prefixLengths = TRIE_MEMBERS.map((member) => prefixLength(mask, member));
    this.#isEthernet = mask[PACKET_TYPE_WORD] === 0 && mask.some((bits, i) => i >= PACKET_WORDS_AT && bits !== 0);
    this.#usesTries = this.prefixLengths.some((length) => length > 0);
    const stages: Stage[] = [];
    for (const [stage, words] of STAGES.entries()) {
      const at: number[] = [];
      for (let word = 0; word < FLOW_WORDS; word++) if ((mask[word]! & words[word]!) !== 0) at.push(word);
      const masks = at.map((word) => mask[word]! & words[word]!);
      if (at.length > 0) stages.push({ stage, at: Uint8Array.from(at), masks: Uint32Array.from(masks) });
    }
    this.#stages = stages;
    this.#counts = stages.slice(0, -1).map(() => new Map<number, number>());
    this.#portsMask = portsOf(mask);
    const lowest = (this.#portsMask & -this.#portsMask) >>> 0;
    this.#portsLength = lowest === 0 ? 0 : Math.clz32(lowest) + 1;
    this.#portsTrie = this.#portsMask === 0 ? undefined : new PrefixTrie(32);
  }

  get mask(): FlowWords {
    return this.shape.mask;
  }

  /**
   * Adds `rule`, whose mask is this subtable's; the caller makes sure that no rule has its value and priority.
   *
   * @param value - that of its match
   */
  insert(rule: R, value: FlowWords): void {
    const hash = this.#countStages(value, 1);
    const same = this.#bucketOf(hash, value);
    if (same === undefined) {
      const match = this.#keptOf(rule.match);
      this.#buckets.set(hash, { match, rule, others: undefined, next: this.#buckets.get(hash) });
    } else {
      const rules = rulesOf(same);
      const at = rules.findIndex((other) => other.priority < rule.priority);
      setRules(same, at < 0 ? [...rules, rule] : rules.toSpliced(at, 0, rule));
    }
    if (this.#portsTrie !== undefined) this.#portsTrie.insert(this.#ports(value), 0, this.#portsLength);
    this.#priorities.set(rule.priority, (this.#priorities.get(rule.priority) ?? 0) + 1);
    this.maxPriority = Math.max(this.maxPriority, rule.priority);
    this.size++;
  }

  #keptOf(match: Match): KeptMatch {
    if (match instanceof KeptMatch && match.shape === this.shape) return match;
    this.#keeper ??= new MatchKeeper();
    return this.#keeper.keep(match, this.shape);
  }

  /** Takes out `rule`, which must be in. @param value - that of its match */
  remove(rule: R, value: FlowWords): void {
    const hash = this.#countStages(value, -1);
    const same = this.#bucketOf(hash, value)!;
    if (same.others === undefined) {
      let rest: Bucket<R> | undefined;
      for (let b = this.#buckets.get(hash); b !== undefined; b = b.next) if (b !== same) rest = { ...b, next: rest };
      if (rest === undefined) this.#buckets.delete(hash);
      else this.#buckets.set(hash, rest);
    } else
      setRules(
        same,
        rulesOf(same).filter((other) => other !== rule),
      );
    if (this.#portsTrie !== undefined) this.#portsTrie.remove(this.#ports(value), 0, this.#portsLength);
    const left = this.#priorities.get(rule.priority)! - 1;
    if (left > 0) this.#priorities.set(rule.priority, left);
    else {
      this.#priorities.delete(rule.priority);
      if (rule.priority === this.maxPriority) this.maxPriority = Math.max(-1, ...this.#priorities.keys());
    }
    this.size--;
  }

  /** The rule with exactly this value and priority. */
  find(value: FlowWords, priority: number): R | undefined {
    let hash = 0;
    for (const stage of this.#stages) hash = hashStage(value, stage, hash);
    return this.#rulesAt(hash, value).find((rule) => rule.priority === priority);
  }

  /** The rule of next lower priority with the same value. */
  below({ match, priority }: R): R | undefined {
    const { value } = match;
    let hash = 0;
    for (const stage of this.#stages) hash = hashStage(value, stage, hash);
    return this.#rulesAt(hash, value).find((rule) => rule.priority < priority);
  }

  *rules(): Generator<R> {
    for (const head of this.#buckets.values()) {
      for (let b: Bucket<R> | undefined = head; b !== undefined; b = b.next) {
        yield b.rule;
        if (b.others !== undefined) yield* b.others;
      }
    }
  }

  /** Visits the rules all of whose flows `match` covers. */
  visitCovered(match: Match, visit: (rule: R) => void): void {
    // What a mask leaves open cannot be covered by a match that demands it.
    if (match.mask.some((bits, word) => (bits & ~this.mask[word]!) !== 0)) return;
    const isAny = match.mask.every((bits) => bits === 0);
    for (const head of this.#buckets.values()) {
      for (let b: Bucket<R> | undefined = head; b !== undefined; b = b.next) {
        if (!isAny && !b.match.isCoveredBy(match)) continue;
        visit(b.rule);
        b.others?.forEach(visit);
      }
    }
  }

  /**
   * The rule of highest priority that matches `flow`. The bits that decided are or-ed into `wc`: on a hit all of this
   * subtable's mask, on a miss those of the stages looked at, or a prefix that no rule has.
   */
  lookup(flow: FlowWords, wc: FlowWords, tries: TrieAnswers): R | undefined {
    if (this.#isEthernet && flow[PACKET_TYPE_WORD] !== 0) return undefined;
    const stages = this.#stages;
    const last = stages.length - 1;
    let hash = 0;
    for (let i = 0; i <= last; i++) {
      const stage = stages[i]!;
      if (stage.stage === TRIE_STAGE && this.#usesTries && this.#skippedByTries(wc, tries)) {
        return this.#missAfter(i, wc);
      }
      hash = hashStage(flow, stage, hash);
      if (i < last && !this.#counts[i]!.has(hash)) return this.#missAfter(i + 1, wc);
    }
    const bucket = this.#bucketOf(hash, flow);
    if (bucket === undefined && this.#portsTrie !== undefined) {
      this.#portsTrie.lookup(this.#ports(flow), 0, this.#portsAnswer);
      const { bits } = this.#portsAnswer;
      orPorts(wc, this.#portsMask & (bits === 0 ? 0 : ~0 << (32 - bits)));
      return this.#missAfter(last, wc);
    }
    this.#missAfter(last + 1, wc);
    return bucket?.rule;
  }

  /** Whether a trie proves that no rule here has the flow's prefix, at no more bits than this mask would cost. */
  #skippedByTries(wc: FlowWords, tries: TrieAnswers): boolean {
    for (let trie = 0; trie < this.prefixLengths.length; trie++) {
      const length = this.prefixLengths[trie]!;
      if (length === 0) continue;
      const answer = tries.of(trie);
      if (answer.has(length)) continue;
      const at = PREFIX_PLACES[trie]!;
      if (answer.bits <= length) {
        setPrefix(wc, at, answer.bits);
        return true;
      }
      if (prefixIsSet(wc, at, answer.bits)) return true;
    }
    return false;
  }

  /** Marks the first `n` stages as looked at. */
  #missAfter(n: number, wc: FlowWords): undefined {
    for (let i = 0; i < n; i++) orStage(wc, this.#stages[i]!);
    return undefined;
  }

  /** Counts a rule in or out of the early stages; returns the hash of all stages. */
  #countStages(value: FlowWords, change: 1 | -1): number {
    let hash = 0;
    for (const [i, stage] of this.#stages.entries()) {
      hash = hashStage(value, stage, hash);
      const counts = this.#counts[i];
      if (counts === undefined) break;
      const count = (counts.get(hash) ?? 0) + change;
      if (count > 0) counts.set(hash, count);
      else counts.delete(hash);
    }
    return hash;
  }

  #bucketOf(hash: number, flow: FlowWords): Bucket<R> | undefined {
    for (let b = this.#buckets.get(hash); b !== undefined; b = b.next) if (b.match.matches(flow)) return b;
    return undefined;
  }

  #rulesAt(hash: number, flow: FlowWords): readonly R[] {
    const bucket = this.#bucketOf(hash, flow);
    return bucket === undefined ? NO_RULES : rulesOf(bucket);
  }

  #ports(flow: FlowWords): Uint32Array {
    this.#portsValue[0] = portsOf(flow) & this.#portsMask;
    return this.#portsValue;
  }
}
