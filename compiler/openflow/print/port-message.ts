// Messages about ports in OVS's text.

import { portToText } from "../ports.js";
import type { Message } from "../wire/message.js";
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
import { bitNames, countOf, durationText, UNKNOWN_DURATION } from "./words.js";
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

export function* portStatsText(message: Message, verbosity: number): Generator<string> {
  yield ` ${countOf(decodePortStats(message))} ports\n`;
  if (verbosity < 1) return;
  for (const stats of decodePortStats(message)) yield statsText(stats);
}
