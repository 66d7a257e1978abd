// Small things that messages in text share: names of bits, durations, dumps.

import { OpenFlowError } from "../wire/errors.js";

/** Sixteen bytes a line: offset, digits, characters if wanted. */
export const hexDump = (bytes: Uint8Array, characters = true): string => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    let digits = "";
    let shown = "";
    for (let i = 0; i < 16; i++) {
      const byte = line[i];
      digits += byte === undefined ? "   " : `${byte.toString(16).padStart(2, "0")}${i === 7 ? "-" : " "}`;
      shown += byte === undefined ? " " : byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".";
    }
    const offset = at.toString(16).padStart(8, "0");
    text += characters ? `${offset}  ${digits}|${shown}|\n` : `${offset}  ${digits.trimEnd()}\n`;
  }
  return text;
};

export const durationText = (s: number, ns: number): string => {
  if (ns === 0) return `${s}s`;
  const isMs = ns % 1_000_000 === 0;
  const digits = isMs ? String(ns / 1_000_000).padStart(3, "0") : String(ns).padStart(9, "0").replace(/0+$/, "");
  return `${s}.${digits}s`;
};

/** Bits by name, lowest first; those without one as a number, and 0 for none. */
export const bitNames = (bits: number, names: ReadonlyMap<number, string>, separator = " "): string => {
  if (bits === 0) return "0";
  const words: string[] = [];
  let rest = bits >>> 0;
  for (let i = 0; i < 32; i++) {
    const bit = (1 << i) >>> 0;
    const name = (rest & bit) === 0 ? undefined : names.get(bit);
    if (name === undefined) continue;
    words.push(name);
    rest = (rest & ~bit) >>> 0;
  }
  return [...words, ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])].join(separator);
};

/** A number in C's `%#x`: without a prefix when it is 0. */
export const alternateHex = (value: number): string => (value === 0 ? "0" : `0x${value.toString(16)}`);

const REMOVAL_REASONS = ["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"] as const;

/** Why a flow is gone. */
export const removalText = (reason: number): string => REMOVAL_REASONS[reason] ?? String(reason);

/** Seconds of a duration that nobody knows. */
export const UNKNOWN_DURATION = 0xffffffff;

/** How many elements can be read. */
export const countOf = (all: Iterable<unknown>): number => {
  let count = 0;
  try {
    for (const each of all) {
      void each;
      count++;
    }
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
  }
  return count;
};
