// Configurations of queues, as replies list them: OFPT_QUEUE_GET_CONFIG_REPLY up to OpenFlow 1.3, OFPST_QUEUE_DESC from 1.4 on.

import { ByteReader, properties } from "./bytes.js";
import { OpenFlowError } from "./errors.js";
import { minorOf, type Message } from "./message.js";
import { readPort } from "./port-number.js";

/** A queue of a port; rates in tenths of a percent, above 1,000 = none. */
export interface WireQueue {
  readonly port: number;
  readonly queue: number;
  minRate?: number;
  maxRate?: number;
}

const RATE = { min: 1, max: 2 } as const;

const badLength = (what: string, length: number): never => {
  throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read ${what}: it says that it has ${length} bytes`);
};

const setRate = (queue: WireQueue, type: number, rate: number): void => {
  if (type === RATE.min) queue.minRate = rate;
  else queue.maxRate = rate;
};

/** What is left of an element that says that it has `length` bytes, of which `read` are read. */
const restOf = (reader: ByteReader, length: number, read: number): ByteReader => {
  if (length < read || length - read > reader.left || length % 8 !== 0) badLength("a queue", length);
  return reader.part(length - read);
};

const RATE_BYTES = 16;

const readQueue = (reader: ByteReader, minor: number, port: number): WireQueue => {
  const start = reader.at;
  const queue: WireQueue = { port, queue: reader.u32() };
  if (minor >= 2) reader.skip(4);
  const length = reader.u16();
  reader.skip(minor >= 2 ? 6 : 2);
  const rest = restOf(reader, length, reader.at - start);
  while (rest.left > 0) {
    const header = new ByteReader(rest.bytes.subarray(rest.at));
    const [type, size] = [header.u16(), header.u16()];
    if (size < 8 || size > rest.left || size % 8 !== 0) badLength("a property of a queue", size);
    if (type === RATE.min || type === RATE.max) {
      if (size !== RATE_BYTES) badLength("the rate of a queue", size);
      setRate(queue, type, header.skip(4).u16());
    }
    rest.skip(size);
  }
  return queue;
};

const readQueueDesc = (reader: ByteReader, minor: number): WireQueue => {
  const start = reader.at;
  const bytes = reader.part(16);
  const queue: WireQueue = { port: readPort(bytes, minor), queue: bytes.u32() };
  for (const property of properties(restOf(reader, bytes.u16(), reader.at - start))) {
    // Others may be there, and say nothing to us.
    if (property.type !== RATE.min && property.type !== RATE.max) continue;
    const rate = property.body.u16();
    if (property.body.left > 0) throw new OpenFlowError("OFPBPC_BAD_LEN", "Cannot read the rate of a queue");
    setRate(queue, property.type, rate);
  }
  return queue;
};

/** @throws {@link OpenFlowError} after the queues before */
export function* decodeQueues(message: Message): Generator<WireQueue> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  if (message.row.kind === "queue_desc_reply") {
    while (reader.left > 0) yield readQueueDesc(reader, minor);
    return;
  }
  const head = reader.part(8);
  if (reader.left === 0) return;
  const port = readPort(head, minor);
  while (reader.left > 0) yield readQueue(reader, minor, port);
}
