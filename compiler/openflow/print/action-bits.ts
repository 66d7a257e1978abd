// Sets of actions as bits, as switches say what they can do, by the names of OVS.

type Bits = readonly [in10: number | undefined, in11: number | undefined, from12: number | undefined];

const NONE = undefined;

/** In the order in which OVS lists actions. */
const ACTIONS: readonly (readonly [name: string, ...bits: Bits])[] = [
  ["output", 0, 0, 0],
  ["group", NONE, 22, 22],
  ["enqueue", 11, NONE, NONE],
  ["set_field", NONE, NONE, 25],
  ["set_vlan_vid", 1, 1, NONE],
  ["set_vlan_pcp", 2, 2, NONE],
  ["strip_vlan", 3, 18, 18],
  ["push_vlan", NONE, 17, 17],
  ["mod_dl_src", 4, 3, NONE],
  ["mod_dl_dst", 5, 4, NONE],
  ["mod_nw_src", 6, 5, NONE],
  ["mod_nw_dst", 7, 6, NONE],
  ["mod_nw_tos", 8, 7, NONE],
  ["mod_nw_ecn", NONE, 8, NONE],
  ["mod_nw_ttl", NONE, 23, 23],
  ["mod_tp_src", 9, 9, NONE],
  ["mod_tp_dst", 10, 10, NONE],
  ["dec_ttl", NONE, 24, 24],
  ["set_mpls_label", NONE, 13, NONE],
  ["set_mpls_tc", NONE, 14, NONE],
  ["set_mpls_ttl", NONE, 15, 15],
  ["dec_mpls_ttl", NONE, 16, 16],
  ["push_mpls", NONE, 19, 19],
  ["pop_mpls", NONE, 20, 20],
  ["set_queue", NONE, 21, 21],
];

/** Names of the actions that bits of OpenFlow 1.`minor` stand for. */
export const actionBitNames = (bits: number, minor: number): string => {
  const names = ACTIONS.filter(([, ...all]) => {
    const bit = all[Math.min(minor, 2)];
    return bit !== undefined && ((bits >>> bit) & 1) === 1;
  }).map(([name]) => name);
  return names.length === 0 ? "<none>" : names.join(" ");
};
