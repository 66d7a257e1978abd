// Files of flows or groups: one per line, `#` starts a comment, blank lines count but say nothing.

import { CompileError } from "ebpf-assembler";
import type { Line } from "./source.js";

/** The lines of a file that say something, without their comments. */
export const contentLines = (text: string, file: string): Line[] =>
  text
    .split("\n")
    .map((raw, i) => ({ file, number: i + 1, text: withoutComment(raw) }))
    .filter((line) => line.text.trim() !== "");

const withoutComment = (raw: string): string => {
  const comment = raw.indexOf("#");
  const text = comment < 0 ? raw : raw.slice(0, comment);
  return text.endsWith("\r") ? text.slice(0, -1) : text;
};

/** The outcome of one line. */
export type LineResult<T> = { readonly line: Line } & (
  { readonly value: T; readonly error?: undefined } | { readonly value?: undefined; readonly error: CompileError }
);

/** Parses each line by itself: a wrong one does not keep the others from being read. */
export const parseEach = <T>(lines: readonly Line[], parse: (line: Line) => T): LineResult<T>[] =>
  lines.map((line) => {
    try {
      return { line, value: parse(line) };
    } catch (error) {
      if (error instanceof CompileError) return { line, error };
      throw error;
    }
  });

/** The values of all lines. @throws CompileError with the complaints of every wrong line */
export const requireAll = <T>(results: readonly LineResult<T>[]): T[] => {
  const diagnostics = results.flatMap((result) => result.error?.diagnostics ?? []);
  if (diagnostics.length > 0) throw new CompileError(diagnostics);
  return results.map((result) => result.value!);
};
