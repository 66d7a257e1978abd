// The sender of packets, built once per process.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileHost } from "../clang.js";

let built: string | undefined;

/** Path of bench/c/blast.c compiled; removed when the process ends. */
export const blastPath = (): string => {
  if (built !== undefined) return built;
  const directory = mkdtempSync(join(tmpdir(), "ofxdp-bench-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "blast");
  compileHost("blast", path);
  return (built = path);
};
