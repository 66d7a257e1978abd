// How much slower than an ordinary machine the tests run: `TEST_SLOWDOWN` is 1 but in the emulated machine. It multiplies
// how long tests may take and wait, never what they ask for. Mocha loads this file there with --require.

import process from "node:process";

const wanted = Number(process.env["TEST_SLOWDOWN"] ?? 1);

/** At least 1. */
export const SLOWDOWN = Number.isFinite(wanted) && wanted >= 1 ? wanted : 1;

const slow = (suite: Mocha.Suite): void => {
  for (const runnable of [...suite.tests]) runnable.timeout(runnable.timeout() * SLOWDOWN);
  for (const inner of suite.suites) slow(inner);
};

/** Gives every test SLOWDOWN times its limit, also where a suite sets one of its own. Hooks keep theirs. */
export const mochaHooks = {
  beforeAll(this: Mocha.Context): void {
    const runnable = this.test as Mocha.Runnable;
    if (runnable.parent !== undefined) slow(runnable.parent);
  },
};
