// Copies of flows that live long, many in one buffer: a typed array of its own for each costs the garbage collector ten times
// as much. Only words that a packet that comes in can have are kept; all others are zero then.

import { FLOW, FLOW_WORDS, INPUT_WORDS_AT, type FlowWords } from "#compiler";

const IN_PORT_WORD = FLOW.in_port.at >>> 5;
/** Words of a kept flow: in_port, and the packet's own. */
export const KEPT_WORDS = 1 + FLOW_WORDS - INPUT_WORDS_AT;
/** Flows per chunk. A chunk is freed with the last flow in it. */
const CHUNK_FLOWS = 256;

/** A kept flow: {@link KEPT_WORDS} words of `chunk` from `at` on. */
export interface KeptFlow {
  readonly chunk: Uint32Array;
  readonly at: number;
}

export class FlowArena {
  /** Where the flow of the last {@link keep} lies. */
  chunk = new Uint32Array(0);
  at = 0;

  /** Keeps a copy; `chunk` and `at` say where. */
  keep(flow: FlowWords): void {
    this.at += KEPT_WORDS;
    if (this.at >= this.chunk.length) {
      this.chunk = new Uint32Array(CHUNK_FLOWS * KEPT_WORDS);
      this.at = 0;
    }
    const { chunk, at } = this;
    chunk[at] = flow[IN_PORT_WORD]!;
    for (let i = 1, word = INPUT_WORDS_AT; i < KEPT_WORDS; i++, word++) chunk[at + i] = flow[word]!;
  }
}

/** Writes a kept flow into a flow whose other words are zero. */
export const readKept = ({ chunk, at }: KeptFlow, into: FlowWords): FlowWords => {
  into[IN_PORT_WORD] = chunk[at]!;
  for (let i = 1, word = INPUT_WORDS_AT; i < KEPT_WORDS; i++, word++) into[word] = chunk[at + i]!;
  return into;
};

/** Where a word of a flow lies in a kept one; -1 for a word that is not kept. */
export const keptWord = (word: number): number =>
  word === IN_PORT_WORD ? 0 : word < INPUT_WORDS_AT ? -1 : 1 + word - INPUT_WORDS_AT;
