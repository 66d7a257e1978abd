// The flow in hand of a direct program: the members that its tables match, its actions read or write, and what is needed to
// write them back, on the stack in network byte order, as the parser leaves them (datapath/key.ts). in_port holds the
// interface index in host order. Registers and metadata come last and begin as zeros.

import { FLOW, type FlowWords, type Member } from "../openflow/flow.js";
import { isRegister } from "./ops.js";
import { PACKET_MEMBERS, keyLayout, keyMask, putKey, type KeyField, type KeyLayout } from "../datapath/key.js";

/** Both tags; they lie together, eight bytes, so that they can be kept and compared as a whole. */
export const TAG_MEMBERS: readonly Member[] = ["vlan0_tpid", "vlan0_tci", "vlan1_tpid", "vlan1_tci"];

/** Members that no hook gives a packet, and that nothing here sets: zero for every packet. */
const ZERO: ReadonlySet<Member> = new Set<Member>([
  "packet_type",
  "tun_id",
  "tun_src",
  "tun_dst",
  "tun_flags",
  "tun_ipv6_src",
  "tun_ipv6_dst",
  "pkt_mark",
  "recirc_id",
  "ct_state",
  "ct_zone",
  "ct_mark",
]);

/** Members that a packet does not bring along: zero when it comes in. */
const isExtra = (member: Member): boolean => !PACKET_MEMBERS.has(member);

/** Whether a direct program can hold the member. */
export const isHeld = (member: Member): boolean => PACKET_MEMBERS.has(member) || isRegister(member) || ZERO.has(member);

/** Lays out the flow in hand. */
export const stateLayout = (members: ReadonlySet<Member>): KeyLayout => {
  const tagged = TAG_MEMBERS.every((member) => members.has(member));
  const fields: KeyField[] = tagged ? TAG_MEMBERS.map((member, i) => ({ member, off: 2 * i, size: 2 })) : [];
  let at = tagged ? 8 : 0;
  const rest = keyLayout(new Set([...members].filter((member) => !tagged || !TAG_MEMBERS.includes(member))));
  fields.push(...rest.fields.map((field) => ({ ...field, off: field.off + at })));
  at += rest.size;
  // Metadata first: it is aligned to 8.
  for (const member of [...members]
    .filter(isExtra)
    .sort((a, b) => FLOW[b].bits - FLOW[a].bits || FLOW[a].at - FLOW[b].at)) {
    const size = FLOW[member].bits >>> 3;
    const align = Math.min(size, 8);
    at = Math.ceil(at / align) * align;
    fields.push({ member, off: at, size });
    at += size;
  }
  return { fields, size: Math.ceil(at / 8) * 8 };
};

/** What a rule demands, in bytes of the layout; `value` has no bit outside of `mask`. */
export interface Want {
  readonly value: Uint8Array;
  readonly mask: Uint8Array;
}

/** What matches demand; those of one mask object share the mask, so that it can be told by identity. */
export const wanting = (
  layout: KeyLayout,
): ((match: { readonly value: FlowWords; readonly mask: FlowWords }, ifindex: number) => Want) => {
  const masks = new Map<FlowWords, Uint8Array>();
  return (match, ifindex) => {
    let mask = masks.get(match.mask);
    if (mask === undefined) masks.set(match.mask, (mask = keyMask(layout, match.mask)));
    const value = new Uint8Array(layout.size);
    putKey(layout, match.value, ifindex, value);
    for (let i = 0; i < value.length; i++) value[i]! &= mask[i]!;
    return { value, mask };
  };
};
