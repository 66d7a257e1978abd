// Reads matches that are lists of fields: NXM and OXM. Bytes that OVS 3.1 refuses are refused with the error that it
// answers with, whatever they are; reading takes time and memory in proportion to their number.

import {
  FIELD_BYTES,
  FIELD_LIMIT,
  fieldSpec,
  matchesField,
  matchField,
  matchMeetsPrerequisites,
  tunMetadataSize,
  type DraftMatch,
} from "../field-access.js";
import type { FieldName } from "../fields.js";
import { isTunMetadata, TUN_METADATA_BYTES, TUN_METADATA_TOTAL_BYTES } from "../fields/tun-metadata.js";
import { get, newFlow, set } from "../flow.js";
import { fromBytes } from "../big-endian.js";
import { read16 } from "../../packet/words.js";
import { roundUp, toHex } from "ebpf-assembler";
import { forgetEthernet } from "../normalize.js";
import { MAX_PORTS } from "../ports.js";
import type { Match } from "../types.js";
import { COOKIE_CODE, MATCH_HEADER_BYTES, MATCH_TYPE_OXM, type CookieMatch } from "./encode-match.js";
import { OpenFlowError } from "./errors.js";
import { MatchTemplates, type PlacedField } from "./match-template.js";
import { codedField, decodeHeader, fromWireValue, valueBytesOf, type FieldHeader } from "./field-header.js";

export interface DecodeOptions {
  /** Whether the pseudo-field of cookies is known: only in the Nicira messages about flows. */
  readonly cookies?: boolean;
  /** Skip unknown fields and do not ask for prerequisites: as when a switch reads what it said itself. */
  readonly loose?: boolean;
}

export interface DecodedMatch {
  readonly match: Match;
  readonly cookie?: CookieMatch;
}

/** One field as it stands on the wire. */
export interface WireEntry {
  readonly header: FieldHeader;
  readonly value: Uint8Array;
  /** As long as `value`; absent = exact. */
  readonly mask?: Uint8Array;
  /** Bytes of the whole entry. */
  readonly size: number;
}

/**
 * Reads one field.
 *
 * @throws {@link OpenFlowError} OFPBMC_BAD_LEN when it is cut off, OFPBMC_BAD_WILDCARDS for a value outside its mask
 */
export const decodeEntry = (bytes: Uint8Array, at: number): WireEntry => {
  const header = decodeHeader(bytes, at);
  const from = at + header.size;
  const size = header.size + header.payloadBytes;
  if (from + header.payloadBytes > bytes.length) {
    const left = bytes.length - from;
    throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read a field: want ${header.payloadBytes} bytes, got ${left}`);
  }
  const n = valueBytesOf(header);
  const value = bytes.slice(from, from + n);
  if (!header.masked) return { header, value, size };
  const mask = bytes.slice(from + n, from + 2 * n);
  if (value.some((byte, i) => (byte & ~mask[i]!) !== 0)) {
    throw new OpenFlowError(
      "OFPBMC_BAD_WILDCARDS",
      `Cannot use value 0x${toHex(value)}: it has bits outside of its mask`,
    );
  }
  return { header, value, mask, size };
};

const isZeros = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const isOnes = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0xff);

/** OpenFlow 1.1 port numbers that stand for a port: those of OpenFlow 1.0, and its reserved ones widened. */
const isPort = (port: bigint): boolean => port < BigInt(MAX_PORTS) || port >= 0xffffff00n;

const isValid = (field: FieldName, wire: Uint8Array): boolean => {
  if (isTunMetadata(field)) return true;
  const { format, range } = fieldSpec(field);
  const value = fromBytes(wire);
  if (format === "port") return isPort(value);
  if (field === "nw_tos") return (value & 3n) === 0n;
  if (range !== undefined) return value >= BigInt(range[0]) && value <= BigInt(range[1]);
  return (value & ~FIELD_LIMIT[field]) === 0n;
};

/** Whether the match demands anything of the field yet; where VLAN fields overlap, of the bits that are its own. */
const isTaken = (match: Match, field: FieldName): boolean =>
  field === "vlan_pcp" ? (get(match.mask, "vlan0_tci") & 0xe000) !== 0 : matchesField(match, field);

/** A tunnel option as long as the longest, which is how demands on it are made. */
const widened = (bytes: Uint8Array): Uint8Array => {
  const kept = bytes.length > TUN_METADATA_BYTES ? bytes.subarray(0, TUN_METADATA_BYTES) : bytes;
  const out = new Uint8Array(TUN_METADATA_BYTES);
  out.set(kept, TUN_METADATA_BYTES - kept.length);
  return out;
};

const demandOption = (match: DraftMatch, field: FieldName, value: Uint8Array, mask?: Uint8Array): void => {
  let size = tunMetadataSize(value, mask);
  for (const demand of match.tunMetadata?.values() ?? []) size += demand.value.length;
  if (size > TUN_METADATA_TOTAL_BYTES) {
    throw new OpenFlowError(
      "OFPBMC_BAD_VALUE",
      `Cannot match ${field}: want at most ${TUN_METADATA_TOTAL_BYTES} bytes`,
    );
  }
  matchField(match, field, value, mask);
};

const demand = (match: DraftMatch, field: FieldName, { value, mask }: WireEntry): void => {
  // A mask of ones is none; of an option, ones over its whole length leave the bytes above it open, so it stays one.
  if (isTunMetadata(field)) {
    demandOption(match, field, widened(value), mask === undefined ? undefined : widened(mask));
  } else if (mask === undefined || isOnes(mask)) {
    matchField(match, field, fromWireValue(field, value));
  } else if (isZeros(mask)) {
    matchField(match, field, new Uint8Array(FIELD_BYTES[field]), new Uint8Array(FIELD_BYTES[field]));
  } else {
    matchField(match, field, fromWireValue(field, value), fromWireValue(field, mask));
  }
};

/** Adds one field to a match. @throws {@link OpenFlowError} */
const addField = (match: DraftMatch, field: FieldName, entry: WireEntry, loose: boolean): void => {
  const refuse = (
    error: "OFPBMC_BAD_MASK" | "OFPBMC_BAD_VALUE" | "OFPBMC_BAD_PREREQ" | "OFPBMC_DUP_FIELD",
    why: string,
  ) => {
    throw new OpenFlowError(error, `Cannot match ${field}: ${why}`);
  };
  const { value, mask } = entry;
  if (mask !== undefined && fieldSpec(field).mask === "exact" && !isZeros(mask) && !isOnes(mask)) {
    refuse("OFPBMC_BAD_MASK", `want all bits or none, got mask 0x${toHex(mask)}`);
  }
  if (!isValid(field, value)) refuse("OFPBMC_BAD_VALUE", `it cannot be 0x${toHex(value)}`);
  if (!loose && !matchMeetsPrerequisites(match, field)) refuse("OFPBMC_BAD_PREREQ", "want what it needs before it");
  if (isTaken(match, field)) refuse("OFPBMC_DUP_FIELD", "it is matched already");
  demand(match, field, entry);
  // That the packet is Ethernet follows from any field that only such packets have.
  const { needs } = fieldSpec(field);
  if (needs !== "none" && get(match.mask, "packet_type") === 0) set(match.mask, "packet_type", 0xffffffff);
};

const isCookie = ({ cls, number, experimenter }: FieldHeader, valueBytes: number): boolean =>
  cls === COOKIE_CODE.cls && number === COOKIE_CODE.field && experimenter === 0 && valueBytes === 8;

/** Strict matches without cookies, which are most. */
const templates = new MatchTemplates();

/**
 * Reads a list of fields, without header and padding. The mask of the match is shared with others: it must not be changed.
 *
 * @throws {@link OpenFlowError} with an error OFPBMC_*, as OVS answers
 */
export const decodeFields = (
  bytes: Uint8Array,
  { cookies = false, loose = false }: DecodeOptions = {},
): DecodedMatch => {
  const mayBeKnown = !loose && !cookies;
  const known = mayBeKnown ? templates.find(bytes) : undefined;
  if (known !== undefined) return { match: known };
  const match: DraftMatch = { value: newFlow(), mask: newFlow() };
  const placed: PlacedField[] = [];
  let cookie: CookieMatch | undefined;
  for (let at = 0; at < bytes.length;) {
    const entry = decodeEntry(bytes, at);
    const valueAt = at + entry.header.size;
    at += entry.size;
    const coded = codedField(entry.header);
    if (coded !== undefined) {
      const { field } = coded;
      placed.push({ field, valueAt, ...(entry.mask === undefined ? {} : { maskAt: valueAt + entry.value.length }) });
      addField(match, coded.field, entry, loose);
      continue;
    }
    if (cookies && isCookie(entry.header, entry.value.length)) {
      if (cookie !== undefined && cookie.mask !== 0n) {
        throw new OpenFlowError("OFPBMC_DUP_FIELD", "Cannot match the cookie: it is matched already");
      }
      const mask = entry.mask === undefined ? 0xffffffffffffffffn : fromBytes(entry.mask);
      cookie = { value: fromBytes(entry.value), mask };
      continue;
    }
    if (loose) continue;
    const { cls, number } = entry.header;
    throw new OpenFlowError(
      "OFPBMC_BAD_FIELD",
      `Cannot match field ${number} of class 0x${cls.toString(16)}: no such field`,
    );
  }
  if (!loose) forgetEthernet(match);
  if (mayBeKnown) templates.note(bytes, placed, match);
  return cookie === undefined ? { match } : { match, cookie };
};

/** Cuts `length` bytes and their padding to a multiple of 8 out. @throws {@link OpenFlowError} OFPBMC_BAD_LEN */
const pull = (bytes: Uint8Array, at: number, length: number): Uint8Array => {
  if (at + roundUp(length, 8) > bytes.length) {
    const left = bytes.length - at;
    throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read a match: want ${roundUp(length, 8)} bytes, got ${left}`);
  }
  return bytes.subarray(at, at + length);
};

/** Reads a Nicira extended match. @param length - bytes without padding @throws {@link OpenFlowError} */
export const decodeNxm = (bytes: Uint8Array, at: number, length: number, options?: DecodeOptions): DecodedMatch =>
  decodeFields(pull(bytes, at, length), options);

/**
 * Reads an OXM match with its header.
 *
 * @returns `size`: its bytes with the padding
 * @throws {@link OpenFlowError}
 */
export const decodeOxm = (
  bytes: Uint8Array,
  at = 0,
  options?: DecodeOptions,
): { readonly match: Match; readonly size: number } => {
  const left = bytes.length - at;
  const length = left < MATCH_HEADER_BYTES ? 0 : read16(bytes, at + 2);
  if (length < MATCH_HEADER_BYTES) {
    throw new OpenFlowError(
      "OFPBMC_BAD_LEN",
      "Cannot read a match: want a header of 4 bytes with a length of 4 or more",
    );
  }
  const type = read16(bytes, at);
  if (type !== MATCH_TYPE_OXM)
    throw new OpenFlowError("OFPBMC_BAD_TYPE", `Cannot read a match of type ${type}: want 1`);
  const whole = pull(bytes, at, length);
  return { match: decodeFields(whole.subarray(MATCH_HEADER_BYTES), options).match, size: roundUp(length, 8) };
};
