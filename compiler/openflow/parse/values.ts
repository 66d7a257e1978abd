// Values of fields in text, as OVS's mf_parse() reads them: numbers, MAC, IPv4 and IPv6 addresses, each with an
// optional /mask (or prefix length), ports, fragment kinds, TCP flags.

import { FIELD_BYTES, FIELD_LIMIT, fieldSpec, WIRE_BYTES } from "../field-access.js";
import type { FieldName, Format } from "../fields.js";
import { VLAN_NONE } from "../numbers.js";
import { NW_FRAG } from "../../packet/headers.js";
import { portFromText, type PortNames } from "../ports.js";
import { CT_STATE_FLAGS, TCP_FLAGS, TUN_FLAGS, type FlagNames } from "../flag-names.js";
import { fromBytes, toBytes } from "../big-endian.js";
import { parseUnsigned } from "./numbers.js";
import { cut, fail, type Line, type Piece } from "./source.js";

/** A value and its mask, both FIELD_BYTES long; without `mask` the value is exact. */
export interface FieldValue {
  readonly value: Uint8Array;
  readonly mask?: Uint8Array;
}

const MAC = /^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$/;
const IPV4 = /^[0-9]{1,3}(\.[0-9]{1,3}){3}$/;

/** `size` bytes written in `base` with `separator` between them: a loop, as most flows hold several. */
const separated = (text: string, separator: string, base: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  let from = 0;
  for (let i = 0; i < size; i++) {
    const to = i === size - 1 ? text.length : text.indexOf(separator, from);
    const value = Number.parseInt(text.slice(from, to), base);
    // 256 and more, possible in IPv4 addresses only, must not pass for what is left of them in a byte.
    if (value > 255) return new Uint8Array(0);
    bytes[i] = value;
    from = to + 1;
  }
  return bytes;
};

/** Six bytes, or undefined. */
export const parseMac = (text: string): Uint8Array | undefined =>
  MAC.test(text) ? separated(text, ":", 16, 6) : undefined;

/** Four bytes, or undefined. */
export const parseIpv4 = (text: string): Uint8Array | undefined => {
  if (!IPV4.test(text)) return undefined;
  const bytes = separated(text, ".", 10, 4);
  return bytes.length === 4 ? bytes : undefined;
};

/** Sixteen bytes of an address in RFC 4291 text form, or undefined. */
export const parseIpv6 = (text: string): Uint8Array | undefined => {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups = (half: string): number[] | undefined => {
    if (half === "") return [];
    const out: number[] = [];
    const parts = half.split(":");
    for (const [i, part] of parts.entries()) {
      const last4 = i === parts.length - 1 && part.includes(".") ? parseIpv4(part) : undefined;
      if (last4 !== undefined) out.push((last4[0]! << 8) | last4[1]!, (last4[2]! << 8) | last4[3]!);
      else if (/^[0-9a-fA-F]{1,4}$/.test(part)) out.push(Number.parseInt(part, 16));
      else return undefined;
    }
    return out;
  };
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) return undefined;
  const all = [...head, ...Array.from({ length: gap }, () => 0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >>> 8, group & 0xff]));
};

/** `size` bytes with the first `bits` bits set. */
const prefixMask = (bits: number, size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => (0xff00 >>> Math.max(0, Math.min(8, bits - 8 * i))) & 0xff);

const isOnes = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0xff);
const isZeros = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

const withMask = (value: Uint8Array, mask: Uint8Array): FieldValue => (isOnes(mask) ? { value } : { value, mask });

/** Context of a value: what ports are called, and whether it is of a match. */
interface Reading {
  readonly ports: PortNames | undefined;
  readonly isMatch: boolean;
}

type Read = (line: Line, piece: Piece, field: FieldName, reading: Reading) => FieldValue;

/** Address with an optional /mask in the same form or /length. */
const address =
  (parse: (text: string) => Uint8Array | undefined, size: number, what: string, prefixes: boolean): Read =>
  (line, piece, field) => {
    const [before, after] = cut(piece, "/");
    const want = (at: number, text: string, wanted: string): never =>
      fail(line, at, `Cannot read ${field} "${text}": want ${wanted}`);
    const value = parse(before.text) ?? want(before.at, before.text, what);
    if (after === undefined) return { value };
    if (prefixes && /^[0-9]+$/.test(after.text)) {
      const bits = Number(after.text);
      if (bits > 8 * size) want(after.at, after.text, `a prefix length from 0 to ${8 * size}`);
      return withMask(value, prefixMask(bits, size));
    }
    // OVS takes what begins with a digit for a length of IPv6 prefixes, and refuses it when that is not all.
    if (size === 16 && /^[0-9]/.test(after.text)) want(after.at, after.text, "a prefix length, or a mask like ffff::");
    const mask = parse(after.text) ?? want(after.at, after.text, `${what} as the mask`);
    return withMask(value, mask);
  };

/** Bits of a value that a match forgets where the value has more than its field: OVS stores no others. Elsewhere they are refused. */
const KEPT_BITS: Readonly<Partial<Record<FieldName, bigint>>> = {
  dl_vlan: 0xfffn,
  dl_vlan_pcp: 7n,
  vlan_pcp: 7n,
  mpls_label: 0xfffffn,
  mpls_tc: 7n,
  mpls_bos: 1n,
  nw_tos: 0xfcn,
  ip_dscp: 0x3fn,
  nw_ecn: 3n,
  arp_op: 0xffn,
};

/** Plain decimal numbers that fit any integer field but the one-byte ones: the bulk of all values. */
const PLAIN = /^(?:0|[1-9][0-9]{0,8})$/;

const plainInteger = (piece: Piece, field: FieldName): FieldValue | undefined => {
  if (field === "nw_tos" || !PLAIN.test(piece.text)) return undefined;
  const value = Number(piece.text);
  if (value > FIELD_LIMIT[field]) return undefined;
  const bytes = new Uint8Array(FIELD_BYTES[field]);
  for (let i = bytes.length - 1, rest = value; rest > 0; i--, rest >>>= 8) bytes[i] = rest;
  return { value: bytes };
};

const maskedInteger: Read = (line, piece, field, { isMatch }) => {
  const [before, after] = cut(piece, "/");
  const size = WIRE_BYTES[field];
  const read = (part: Piece, what: string): bigint => {
    const negative = size >= 8 && part.text.startsWith("-");
    const value = parseUnsigned(negative ? part.text.slice(1) : part.text);
    if (value === undefined) return fail(line, part.at, `Cannot read ${what} "${part.text}": want a number`);
    if (value >> BigInt(8 * size) !== 0n) {
      return fail(line, part.at, `Cannot read ${what} ${part.text}: it has more than ${8 * size} bits`);
    }
    return negative ? BigInt.asUintN(64, -value) : value;
  };
  const written = read(before, field);
  const bytes = FIELD_BYTES[field];
  const noTag = field === "dl_vlan" && written === BigInt(VLAN_NONE);
  const kept = isMatch && after === undefined && !noTag ? KEPT_BITS[field] : undefined;
  const value = kept === undefined ? written : written & kept;
  if (value > FIELD_LIMIT[field] && !noTag) {
    const most = field === "vlan_vid" ? "0x1fff" : FIELD_LIMIT[field];
    fail(line, before.at, `Cannot use ${field} ${before.text}: want at most ${most}`);
  }
  if (field === "nw_tos" && (value & 3n) !== 0n) {
    fail(line, before.at, `Cannot use nw_tos ${before.text}: want the two low bits (ECN) to be 0`);
  }
  if (after === undefined) return { value: toBytes(value, bytes) };
  const mask = read(after, `mask of ${field}`);
  if (mask === (1n << BigInt(8 * size)) - 1n) return { value: toBytes(value, bytes) };
  return { value: toBytes(value, bytes), mask: toBytes(mask & ((1n << BigInt(8 * bytes)) - 1n), bytes) };
};

const integer: Read = (line, piece, field, reading) =>
  plainInteger(piece, field) ?? maskedInteger(line, piece, field, reading);

const port: Read = (line, piece, field, { ports }) => {
  const number = portFromText(piece.text, ports);
  if (number === undefined) {
    return fail(line, piece.at, `Cannot read ${field} "${piece.text}": want a port number or name`);
  }
  return { value: toBytes(BigInt(number), FIELD_BYTES[field]) };
};

/** Value and mask of the two nw_frag bits. */
const FRAGMENTS: Readonly<Record<string, readonly [value: number, mask: number]>> = {
  no: [0, 3],
  yes: [NW_FRAG.ANY, NW_FRAG.ANY],
  first: [NW_FRAG.ANY, 3],
  later: [3, 3],
  not_later: [0, NW_FRAG.LATER],
};

const fragment: Read = (line, piece, field) => {
  const name = piece.text.toLowerCase();
  if (!Object.hasOwn(FRAGMENTS, name)) {
    const want = Object.keys(FRAGMENTS).join(", ");
    return fail(line, piece.at, `Cannot read ${field} "${piece.text}": want one of ${want}`);
  }
  const [value, mask] = FRAGMENTS[name]!;
  return mask === 3 ? { value: Uint8Array.of(value) } : { value: Uint8Array.of(value), mask: Uint8Array.of(mask) };
};

const flagBit = (line: Line, flags: FlagNames, name: string, at: number): number => {
  const bit = flags.names.indexOf(name);
  if (bit < 0) fail(line, at, `Cannot read ${flags.of} flag "${name}": want one of ${flags.names.join(", ")}`);
  return 1 << bit;
};

/** `+a-b`, `a|b` (all others unset), or a number with or without a mask. */
const flagsOf =
  (flags: FlagNames): Read =>
  (line, piece, field) => {
    const size = FIELD_BYTES[field];
    const result = (value: number, mask: number): FieldValue => {
      if ((value | mask) & ~flags.allowed) {
        fail(line, piece.at, `Cannot use ${field} ${piece.text}: want at most 0x${flags.allowed.toString(16)}`);
      }
      const bytes = toBytes(BigInt(value), size);
      return mask === flags.allowed ? { value: bytes } : { value: bytes, mask: toBytes(BigInt(mask), size) };
    };
    const numeric = (text: string): number | undefined => {
      const value = parseUnsigned(text);
      return value === undefined ? undefined : Number(value);
    };
    const [before, after] = cut(piece, "/");
    if (after !== undefined) {
      const value = numeric(before.text);
      const mask = numeric(after.text);
      if (value !== undefined && mask !== undefined) return result(value, mask);
    }
    let at = piece.at;
    let value = 0;
    if (/^[+-]/.test(piece.text)) {
      let mask = 0;
      for (const part of piece.text.split(/(?=[+-])/)) {
        const bit = flagBit(line, flags, part.slice(1), at + 1);
        if (mask & bit) fail(line, at + 1, `Cannot use ${flags.of} flag "${part.slice(1)}" twice`);
        mask |= bit;
        if (part.startsWith("+")) value |= bit;
        at += part.length;
      }
      return result(value, mask);
    }
    for (const part of piece.text.split("|")) {
      value |= numeric(part) ?? flagBit(line, flags, part, at);
      at += part.length + 1;
    }
    return result(value, flags.allowed);
  };

/** `(NAMESPACE,TYPE)`. */
const packetType: Read = (line, piece, field) => {
  const [, ...parts] = /^\(([^,]*),([^,]*)\)$/.exec(piece.text) ?? [];
  const numbers = parts.map(parseUnsigned);
  const bytes = numbers.flatMap((n) => (n === undefined || n > 0xffffn ? [] : [Number(n) >>> 8, Number(n) & 0xff]));
  if (bytes.length === 4) return { value: Uint8Array.from(bytes) };
  return fail(line, piece.at, `Cannot read ${field} "${piece.text}": want (NAMESPACE,TYPE), numbers of 16 bits`);
};

const mac = address(parseMac, 6, "a MAC address like 00:11:22:33:44:55", false);
const ipv4 = address(parseIpv4, 4, "an IPv4 address like 192.0.2.1", true);
const ipv6 = address(parseIpv6, 16, "an IPv6 address like 2001:db8::1", true);

const READ: Readonly<Record<Format, Read>> = {
  decimal: integer,
  hex: integer,
  mac,
  ipv4,
  ipv6,
  port,
  port16: port,
  frag: fragment,
  tcp_flags: flagsOf(TCP_FLAGS),
  tun_flags: flagsOf(TUN_FLAGS),
  ct_state: flagsOf(CT_STATE_FLAGS),
  packet_type: packetType,
};

/**
 * Reads the value of a field; `*` matches anything.
 *
 * @param isMatch - the value is of a match, in which OVS lets some fields lose bits that they do not have
 * @throws CompileError at the part that does not fit
 */
export const parseFieldValue = (
  line: Line,
  piece: Piece,
  field: FieldName,
  ports?: PortNames,
  isMatch = false,
): FieldValue => {
  if (piece.text === "*")
    return { value: new Uint8Array(FIELD_BYTES[field]), mask: new Uint8Array(FIELD_BYTES[field]) };
  const read = READ[fieldSpec(field).format](line, piece, field, { ports, isMatch });
  if (read.mask !== undefined && fieldSpec(field).mask === "exact" && !isZeros(read.mask)) {
    return fail(line, piece.at, `Cannot mask ${field}: want an exact value, got "${piece.text}"`);
  }
  return read;
};

/** Whether a mask is a run of ones followed by zeros. */
export const isPrefixMask = (mask: Uint8Array): boolean => {
  const zeros = BigInt.asUintN(8 * mask.length, ~fromBytes(mask));
  return (zeros & (zeros + 1n)) === 0n;
};
