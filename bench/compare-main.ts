// `npm run bench:compare A.json B.json`: what became slower or faster from run A to run B. Exit status 2 when something
// became slower.

import { parseArgs } from "node:util";
import { exitCodeOf, OffloadError } from "ebpf-assembler";
import { compareRuns, formatComparison } from "./compare.js";
import { BenchError } from "./error.js";
import { readRun } from "./results.js";

/** A negative answer, as of every command of the project. */
const NEGATIVE = 2;

const main = (): void => {
  const { values, positionals } = parseArgs({
    options: { json: { type: "boolean", short: "j", default: false } },
    allowPositionals: true,
  });
  const [before, after, ...more] = positionals;
  if (before === undefined || after === undefined || more.length > 0)
    throw new BenchError("Usage: npm run bench:compare -- [--json] BEFORE.json AFTER.json");
  const rows = compareRuns(readRun(before), readRun(after));
  if (rows.length === 0) throw new BenchError(`${before} and ${after} have no row in common`);
  process.stdout.write(`${values.json ? JSON.stringify(rows, null, 1) : formatComparison(rows)}\n`);
  if (rows.some(({ verdict }) => verdict === "slower")) process.exitCode = NEGATIVE;
};

try {
  main();
} catch (error) {
  if (!(error instanceof OffloadError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = exitCodeOf(error);
}
