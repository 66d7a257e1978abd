// A value in a file that is there whole or not at all, for the next process of the same system start. It is not for another
// version of the program: who cannot know what the words of then mean reads nothing rather than something else.

import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { deserialize, serialize } from "node:v8";
import { FIELDS, FLOW } from "#compiler";

/** Names the start of the system, whose clock the times in a file are of. */
const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** What must be the same for a file to be understood. */
const fingerprint = (version: string): string =>
  createHash("sha256")
    .update(JSON.stringify([version, bootId(), FLOW, Object.keys(FIELDS)]))
    .digest("hex");

interface Written {
  readonly fingerprint: string;
  readonly value: unknown;
}

export class StateFile<T> {
  private readonly fingerprint: string;
  private writing: Promise<void> = Promise.resolve();
  /** Of writings that were begun. */
  private count = 0;

  /** @param version - of the program */
  constructor(
    readonly path: string,
    version: string,
  ) {
    this.fingerprint = fingerprint(version);
  }

  /** The value; undefined when there is none that this version understands. */
  read(): T | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.path);
    } catch {
      // Not there: nothing was saved.
      return undefined;
    }
    try {
      const written = deserialize(bytes) as Partial<Written>;
      return written.fingerprint === this.fingerprint ? (written.value as T) : undefined;
    } catch {
      // Not ours.
      return undefined;
    }
  }

  private bytes(value: T): Buffer {
    return serialize({ fingerprint: this.fingerprint, value } satisfies Written);
  }

  private get next(): string {
    return `${this.path}.next`;
  }

  /** Replaces the value, in the background and in the order of calls. */
  write(value: T): Promise<void> {
    const number = ++this.count;
    const bytes = this.bytes(value);
    const after = this.writing.catch(() => undefined);
    this.writing = after.then(async () => {
      await writeFile(this.next, bytes, { mode: 0o600 });
      if (this.count === number) await rename(this.next, this.path);
    });
    return this.writing;
  }

  /** Replaces the value before it returns; what is being written in the background does not replace it. */
  writeNow(value: T): void {
    this.count++;
    const own = `${this.path}.last`;
    writeFileSync(own, this.bytes(value), { mode: 0o600 });
    renameSync(own, this.path);
  }

  remove(): void {
    this.count++;
    for (const path of [this.path, this.next]) rmSync(path, { force: true });
  }
}
