// Cuts a byte stream into OpenFlow messages. A message that lies whole in what came is given as a view of it; only one that
// is split over two reads is put together in memory of its own.

import { CodecError } from "ebpf-assembler";

/** Bytes of `ofp_header`: version u8, type u8, length be16, xid be32 (OpenFlow 1.3.5 section 7.1.1). */
export const HEADER_SIZE = 8;
const LENGTH_AT = 2;

export class Framer {
  /** The beginning of a message whose end has not come. */
  private rest: Buffer = Buffer.alloc(0);

  /** Bytes that wait for more. */
  get pendingBytes(): number {
    return this.rest.length;
  }

  /**
   * Takes bytes in.
   * @param onMessage - gets each whole message, header first: valid for as long as the caller leaves `bytes` alone
   * @throws {@link CodecError} for a length below that of a header: nothing after it can be trusted
   */
  push(bytes: Buffer, onMessage: (message: Buffer) => void): void {
    let data = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    this.rest = Buffer.alloc(0);
    while (data.length >= HEADER_SIZE) {
      const length = data.readUInt16BE(LENGTH_AT);
      if (length < HEADER_SIZE)
        throw new CodecError("decode an OpenFlow header", LENGTH_AT, `want a length of at least 8, got ${length}`);
      if (data.length < length) break;
      onMessage(data.subarray(0, length));
      data = data.subarray(length);
    }
    // A copy: the caller's buffer must not be kept alive by a few bytes.
    if (data.length > 0) this.rest = Buffer.from(data);
  }
}
