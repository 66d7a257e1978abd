// The reporter of `npm test`: prints as mocha's spec does, then what the tests left behind and the slowest files, and
// ends with the line `N passed, N failed, N skipped`.
//
// Besides tests and hooks that fail, these count as failed: a skip without a reason (see skip.ts), every skip when
// REQUIRE_KERNEL=1, and each thing left behind (see leftovers.ts).

import console from "node:console";
import { relative } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import Mocha from "mocha";
import { FileWatch, leftovers, TemporaryDirectory, warmUp } from "./leftovers.js";
import { skipReason } from "./skip.js";

/** Time for sockets and children that were told to end. */
const SETTLE_MS = 100;
const N_SLOWEST = 10;

// Mocha loads its reporter before the files of tests, which may ask for tmpdir() while they are loaded.
const temporary = new TemporaryDirectory();
const mayNotSkip = process.env["REQUIRE_KERNEL"] === "1";

const { EVENT_RUN_BEGIN, EVENT_SUITE_BEGIN, EVENT_SUITE_END, EVENT_TEST_PENDING } = Mocha.Runner.constants;

/** Path from the working directory, of the source: `test/a.test.ts`. */
const sourceOf = (file: string | undefined): string =>
  relative(".", file ?? "")
    .replace("test/dist/", "test/")
    .replace(/\.js$/, ".ts");

export default class Reporter extends Mocha.reporters.Spec {
  private readonly skips: { readonly title: string; readonly reason: string | undefined }[] = [];
  private readonly msByFile = new Map<string, number>();
  private watch: FileWatch | undefined;
  private startedMs = 0;

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const isFile = (suite: Mocha.Suite): boolean => suite.parent?.root === true;
    runner.on(EVENT_RUN_BEGIN, () => {
      warmUp();
      this.watch = new FileWatch();
    });
    runner.on(EVENT_SUITE_BEGIN, (suite) => {
      if (isFile(suite)) this.startedMs = performance.now();
    });
    runner.on(EVENT_SUITE_END, (suite) => {
      if (!isFile(suite)) return;
      const file = sourceOf(suite.file);
      this.msByFile.set(file, (this.msByFile.get(file) ?? 0) + performance.now() - this.startedMs);
      this.watch?.next(file);
    });
    runner.on(EVENT_TEST_PENDING, (test) => {
      this.skips.push({ title: test.fullTitle(), reason: skipReason(test) });
    });
  }

  /** Mocha calls this when all is over; `end` takes the number of failures to exit with. */
  override done(_nFailures: number, end?: (nFailures: number) => void): void {
    void this.conclude().then((nFailed) => end?.(nFailed));
  }

  private async conclude(): Promise<number> {
    await sleep(SETTLE_MS);
    const left = [...(this.watch?.leaks() ?? []), ...leftovers(), ...temporary.leftovers()];
    const refused = mayNotSkip ? this.skips : this.skips.filter(({ reason }) => reason === undefined);
    const nFailed = this.stats.failures + refused.length + left.length;

    for (const { title, reason } of this.skips)
      console.log(`Skipped: ${title}: ${reason ?? "no reason given: use skip() of test/support/skip.ts"}`);
    if (mayNotSkip && refused.length > 0) console.log("REQUIRE_KERNEL=1: each skip counts as failed");
    for (const line of left) console.log(`Leak: ${line}`);

    const slowest = [...this.msByFile].sort(([, a], [, b]) => b - a).slice(0, N_SLOWEST);
    console.log("\nSlowest files:");
    for (const [file, ms] of slowest) console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${file}`);

    const nSkipped = this.skips.length - (mayNotSkip ? this.skips.length : refused.length);
    console.log(`\n${this.stats.passes} passed, ${nFailed} failed, ${nSkipped} skipped`);
    return nFailed;
  }
}
