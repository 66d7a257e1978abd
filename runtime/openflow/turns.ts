// Whose turn it is: connections that have messages to be handled take turns, and all of them together take no more than a
// millisecond of each round of the event loop, however many there are.

import { monotonicMs } from "../clock.js";

/** What all connections together get of a round of the event loop. */
const ROUND_MS = 1;

/** Somebody with work to do. */
export interface Worker {
  /** Does a little of it. Returns whether there is more. */
  readonly work: () => boolean;
}

const waiting: Worker[] = [];
let round: NodeJS.Immediate | undefined;

const run = (): void => {
  round = undefined;
  const endMs = monotonicMs() + ROUND_MS;
  for (let worker = waiting.shift(); worker !== undefined; worker = waiting.shift()) {
    if (worker.work()) waiting.push(worker);
    if (monotonicMs() >= endMs) break;
  }
  if (waiting.length > 0) round ??= setImmediate(run);
};

/** Has a worker work as soon as it is its turn. It must not wait for one already. */
export const takeTurns = (worker: Worker): void => {
  waiting.push(worker);
  round ??= setImmediate(run);
};
