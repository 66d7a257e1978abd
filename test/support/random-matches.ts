// Random matches in the syntax of ovs-ofctl over the whole field table: every field, each of its spellings and kinds of
// mask, with what it needs beside it. The same seed gives the same text.

import {
  FIELD_BYTES,
  FIELD_LIMIT,
  FIELD_NAMES,
  fieldSpec,
  ipv4Text,
  ipv6Text,
  isTunMetadata,
  macText,
  type FieldName,
  type Format,
  type Prerequisite,
} from "#compiler";
import type { Random } from "./random.js";

/** Words of a match without which a field means nothing, as alternatives. */
const NEEDS: Readonly<Record<Prerequisite, readonly string[]>> = {
  none: [""],
  ethernet: [""],
  vlan_vid: ["vlan_tci=0x1000/0x1000", "dl_vlan=7"],
  mpls: ["mpls", "mplsm"],
  arp: ["arp", "rarp"],
  ipv4: ["ip", "dl_type=0x800"],
  ipv6: ["ipv6", "ip6"],
  ip_any: ["ip", "ipv6", "tcp", "udp6"],
  nsh: ["dl_type=0x894f"],
  ct: ["ct_state=+est", "ct_state=+trk-inv", "ct_state=new|trk", "ct_state=+snat"],
  tcp: ["tcp", "tcp6", "ip,nw_proto=6"],
  udp: ["udp", "udp6"],
  sctp: ["sctp", "sctp6"],
  icmpv4: ["icmp"],
  icmpv6: ["icmp6"],
  nd: ["icmp6,icmp_type=135,icmp_code=0", "icmp6,icmpv6_type=136,icmpv6_code=0"],
  nd_solicit: ["icmp6,icmp_type=135,icmp_code=0"],
  nd_advert: ["icmp6,icmp_type=136,icmp_code=0"],
};

const FLAGS: Partial<Record<Format, readonly string[]>> = {
  tcp_flags: ["syn", "syn|ack", "+syn-ack", "0", "0x12/0x17", "+[800]-ns", "fin|2"],
  ct_state: ["trk", "+trk", "+est+trk-inv", "-trk", "0", "new|trk", "0x21/0x31", "+snat-dnat", "est|rpl|trk|8"],
  tun_flags: ["oam", "+oam", "-oam", "0", "1/1", "0/1"],
  frag: ["no", "yes", "first", "later", "not_later", "LATER"],
  packet_type: ["(1,0x800)", "(0,0)", "(1,34525)", "(0x1,0x6558)", "(2,5)"],
};

const number = (bytes: Uint8Array): bigint => bytes.reduce((n, byte) => (n << 8n) | BigInt(byte), 0n);

/** A number of at most `limit`: often small, often one of the ends. */
const below = (r: Random, limit: bigint, size: number): bigint => {
  const any = number(r.bytes(size)) % (limit + 1n);
  return r.pick([any, any, any % 16n, 0n, limit, any >> BigInt(r.below(8 * size))]);
};

const integer = (r: Random, field: FieldName, value: bigint): string => {
  const decimal = value < 1n << 63n && (!isTunMetadata(field) || r.oneIn(2));
  return r.pick(decimal ? [String(value), `0x${value.toString(16)}`] : [`0x${value.toString(16)}`]);
};

const numeric = (r: Random, field: FieldName): string => {
  const size = isTunMetadata(field) ? r.between(1, 40) : FIELD_BYTES[field];
  const limit = isTunMetadata(field) ? (1n << BigInt(8 * size)) - 1n : FIELD_LIMIT[field];
  const [least, most] = fieldSpec(field).range ?? [0, undefined];
  let value = most === undefined ? below(r, limit, size) : BigInt(r.between(least, most));
  if (field === "nw_tos") value &= 0xfcn;
  const text = integer(r, field, value);
  if (fieldSpec(field).mask !== "any" || r.oneIn(2)) return text;
  const mask = r.pick([below(r, limit, size), limit, limit & ~(limit >> BigInt(r.below(8 * size))), 0n]);
  return `${text}/${integer(r, field, mask)}`;
};

const withPrefix = (r: Random, text: (bytes: Uint8Array) => string, size: number): string => {
  const value = r.bytes(size);
  if (r.oneIn(4)) value.fill(0, r.below(size));
  if (r.oneIn(8)) value.fill(0, 0, r.below(size));
  const mask = r.bytes(size);
  // A digit at the beginning of an IPv6 mask makes it a prefix length for OVS.
  if (size === 16) mask[0]! |= 0xa0;
  return text(value) + r.pick(["", "", `/${r.between(0, 8 * size)}`, `/${text(mask)}`]);
};

const VALUE: Readonly<Record<Format, (r: Random, field: FieldName) => string>> = {
  decimal: numeric,
  hex: numeric,
  mac: (r) => {
    const value = macText(r.bytes(6));
    return r.oneIn(2) ? value : `${value}/${r.pick([macText(r.bytes(6)), "ff:ff:ff:00:00:00", "01:00:00:00:00:00"])}`;
  },
  ipv4: (r) => withPrefix(r, ipv4Text, 4),
  ipv6: (r) => withPrefix(r, ipv6Text, 16),
  port: (r) => r.pick(["1", "65279", "LOCAL", "controller", "NONE", "65534", "4294967294", "in_port"]),
  port16: (r) => r.pick(["1", "65279", "LOCAL", "ANY", "65533"]),
  tcp_flags: (r) => r.pick(FLAGS.tcp_flags!),
  ct_state: (r) => r.pick(FLAGS.ct_state!),
  tun_flags: (r) => r.pick(FLAGS.tun_flags!),
  frag: (r) => r.pick(FLAGS.frag!),
  packet_type: (r) => r.pick(FLAGS.packet_type!),
};

/** `FIELD=VALUE[/MASK]`, or seldom `FIELD` alone, by any name of the field. */
export const randomFieldText = (r: Random, field: FieldName): string => {
  const { aka, format, mask } = fieldSpec(field);
  const name = r.pick([field, field, ...aka]);
  return mask === "any" && r.oneIn(12) ? name : `${name}=${VALUE[format](r, field)}`;
};

const family = (field: FieldName): string =>
  field.startsWith("ct_ipv6") ? "ipv6" : field.startsWith("ct_nw_s") || field.startsWith("ct_nw_d") ? "ip" : "";

/** A field with what it needs. */
export const randomFieldMatch = (r: Random, field: FieldName): string =>
  [r.pick(NEEDS[fieldSpec(field).needs]), family(field), randomFieldText(r, field)]
    .filter((word) => word !== "")
    .join(",");

/** Fields that ovs-ofctl can match. */
export const MATCHABLE: readonly FieldName[] = FIELD_NAMES.filter(
  (field) => fieldSpec(field).codes.length > 0 || fieldSpec(field).openflow10 !== undefined,
);

/** Fields that need nothing beside them and so go with any others. */
const FREE: readonly FieldName[] = MATCHABLE.filter((field) => {
  const { needs, format } = fieldSpec(field);
  return (needs === "none" || needs === "ethernet") && field !== "eth_type" && format !== "packet_type";
});

/** One field with what it needs, others that need the same or nothing. */
export const randomMatch = (r: Random): string => {
  const field = r.pick(MATCHABLE);
  const { needs } = fieldSpec(field);
  const words = [randomFieldMatch(r, field)];
  const kin = MATCHABLE.filter((other) => fieldSpec(other).needs === needs && other !== field);
  const used = new Set<FieldName>([field]);
  for (let n = r.below(6); n > 0; n--) {
    const other = r.oneIn(2) && kin.length > 0 ? r.pick(kin) : r.pick(FREE);
    if (used.has(other) || fieldSpec(other).format === "packet_type" || other === "eth_type") continue;
    used.add(other);
    words.push(randomFieldText(r, other));
  }
  return words.join(",");
};
