// How much slower than an ordinary machine the tests run: `TEST_SLOWDOWN` is 1 but in the emulated machine. It multiplies
// how long tests may take and wait, never what they ask for.

import process from "node:process";
import Mocha from "mocha";

const wanted = Number(process.env["TEST_SLOWDOWN"] ?? 1);

/** At least 1. */
export const SLOWDOWN = Number.isFinite(wanted) && wanted >= 1 ? wanted : 1;

/**
 * Gives every test and hook that is defined from now on so many times its limit, whoever sets it: a method of mocha's is
 * replaced, since hooks know their limit as soon as they are defined. With a slowdown of 1 nothing is touched.
 */
const slowDown = (): void => {
  const { prototype } = Mocha.Runnable;
  const timeout = Object.getOwnPropertyDescriptor(prototype, "timeout")?.value as (ms?: number) => unknown;
  Object.defineProperty(prototype, "timeout", {
    value(this: Mocha.Runnable, ms?: number): unknown {
      return ms === undefined ? timeout.call(this) : timeout.call(this, ms * SLOWDOWN);
    },
  });
};

if (SLOWDOWN > 1) slowDown();
