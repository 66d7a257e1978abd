// The one way to skip a test: with a reason. The reporter prints the reason, and fails a skip that has none.

const reasons = new WeakMap<object, string>();

/**
 * Ends the running test, or every test of the suite whose hook is running.
 *
 * @param context - `this` of the test or hook
 * @param reason - what is missing, with the release or the package that has it: "needs Linux 6.6 (tcx)"
 */
export const skip = (context: Mocha.Context, reason: string): never => {
  const runnable = context.test as Mocha.Test | Mocha.Hook;
  // A hook skips the tests of the suite that it belongs to; they are found by that suite.
  reasons.set(runnable.type === "hook" ? (runnable.parent ?? runnable) : runnable, reason);
  return context.skip();
};

/** The reason given for `test` or for a suite around it. */
export const skipReason = (test: Mocha.Test): string | undefined => {
  for (let at: Mocha.Test | Mocha.Suite | undefined = test; at !== undefined; at = at.parent) {
    const reason = reasons.get(at);
    if (reason !== undefined) return reason;
  }
  return undefined;
};
