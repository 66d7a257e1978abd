// Datapath actions: what is left of an OpenFlow pipeline after translating one packet. The executor applies them to
// bytes, the emitter compiles their shape into BPF, the printer writes them as `ovs-appctl dpctl/dump-flows` does.

import { IP_PROTO } from "../packet/headers.js";
import type { FlowWords } from "../openflow/flow.js";
import type { Hop, TunnelKey } from "../packet/tunnel.js";
import type { Frozen } from "./frozen.js";

/** Parts of a packet that a `set` can rewrite, each a byte-aligned (or, where noted, packed) run of header bytes. */
export type SetTarget =
  | "eth_dst" // 6 bytes
  | "eth_src" // 6 bytes
  | "skb_priority" // 4 bytes, of the packet's buffer: the queue that it goes into
  | "mpls_lse" // 4 bytes: the outermost label stack entry
  | "nsh_flags" // 1, two bits
  | "nsh_ttl" // 1, six bits
  | "nsh_spi" // 3, service path ID
  | "nsh_si" // 1, service index
  | "nsh_c1" // 4, as the other context words
  | "nsh_c2"
  | "nsh_c3"
  | "nsh_c4"
  | "vlan_tci" // outer tag, 2 bytes: pcp(3) cfi(1) vid(12)
  | "arp_op" // 2 bytes
  | "arp_spa" // 4
  | "arp_tpa" // 4
  | "arp_sha" // 6
  | "arp_tha" // 6
  | "nw_src" // 4, IPv4, checksums follow
  | "nw_dst" // 4
  | "nw_tos" // 1, IPv4 TOS or IPv6 traffic class: all eight bits
  | "nw_ttl" // 1, IPv4 TTL or IPv6 hop limit
  | "ipv6_src" // 16
  | "ipv6_dst" // 16
  | "ipv6_label" // 4, low 20 bits
  | "tp_src" // 2, TCP, UDP or SCTP
  | "tp_dst" // 2
  | "icmp_type" // 1, ICMP or ICMPv6
  | "icmp_code" // 1
  | "nd_target" // 16
  | "nd_sll" // 6, source link-layer address option
  | "nd_tll" // 6, target link-layer address option
  | "nd_reserved" // 4
  | "nd_options_type"; // 1

/**
 * Why a packet must be handled by user space. `action` = controller action (a copy), `slow` = the datapath cannot carry
 * the flow's actions and user space carries them out.
 */
export type DpAction =
  /** Send a copy as it is now out of an OpenFlow port (a real one, LOCAL included). */
  | { readonly kind: "output"; readonly port: number }
  /**
   * Send a copy as it is now through a tunnel port, `header` (packet/tunnel.ts) in front of it, by `hop`; without one it is the
   * host's business how to reach the tunnel's other end.
   */
  | {
      readonly kind: "tnl_push";
      readonly port: number;
      readonly tunnel: TunnelKey;
      readonly header: Uint8Array;
      readonly hop?: Hop;
    }
  /** `bytes` in network order; what OVS writes as `set(...)`. `family` is the L3 protocol at that point where it matters. */
  | {
      readonly kind: "set";
      readonly target: SetTarget;
      readonly bytes: Uint8Array;
      readonly family: "ipv4" | "ipv6" | "arp" | "other";
      readonly proto: number;
    }
  /** `tci` as it goes onto the wire: pcp(3), 0, vid(12); the bit that flows keep as "present" is not in it. */
  | { readonly kind: "push_vlan"; readonly tpid: number; readonly tci: number }
  | { readonly kind: "pop_vlan" }
  /** A label stack entry in front of the others, or the first between Ethernet header and L3. */
  | { readonly kind: "push_mpls"; readonly ethertype: number; readonly lse: number }
  /** Takes the outermost label off; the packet is of this Ethernet type then. */
  | { readonly kind: "pop_mpls"; readonly ethertype: number }
  /** A label stack entry in front of all that the packet is. */
  | { readonly kind: "add_mpls"; readonly ethertype: number; readonly lse: number }
  /** An Ethernet header in front of a packet that has none; its type is what the packet is. */
  | { readonly kind: "push_eth"; readonly src: Uint8Array; readonly dst: Uint8Array }
  | { readonly kind: "pop_eth" }
  /** A network service header in front of all that the packet is. */
  | { readonly kind: "push_nsh"; readonly header: Uint8Array }
  /** Takes it off; a packet of unknown kind inside is dropped. */
  | { readonly kind: "pop_nsh" }
  /** Parses the packet again and takes the translation up again. */
  | { readonly kind: "recirc"; readonly frozen: Frozen }
  /** Meters the packet in a slot of the meter table. `remarks`: it may change the DSCP of the packet. */
  | { readonly kind: "meter"; readonly slot: number; readonly remarks: boolean }
  | {
      /**
       * Copy to the controller. `reason`: no_match, action, invalid_ttl, action_set, group, packet_out, and for misses
       * explicit_miss (by a flow) and implicit_miss (there is none).
       */
      readonly kind: "controller";
      readonly reason: string;
      readonly maxLen: number;
      readonly controllerId: number;
      readonly table: number;
      readonly cookie: bigint;
      /** What the pipeline has beside the packet: the words of a flow before PACKET_WORDS_AT. */
      readonly metadata: FlowWords;
      /** What the flow gives the controller along. */
      readonly userdata?: Uint8Array;
      /** The controller is to take the packet up again; it goes nowhere by itself. */
      readonly continuation?: true;
      /** Where it goes on then. */
      readonly frozen?: Frozen;
    }
  /** The next action that sends the packet leaves as many bytes out at its end as it is longer now than `maxLen`. */
  | { readonly kind: "trunc"; readonly maxLen: number }
  /** Carries out a list on a copy of the packet. */
  | { readonly kind: "clone"; readonly actions: readonly DpAction[] }
  /** Carries out one of two lists on a copy of the packet, by whether it is longer than `length` bytes. */
  | {
      readonly kind: "check_pkt_len";
      readonly length: number;
      readonly greater: readonly DpAction[];
      readonly lessEqual: readonly DpAction[];
    };

/** The lists inside an action; none for most. */
export const nestedDpActions = (action: DpAction): readonly (readonly DpAction[])[] =>
  action.kind === "clone"
    ? [action.actions]
    : action.kind === "check_pkt_len"
      ? [action.greater, action.lessEqual]
      : [];

/** What of a set, beside its target, decides the code that carries it out. */
const setKey = ({ target, family, proto }: Extract<DpAction, { kind: "set" }>): string => {
  // Ports and ICMP types lie at one place in every L4 protocol; which checksum follows them is read from the packet.
  const sctp = target.startsWith("tp_") && proto === IP_PROTO.SCTP ? ":sctp" : "";
  const byFamily = target.startsWith("nw_") || target.startsWith("tp_") || target.startsWith("icmp_");
  return `set:${target}${byFamily ? `:${family}` : ""}${sctp}`;
};

const keyOf = (action: DpAction): string => {
  switch (action.kind) {
    case "set":
      return setKey(action);
    case "tnl_push":
      return `tnl_push:${action.tunnel.type}:${action.tunnel.dst.length === 4 ? "ipv4" : "ipv6"}:${action.header.length}`;
    default:
      return action.kind;
  }
};

/** Actions without their arguments: two lists of one shape run the same code with other arguments. */
export const shapeOf = (actions: readonly DpAction[]): string => actions.map(keyOf).join(",");
