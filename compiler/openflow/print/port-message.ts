// Messages about ports and queues in OVS's text.

import { PORT } from "../types.js";
import { portToText } from "../ports.js";
import { ByteReader } from "../wire/bytes.js";
import { OpenFlowError } from "../wire/errors.js";
import { minorOf, type Message } from "../wire/message.js";
import { readPort } from "../wire/port-number.js";
import {
  decodePortDescs,
  decodePortMod,
  decodePortStats,
  decodePortStatus,
  PORT_CONFIG,
  PORT_STATE,
  type PortCounter,
  type WirePort,
  type WirePortStats,
} from "../wire/port-message.js";
import { bitNames, durationText } from "./words.js";
import { macText } from "./values.js";

const CONFIG_NAMES: ReadonlyMap<number, string> = new Map([
  [PORT_CONFIG.portDown, "PORT_DOWN"],
  [PORT_CONFIG.noStp, "NO_STP"],
  [PORT_CONFIG.noReceive, "NO_RECV"],
  [PORT_CONFIG.noReceiveStp, "NO_RECV_STP"],
  [PORT_CONFIG.noFlood, "NO_FLOOD"],
  [PORT_CONFIG.noForward, "NO_FWD"],
  [PORT_CONFIG.noPacketIn, "NO_PACKET_IN"],
]);

const STATE_NAMES: ReadonlyMap<number, string> = new Map([
  [PORT_STATE.linkDown, "LINK_DOWN"],
  [PORT_STATE.blocked, "BLOCKED"],
  [PORT_STATE.live, "LIVE"],
]);

const FEATURE_NAMES: ReadonlyMap<number, string> = new Map(
  [
    ...["10MB-HD", "10MB-FD", "100MB-HD", "100MB-FD", "1GB-HD", "1GB-FD", "10GB-FD", "40GB-FD", "100GB-FD"],
    ...["1TB-FD", "OTHER", "COPPER", "FIBER", "AUTO_NEG", "AUTO_PAUSE", "AUTO_PAUSE_ASYM"],
  ].map((name, i) => [1 << i, name]),
);

/** State of the spanning tree: two bits of OpenFlow 1.0, shown when they are not 0. */
const STP_BITS = 0x300;
const STP_NAMES = ["", "STP_LEARN", "STP_FORWARD", "STP_BLOCK"] as const;

const stateText = (state: number): string => {
  const stp = STP_NAMES[(state & STP_BITS) >>> 8]!;
  const rest = state & ~STP_BITS;
  return stp === "" || rest !== 0 ? `${stp}${bitNames(rest, STATE_NAMES)}` : stp;
};

const configText = (config: number): string => bitNames(config, CONFIG_NAMES);

/** Of a name, what can be shown; the last of its bytes is never part of it. */
const nameText = (name: string): string => /^[\x20-\x7e]*/.exec(name.slice(0, 15))![0];

/** A port as `ovs-ofctl show` has it. */
const portText = (port: WirePort): string => {
  const features = (["current", "advertised", "supported", "peer"] as const).map((feature) =>
    port[feature] === 0 ? "" : `     ${`${feature}:`.padEnd(12)}${bitNames(port[feature], FEATURE_NAMES)}\n`,
  );
  const mbps = (kbps: number): number => Math.floor(kbps / 1000);
  return [
    ` ${portToText(port.port)}(${nameText(port.name)}): addr:${macText(port.mac)}\n`,
    `     config:     ${configText(port.config)}\n`,
    `     state:      ${stateText(port.state)}\n`,
    ...features,
    `     speed: ${mbps(port.currentSpeed)} Mbps now, ${mbps(port.maxSpeed)} Mbps max\n`,
  ].join("");
};

/** Ports by number; those that can be read before one that cannot are shown, too. */
export function* portsText(ports: Iterable<WirePort>): Generator<string> {
  const read: WirePort[] = [];
  const show = (): string =>
    read
      .sort((a, b) => (a.port & 0xffff) - (b.port & 0xffff))
      .map(portText)
      .join("");
  try {
    for (const port of ports) read.push(port);
  } catch (error) {
    yield show();
    throw error;
  }
  yield show();
}

export function* portDescText(message: Message): Generator<string> {
  yield "\n";
  yield* portsText(decodePortDescs(message));
}

const REASON_WORDS = { add: "ADD", delete: "DEL", modify: "MOD" } as const;

export const portStatusText = (message: Message): string => {
  const { reason, port } = decodePortStatus(message);
  return ` ${REASON_WORDS[reason]}:${portText(port)}`;
};

export const portModText = (message: Message): string => {
  const { port, mac, config, mask, advertise } = decodePortMod(message, true);
  return [
    ` port: ${portToText(port)}: addr:${macText(mac)}\n`,
    `     config: ${configText(config)}\n`,
    `     mask:   ${configText(mask)}\n`,
    `     advertise: ${advertise === 0 ? "UNCHANGED" : bitNames(advertise, FEATURE_NAMES)}\n`,
  ].join("");
};

const UNKNOWN_DURATION = 0xffffffff;

const statsText = ({ port, counters, durationS = UNKNOWN_DURATION, durationNs = 0 }: WirePortStats): string => {
  const list = (names: readonly (readonly [string, PortCounter])[]): string =>
    names.map(([word, counter]) => `${word}=${counters[counter] ?? "?"}`).join(", ");
  const rx = list([
    ["pkts", "rxPackets"],
    ["bytes", "rxBytes"],
    ["drop", "rxDropped"],
    ["errs", "rxErrors"],
    ["frame", "rxFrameErrors"],
    ["over", "rxOverrunErrors"],
    ["crc", "rxCrcErrors"],
  ]);
  const tx = list([
    ["pkts", "txPackets"],
    ["bytes", "txBytes"],
    ["drop", "txDropped"],
    ["errs", "txErrors"],
    ["coll", "collisions"],
  ]);
  const lead = (port & 0xffff) < 10 ? " " : "";
  const time = durationS === UNKNOWN_DURATION ? "" : `           duration=${durationText(durationS, durationNs)}\n`;
  return `  port ${lead}${portToText(port)}: rx ${rx}\n           tx ${tx}\n${time}`;
};

/** How many elements can be read. */
const countOf = (all: Iterable<unknown>): number => {
  let count = 0;
  try {
    for (const each of all) {
      void each;
      count++;
    }
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
  }
  return count;
};

export function* portStatsText(message: Message, verbosity: number): Generator<string> {
  yield ` ${countOf(decodePortStats(message))} ports\n`;
  if (verbosity < 1) return;
  for (const stats of decodePortStats(message)) yield statsText(stats);
}

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
