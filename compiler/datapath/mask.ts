// From the mask of a translation to the mask that a datapath program looks megaflows up by.

import { copyFlow, FLOW, get, getBits, newFlow, set, type FlowWords, type Member } from "../openflow/flow.js";
import type { Translation } from "../pipeline/translate.js";

const L4: readonly Member[] = ["tp_src", "tp_dst", "tcp_flags"];

const hasBits = (mask: FlowWords, member: Member): boolean => {
  const { at, bits } = FLOW[member];
  return getBits(mask, at, bits) !== 0;
};

/**
 * The mask without the fragment bits when they cannot matter. Translation always marks them for IP, as OVS does; but what
 * a fragment changes is that its L4 fields count as zero. So for a packet that is no fragment, under a mask without L4 bits
 * and where nothing looked at the fragment bits themselves, they can be left out: a fragment that matches would have been
 * translated alike. A pure L2 switch need not parse IP then.
 *
 * @param flow - the packet that was translated
 * @param into - where a copy goes; absent, a new array
 * @returns the translation's mask itself or a copy
 */
export const lookupMask = (
  flow: FlowWords,
  { mask, looksAtFrag }: Pick<Translation, "mask" | "looksAtFrag">,
  into?: FlowWords,
): FlowWords => {
  if (!hasBits(mask, "nw_frag") || get(flow, "nw_frag") !== 0) return mask;
  if (looksAtFrag || L4.some((member) => hasBits(mask, member))) return mask;
  const copy = into ?? newFlow();
  copyFlow(copy, mask);
  set(copy, "nw_frag", 0);
  return copy;
};
