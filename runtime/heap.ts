// Garbage collection at a time of our choosing. Start-up leaves much garbage behind, and collecting it takes tens of
// milliseconds; the engine would do so seconds later, when packets wait.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Collects what start-up has left, and keeps the engine from collecting only because the process is idle. Changes flags of
 * the whole process, so it is for its owner to call.
 */
export const settleHeap = (): void => {
  setFlagsFromString("--no-memory-reducer");
  setFlagsFromString("--expose-gc");
  // The flag shows in contexts that are made after it was set.
  (runInNewContext("gc") as () => void)();
  setFlagsFromString("--no-expose-gc");
};
