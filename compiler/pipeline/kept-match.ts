// Matches as tables keep them. A flow has some hundred words, and a match mostly demands bits of two to six of them: kept are
// the values of those, many matches in one buffer. A table of 100,000 rules lives in memory by this.

import { FLOW_WORDS, type FlowWords } from "../openflow/flow.js";
import type { Match } from "../openflow/types.js";

/** A mask, shared by all matches that have it, and where it has bits. */
export class MaskShape {
  /** Words of a flow in which the mask has bits, ascending. */
  readonly at: Uint8Array;
  /** The mask in those words. */
  readonly masks: Uint32Array;

  constructor(readonly mask: FlowWords) {
    const at: number[] = [];
    for (let word = 0; word < FLOW_WORDS; word++) if (mask[word] !== 0) at.push(word);
    this.at = Uint8Array.from(at);
    this.masks = Uint32Array.from(at, (word) => mask[word]!);
  }
}

/** A match whose value lies in `words` from `first` on, in the words of its shape. Reading `value` makes a flow of it. */
export class KeptMatch implements Match {
  declare readonly tunMetadata?: NonNullable<Match["tunMetadata"]>;

  constructor(
    readonly shape: MaskShape,
    readonly words: Uint32Array,
    readonly first: number,
    tunMetadata: Match["tunMetadata"],
  ) {
    if (tunMetadata !== undefined) this.tunMetadata = tunMetadata;
  }

  get mask(): FlowWords {
    return this.shape.mask;
  }

  get value(): FlowWords {
    const value = new Uint32Array(FLOW_WORDS);
    const { at } = this.shape;
    for (let i = 0; i < at.length; i++) value[at[i]!] = this.words[this.first + i]!;
    return value;
  }

  /** Whether a packet's flow matches. */
  matches(flow: FlowWords): boolean {
    const { at, masks } = this.shape;
    const { words, first } = this;
    for (let i = 0; i < at.length; i++) if (((flow[at[i]!]! ^ words[first + i]!) & masks[i]!) !== 0) return false;
    return true;
  }

  /** Whether `outer` matches all that this does. */
  isCoveredBy(outer: Match): boolean {
    const { at, masks } = this.shape;
    const { value, mask } = outer;
    let i = 0;
    for (let word = 0; word < FLOW_WORDS; word++) {
      const isKept = i < at.length && at[i] === word;
      const demanded = mask[word]!;
      if (demanded !== 0) {
        if (!isKept || (demanded & ~masks[i]!) !== 0) return false;
        if (((value[word]! ^ this.words[this.first + i]!) & demanded) !== 0) return false;
      }
      if (isKept) i++;
    }
    return true;
  }
}

/** Words per buffer: so few that a buffer does not long outlive most of its matches. */
const BUFFER_WORDS = 512;

/** Makes {@link KeptMatch}es whose values lie together: a buffer for each would take more memory than the values. */
export class MatchKeeper {
  #buffer = new Uint32Array(0);
  #used = 0;

  keep({ value, tunMetadata }: Match, shape: MaskShape): KeptMatch {
    const { at } = shape;
    if (this.#used + at.length > this.#buffer.length) {
      this.#buffer = new Uint32Array(BUFFER_WORDS);
      this.#used = 0;
    }
    const first = this.#used;
    for (let i = 0; i < at.length; i++) this.#buffer[first + i] = value[at[i]!]!;
    this.#used += at.length;
    return new KeptMatch(shape, this.#buffer, first, tunMetadata);
  }
}
