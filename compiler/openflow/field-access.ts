// Reading, writing and matching a field of a flow, from its row in the field table. Everything that depends on the
// field name only is computed once, so that a look-up per packet is one property access.
//
// The oddities of OVS fields live here and nowhere else: a VLAN priority or OpenFlow 1.0 VLAN ID carries the "present"
// bit of the tag along, vlan_tci and the like bring a TPID into being, in_port has a 16-bit numbering.

import { FIELD_NAMES, FIELDS } from "./fields.js";
import type { FieldName, FieldSpec, Prerequisite } from "./fields.js";
import { FLOW, get, getBits, getBytes, set, setBits, setBytes, setOnes } from "./flow.js";
import type { FlowWords, Member, Place } from "./flow.js";
import { VLAN_PRESENT } from "./numbers.js";
import { ETH_TYPE, IP_PROTO, ND, NW_FRAG } from "../packet/headers.js";
import type { Match, Subfield } from "./types.js";

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

/** Bytes that hold a value of the field: ceil(width / 8), the length of `set_field` values. */
export const FIELD_BYTES: Readonly<Record<FieldName, number>> = perField(
  (row) => ((row.valueBits ?? row.bits) + 7) >>> 3,
);

/** Bytes of a value on the wire: 1, 2, 4, 6, 8 or 16. */
export const WIRE_BYTES: Readonly<Record<FieldName, number>> = perField((row) => {
  const bytes = ((row.valueBits ?? row.bits) + 7) >>> 3;
  return bytes === 3 ? 4 : bytes;
});

const byName: ReadonlyMap<string, FieldName> = new Map(
  FIELD_NAMES.flatMap((name) => [name, ...fieldSpec(name).aka].map((alias) => [alias, name] as const)),
);

const byCode: ReadonlyMap<string, FieldName> = new Map(
  FIELD_NAMES.flatMap((name) => {
    const { nxmName, oxmName } = fieldSpec(name);
    return [nxmName, oxmName].flatMap((code) => (code === undefined ? [] : [[code, name] as const]));
  }),
);

/** The field that OVS calls `name` in matches and set_field: its own name or an alias; letters count as written. */
export const fieldByName = (name: string): FieldName | undefined => byName.get(name);

/** The field that OVS calls `name` in subfields: its NXM or OXM name, or what {@link fieldByName} knows. */
export const fieldByCodeName = (name: string): FieldName | undefined => byCode.get(name) ?? byName.get(name);

/** The name under which OVS prints the field in `load` and `move`: NXM if it has one, else OXM, else its own. */
export const codeName = (field: FieldName): string => fieldSpec(field).nxmName ?? fieldSpec(field).oxmName ?? field;

const header = (code: readonly [number, number], bytes: number, masked: boolean): number =>
  ((code[0] << 16) | (code[1] << 9) | (masked ? 0x100 : 0) | (masked ? 2 * bytes : bytes)) >>> 0;

/**
 * class(16) | field(7) | hasMask(1) | length(8), OpenFlow 1.3.5 section 7.2.3.2. The length counts the mask too.
 *
 * @returns the OXM header, or the NXM one of a field without OXM; undefined for the two OpenFlow 1.0 forms with neither
 */
export const oxmHeader = (field: FieldName, masked: boolean): number | undefined => {
  const code = fieldSpec(field).oxm ?? fieldSpec(field).nxm;
  return code === undefined ? undefined : header(code, WIRE_BYTES[field], masked);
};

/** {@link oxmHeader}, but the Nicira code where there is one. */
export const nxmHeader = (field: FieldName, masked: boolean): number | undefined => {
  const code = fieldSpec(field).nxm ?? fieldSpec(field).oxm;
  return code === undefined ? undefined : header(code, WIRE_BYTES[field], masked);
};

// ---------------------------------------------------------------------------------------------------------------------
// Prerequisites

/** What one member must be: `(member ^ value) & mask` is 0. */
export interface Constraint {
  readonly member: Member;
  readonly value: number;
  readonly mask: number;
}

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

/**
 * Whether `flow` (of a packet, or the value part of a match) meets the prerequisites of `field`.
 *
 * @param unwildcard - called with each constraint that was looked at, so that the caller can note its bits
 */
export const meetsPrerequisites = (
  flow: FlowWords,
  field: FieldName,
  unwildcard?: (constraint: Constraint) => void,
): boolean =>
  prerequisites(field).some((all) =>
    all.every((constraint) => {
      unwildcard?.(constraint);
      return ((get(flow, constraint.member) ^ constraint.value) & constraint.mask) === 0;
    }),
  );

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

/**
 * Makes a match demand a value of a field, replacing what it demanded of the field before.
 *
 * @param value - {@link FIELD_BYTES} big-endian bytes (two for vlan_vid, with the "present" bit)
 * @param mask - as `value`; absent = exact, all zeros = anything
 */
export const matchField = (match: Match, field: FieldName, value: Uint8Array, mask?: Uint8Array): void => {
  const { at, bits } = FIELD_PLACE[field];
  const row = fieldSpec(field);
  const isVlan = row.in === "vlan0_tci";
  if (mask?.every((byte) => byte === 0)) {
    (isVlan ? wildVlan : wild)(match, field);
    return;
  }
  if (row.format === "port16") {
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
  const { at, bits } = FIELD_PLACE[field];
  const end = at + bits;
  for (let from = at; from < end;) {
    const n = Math.min(32 - (from & 31), end - from);
    if (getBits(match.mask, from, n) !== 0) return true;
    from += n;
  }
  return false;
};
