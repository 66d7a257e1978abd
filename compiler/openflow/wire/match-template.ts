// Matches that differ in nothing but the values of some fields, as those that one controller sends mostly do: what was found
// out about the first of them (which fields, that they fit each other) holds for all, and is not found out again. Both ways:
// reading bytes, and writing the matches of rules.

import { FIELD_LIMIT, FIELD_PLACE, FIELD_WIDTH, fieldSpec, PREREQUISITES, WIRE_BYTES } from "../field-access.js";
import { FIELD_NAMES, type FieldName } from "../fields.js";
import { isTunMetadata } from "../fields/tun-metadata.js";
import { getBits, newFlow, setBits, setOnes, type FlowWords, type Member } from "../flow.js";
import type { Match } from "../types.js";
import type { ByteWriter } from "./bytes.js";

/** Members that decide whether others mean anything, or that are more than their bits. */
const DECIDING: ReadonlySet<Member> = new Set<Member>([
  ...Object.values(PREREQUISITES).flatMap((alternatives) => alternatives.flat().map(({ member }) => member)),
  ...(["vlan0_tci", "vlan0_tpid", "packet_type", "ct_nw_proto"] as const),
]);

/** What OVS takes for something else than the value of its bits. */
const ODD: ReadonlySet<FieldName> = new Set<FieldName>([
  ...(["tun_erspan_ver", "tun_erspan_dir", "tun_erspan_hwid", "tun_gtpu_flags", "tun_gtpu_msgtype"] as const),
]);

/** Whether every value of the field is as good as any other, and stands in the flow as it stands on the wire. */
const isFree = (field: FieldName): boolean => {
  if (isTunMetadata(field) || ODD.has(field)) return false;
  const { bits, format, range, valueShift } = fieldSpec(field);
  const { at } = FIELD_PLACE[field];
  const isPlain = format !== "port" && format !== "port16" && range === undefined && valueShift === undefined;
  const isWhole = bits === FIELD_WIDTH[field] && bits === 8 * WIRE_BYTES[field] && at % Math.min(bits, 16) === 0;
  return isPlain && isWhole && FIELD_LIMIT[field] === (1n << BigInt(bits)) - 1n;
};

/** Members of both ports decide about ICMPv6 only. */
const PORTS: ReadonlySet<FieldName> = new Set<FieldName>([
  "tcp_src",
  "tcp_dst",
  "udp_src",
  "udp_dst",
  "sctp_src",
  "sctp_dst",
]);

const FREE: ReadonlySet<FieldName> = new Set(
  FIELD_NAMES.filter((field) => isFree(field) && (PORTS.has(field) || !DECIDING.has(fieldSpec(field).in))),
);

/** A piece of a value: at most 32 bits that lie in one word of the flow. */
interface Piece {
  /** First byte within the fields. */
  readonly from: number;
  readonly at: number;
  readonly bytes: 1 | 2 | 4;
}

/** A field that a list of fields holds. */
export interface PlacedField {
  readonly field: FieldName;
  /** Where its value begins, and its mask, if there is one. */
  readonly valueAt: number;
  readonly maskAt?: number;
}

const piecesOf = ({ field, valueAt }: PlacedField): Piece[] => {
  const { at, bits } = FIELD_PLACE[field];
  const bytes = bits === 8 ? 1 : at % 32 === 0 && bits % 32 === 0 ? 4 : 2;
  return Array.from({ length: bits / 8 / bytes }, (_, i) => ({
    from: valueAt + i * bytes,
    at: at + 8 * i * bytes,
    bytes,
  }));
};

interface Template {
  /** The fields, without the bits that may be anything. */
  readonly fixed: Uint8Array;
  /** The bits that may be anything. */
  readonly free: Uint8Array;
  readonly pieces: readonly Piece[];
  readonly value: FlowWords;
  readonly mask: FlowWords;
}

const templateOf = (bytes: Uint8Array, placed: readonly PlacedField[], { value, mask }: Match): Template => {
  const free = new Uint8Array(bytes.length);
  const varying = placed.filter(({ field }) => FREE.has(field));
  for (const { field, valueAt, maskAt } of varying)
    for (let i = 0; i < WIRE_BYTES[field]; i++) free[valueAt + i] = maskAt === undefined ? 0xff : bytes[maskAt + i]!;
  return {
    fixed: bytes.map((byte, i) => byte & ~free[i]!),
    free,
    pieces: varying.flatMap(piecesOf),
    value: value.slice(),
    mask,
  };
};

const fits = ({ fixed, free }: Template, bytes: Uint8Array): boolean => {
  for (let i = 0; i < fixed.length; i++) if ((bytes[i]! & ~free[i]!) !== fixed[i]) return false;
  return true;
};

const fill = ({ pieces, value, mask }: Template, bytes: Uint8Array): Match => {
  const own = value.slice();
  for (const { from, at, bytes: n } of pieces) {
    let number = bytes[from]!;
    for (let i = 1; i < n; i++) number = (number << 8) | bytes[from + i]!;
    setBits(own, at, 8 * n, number);
  }
  return { value: own, mask };
};

/** Templates kept for each length of fields. */
const PER_LENGTH = 8;
/** Longer lists of fields are rare. */
const MAX_BYTES = 256;

/** Matches seen so far. Those that it gives share their masks, which nobody may change. */
export class MatchTemplates {
  readonly #byLength = new Map<number, Template[]>();

  /** The match that these fields are, if one like it is known. */
  find(bytes: Uint8Array): Match | undefined {
    for (const template of this.#byLength.get(bytes.length) ?? [])
      if (fits(template, bytes)) return fill(template, bytes);
    return undefined;
  }

  /** Takes note of fields that were read. */
  note(bytes: Uint8Array, placed: readonly PlacedField[], match: Match): void {
    if (bytes.length > MAX_BYTES || match.tunMetadata !== undefined) return;
    let known = this.#byLength.get(bytes.length);
    if (known === undefined) this.#byLength.set(bytes.length, (known = []));
    if (known.unshift(templateOf(bytes, placed, match)) > PER_LENGTH) known.pop();
  }
}

/** How matches under one mask are written. */
interface Written {
  /** Which form: the caller's business. */
  readonly form: number;
  /** Without the bits that may be anything. */
  readonly bytes: Uint8Array;
  readonly pieces: readonly Piece[];
  /** Words of the flow, without the bits that may be anything, and those bits. */
  readonly fixed: FlowWords;
  readonly free: FlowWords;
}

const writtenAs = (form: number, bytes: Uint8Array, placed: readonly PlacedField[], { value }: Match): Written => {
  const varying = placed.filter(({ field }) => FREE.has(field));
  const free = newFlow();
  for (const { field } of varying) setOnes(free, FIELD_PLACE[field].at, FIELD_PLACE[field].bits);
  const template = bytes.slice();
  for (const { field, valueAt } of varying) template.fill(0, valueAt, valueAt + WIRE_BYTES[field]);
  return { form, bytes: template, pieces: varying.flatMap(piecesOf), fixed: value.map((w, i) => w & ~free[i]!), free };
};

const isWrittenAs = ({ fixed, free }: Written, value: FlowWords): boolean => {
  for (let i = 0; i < fixed.length; i++) if (((value[i]! & ~free[i]!) ^ fixed[i]!) !== 0) return false;
  return true;
};

/** Ways to write the matches under one mask. */
const PER_MASK = 16;

/** Matches written so far, by their masks, which must not change any more. */
export class WrittenMatches {
  readonly #byMask = new WeakMap<FlowWords, Written[]>();

  /** Writes a match as one like it was written. Returns whether there is one. */
  put(writer: ByteWriter, { value, mask }: Match, form: number): boolean {
    const written = this.#byMask.get(mask)?.find((each) => each.form === form && isWrittenAs(each, value));
    if (written === undefined) return false;
    const start = writer.length;
    writer.put(written.bytes);
    for (const { from, at, bytes } of written.pieces) writer.set(start + from, getBits(value, at, 8 * bytes), bytes);
    return true;
  }

  /** Takes note of bytes that a match was written as. */
  note(match: Match, form: number, bytes: Uint8Array, placed: readonly PlacedField[]): void {
    if (match.tunMetadata !== undefined) return;
    let known = this.#byMask.get(match.mask);
    if (known === undefined) this.#byMask.set(match.mask, (known = []));
    if (known.push(writtenAs(form, bytes, placed, match)) > PER_MASK) known.shift();
  }
}
