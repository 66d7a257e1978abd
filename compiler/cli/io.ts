// The outside world of the commands: the only way in which they read, write and end. Tests give their own.

import { readFileSync } from "node:fs";
import { CodecError, exitCodeOf, OffloadError, type ExitCode } from "ebpf-assembler";

export interface Io {
  /** The text of a file; `-` is standard input. @throws CodecError if it cannot be read */
  readText(path: string): string;
  /** Facts, on standard output. */
  out(text: string): void;
  /** Words, on standard error. */
  err(text: string): void;
  /** Ends the command with this status as soon as all output is written. */
  exit(code: ExitCode): void;
}

const STDIN = 0;

/** Name of the file in messages. */
export const fileName = (path: string): string => (path === "-" ? "<stdin>" : path);

export const processIo: Io = {
  readText: (path) => {
    try {
      return readFileSync(path === "-" ? STDIN : path, "utf8");
    } catch (error) {
      // "ENOENT: no such file or directory, open 'x'": the file is named already.
      const reason = error instanceof Error ? error.message.replace(/, \w+( '.*')?$/, "") : String(error);
      throw new CodecError(`read ${fileName(path)}`, -1, reason, error);
    }
  },
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  exit: (code) => {
    process.exitCode = code;
  },
};

/** Runs a command; an error becomes one clear message (or a line of JSON) and its exit status. */
export const runCommand = (io: Io, json: boolean, command: () => void): void => {
  try {
    command();
  } catch (error) {
    if (!(error instanceof OffloadError)) throw error;
    if (json) io.out(`${JSON.stringify({ error: error.toJSON() })}\n`);
    else io.err(`${error.message}\n`);
    io.exit(exitCodeOf(error));
  }
};
