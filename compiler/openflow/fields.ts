// The field table: the only place where a match field is named. Text parser and printer, OXM codec, prerequisites,
// flow-key layout, help and manual read it. Names, aliases and properties are those of ovs-fields(7), OVS 3.1.

import type { Member } from "./flow.js";

/** Protocol that a packet must carry for a field to mean anything; OVS calls it the prerequisite. */
export type Prerequisite =
  | "none"
  | "vlan_vid"
  | "arp"
  | "ipv4"
  | "ipv6"
  | "ip_any"
  | "tcp"
  | "udp"
  | "sctp"
  | "icmpv4"
  | "icmpv6"
  | "nd"
  | "nd_solicit"
  | "nd_advert";

/** How a value is written in text. */
export type Format = "decimal" | "hex" | "mac" | "ipv4" | "ipv6" | "port" | "frag" | "tcp_flags";

export interface FieldSpec {
  /** Member of the flow that holds it. */
  readonly in: Member;
  /** Lowest bit of the field in the member, counted from the member's least significant bit. */
  readonly lsb: number;
  readonly bits: number;
  /** Whether arbitrary masks are allowed, or only exact match. */
  readonly mask: "any" | "exact";
  readonly needs: Prerequisite;
  readonly format: Format;
  /** Whether actions may set it. */
  readonly writable: boolean;
  /** OXM class and field number, OpenFlow 1.2+. */
  readonly oxm?: readonly [cls: number, field: number];
  /** NXM class (0 or 1) and field number. */
  readonly nxm?: readonly [cls: number, field: number];
  /** Other names accepted in text. */
  readonly aka: readonly string[];
  /** One sentence for help and manual. */
  readonly doc: string;
}

export const FIELDS = {
  in_port: {
    in: "in_port",
    lsb: 0,
    bits: 32,
    mask: "exact",
    needs: "none",
    format: "port",
    writable: true,
    oxm: [0x8000, 0],
    aka: ["in_port_oxm"],
    doc: "Port the packet came in by",
  },
} as const satisfies Record<string, FieldSpec>;

/** Name of a match field: OVS's `mf_field` name. */
export type FieldName = keyof typeof FIELDS;
