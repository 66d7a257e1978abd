// Matches as lists of fields on the wire: the Nicira extended match (NXM) of OpenFlow 1.0, and OXM of 1.2 and later. Which
// code a field gets and in what order fields come is as in OVS 3.1, so that the bytes are equal.

import { concatBytes, equalBytes, roundUp } from "ebpf-assembler";
import { etherType, FIELD_BYTES, fieldSpec, readField, WIRE_BYTES } from "../field-access.js";
import { FIELD_NAMES, type FieldName, type MinorVersion } from "../fields.js";
import { N_TUN_METADATA, type TunMetadataName } from "../fields/tun-metadata.js";
import { get } from "../flow.js";
import { ETH_TYPE, IP_PROTO, ND } from "../../packet/headers.js";
import { write16 } from "../../packet/words.js";
import { toBytes } from "../big-endian.js";
import type { Match } from "../types.js";
import type { ByteWriter } from "./bytes.js";
import { encodeFieldHeader, encodeHeader, toWireValue } from "./field-header.js";
import { WrittenMatches, type PlacedField } from "./match-template.js";

/** A match on cookies, which the Nicira extended match holds as if they were a field. */
export interface CookieMatch {
  readonly value: bigint;
  readonly mask: bigint;
}

/** Code of the pseudo-field NXM_NX_COOKIE. */
export const COOKIE_CODE = { cls: 1, field: 30 } as const;
const COOKIE_BYTES = 8;
const ALL_COOKIE_BITS = 0xffffffffffffffffn;

/** Type of an OXM match in its header (OFPMT_OXM). */
export const MATCH_TYPE_OXM = 1;
export const MATCH_HEADER_BYTES = 4;

/** Fields of which the flow holds fewer flags than the wire: a match on all of them is masked there. */
const NEVER_WHOLE: ReadonlySet<FieldName> = new Set<FieldName>(["ct_state", "tun_flags"]);

class Encoder {
  readonly parts: Uint8Array[] = [];
  /** Where the values are, in bytes from the first part. */
  readonly placed: PlacedField[] = [];
  private size = 0;
  /** A field came that only Ethernet packets have. */
  impliesEthernet = false;

  constructor(
    readonly match: Match,
    readonly minor: MinorVersion,
  ) {}

  entry(field: FieldName, value: Uint8Array, mask?: Uint8Array): void {
    const header = encodeFieldHeader(field, this.minor, mask !== undefined, value.length);
    this.parts.push(header, value, ...(mask === undefined ? [] : [mask]));
    this.placed.push({ field, valueAt: this.size + header.length });
    this.size += header.length + value.length + (mask?.length ?? 0);
    if (fieldSpec(field).needs !== "none") this.impliesEthernet = true;
  }

  /** What the match demands of each field, if it does. */
  put(...fields: readonly FieldName[]): void {
    for (const field of fields) {
      const mask = readField(this.match.mask, field);
      if (mask.every((byte) => byte === 0)) continue;
      const value = toWireValue(field, readField(this.match.value, field));
      const isWhole = fieldSpec(field).mask === "exact" || (!NEVER_WHOLE.has(field) && isFull(field, mask));
      if (isWhole) this.entry(field, value);
      else this.entry(field, value, toWireValue(field, mask));
    }
  }
}

/** The bytes of an exact mask of each field, as {@link readField} gives them. */
const FULL: ReadonlyMap<FieldName, Uint8Array> = new Map(
  FIELD_NAMES.map((field) => [field, toBytes((1n << BigInt(fieldSpec(field).bits)) - 1n, FIELD_BYTES[field])]),
);

const isFull = (field: FieldName, mask: Uint8Array): boolean => equalBytes(FULL.get(field)!, mask);

const TCP: readonly FieldName[] = ["tcp_src", "tcp_dst", "tcp_flags"];
const UDP: readonly FieldName[] = ["udp_src", "udp_dst"];
const SCTP: readonly FieldName[] = ["sctp_src", "sctp_dst"];
const ICMP: readonly FieldName[] = ["icmp_type", "icmp_code"];
const ICMPV6: readonly FieldName[] = ["icmpv6_type", "icmpv6_code"];
const ND_FIELDS: readonly FieldName[] = ["nd_reserved", "nd_target", "nd_options_type"];

const transport = ({ value }: Match, type: number, proto: number): readonly FieldName[] => {
  switch (proto) {
    case IP_PROTO.TCP:
      return TCP;
    case IP_PROTO.UDP:
      return UDP;
    case IP_PROTO.SCTP:
      return SCTP;
    case IP_PROTO.ICMP:
      return type === ETH_TYPE.IPV4 ? ICMP : [];
    case IP_PROTO.ICMPV6: {
      if (type !== ETH_TYPE.IPV6) return [];
      const message = get(value, "tp_src");
      if (get(value, "tp_dst") !== 0) return ICMPV6;
      if (message === ND.SOLICIT) return [...ICMPV6, ...ND_FIELDS, "nd_sll"];
      return message === ND.ADVERT ? [...ICMPV6, ...ND_FIELDS, "nd_tll"] : ICMPV6;
    }
    default:
      return [];
  }
};

const putIp = (e: Encoder, type: number): void => {
  if (type === ETH_TYPE.IPV4) e.put("ip_src", "ip_dst");
  else e.put("ipv6_src", "ipv6_dst");
  e.put("ip_frag", e.minor === 0 ? "nw_tos" : "ip_dscp", "nw_ecn", "nw_ttl", "ipv6_label");
  if (get(e.match.mask, "nw_proto") === 0) return;
  e.put("nw_proto", ...transport(e.match, type, get(e.match.value, "nw_proto")));
};

const putVlan = (e: Encoder): void => {
  if (e.minor === 0) {
    e.put("vlan_tci");
    return;
  }
  e.put("vlan_vid");
  const vid = get(e.match.value, "vlan0_tci") & 0x1fff;
  if (vid !== 0) e.put("vlan_pcp");
};

const putTunMetadata = (e: Encoder): void => {
  for (let i = 0; e.match.tunMetadata !== undefined && i < N_TUN_METADATA; i++) {
    const field: TunMetadataName = `tun_metadata${i}` as TunMetadataName;
    const demand = e.match.tunMetadata.get(field);
    if (demand !== undefined) e.entry(field, demand.value, demand.mask);
  }
};

const REGISTERS = Array.from({ length: 16 }, (_, i) => `reg${i}` as FieldName);
const XREGISTERS = Array.from({ length: 8 }, (_, i) => `xreg${i}` as FieldName);

const TUNNEL: readonly FieldName[] = [
  ...(["tun_id", "tun_flags", "tun_src", "tun_dst", "tun_ipv6_src", "tun_ipv6_dst"] as const),
  ...(["tun_gbp_id", "tun_gbp_flags"] as const),
];

const AFTER_TUN_METADATA: readonly FieldName[] = [
  ...(["tun_erspan_idx", "tun_erspan_ver", "tun_erspan_dir", "tun_erspan_hwid"] as const),
  ...(["tun_gtpu_flags", "tun_gtpu_msgtype"] as const),
  ...(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np", "nsh_spi", "nsh_si"] as const),
  ...(["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const),
];

const CONNECTION: readonly FieldName[] = [
  ...(["ct_state", "ct_zone", "ct_mark", "ct_label"] as const),
  ...(["ct_nw_src", "ct_ipv6_src", "ct_nw_dst", "ct_ipv6_dst"] as const),
];

/**
 * The fields that a match demands something of, without header and padding.
 *
 * @param minor - 0 for the Nicira extended match
 * @param cookie - NXM only
 */
export const encodeFields = (match: Match, minor: MinorVersion, cookie?: CookieMatch): Uint8Array =>
  encodePlaced(match, minor, cookie).bytes;

const encodePlaced = (
  match: Match,
  minor: MinorVersion,
  cookie?: CookieMatch,
): { readonly bytes: Uint8Array; readonly placed: readonly PlacedField[] } => {
  const e = new Encoder(match, minor);
  const type = etherType(match.value);
  if (get(match.value, "packet_type") !== 0) e.put("packet_type");
  e.put("dp_hash", "recirc_id", "conj_id", minor === 0 ? "in_port" : "in_port_oxm", "actset_output");
  e.put("eth_src", "eth_dst", "eth_type");
  putVlan(e);
  if (type === ETH_TYPE.MPLS || type === ETH_TYPE.MPLS_MCAST) e.put("mpls_tc", "mpls_bos", "mpls_ttl", "mpls_label");
  if (type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6) putIp(e, type);
  else if (type === ETH_TYPE.ARP || type === ETH_TYPE.RARP) e.put("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha");
  e.put(...TUNNEL);
  putTunMetadata(e);
  e.put(...AFTER_TUN_METADATA);
  e.put(...(minor < 5 ? REGISTERS : XREGISTERS));
  e.put("pkt_mark", ...CONNECTION);
  if (get(match.value, "ct_nw_proto") !== 0) e.put("ct_nw_proto", "ct_tp_src", "ct_tp_dst");
  e.put("metadata");
  if (cookie !== undefined && cookie.mask !== 0n) {
    const masked = cookie.mask !== ALL_COOKIE_BITS;
    e.parts.push(encodeHeader(COOKIE_CODE, masked, COOKIE_BYTES), toBytes(cookie.value & cookie.mask, COOKIE_BYTES));
    if (masked) e.parts.push(toBytes(cookie.mask, COOKIE_BYTES));
  }
  const saysEthernet = get(match.mask, "packet_type") !== 0 && get(match.value, "packet_type") === 0;
  if (saysEthernet && !e.impliesEthernet) {
    const before = [encodeFieldHeader("packet_type", minor, false), new Uint8Array(WIRE_BYTES.packet_type)];
    const shift = before.reduce((size, { length }) => size + length, 0);
    const placed = e.placed.map((each) => ({ ...each, valueAt: each.valueAt + shift }));
    return { bytes: concatBytes(...before, ...e.parts), placed };
  }
  return { bytes: concatBytes(...e.parts), placed: e.placed };
};

const padded = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(roundUp(bytes.length, 8));
  out.set(bytes);
  return out;
};

/**
 * A Nicira extended match, padded with zeros to a multiple of 8 bytes.
 *
 * @returns `length`: its bytes without the padding, which is said elsewhere in the message
 */
export const encodeNxm = (
  match: Match,
  cookie?: CookieMatch,
): { readonly bytes: Uint8Array; readonly length: number } => {
  const fields = encodeFields(match, 0, cookie);
  return { bytes: padded(fields), length: fields.length };
};

const withHeader = (fields: Uint8Array): Uint8Array => {
  const header = new Uint8Array(MATCH_HEADER_BYTES);
  write16(header, 0, MATCH_TYPE_OXM);
  write16(header, 2, MATCH_HEADER_BYTES + fields.length);
  return padded(concatBytes(header, fields));
};

/** An OXM match with its header, padded with zeros to a multiple of 8 bytes. */
export const encodeOxm = (match: Match, minor: MinorVersion): Uint8Array => withHeader(encodeFields(match, minor));

const written = new WrittenMatches();

/** Writes {@link encodeOxm} of a match whose mask does not change any more: what is like another is written quickly. */
export const putOxm = (writer: ByteWriter, match: Match, minor: MinorVersion): void => {
  if (written.put(writer, match, minor)) return;
  const { bytes: fields, placed } = encodePlaced(match, minor);
  const bytes = withHeader(fields);
  written.note(
    match,
    minor,
    bytes,
    placed.map((each) => ({ ...each, valueAt: each.valueAt + MATCH_HEADER_BYTES })),
  );
  writer.put(bytes);
};
