// Which packet members can matter to the loaded tables: what the datapath key begins with. A member that is missed here is
// not lost, the key grows when a translation looks at it; but each growth builds the program and all keys anew.

import { FLOW, getBits, PACKET_MEMBERS, PORT, visitActions, type FlowWords, type Member, type Switch } from "#compiler";

const membersOf = (mask: FlowWords, into: Set<Member>): void => {
  for (const member of PACKET_MEMBERS) {
    if (into.has(member)) continue;
    const { at, bits } = FLOW[member];
    for (let i = 0; i < bits; i += 8) {
      if (getBits(mask, at + i, 8) === 0) continue;
      into.add(member);
      break;
    }
  }
};

/** What NORMAL looks at. */
const NORMAL_MEMBERS: readonly Member[] = ["dl_dst", "dl_src", "vlan0_tpid", "vlan0_tci"];

/** Members that the rules of a switch match, and those that its actions look at. */
export const membersThatMatter = (sw: Switch): Set<Member> => {
  const members = new Set<Member>(["in_port", "dl_type", "nw_frag"]);
  let hasNormal = sw.standaloneRule !== undefined;
  for (const rule of sw.rules()) {
    membersOf(rule.match.mask, members);
    visitActions(rule.actions, (action) => {
      if (action.kind === "output" && action.port === PORT.NORMAL) hasNormal = true;
      else if (action.kind === "dec_ttl") members.add("nw_ttl");
    });
  }
  if (hasNormal) for (const member of NORMAL_MEMBERS) members.add(member);
  return members;
};
