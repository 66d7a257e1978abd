// Values in text as OVS prints them.

import { fieldSpec } from "../field-access.js";
import type { FieldName } from "../fields.js";
import { fromBytes } from "../big-endian.js";
import { portToText, type PortNames } from "../ports.js";
import { TCP_FLAGS, TUN_FLAGS, type FlagNames } from "../flag-names.js";

/** C's `%#x`: no 0x before a zero. */
export const hex = (value: number | bigint): string => (value === 0 || value === 0n ? "0" : `0x${value.toString(16)}`);

/** `0x` and at least `digits` digits. */
export const hexPadded = (value: number | bigint, digits: number): string =>
  `0x${value.toString(16).padStart(digits, "0")}`;

export const macText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");

export const ipv4Text = (bytes: Uint8Array): string => bytes.join(".");

/** RFC 5952, as inet_ntop() writes it: the first longest run of zero groups shortened, IPv4 in dots where it is one. */
export const ipv6Text = (bytes: Uint8Array): string => {
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let best = { from: -1, length: 1 };
  for (let from = 0; from < 8; from++) {
    let to = from;
    while (to < 8 && groups[to] === 0) to++;
    if (to - from > best.length) best = { from, length: to - from };
    from = Math.max(from, to - 1);
  }
  // ::a.b.c.d and ::ffff:a.b.c.d, as glibc decides it.
  const embedded = best.from === 0 && (best.length === 6 || (best.length === 5 && groups[5] === 0xffff));
  const text = (some: number[]): string => some.map((group) => group.toString(16)).join(":");
  if (embedded) {
    const middle = best.length === 5 ? "ffff:" : "";
    return `::${middle}${ipv4Text(bytes.subarray(12))}`;
  }
  if (best.from < 0) return text(groups);
  return `${text(groups.slice(0, best.from))}::${text(groups.slice(best.from + best.length))}`;
};

const isOnes = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0xff);

/** Number of leading ones if a mask is a prefix, else undefined. */
const prefixLength = (mask: Uint8Array): number | undefined => {
  const bits = 8 * mask.length;
  const zeros = BigInt.asUintN(bits, ~fromBytes(mask));
  if ((zeros & (zeros + 1n)) !== 0n) return undefined;
  return bits - (zeros === 0n ? 0 : zeros.toString(2).length);
};

const withPrefix = (text: (bytes: Uint8Array) => string, value: Uint8Array, mask: Uint8Array): string => {
  if (isOnes(mask)) return text(value);
  const length = prefixLength(mask);
  return `${text(value)}/${length ?? text(mask)}`;
};

export const macMasked = (value: Uint8Array, mask: Uint8Array): string =>
  isOnes(mask) ? macText(value) : `${macText(value)}/${macText(mask)}`;

export const ipv4Masked = (value: Uint8Array, mask: Uint8Array): string => withPrefix(ipv4Text, value, mask);

export const ipv6Masked = (value: Uint8Array, mask: Uint8Array): string => withPrefix(ipv6Text, value, mask);

/** `syn|ack` for an exact match, `+syn-ack` for a partial one. @param whole - mask of an exact match */
export const flagsText = (value: number, mask: number, { names, allowed }: FlagNames, whole = allowed): string => {
  const bits = names.map((name, bit) => [name, 1 << bit] as const);
  if (mask === whole) {
    const set = bits.filter(([, bit]) => value & bit).map(([name]) => name);
    return set.length === 0 ? "0" : set.join("|");
  }
  return bits
    .filter(([, bit]) => mask & bit)
    .map(([name, bit]) => `${value & bit ? "+" : "-"}${name}`)
    .join("");
};

export const tcpFlagsText = (value: number, mask: number): string => flagsText(value, mask, TCP_FLAGS);

const shortHex = (value: number): string => (value > 9 ? hex(value) : String(value));

/** `packet_type` as OVS writes it where it is not Ethernet. */
export const packetTypeText = (value: number): string => `(${shortHex(value >>> 16)},${shortHex(value & 0xffff)})`;

const bytesHex = (bytes: Uint8Array): string => hex(fromBytes(bytes));

/** A field value as it stands in `set_field` (mf_format). @param mask - absent = exact */
export const fieldValueText = (field: FieldName, value: Uint8Array, mask?: Uint8Array, ports?: PortNames): string => {
  const ones = mask ?? new Uint8Array(value.length).fill(0xff);
  const row = fieldSpec(field);
  if (ones.every((byte) => byte === 0)) return "ANY";
  switch (row.format) {
    case "mac":
      return macMasked(value, ones);
    case "ipv4":
      return ipv4Masked(value, ones);
    case "ipv6":
      return ipv6Masked(value, ones);
    case "port":
      return portToText(Number(fromBytes(value)), ports);
    case "port16": {
      const port = Number(fromBytes(value));
      return portToText(port >= 0xff00 ? port + 0xffff0000 : port, ports);
    }
    case "tun_flags":
      return flagsText(Number(fromBytes(value)), Number(fromBytes(ones)) & TUN_FLAGS.allowed, TUN_FLAGS);
    default: {
      const number = row.format === "hex" ? bytesHex(value) : fromBytes(value).toString();
      return mask === undefined ? number : `${number}/${bytesHex(mask)}`;
    }
  }
};
