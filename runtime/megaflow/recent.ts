// Which megaflow the packets of the last flows went into, so that a burst of one flow is translated once although its packets
// come up before the first has been answered. A table of fixed size: a flow takes the place of another with the same hash, and
// nothing is allocated.

import { newFlow, type FlowWords } from "#compiler";
import type { Ukey } from "./ukey.js";

/** Flows remembered at most; a power of two. */
const SLOTS = 4096;
const FLOW_WORDS = newFlow().length;
/** Odd constants of MurmurHash3. */
const [MIX_1, MIX_2] = [0xcc9e2d51, 0x1b873593] as const;

export class RecentFlows {
  private readonly words = new Uint32Array(SLOTS * FLOW_WORDS);
  private readonly interfaces = new Uint32Array(SLOTS);
  private readonly ukeys = new Array<Ukey | undefined>(SLOTS).fill(undefined);

  /** The megaflow of a packet with this flow, if it is remembered and still there. */
  find(flow: FlowWords, ifindex: number): Ukey | undefined {
    const slot = slotOf(flow, ifindex);
    const ukey = this.ukeys[slot];
    if (ukey === undefined || ukey.isDeleted || this.interfaces[slot] !== ifindex) return undefined;
    const { words } = this;
    for (let at = slot * FLOW_WORDS, i = 0; i < FLOW_WORDS; i++) if (words[at + i] !== flow[i]) return undefined;
    return ukey;
  }

  /** @param flow - copied */
  remember(flow: FlowWords, ifindex: number, ukey: Ukey): void {
    const slot = slotOf(flow, ifindex);
    this.ukeys[slot] = ukey;
    this.interfaces[slot] = ifindex;
    this.words.set(flow, slot * FLOW_WORDS);
  }

  clear(): void {
    this.ukeys.fill(undefined);
  }
}

const slotOf = (flow: FlowWords, ifindex: number): number => {
  let hash = ifindex;
  for (let i = 0; i < FLOW_WORDS; i++) {
    hash = Math.imul(hash ^ flow[i]!, MIX_1);
    hash ^= hash >>> 15;
  }
  return (Math.imul(hash, MIX_2) >>> 16) & (SLOTS - 1);
};
