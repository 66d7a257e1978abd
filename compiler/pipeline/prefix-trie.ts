// A path-compressed binary trie of prefixes, as OVS's classifier keeps one per prefix field. It answers two questions
// about a value with one walk: which prefix lengths can match at all, and how many leading bits of the value prove it.
// Skipping a whole subtable then costs those few bits instead of the subtable's full mask.

/** Bits of the longest supported value: an IPv6 address. */
const MAX_BITS = 128;

interface Node {
  /**
   * The whole prefix from bit 0 as signed words, only the first `end` bits count. Fields rather than an array: there are
   * about as many nodes as rules, and a small typed array is larger than the rest of a node.
   */
  readonly word0: number;
  readonly word1: number;
  readonly word2: number;
  readonly word3: number;
  /** Number of bits of the prefix at which this node ends. */
  end: number;
  /** Rules whose prefix ends exactly here. */
  rules: number;
  zero: Node | undefined;
  one: Node | undefined;
}

const bitAt = (words: Uint32Array, base: number, bit: number): number =>
  (words[base + (bit >>> 5)]! >>> (31 - (bit & 31))) & 1;

const wordOf = (node: Node, word: number): number =>
  word === 0 ? node.word0 : word === 1 ? node.word1 : word === 2 ? node.word2 : node.word3;

/** The first bit in [from, to) in which a node's prefix and the value at `words[base]` differ, `to` when there is none. */
const firstDifference = (node: Node, words: Uint32Array, base: number, from: number, to: number): number => {
  for (let bit = from; bit < to;) {
    const word = bit >>> 5;
    const difference = ((wordOf(node, word) ^ words[base + word]!) & (0xffffffff >>> (bit & 31))) >>> 0;
    if (difference !== 0) return Math.min(to, (word << 5) + Math.clz32(difference));
    bit = (word + 1) << 5;
  }
  return to;
};

/** What one walk found; valid until the next walk with the same object. */
export class TrieAnswer {
  /** Leading bits of the value that determine `lengths`. */
  bits = 0;
  readonly #lengths = new Uint32Array((MAX_BITS >>> 5) + 1);

  reset(): void {
    this.bits = 0;
    this.#lengths.fill(0);
  }

  add(length: number): void {
    this.#lengths[length >>> 5]! |= 1 << (length & 31);
  }

  /** Whether some prefix of `length` bits contains the value. */
  has(length: number): boolean {
    return ((this.#lengths[length >>> 5]! >>> (length & 31)) & 1) !== 0;
  }
}

/** Prefixes of values of `bits` bits that lie in consecutive big-endian-ordered words. */
export class PrefixTrie {
  #root: Node | undefined;

  constructor(readonly bits: number) {}

  /** Adds one rule with the prefix of `length` > 0 bits whose value starts at `words[base]`. */
  insert(words: Uint32Array, base: number, length: number): void {
    let parent: Node | undefined;
    let node = this.#root;
    let from = 0;
    for (;;) {
      if (node === undefined) {
        this.#attach(parent, words, base, this.#leaf(words, base, length));
        return;
      }
      const differs = firstDifference(node, words, base, from, Math.min(node.end, length));
      if (differs < node.end) {
        const { word0, word1, word2, word3 } = node;
        const split: Node = { word0, word1, word2, word3, end: differs, rules: 0, zero: undefined, one: undefined };
        if (((wordOf(node, differs >>> 5) >>> (31 - (differs & 31))) & 1) === 0) split.zero = node;
        else split.one = node;
        this.#attach(parent, words, base, split);
        if (differs === length) split.rules = 1;
        else this.#attach(split, words, base, this.#leaf(words, base, length));
        return;
      }
      if (node.end === length) {
        node.rules++;
        return;
      }
      from = node.end;
      parent = node;
      node = bitAt(words, base, from) === 0 ? node.zero : node.one;
    }
  }

  /** Takes back one {@link insert} with the same prefix. */
  remove(words: Uint32Array, base: number, length: number): void {
    const path: Node[] = [];
    let node = this.#root;
    while (node !== undefined && node.end <= length) {
      path.push(node);
      if (node.end === length) break;
      node = bitAt(words, base, node.end) === 0 ? node.zero : node.one;
    }
    const last = path.at(-1);
    if (last === undefined || last.end !== length || last.rules === 0) return;
    last.rules--;
    // A node without rules and with fewer than two children is only an edge.
    for (let i = path.length - 1; i >= 0; i--) {
      const dead = path[i]!;
      if (dead.rules > 0 || (dead.zero !== undefined && dead.one !== undefined)) return;
      this.#attach(path[i - 1], words, base, dead.zero ?? dead.one);
    }
  }

  /** Walks the trie with the value at `words[base]`. */
  lookup(words: Uint32Array, base: number, answer: TrieAnswer): void {
    answer.reset();
    let previous: Node | undefined;
    let node = this.#root;
    let from = 0;
    while (node !== undefined) {
      const differs = firstDifference(node, words, base, from, node.end);
      if (differs < node.end) {
        answer.bits = differs + 1;
        return;
      }
      from = node.end;
      if (node.rules > 0) answer.add(from);
      if (from >= this.bits) {
        answer.bits = this.bits;
        return;
      }
      previous = node;
      node = bitAt(words, base, from) === 0 ? node.zero : node.one;
    }
    // The bit that chose the absent branch matters only when the other branch exists.
    const isLeaf = previous === undefined || (previous.zero === undefined && previous.one === undefined);
    answer.bits = isLeaf ? from : from + 1;
  }

  #leaf(words: Uint32Array, base: number, length: number): Node {
    const signed = (word: number): number => (word < this.bits >>> 5 ? words[base + word]! | 0 : 0);
    return {
      word0: signed(0),
      word1: signed(1),
      word2: signed(2),
      word3: signed(3),
      end: length,
      rules: 1,
      zero: undefined,
      one: undefined,
    };
  }

  /** Makes `child` the successor of `parent` (the root when undefined) on the branch that the value takes. */
  #attach(parent: Node | undefined, words: Uint32Array, base: number, child: Node | undefined): void {
    if (parent === undefined) this.#root = child;
    else if (bitAt(words, base, parent.end) === 0) parent.zero = child;
    else parent.one = child;
  }
}
