// What soundness of megaflow masks means, as functions: flows that a packet can have, flows that agree under a mask, and
// all that must then be equal.

import {
  fillHashes,
  FLOW,
  formatOdpActions,
  get,
  set,
  setBits,
  type FlowWords,
  type Member,
  type Translation,
} from "#compiler";

const VLAN_PRESENT = 0x1000;

const clear = (flow: FlowWords, ...members: readonly Member[]): void => {
  for (const member of members) {
    const { at, bits } = FLOW[member];
    for (let done = 0; done < bits; done += 16) setBits(flow, at + done, Math.min(16, bits - done), 0);
  }
};

/** Makes members that depend on others agree with them, as the parser would. */
export const settle = (flow: FlowWords): void => {
  for (const [tpid, tci] of [
    ["vlan0_tpid", "vlan0_tci"],
    ["vlan1_tpid", "vlan1_tci"],
  ] as const) {
    const present = (get(flow, tci) & VLAN_PRESENT) !== 0;
    if (!present) clear(flow, tpid, tci);
    else if (![0x8100, 0x88a8].includes(get(flow, tpid))) set(flow, tpid, 0x8100);
  }
  if ((get(flow, "vlan0_tci") & VLAN_PRESENT) === 0) clear(flow, "vlan1_tpid", "vlan1_tci");
  const type = get(flow, "dl_type");
  const [ipv4, ipv6, arp] = [type === 0x0800, type === 0x86dd, type === 0x0806 || type === 0x8035];
  if (!ipv6) clear(flow, "ipv6_src", "ipv6_dst", "ipv6_label");
  else set(flow, "ipv6_label", get(flow, "ipv6_label") & 0xfffff);
  if (!ipv4 && !arp) clear(flow, "nw_src", "nw_dst");
  if (!ipv4 && !ipv6) clear(flow, "nw_tos", "nw_ttl", "nw_frag");
  if (!ipv4 && !ipv6 && !arp) clear(flow, "nw_proto");
  const proto = get(flow, "nw_proto");
  const later = (get(flow, "nw_frag") & 2) !== 0;
  const ip = (ipv4 || ipv6) && !later;
  const icmp = ip && ((ipv4 && proto === 1) || (ipv6 && proto === 58));
  if (!ip || !(icmp || [6, 17, 132, 2].includes(proto))) clear(flow, "tp_src", "tp_dst");
  if (icmp) for (const member of ["tp_src", "tp_dst"] as const) set(flow, member, get(flow, member) & 0xff);
  if (!ip || proto !== 6) clear(flow, "tcp_flags");
  set(flow, "tcp_flags", get(flow, "tcp_flags") & 0xfff);
  const nd = icmp && ipv6 && [135, 136].includes(get(flow, "tp_src")) && get(flow, "tp_dst") === 0;
  if (!nd) clear(flow, "nd_target", "nd_reserved", "nd_options_type");
  if (!nd && !arp) clear(flow, "arp_sha", "arp_tha");
  fillHashes(flow);
};

/** Whether two flows have the same bits wherever `mask` has one. */
export const agrees = (a: FlowWords, b: FlowWords, mask: FlowWords): boolean =>
  mask.every((word, i) => ((a[i]! ^ b[i]!) & word) === 0);

/** All that must be equal, as a text: comparing texts is what takes no time. */
export const outcome = ({ actions, rules, groups, learns, error }: Translation): string =>
  JSON.stringify([
    formatOdpActions(actions),
    actions.map((action) => (action.kind === "set" ? [action.family, action.proto] : [])),
    rules.map(({ table, priority }) => [table, priority]),
    groups.map(({ group, bucket }) => [group.group.id, bucket?.bucket.id]),
    learns,
    error,
  ]);
