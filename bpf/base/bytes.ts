// Byte strings and hexadecimal text.

import { CodecError } from "./errors.js";

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

/** Lower-case hexadecimal text, two digits a byte, no separators. */
export const toHex = (bytes: Uint8Array): string => {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
};

/**
 * The bytes of hexadecimal text; white space between bytes is allowed.
 * @throws {@link CodecError} for an odd number of digits or any other character
 */
export const fromHex = (text: string): Uint8Array => {
  const digits = text.replace(/\s+/g, "");
  const bad = digits.search(/[^0-9a-fA-F]/);
  if (bad >= 0)
    throw new CodecError("decode hex text", bad >> 1, `want hex digits, got ${JSON.stringify(digits[bad])}`);
  if (digits.length % 2 !== 0)
    throw new CodecError("decode hex text", digits.length >> 1, "want two digits a byte, got one");
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
};

/** Whether two byte strings are equal. */
export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
};

/** The byte strings joined end to end. */
export const concatBytes = (...parts: readonly Uint8Array[]): Uint8Array => {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** `n` rounded up to a multiple of `to` (a power of two). */
export const roundUp = (n: number, to: number): number => (n + to - 1) & ~(to - 1);
