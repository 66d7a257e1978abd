// Runs commands of the compiler in this process, with an outside world of their own.

import { Command } from "commander";
import { CodecError } from "ebpf-assembler";
import { addCompilerCommands, type Io } from "#compiler";

export interface Outcome {
  readonly out: string;
  readonly err: string;
  readonly code: number;
}

/** Runs one command on files that are given as text. */
export const runCommand = (files: Readonly<Record<string, string>>, ...args: string[]): Outcome => {
  let out = "";
  let err = "";
  let code = 0;
  const io: Io = {
    readText: (path) => {
      if (!Object.hasOwn(files, path)) throw new CodecError(`read ${path}`, -1, "no such file");
      return files[path]!;
    },
    out: (text) => (out += text),
    err: (text) => (err += text),
    exit: (status) => (code = status),
  };
  const program = new Command().exitOverride();
  addCompilerCommands(program, io);
  program.parse(args, { from: "user" });
  return { out, err, code };
};
