// Reading, writing and matching a field of a flow, from its row in the field table. Everything that depends on the
// field name only is computed once, so that a look-up per packet is one property access.
//
// The oddities of OVS fields live here and nowhere else: a VLAN priority or OpenFlow 1.0 VLAN ID carries the "present"
// bit of the tag along, vlan_tci and the like bring a TPID into being, in_port has a 16-bit numbering.

import { FIELD_NAMES, FIELDS } from "./fields.js";
import type { FieldCode, FieldName, FieldSpec, MinorVersion, Prerequisite } from "./fields.js";
import { FLOW, get, getBits, getBytes, set, setBits, setBytes, setOnes } from "./flow.js";
import type { FlowWords, Member, Place } from "./flow.js";
import { CT_STATE_FLAGS } from "./flag-names.js";
import { isTunMetadata, TUN_METADATA_BYTES, type TunMetadataName } from "./fields/tun-metadata.js";
import { CT_STATE, PACKET_TYPE_NS, VLAN_PRESENT } from "./numbers.js";
import { ETH_TYPE, IP_PROTO, ND, NW_FRAG } from "../packet/headers.js";
import type { Match, Subfield, TunMetadataDemand } from "./types.js";

/** The row of a field, with every optional column present. */
export const fieldSpec: (field: FieldName) => FieldSpec = (field) => FIELDS[field];

const perField = <T>(make: (row: FieldSpec, name: FieldName) => T): Readonly<Record<FieldName, T>> =>
  Object.fromEntries(FIELD_NAMES.map((name) => [name, make(FIELDS[name], name)])) as Record<FieldName, T>;

/** The run of flow bits that belongs to a field. */
export const FIELD_PLACE: Readonly<Record<FieldName, Place>> = perField((row) => {
  const member = FLOW[row.in];
  return { at: member.at + member.bits - row.lsb - row.bits, bits: row.bits };
});

/** Width in bits of a field as actions see it: `FIELD[]` is `FIELD[0..width - 1]`. OVS `n_bits`. */
export const FIELD_WIDTH: Readonly<Record<FieldName, number>> = perField((row) => row.valueBits ?? row.bits);

/** Bytes that hold a value of the field: the length of `set_field` values. Of tunnel options, the longest. */
export const FIELD_BYTES: Readonly<Record<FieldName, number>> = perField(
  (row) => row.bytes ?? ((row.valueBits ?? row.bits) + 7) >>> 3,
);

/** Bytes of a value on the wire: 1, 2, 4, 6, 8 or 16, or the most of a tunnel option. */
export const WIRE_BYTES: Readonly<Record<FieldName, number>> = perField((_, name) =>
  FIELD_BYTES[name] === 3 ? 4 : FIELD_BYTES[name],
);

/** Bits of a value that mean something; OVS refuses values with others. As a number, the largest value. */
export const FIELD_LIMIT: Readonly<Record<FieldName, bigint>> = perField((row, name) => {
  const own = { arp_op: 0xffn, ct_state: BigInt(CT_STATE_FLAGS.allowed) } as Partial<Record<FieldName, bigint>>;
  return own[name] ?? (1n << BigInt(Math.max(row.bits, row.valueBits ?? 0))) - 1n;
});

const byName: ReadonlyMap<string, FieldName> = new Map(
  FIELD_NAMES.flatMap((name) => [name, ...fieldSpec(name).aka].map((alias) => [alias, name] as const)),
);

const byCode: ReadonlyMap<string, FieldName> = new Map(
  FIELD_NAMES.flatMap((name) => fieldSpec(name).codes.map((code) => [code.name, name] as const)),
);

/** The field that OVS calls `name` in matches and set_field: its own name or an alias; letters count as written. */
export const fieldByName = (name: string): FieldName | undefined => byName.get(name);

/** The field that OVS calls `name` in subfields: its NXM or OXM name, or what {@link fieldByName} knows. */
export const fieldByCodeName = (name: string): FieldName | undefined => byCode.get(name) ?? byName.get(name);

/**
 * The code of a field in a version of OpenFlow: of those that the version has, the latest; the first if it has none.
 *
 * @param minor - 0 also for the Nicira extended match
 * @returns undefined for the few fields without any code
 */
export const fieldCode = (field: FieldName, minor: MinorVersion): FieldCode | undefined => {
  const { codes } = fieldSpec(field);
  return codes.findLast(({ since }) => since <= minor) ?? codes[0];
};

/** The name under which OVS prints the field in `load` and `move`: NXM if it has one, else OXM, else its own. */
export const codeName = (field: FieldName): string => fieldCode(field, 0)?.name ?? field;

// ---------------------------------------------------------------------------------------------------------------------
// Prerequisites

/** What one member must be: `(member ^ value) & mask` is 0. */
export interface Constraint {
  readonly member: Member;
  readonly value: number;
  readonly mask: number;
}

/** Ethernet type of the L3 header, of packets without an Ethernet header too. */
export const etherType = (flow: FlowWords): number => {
  const packetType = get(flow, "packet_type");
  if (packetType === 0) return get(flow, "dl_type");
  return packetType >>> 16 === PACKET_TYPE_NS.ETHER_TYPE ? packetType & 0xffff : 0;
};

const is = (member: Member, value: number): Constraint => ({ member, value, mask: 2 ** FLOW[member].bits - 1 });

const ip4 = is("dl_type", ETH_TYPE.IPV4);
const ip6 = is("dl_type", ETH_TYPE.IPV6);
const notLater: Constraint = { member: "nw_frag", value: 0, mask: NW_FRAG.LATER };
const transport = (proto: number) => [
  [ip4, is("nw_proto", proto), notLater],
  [ip6, is("nw_proto", proto), notLater],
];
const nd = (type: number) => [ip6, is("nw_proto", IP_PROTO.ICMPV6), is("tp_src", type), is("tp_dst", 0)];

/**
 * Each prerequisite as alternatives; an alternative is a list of constraints that all hold. No alternative constrains
 * a member that a constraint before it does not make meaningful, so testing (and un-wildcarding) them in order is sound.
 */
export const PREREQUISITES: Readonly<Record<Prerequisite, readonly (readonly Constraint[])[]>> = {
  none: [[]],
  ethernet: [[is("packet_type", 0)]],
  mpls: [[is("dl_type", ETH_TYPE.MPLS)], [is("dl_type", ETH_TYPE.MPLS_MCAST)]],
  nsh: [[is("dl_type", ETH_TYPE.NSH)]],
  ct: [CT_STATE.NEW, CT_STATE.ESTABLISHED, CT_STATE.REPLY].map((bit) => [
    { member: "ct_state", value: bit, mask: bit },
  ]),
  vlan_vid: [[{ member: "vlan0_tci", value: VLAN_PRESENT, mask: VLAN_PRESENT }]],
  arp: [[is("dl_type", ETH_TYPE.ARP)], [is("dl_type", ETH_TYPE.RARP)]],
  ipv4: [[ip4]],
  ipv6: [[ip6]],
  ip_any: [[ip4], [ip6]],
  tcp: transport(IP_PROTO.TCP),
  udp: transport(IP_PROTO.UDP),
  sctp: transport(IP_PROTO.SCTP),
  icmpv4: [[ip4, is("nw_proto", IP_PROTO.ICMP)]],
  icmpv6: [[ip6, is("nw_proto", IP_PROTO.ICMPV6)]],
  nd: [nd(ND.SOLICIT), nd(ND.ADVERT)],
  nd_solicit: [nd(ND.SOLICIT)],
  nd_advert: [nd(ND.ADVERT)],
};

/** What a packet must be for `field` to mean something, as alternatives of constraints. */
export const prerequisites = (field: FieldName): readonly (readonly Constraint[])[] =>
  PREREQUISITES[FIELDS[field].needs];

/** A {@link Constraint} as one word of the flow. */
interface WordConstraint {
  readonly word: number;
  readonly value: number;
  readonly mask: number;
  /** How far the member lies from the word's end. */
  readonly shift: number;
  /** Packets without an Ethernet header have their Ethernet type elsewhere. */
  readonly isEtherType: boolean;
}

const inWord = ({ member, value, mask }: Constraint): WordConstraint => {
  const { at, bits } = FLOW[member];
  const shift = 32 - (at & 31) - bits;
  return { word: at >>> 5, value: value << shift, mask: mask << shift, shift, isEtherType: member === "dl_type" };
};

const WORD_PREREQUISITES: Readonly<Record<FieldName, readonly (readonly WordConstraint[])[]>> = perField((row) =>
  PREREQUISITES[row.needs].map((all) => all.map(inWord)),
);

const PACKET_TYPE_WORD = FLOW.packet_type.at >>> 5;

/**
 * Whether `flow` (of a packet, or the value part of a match) meets the prerequisites of `field`.
 *
 * @param wc - gets the bits that were looked at or-ed in
 */
export const meetsPrerequisites = (flow: FlowWords, field: FieldName, wc?: FlowWords): boolean => {
  alternatives: for (const all of WORD_PREREQUISITES[field]) {
    for (const { word, value, mask, shift, isEtherType } of all) {
      if (wc !== undefined) wc[word]! |= mask;
      const has = isEtherType && flow[PACKET_TYPE_WORD] !== 0 ? etherType(flow) << shift : flow[word]!;
      if (((has ^ value) & mask) !== 0) continue alternatives;
    }
    return true;
  }
  return false;
};

/** States of a connection of which OVS says that they come with an original direction; or tracked and not invalid. */
const CT_VALID =
  CT_STATE.NEW | CT_STATE.ESTABLISHED | CT_STATE.RELATED | CT_STATE.REPLY | CT_STATE.SRC_NAT | CT_STATE.DST_NAT;

/** {@link meetsPrerequisites} of what a match demands; it may demand a valid connection without saying which. */
export const matchMeetsPrerequisites = (match: Match, field: FieldName): boolean => {
  if (FIELDS[field].needs !== "ct") return meetsPrerequisites(match.value, field);
  const state = get(match.value, "ct_state");
  const isValid = (get(match.mask, "ct_state") & ~state & CT_STATE.INVALID) !== 0;
  return (state & CT_VALID) !== 0 || (isValid && (state & CT_STATE.TRACKED) !== 0);
};

// ---------------------------------------------------------------------------------------------------------------------
// Values in flows

/** 16-bit port numbers of OpenFlow 1.0 from 0xff00 on are the reserved ones. */
const RESERVED_PORTS = 0xff00;

/** The 32-bit number of a port in the numbering of OpenFlow 1.0. */
export const portFrom16 = (port: number): number => (port < RESERVED_PORTS ? port : (0xffff0000 | port) >>> 0);

/** Gives a tag a TPID when it has none, as OVS does after every write of a TCI. */
const fixTpid = (flow: FlowWords): void => {
  if (get(flow, "vlan0_tpid") === 0 && get(flow, "vlan0_tci") !== 0) set(flow, "vlan0_tpid", ETH_TYPE.VLAN);
};

/** The value of a field in a flow: {@link FIELD_BYTES} big-endian bytes. */
export const readField = (flow: FlowWords, field: FieldName): Uint8Array => {
  const { at, bits } = FIELD_PLACE[field];
  const row = fieldSpec(field);
  if (row.valueShift !== undefined) return Uint8Array.of(getBits(flow, at, bits) << row.valueShift);
  if (row.format === "port16") return getBytes(flow, at + 16, 16);
  const bytes = getBytes(flow, at, bits);
  const size = FIELD_BYTES[field];
  if (bytes.length === size) return bytes;
  const wide = new Uint8Array(size);
  wide.set(bytes, size - bytes.length);
  return wide;
};

/** Stores a value of {@link FIELD_BYTES} big-endian bytes as an action does, with the effects OVS gives it. */
export const writeField = (flow: FlowWords, field: FieldName, value: Uint8Array): void => {
  const { at, bits } = FIELD_PLACE[field];
  const row = fieldSpec(field);
  if (row.valueShift !== undefined) {
    setBits(flow, at, bits, value[0]! >>> row.valueShift);
  } else if (row.format === "port16") {
    setBits(flow, at, bits, portFrom16((value[0]! << 8) | value[1]!));
  } else if (field === "dl_vlan" && value[0] === 0xff && value[1] === 0xff) {
    set(flow, "vlan0_tci", 0);
  } else {
    setBytes(flow, at, bits, value);
    if (field === "dl_vlan" || field === "dl_vlan_pcp" || field === "vlan_pcp") {
      set(flow, "vlan0_tci", get(flow, "vlan0_tci") | VLAN_PRESENT);
    }
  }
  if (row.in === "vlan0_tci") fixTpid(flow);
};

/** {@link writeField} of the bits in `mask` only; the other bits of the field stay. */
export const writeFieldMasked = (flow: FlowWords, field: FieldName, value: Uint8Array, mask: Uint8Array): void => {
  const now = readField(flow, field);
  writeField(
    flow,
    field,
    now.map((byte, i) => (byte & ~mask[i]!) | (value[i]! & mask[i]!)),
  );
};

/** Bits `lsb`..`lsb + bits` of big-endian bytes, right-aligned in ceil(bits / 8) bytes. */
export const sliceBits = (bytes: Uint8Array, lsb: number, bits: number): Uint8Array => {
  const out = new Uint8Array((bits + 7) >>> 3);
  for (let i = 0; i < bits; i++) {
    const from = lsb + i;
    const bit = (bytes[bytes.length - 1 - (from >>> 3)]! >>> (from & 7)) & 1;
    out[out.length - 1 - (i >>> 3)]! |= bit << (i & 7);
  }
  return out;
};

/** The bits of a subfield, right-aligned big-endian. */
export const readSubfield = (flow: FlowWords, { field, lsb, bits }: Subfield): Uint8Array =>
  sliceBits(readField(flow, field), lsb, bits);

/** Stores right-aligned big-endian bytes into a subfield; bits above its width are ignored, missing ones are 0. */
export const writeSubfield = (flow: FlowWords, { field, lsb, bits }: Subfield, value: Uint8Array): void => {
  const now = readField(flow, field);
  for (let i = 0; i < bits; i++) {
    const to = lsb + i;
    const bit = ((value[value.length - 1 - (i >>> 3)] ?? 0) >>> (i & 7)) & 1;
    const index = now.length - 1 - (to >>> 3);
    now[index] = (now[index]! & ~(1 << (to & 7))) | (bit << (to & 7));
  }
  writeField(flow, field, now);
};

/** Fields whose value is just the bits of the flow: not scaled or renumbered, and writing them changes nothing else. */
const IS_PLAIN: Readonly<Record<FieldName, boolean>> = perField(
  (row, name) =>
    row.valueBits === undefined &&
    row.valueShift === undefined &&
    row.format !== "port16" &&
    row.in !== "vlan0_tci" &&
    !isTunMetadata(name),
);

/** The run of flow bits that a subfield is; undefined when its field is not just bits of the flow. */
export const subfieldPlace = ({ field, lsb, bits }: Subfield): Place | undefined => {
  if (!IS_PLAIN[field]) return undefined;
  const place = FIELD_PLACE[field];
  return { at: place.at + place.bits - lsb - bits, bits };
};

/** Marks in `mask` the bits of the flow that reading a field looks at. */
export const unwildcardField = (mask: FlowWords, field: FieldName): void =>
  setOnes(mask, FIELD_PLACE[field].at, FIELD_PLACE[field].bits);

// ---------------------------------------------------------------------------------------------------------------------
// Values in matches

const wild = (match: Match, field: FieldName): void => {
  const { at, bits } = FIELD_PLACE[field];
  for (const words of [match.value, match.mask]) {
    for (let done = 0; done < bits; done += 16) setBits(words, at + done, Math.min(16, bits - done), 0);
  }
};

const wildVlan = (match: Match, field: FieldName): void => {
  const priority = field === "dl_vlan_pcp" || field === "vlan_pcp";
  const mask = get(match.mask, "vlan0_tci");
  // A tag stays matched as present while the other half of it is matched.
  const kept = priority ? (mask & 0x0fff ? mask & 0x1fff : 0) : mask & 0xe000 ? mask & 0xf000 : 0;
  set(match.mask, "vlan0_tci", field === "vlan_tci" ? 0 : kept);
  set(match.value, "vlan0_tci", get(match.value, "vlan0_tci") & get(match.mask, "vlan0_tci"));
};

/** A match while it is being put together. */
export interface DraftMatch extends Match {
  tunMetadata?: NonNullable<Match["tunMetadata"]>;
}

/**
 * Fields of which OVS 3.1 takes the value for the mask: it matches the bits that are set and no others, so that 0 matches
 * anything.
 */
const VALUE_IS_MASK: ReadonlySet<FieldName> = new Set<FieldName>([
  "tun_erspan_ver",
  "tun_erspan_dir",
  "tun_erspan_hwid",
  "tun_gtpu_flags",
  "tun_gtpu_msgtype",
]);

const leadingZeros = (bytes: Uint8Array): number => {
  const at = bytes.findIndex((byte) => byte !== 0);
  return at < 0 ? bytes.length : at;
};

/** Bytes that a demand on a tunnel option takes: those of its value and mask without leading zeros. */
export const tunMetadataSize = (value: Uint8Array, mask?: Uint8Array): number =>
  Math.max(...[value, ...(mask === undefined ? [] : [mask])].map((bytes) => bytes.length - leadingZeros(bytes)));

const matchTunMetadata = (match: DraftMatch, field: TunMetadataName, value: Uint8Array, mask?: Uint8Array): void => {
  const from = TUN_METADATA_BYTES - tunMetadataSize(value, mask);
  const demand: TunMetadataDemand =
    mask === undefined
      ? { value: value.slice(from) }
      : { value: value.map((byte, i) => byte & mask[i]!).slice(from), mask: mask.slice(from) };
  match.tunMetadata = new Map(match.tunMetadata).set(field, demand);
};

/**
 * Makes a match demand a value of a field, replacing what it demanded of the field before.
 *
 * @param value - {@link FIELD_BYTES} big-endian bytes (two for vlan_vid, with the "present" bit)
 * @param mask - as `value`; absent = exact, all zeros = anything, but for a tunnel option: that it is there
 */
export const matchField = (match: DraftMatch, field: FieldName, value: Uint8Array, mask?: Uint8Array): void => {
  if (isTunMetadata(field)) {
    matchTunMetadata(match, field, value, mask);
    return;
  }
  const { at, bits } = FIELD_PLACE[field];
  const row = fieldSpec(field);
  const isVlan = row.in === "vlan0_tci";
  if (mask?.every((byte) => byte === 0)) {
    (isVlan ? wildVlan : wild)(match, field);
    return;
  }
  if (VALUE_IS_MASK.has(field)) {
    const ones = value[0]! & (mask?.[0] ?? 0xff);
    setBits(match.value, at, bits, ones);
    setBits(match.mask, at, bits, ones);
  } else if (row.format === "port16") {
    setBits(match.value, at, bits, portFrom16((value[0]! << 8) | value[1]!));
    setOnes(match.mask, at, bits);
  } else if (row.valueShift !== undefined) {
    setBits(match.value, at, bits, value[0]! >>> row.valueShift);
    setOnes(match.mask, at, bits);
  } else if (field === "dl_vlan" && value[0] === 0xff && value[1] === 0xff) {
    set(match.value, "vlan0_tci", 0);
    set(match.mask, "vlan0_tci", 0xffff);
  } else if (mask === undefined) {
    setBytes(match.value, at, bits, value);
    setOnes(match.mask, at, bits);
    if (field === "dl_vlan" || field === "dl_vlan_pcp" || field === "vlan_pcp") {
      set(match.value, "vlan0_tci", get(match.value, "vlan0_tci") | VLAN_PRESENT);
      set(match.mask, "vlan0_tci", get(match.mask, "vlan0_tci") | VLAN_PRESENT);
    }
  } else {
    setBytes(
      match.value,
      at,
      bits,
      value.map((byte, i) => byte & mask[i]!),
    );
    setBytes(match.mask, at, bits, mask);
  }
};

/** Whether a match demands anything of a field. */
export const matchesField = (match: Match, field: FieldName): boolean => {
  if (isTunMetadata(field)) return match.tunMetadata?.has(field) === true;
  const { at, bits } = FIELD_PLACE[field];
  const end = at + bits;
  for (let from = at; from < end;) {
    const n = Math.min(32 - (from & 31), end - from);
    if (getBits(match.mask, from, n) !== 0) return true;
    from += n;
  }
  return false;
};
