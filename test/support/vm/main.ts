// `npm run test:vm [FILES]`: runs tests, by default those of {@link KERNEL_TESTS}, in the emulated machine with Linux 6.1.
// Options and files go to .ci/test. Ends as every run of tests does: with the line `N passed, N failed, N skipped`.

import console from "node:console";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { writeCorpus } from "./corpus.js";
import { makeMachine, MachineError, NoMachineError, runInMachine } from "./machine.js";

const TIMEOUT_MS = 25 * 60_000;
/** Emulation is some ten times slower than the processor itself. */
const SLOWDOWN = 10;
/** How much the fuzz tests do, unless FUZZ_SCALE says otherwise. */
const FUZZ_SCALE = "0.05";

/** What depends on the kernel, and is not mostly compiling, which emulation makes long. Others can be named. */
const KERNEL_TESTS: readonly string[] = [
  "test/dist/vm/**/*.test.js",
  "test/dist/loader/**/*.test.js",
  "test/dist/compiler/cli/compile.test.js",
  "test/dist/runtime/bridge.test.js",
];

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

const run = async (args: readonly string[]): Promise<number> => {
  const isNamed = args.some((arg) => arg.startsWith("test/dist/"));
  // The machine's serial port is a terminal to mocha, whatever our output is.
  const colors = process.stdout.isTTY ? "--color" : "--no-color";
  const words = ["--require", "./test/dist/support/pace.js", colors, ...args, ...(isNamed ? [] : KERNEL_TESTS)];
  const machine = await makeMachine();
  const corpus = mkdtempSync(join(tmpdir(), "ofxdp-corpus-"));
  try {
    if (words.some((word) => word.startsWith("test/dist/vm/"))) writeCorpus(corpus);
    return await runTests(machine, corpus, words);
  } finally {
    rmSync(corpus, { recursive: true });
  }
};

const runTests = (machine: string, corpus: string, words: readonly string[]): Promise<number> => {
  console.log(`Tests on Linux ${readFileSync(join(machine, "release"), "utf8").trim()}, emulated`);
  const { PATH = "", FUZZ_SCALE: scale = FUZZ_SCALE, FUZZ_SEED: seed = "1" } = process.env;
  const script = [
    `export HOME=/root PATH=${quote(PATH)} TEST_SLOWDOWN=${SLOWDOWN}`,
    `export FUZZ_SCALE=${quote(scale)} FUZZ_SEED=${quote(seed)} OBJECT_CORPUS=${quote(corpus)}`,
    `cd ${quote(process.cwd())}`,
    `exec sh .ci/test ${words.map(quote).join(" ")}`,
  ];
  return runInMachine(machine, script.join("\n"), (bytes) => process.stdout.write(bytes), TIMEOUT_MS);
};

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof MachineError || error instanceof NoMachineError)) throw error;
  const maySkip = error instanceof NoMachineError && process.env["REQUIRE_KERNEL"] !== "1";
  console.log(`${maySkip ? "Skipped: the tests on Linux 6.1: " : ""}${error.message}`);
  console.log(`0 passed, ${maySkip ? 0 : 1} failed, ${maySkip ? 1 : 0} skipped`);
  process.exitCode = maySkip ? 0 : 1;
}
