// Positions in flow and group text, and the scanner for the "key=value, key(value), key:value" lists that all of it
// is made of. Offsets count from 0 in a line; diagnostics count columns from 1.

import { CompileError, type Diagnostic } from "ebpf-assembler";

/** One line of a file. */
export interface Line {
  readonly file: string;
  /** From 1. */
  readonly number: number;
  readonly text: string;
}

/** A piece of a line: `text` begins at offset `at`. */
export interface Piece {
  readonly text: string;
  readonly at: number;
}

export const diagnosticAt = (line: Line, at: number, message: string): Diagnostic => ({
  file: line.file,
  line: line.number,
  column: at + 1,
  message,
});

/** @throws {@link CompileError} always: `message` about offset `at` of `line` */
export const fail = (line: Line, at: number, message: string): never => {
  throw new CompileError([diagnosticAt(line, at, message)]);
};

/** One element of a list. `value` is empty, and at the end of the key, where there is none. */
export interface Pair {
  readonly key: Piece;
  readonly value: Piece;
  /** What stood between key and value. */
  readonly by: "=" | ":" | "(" | "";
}

const SPACE = " \t\r\n";
const BETWEEN = `,${SPACE}`;
const AFTER_KEY = `:=(${BETWEEN}`;

const skip = (text: string, from: number, set: string): number => {
  let at = from;
  while (at < text.length && set.includes(text[at]!)) at++;
  return at;
};

const until = (text: string, from: number, set: string): number => {
  let at = from;
  while (at < text.length && !set.includes(text[at]!)) at++;
  return at;
};

/** Where a value ends: at a delimiter outside of parentheses, or at the end. */
const valueEnd = (text: string, from: number, delimiters: string): number => {
  let at = from;
  while (at < text.length && !delimiters.includes(text[at]!)) {
    if (text[at] !== "(") {
      at++;
      continue;
    }
    let depth = 0;
    do {
      if (at >= text.length) return at;
      if (text[at] === "(") depth++;
      else if (text[at] === ")") depth--;
      at++;
    } while (depth > 0);
  }
  return at;
};

/**
 * The elements of a list, in order; commas and white space between them, however many, separate. A value after `(`
 * reaches to the matching `)`; `(x)->y` is one value `x)->y`, as OVS reads it.
 */
export const pairs = (list: Piece): Pair[] => {
  const { text } = list;
  const found: Pair[] = [];
  const piece = (from: number, to: number): Piece => ({ text: text.slice(from, to), at: list.at + from });
  for (let at = skip(text, 0, BETWEEN); at < text.length; at = skip(text, at, BETWEEN)) {
    const keyEnd = until(text, at, AFTER_KEY);
    const key = piece(at, keyEnd);
    const delimiter = text[keyEnd];
    if (delimiter !== "=" && delimiter !== ":" && delimiter !== "(") {
      found.push({ key, value: piece(keyEnd, keyEnd), by: "" });
      at = keyEnd + 1;
      continue;
    }
    const from = keyEnd + 1;
    let end = valueEnd(text, from, delimiter === "(" ? ")" : BETWEEN);
    if (delimiter === "(" && text.startsWith(")->", end)) end = valueEnd(text, end, BETWEEN);
    found.push({ key, value: piece(from, end), by: delimiter });
    at = end + 1;
  }
  return found;
};

/** Cuts a piece at the first `mark`: what is before it and, if it is there at all, what is behind. */
export const cut = (piece: Piece, mark: string): readonly [before: Piece, after: Piece | undefined] => {
  const at = piece.text.indexOf(mark);
  if (at < 0) return [piece, undefined];
  const behind = at + mark.length;
  return [
    { text: piece.text.slice(0, at), at: piece.at },
    { text: piece.text.slice(behind), at: piece.at + behind },
  ];
};
