// What parse-flows and parse-groups have in common: one line out per line in, and what becomes of wrong lines.

import { formatDiagnostic, type Diagnostic } from "ebpf-assembler";
import { InvalidArgumentError } from "commander";
import type { LineResult } from "../openflow/parse/lines.js";
import { PROTOCOL, PROTOCOLS } from "../openflow/versions.js";
import type { Io } from "./io.js";

export interface ParseLinesOptions {
  readonly keepGoing?: boolean;
  readonly json?: boolean;
  /** {@link PROTOCOL} bits. */
  readonly protocols?: number;
}

/** One line of a file as a command shows it. */
export interface Shown {
  /** The canonical text. */
  readonly text: string;
  /** The same as data, for --json. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly warnings: readonly Diagnostic[];
}

/** Reads `OpenFlow10,OpenFlow13` as ovs-ofctl does. @throws InvalidArgumentError naming what is known */
export const parseProtocols = (text: string): number => {
  let set = 0;
  for (const name of text.split(",")) {
    const bits =
      name === "OpenFlow10"
        ? PROTOCOLS.filter((p) => PROTOCOL[p] < PROTOCOL.OpenFlow11)
        : PROTOCOLS.filter((p) => p === name && PROTOCOL[p] >= PROTOCOL.OpenFlow11);
    if (bits.length === 0) throw new InvalidArgumentError(`"${name}" is not one of OpenFlow10 to OpenFlow15.`);
    for (const bit of bits) set |= PROTOCOL[bit];
  }
  return set;
};

/**
 * Prints the outcome of every line. Without --keep-going, output ends before the first wrong line, and all wrong lines
 * are reported; with it, `!message` stands in the place of each.
 */
export const printLines = <T>(
  io: Io,
  results: readonly LineResult<T>[],
  show: (value: T, result: LineResult<T>) => Shown,
  { keepGoing = false, json = false }: ParseLinesOptions,
): void => {
  let stopped = false;
  for (const result of results) {
    if (result.error !== undefined) {
      const [first] = result.error.diagnostics;
      if (keepGoing) io.out(`${json ? JSON.stringify({ error: first }) : `!${first!.message}`}\n`);
      else if (json) io.out(`${JSON.stringify({ error: first })}\n`);
      else io.err(`${formatDiagnostic(first!)}\n`);
      stopped ||= !keepGoing;
      continue;
    }
    if (stopped) continue;
    const { text, data, warnings } = show(result.value!, result);
    for (const warning of warnings) io.err(`${formatDiagnostic(warning)}\n`);
    io.out(`${json ? JSON.stringify({ line: result.line.number, text, ...data }) : text}\n`);
  }
  if (stopped) io.exit(1);
};
