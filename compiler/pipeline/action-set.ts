// The order in which an action set (write_actions, and every group bucket) is carried out: OpenFlow 1.5.1 section 5.6,
// in the reading of OVS (lib/ofp-actions.c, ACTION_SET_ORDER). Of most kinds the last one written counts; the fields set
// stay in the order written; without something that sends the packet, nothing is carried out.

import type { Action, ActionKind } from "../openflow/types.js";

/** Each only once, in this order, before all sets. */
const SLOTS: readonly ActionKind[] = [
  ...(["strip_vlan", "pop_mpls", "decap", "encap", "push_mpls", "push_vlan"] as const),
  ...(["dec_ttl", "dec_mpls_ttl", "dec_nsh_ttl"] as const),
];

/** Of these only one is carried out, at the end: the later in this list, and of one kind the last written. */
const FINAL: readonly ActionKind[] = ["ct", "ct_clear", "resubmit", "output", "group"];

/** What may stand in an action set and is neither of the above is a set: all of them, in order. */
export const orderActionSet = (set: readonly Action[]): readonly Action[] => {
  if (set.length === 1 && FINAL.includes(set[0]!.kind)) return set;
  const slots: (Action | undefined)[] = SLOTS.map(() => undefined);
  const sets: Action[] = [];
  let final: Action | undefined;
  let finalClass = 0;
  for (const action of set) {
    const slot = SLOTS.indexOf(action.kind);
    const rank = FINAL.indexOf(action.kind);
    if (slot >= 0) slots[slot] = action;
    else if (rank < 0) sets.push(action);
    else if (rank >= finalClass) {
      final = action;
      finalClass = rank;
    }
  }
  return final === undefined ? [] : [...slots.filter((action) => action !== undefined), ...sets, final];
};
