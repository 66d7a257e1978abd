// The commands of `ofxdp` that need no kernel. Each adds itself to a commander program; the program that users start
// puts them together with those of the loader and the runtime.

import type { Command } from "commander";
import { processIo, type Io } from "./cli/io.js";
import { addCompile } from "./cli/compile.js";
import { addParseFlows } from "./cli/parse-flows.js";
import { addParseGroups } from "./cli/parse-groups.js";
import { addParseMeters } from "./cli/parse-meters.js";
import { addPrintMessage } from "./cli/print-message.js";
import { addReplay } from "./cli/replay.js";
import { addTrace } from "./cli/trace.js";
import type { MakeReplayEngine } from "./replay/engine.js";

/**
 * Adds every command of the compiler.
 *
 * @param io - for tests; default: the process
 * @param engines - what else `replay` can run packets through, by the names of `--engine`
 */
export const addCompilerCommands = (
  program: Command,
  io: Io = processIo,
  engines: Readonly<Record<string, MakeReplayEngine>> = {},
): void => {
  addCompile(program, io);
  addParseFlows(program, io);
  addParseGroups(program, io);
  addParseMeters(program, io);
  addPrintMessage(program, io);
  addReplay(program, io, engines);
  addTrace(program, io);
};
