// Ownership of one file descriptor.

import { check, ClosedError } from "./errors.js";
import type { Sys } from "./sys.js";

/** An open file descriptor. Disposing closes it, once; any later use throws {@link ClosedError}. */
export class Fd implements Disposable {
  private number: number;

  /**
   * @param number - result of the call that opened it
   * @param what - names it in errors, e.g. `map "flows"`
   */
  constructor(
    readonly sys: Sys,
    number: number,
    readonly what: string,
  ) {
    this.number = number;
  }

  /** The descriptor. @throws {@link ClosedError} */
  get n(): number {
    if (this.number < 0) throw new ClosedError(this.what);
    return this.number;
  }

  get isOpen(): boolean {
    return this.number >= 0;
  }

  [Symbol.dispose](): void {
    const number = this.number;
    this.number = -1;
    if (number >= 0) check(this.sys.call("close", number), `close ${this.what}`, "close()");
  }
}
