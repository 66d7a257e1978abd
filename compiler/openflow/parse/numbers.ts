// Numbers as OVS reads them: C rules (0x = hexadecimal, leading 0 = octal) where its functions use base 0, plain
// decimal for ports, tables and groups.

import { fail, type Line, type Piece } from "./source.js";

const C_NUMBER = /^(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;
const DECIMAL = /^[0-9]+$/;

/** Longest texts that are surely exact as a number of JavaScript: 15 decimal digits are under 2^53. */
const SAFE_LENGTH = 15;

/** A C number as a bigint; undefined if it is none. */
export const parseUnsigned = (text: string): bigint | undefined => {
  if (!C_NUMBER.test(text)) return undefined;
  if (text.length > 1 && text[0] === "0" && text[1] !== "x" && text[1] !== "X") return BigInt(`0o${text.slice(1)}`);
  return BigInt(text);
};

/** A C number of at most `max` (under 2^53); undefined if it is none. */
const parseSmall = (text: string, max: number): number | undefined => {
  if (text.length > SAFE_LENGTH || !C_NUMBER.test(text)) {
    const big = parseUnsigned(text);
    return big !== undefined && big <= BigInt(max) ? Number(big) : undefined;
  }
  const octal = text.length > 1 && text[0] === "0" && text[1] !== "x" && text[1] !== "X";
  const value = octal ? Number.parseInt(text, 8) : Number(text);
  return value <= max ? value : undefined;
};

/** A C number from 0 to `max`; the message names `what`. */
export const numberIn = (line: Line, piece: Piece, what: string, max: number): number =>
  parseSmall(piece.text, max) ??
  fail(line, piece.at, `Cannot read ${what} "${piece.text}": want a number from 0 to ${max}`);

/** A C number of 64 bits; a minus sign takes the two's complement, so -1 is all ones. */
export const number64 = (line: Line, piece: Piece, what: string): bigint => {
  const negative = piece.text.startsWith("-");
  const value = parseUnsigned(negative ? piece.text.slice(1) : piece.text);
  if (value === undefined || value >> 64n !== 0n) {
    return fail(line, piece.at, `Cannot read ${what} "${piece.text}": want a number of at most 64 bits`);
  }
  return BigInt.asUintN(64, negative ? -value : value);
};

/** A decimal number from 0 to `max`; undefined if it is none. */
export const parseDecimal = (text: string, max: number): number | undefined => {
  if (!DECIMAL.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
};
