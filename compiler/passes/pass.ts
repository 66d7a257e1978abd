// What a pass is.

import type { Program } from "../ir/types.js";

/** A named, pure rewrite. Never mutates the program; returns the program itself when nothing changed. */
export interface Pass {
  readonly name: string;
  readonly doc: string;
  run(program: Program): Program;
}
