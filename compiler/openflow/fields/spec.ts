// What a row of the field table says. A row describes a field twice: as a value (what is written in text and sent on the
// wire) and as a run of bits of the flow. The two mostly coincide; `valueBits`, `valueShift`, `bytes` and the comments of
// the rows say where they do not.

import { RangeViolation } from "ebpf-assembler";
import type { Member } from "../flow.js";

/** Protocol that a packet must carry for a field to mean anything; OVS calls it the prerequisite. */
export type Prerequisite =
  | "none"
  | "ethernet"
  | "vlan_vid"
  | "mpls"
  | "arp"
  | "ipv4"
  | "ipv6"
  | "ip_any"
  | "nsh"
  | "ct"
  | "tcp"
  | "udp"
  | "sctp"
  | "icmpv4"
  | "icmpv6"
  | "nd"
  | "nd_solicit"
  | "nd_advert";

/** How a value is written in text. */
export type Format =
  | "decimal"
  | "hex"
  | "mac"
  | "ipv4"
  | "ipv6"
  | "port"
  | "port16"
  | "frag"
  | "tcp_flags"
  | "tun_flags"
  | "ct_state"
  | "packet_type";

/** Minor version of OpenFlow: 0 for 1.0, which in these tables also stands for the Nicira extended match. */
export type MinorVersion = 0 | 1 | 2 | 3 | 4 | 5;

/** One of the codes that a field has on the wire. */
export interface FieldCode {
  /** Name, accepted in subfields and in text of matches as codes. */
  readonly name: string;
  /** OXM class; {@link EXPERIMENTER_CLASS} goes with an `experimenter`. */
  readonly cls: number;
  /** 0..127. */
  readonly field: number;
  /** 32-bit ID that follows the header. */
  readonly experimenter?: number;
  /** Version from which on the code goes before those listed before it. */
  readonly since: MinorVersion;
}

/** OXM class of codes with an experimenter ID (OFPXMC_EXPERIMENTER). */
export const EXPERIMENTER_CLASS = 0xffff;

/** Class and experimenter by the beginning of a code's name; the first that fits counts. */
const CLASSES: readonly (readonly [prefix: string, cls: number, experimenter?: number])[] = [
  ["NXM_OF_", 0x0000],
  ["NXM_NX_", 0x0001],
  ["ERICOXM_OF_", 0x1000],
  ["OXM_OF_PKT_REG", 0x8001],
  ["OXM_OF_", 0x8000],
  ["ONFOXM_ET_", EXPERIMENTER_CLASS, 0x4f4e4600],
  ["NXOXM_ET_", EXPERIMENTER_CLASS, 0x00002320],
  ["NXOXM_NSH_", EXPERIMENTER_CLASS, 0x005ad650],
];

/**
 * A code by its name and field number.
 *
 * @throws {@link RangeViolation} for a name of no known class
 */
export const code = (name: string, field: number, since: MinorVersion = 0): FieldCode => {
  const found = CLASSES.find(([prefix]) => name.startsWith(prefix));
  if (found === undefined)
    throw new RangeViolation(`Cannot find the class of ${name}: want a name like OXM_OF_ETH_DST`);
  const [, cls, experimenter] = found;
  return { name, cls, field, since, ...(experimenter === undefined ? {} : { experimenter }) };
};

export interface FieldSpec {
  /** Member of the flow that holds it; of several members in a row, the last. */
  readonly in: Member;
  /** Lowest bit of the field in the member, counted from the member's least significant bit. */
  readonly lsb: number;
  /** Bits of the flow that the field matches. */
  readonly bits: number;
  /** Width of the value where it is not `bits`: what `FIELD[]` means and what bounds `FIELD[a..b]`. */
  readonly valueBits?: number;
  /** Bit of the value that lies at `lsb`, where it is not 0: `nw_tos` is written with its two ECN bits, matched without. */
  readonly valueShift?: number;
  /** Bytes of a value where they are more than its bits need. */
  readonly bytes?: number;
  /** Least and largest value that a switch accepts, where it looks. */
  readonly range?: readonly [least: number, most: number];
  /** Whether arbitrary masks are allowed, or only exact match. */
  readonly mask: "any" | "exact";
  readonly needs: Prerequisite;
  readonly format: Format;
  /** Whether actions may set it. */
  readonly writable: boolean;
  /** Codes on the wire, by rising `since`; a field without any is matched and set by others, or not at all. */
  readonly codes: readonly FieldCode[];
  /** How the match of OpenFlow 1.0 carries it, when it does; `cidr`: exact or with a prefix. */
  readonly openflow10?: "exact" | "cidr";
  /** How the match of OpenFlow 1.1 carries it, when it does. */
  readonly openflow11?: "exact" | "masked";
  /** Other names accepted in text. */
  readonly aka: readonly string[];
  /** One sentence for help and manual. */
  readonly doc: string;
}
