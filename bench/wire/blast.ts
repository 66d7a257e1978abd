// The sender of packets, built beside the bench's own modules when it is older than its source.

import { renameSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compileHost, hostSource } from "../clang.js";

const NAME = "blast";
const PROGRAM = fileURLToPath(new URL(`../${NAME}`, import.meta.url));

const changedMs = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Path of bench/c/blast.c compiled. */
export const blastPath = (): string => {
  if (changedMs(PROGRAM) <= changedMs(hostSource(NAME))) {
    // Another process may be building, or running, the same.
    const own = `${PROGRAM}.${process.pid}`;
    compileHost(NAME, own);
    renameSync(own, PROGRAM);
  }
  return PROGRAM;
};
