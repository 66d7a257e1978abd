// What a handler of messages gets, and what it may be.

import type { Message } from "#compiler";
import type { Source } from "./flow-monitors.js";
import type { OfConn } from "./ofconn.js";
import type { Ofproto } from "./ofproto.js";

/** A message of a peer. Its bytes are good until the handler has ended. */
export interface Request {
  readonly ofproto: Ofproto;
  readonly conn: OfConn;
  readonly message: Message;
  /** The whole message. */
  readonly bytes: Uint8Array;
}

/**
 * Does what a message asks for. What it throws, or rejects with, is answered with the OpenFlow error that stands for it.
 * The peer's next message waits until a promise settles.
 */
export type Handler = (request: Request) => void | Promise<void>;

/** Whose message it is. */
export const sourceOf = ({ conn, message }: Request): Source => ({ conn, xid: message.header.xid });

/** Milliseconds as seconds and nanoseconds. */
export const duration = (ms: number): { readonly durationS: number; readonly durationNs: number } => {
  const whole = Math.max(0, Math.floor(ms));
  return { durationS: Math.floor(whole / 1000), durationNs: (whole % 1000) * 1_000_000 };
};

/** Elements handled before others get their turn. */
const SLICE = 256;

/** Goes through a list in pieces, so that upcalls do not wait long, and no faster than the peer reads what comes of it. */
export const inSlices = async <T>(
  { connection }: OfConn,
  all: Iterable<T>,
  visit: (each: T) => void,
): Promise<void> => {
  let i = 0;
  for (const each of all) {
    visit(each);
    if (++i % SLICE !== 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    if (connection.isCongested) await connection.drained();
  }
};
