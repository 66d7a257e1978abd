// Messages about queues in OVS's text.

import { portToText } from "../ports.js";
import { PORT } from "../types.js";
import { ByteReader } from "../wire/bytes.js";
import { OpenFlowError } from "../wire/errors.js";
import { minorOf, type Message } from "../wire/message.js";
import { readPort } from "../wire/port-number.js";
import { decodeQueues, type WireQueue } from "../wire/queue-message.js";
import { countOf, durationText, UNKNOWN_DURATION } from "./words.js";

const QUEUE_ALL = 0xffffffff;
const queueText = (queue: number): string => (queue === QUEUE_ALL ? "ALL" : String(queue));

export const queueRequestText = (message: Message): string => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const port = readPort(reader, minor);
  const isStats = message.row.kind === "queue_stats_request";
  if (isStats) {
    // OpenFlow 1.0 says ALL where later versions say ANY.
    const all = minor === 0 && port === PORT.ALL ? PORT.NONE : port;
    return ` port=${portToText(all)} queue=${queueText(reader.skip(minor === 0 ? 2 : 0).u32())}`;
  }
  const isDesc = message.row.kind === "queue_desc_request";
  const mayBeAny = isDesc || (minor > 0 && port === PORT.NONE);
  if (!mayBeAny && port >= 0xff00) throw new OpenFlowError("OFPQOFC_BAD_PORT", `Cannot show queues of port ${port}`);
  const queue = isDesc ? reader.u32() : QUEUE_ALL;
  return ` port=${portToText(port)}${queue === QUEUE_ALL ? "" : ` queue=${queueText(queue)}`}`;
};

function* queueStats(message: Message): Generator<string> {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const count = (n: bigint): string => (n === 0xffffffffffffffffn ? "?" : String(n));
  while (reader.left > 0) {
    if (minor >= 4) {
      const length = reader.u16();
      if (length < 48 || length - 2 > reader.left)
        throw new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a queue: it says that it has ${length} bytes`);
    }
    const start = reader.at - 2;
    if (minor >= 4) reader.skip(6);
    const port = readPort(reader, minor);
    const queue = reader.skip(minor === 0 ? 2 : 0).u32();
    const [bytes, packets, errors] = [reader.u64(), reader.u64(), reader.u64()];
    const [s, ns] = minor >= 3 ? [reader.u32(), reader.u32()] : [UNKNOWN_DURATION, 0];
    if (minor >= 4) reader.skip(new ByteReader(message.body.subarray(start)).u16() - 48);
    const time = s === UNKNOWN_DURATION ? "?" : durationText(s, ns);
    yield (
      `  port ${portToText(port)} queue ${queueText(queue)}: bytes=${count(bytes)}, pkts=${count(packets)}, ` +
      `errors=${count(errors)}, duration=${time}\n`
    );
  }
}

export function* queueStatsText(message: Message, verbosity: number): Generator<string> {
  yield ` ${countOf(queueStats(message))} queues\n`;
  if (verbosity >= 1) yield* queueStats(message);
}

const rateText = (name: string, rate: number | undefined): string =>
  rate === undefined || rate === 0xffff
    ? ""
    : rate > 1000
      ? ` ${name}:(disabled)`
      : ` ${name}:${Math.floor(rate / 10)}.${rate % 10}%`;

/** By port and queue; those before an error are shown. */
export function* queueConfigText(message: Message): Generator<string> {
  const queues: WireQueue[] = [];
  let problem: unknown;
  try {
    for (const queue of decodeQueues(message)) queues.push(queue);
  } catch (error) {
    problem = error;
  }
  queues.sort((a, b) => a.port - b.port || a.queue - b.queue);
  if (queues.length > 0) yield " ";
  let last = 0;
  for (const { port, queue, minRate, maxRate } of queues) {
    if (port !== last) yield `port=${portToText(port)}\n`;
    last = port;
    yield `queue ${queue}:${rateText("min_rate", minRate)}${rateText("max_rate", maxRate)}\n`;
  }
  if (problem !== undefined) throw problem;
}
