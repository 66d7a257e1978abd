// Reading and writing of bytes, for commands that do so.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CodecError } from "ebpf-assembler";

export interface FileIo {
  /** @throws CodecError if the file cannot be read */
  readBytes(path: string): Uint8Array;
  /** Writes a file into a directory, which is made if it is missing. @throws CodecError if that fails */
  writeInto(directory: string, name: string, bytes: Uint8Array): void;
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export const processFileIo: FileIo = {
  readBytes: (path) => {
    try {
      return new Uint8Array(readFileSync(path));
    } catch (error) {
      throw new CodecError(`read ${path}`, -1, reason(error), error);
    }
  },
  writeInto: (directory, name, bytes) => {
    try {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, name), bytes);
    } catch (error) {
      throw new CodecError(`write ${join(directory, name)}`, -1, reason(error), error);
    }
  },
};
