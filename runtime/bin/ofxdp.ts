#!/usr/bin/env node
// The command-line tool: the commands of all folders under one name.

import { Command, CommanderError } from "commander";
import { addCompilerCommands } from "#compiler";
import { addLoaderCommands } from "libbpf-ts";
import { addRuntimeCommands, packageVersion } from "../cli.js";
import { addDemoCommand } from "../demo/cli.js";
import { flowsSource } from "../load-flows.js";
import { kernelReplay } from "../replay/kernel-replay.js";

const program = new Command("ofxdp")
  .description("compiles OpenFlow tables into eBPF and runs them on XDP and TC hooks")
  .version(packageVersion())
  .exitOverride();
addCompilerCommands(program, undefined, { kernel: kernelReplay });
addLoaderCommands(program, { sources: [flowsSource] });
addRuntimeCommands(program);
addDemoCommand(program);
for (const command of program.commands) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 1;
}
