// Which megaflow the packets of the last flows went into, so that a burst of one flow is translated once although its packets
// come up before the first has been answered. A table of fixed size: a flow takes the place of another with the same hash, and
// nothing is allocated.

import { INPUT_WORDS_AT, type FlowWords } from "#compiler";
import type { Ukey } from "./ukey.js";

/** Flows remembered at most; a power of two. */
const SLOTS = 4096;
/** Odd constants of MurmurHash3. */
const [MIX_1, MIX_2] = [0xcc9e2d51, 0x1b873593] as const;

export class RecentFlows {
  private readonly ukeys = new Array<Ukey | undefined>(SLOTS).fill(undefined);

  /** The megaflow of a packet with this flow, if it is remembered and still there. */
  find(flow: FlowWords, ifindex: number): Ukey | undefined {
    const ukey = this.ukeys[slotOf(flow, ifindex)];
    if (ukey === undefined || ukey.isDeleted) return undefined;
    return ukey.maskClass.covers(ukey, flow, ifindex) ? ukey : undefined;
  }

  remember(flow: FlowWords, ifindex: number, ukey: Ukey): void {
    this.ukeys[slotOf(flow, ifindex)] = ukey;
  }

  clear(): void {
    this.ukeys.fill(undefined);
  }
}

const slotOf = (flow: FlowWords, ifindex: number): number => {
  let hash = ifindex;
  for (let word = INPUT_WORDS_AT; word < flow.length; word++) {
    hash = Math.imul(hash ^ flow[word]!, MIX_1);
    hash ^= hash >>> 15;
  }
  return (Math.imul(hash, MIX_2) >>> 16) & (SLOTS - 1);
};
