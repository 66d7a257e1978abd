// Cuts a stream of JSON objects, written one after another without separators, into texts of one object each. The unixctl
// protocol frames its messages by nothing else.

import { CodecError } from "ebpf-assembler";

/** Largest message accepted: a flow file passed by value fits, a runaway peer does not fill the memory. */
const MESSAGE_MAX = 1 << 26;

const OPEN = new Set(["{", "["]);
const CLOSE = new Set(["}", "]"]);

/** Collects text and gives out complete objects. */
export class JsonStream {
  private text = "";
  private at = 0;
  private depth = 0;
  private inString = false;
  private isEscaped = false;

  /**
   * Adds received text.
   * @returns the objects completed by it
   * @throws {@link CodecError} for text outside of an object, an object that is not JSON, or one that is too long
   */
  push(chunk: string): unknown[] {
    this.text += chunk;
    const done: unknown[] = [];
    let start = 0;
    for (; this.at < this.text.length; this.at++) {
      const c = this.text[this.at]!;
      if (this.inString) {
        if (this.isEscaped) this.isEscaped = false;
        else if (c === "\\") this.isEscaped = true;
        else if (c === '"') this.inString = false;
        continue;
      }
      if (this.depth === 0) {
        if (/\s/.test(c)) continue;
        if (c !== "{") throw new CodecError("read a control message", this.at, `want "{", got ${JSON.stringify(c)}`);
        start = this.at;
      }
      if (c === '"') this.inString = true;
      else if (OPEN.has(c)) this.depth++;
      else if (CLOSE.has(c) && --this.depth === 0) {
        done.push(this.parse(this.text.slice(start, this.at + 1)));
        start = this.at + 1;
      }
    }
    this.text = this.text.slice(start);
    this.at -= start;
    if (this.text.length > MESSAGE_MAX)
      throw new CodecError("read a control message", -1, `want at most ${MESSAGE_MAX} characters`);
    return done;
  }

  private parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new CodecError("read a control message", -1, "want JSON", error);
    }
  }
}
