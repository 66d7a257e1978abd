// The first packets of a switch are upcalls, and would be handled by code that was never run. This runs the slow path's parts
// on made-up packets before the first real one, so that the compiler of the JavaScript engine has seen them. Nothing is sent,
// learned or counted. What came out tells which action shapes to compile beforehand.

import {
  Executor,
  extract,
  forecast,
  FORECAST_LIMITS,
  keyLayout,
  newFlow,
  newLayers,
  OVS_PACKET_CMD,
  relevantMembers,
  translate,
  type DpAction,
  type ForecastLimits,
  type Sink,
  type Switch,
} from "#compiler";
import { PacketSender, type Sys } from "libbpf-ts";
import { encode } from "./channel/codec.js";
import { upcall, upcallMessage } from "./channel/messages.js";
import type { MegaflowCache } from "./megaflow/cache.js";
import { newPortStats, PortTable } from "./ports/port-table.js";
import { SlowPath } from "./slow-path.js";

/** Rounds over all packets: enough for the engine to optimise, about 20 ms. */
const ROUNDS = 150;
const MIN_FRAME = 64;

/** Ethernet header and what follows, padded to a whole frame. */
const frame = (type: number, ...rest: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(Math.max(MIN_FRAME, 14 + rest.length));
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, type >>> 8, type & 0xff, ...rest]);
  return bytes;
};

const ipv4 = (proto: number, ...rest: readonly number[]): Uint8Array =>
  frame(0x0800, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, ...rest);

const ADDRESS = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const PACKETS: readonly Uint8Array[] = [
  frame(0x0806, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2),
  ipv4(1, 8, 0, 0, 0, 0, 1, 0, 1),
  ipv4(6, 0x80, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0),
  ipv4(17, 0x80, 0, 0, 53, 0, 30, 0, 0),
  frame(0x86dd, 0x60, 0, 0, 0, 0, 10, 58, 255, ...ADDRESS, ...ADDRESS, 128, 0, 0, 0, 0, 1, 0, 1, 0, 0),
  frame(0x8100, 0, 10, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x80, 0, 0, 53),
];

const nowhere: Sink = { output: () => undefined, controller: () => undefined };

/** Exercises parsing, translation and execution for the ports of `sw`. */
export const warmUp = (sw: Switch): void => {
  const flow = newFlow();
  const layers = newLayers();
  const executor = new Executor();
  const ports = sw.ports.slice(0, 4);
  for (let i = 0; i < ROUNDS; i++) {
    for (const packet of PACKETS) {
      const port = ports[i % Math.max(1, ports.length)]?.number ?? 1;
      extract(packet, packet.length, port, flow, layers);
      executor.execute(packet, translate(sw, flow).actions, nowhere, layers);
    }
  }
};

/** Rounds of whole upcalls: each installs megaflows and takes them out again. */
const UPCALL_ROUNDS = 40;
/** Interfaces that do not exist: what is sent to them, the kernel refuses. */
const NO_INTERFACE = 0x7fffff00;

/**
 * Exercises the whole way of an upcall, from the record to the socket, on a switch that has no ports attached yet. The cache
 * and the addresses learned are empty afterwards.
 */
export const warmUpUpcalls = (sys: Sys, sw: Switch, cache: MegaflowCache): void => {
  using sender = PacketSender.open(sys);
  const ports = new PortTable();
  for (const { number, name } of sw.ports)
    ports.add({
      number,
      name,
      device: name,
      ifindex: NO_INTERFACE + (number & 0xff),
      hook: "tc",
      toPeer: false,
      mac: "",
      addedMs: 0,
      stats: newPortStats(),
    });
  const first = ports.all[0];
  if (first === undefined) return;
  const slowPath = new SlowPath(
    sw,
    cache,
    ports,
    sender,
    () => undefined,
    () => undefined,
  );
  const records = PACKETS.map((packet) => {
    const bytes = encode(upcall, upcallMessage({ cmd: OVS_PACKET_CMD.MISS, inPort: first.ifindex, packet }), "upcall");
    return { bytes, view: new DataView(bytes.buffer) };
  });
  for (let i = 0; i < UPCALL_ROUNDS; i++) {
    for (const record of records) slowPath.onRecord(record, 0, record.bytes.length);
    slowPath.onDrained();
    cache.reset();
  }
  sw.macs.flush();
};

/** A shape that they miss costs some milliseconds later; more of them, a start with cold code tenths of a second. */
const FEW_PACKETS: ForecastLimits = { ...FORECAST_LIMITS, packets: 1000, candidates: 4000 };

/** Lists of actions that packets are likely to get: those of the made-up packets, and what is forecast of the rules. */
export const expectedActions = (sw: Switch): (readonly DpAction[])[] => {
  const flow = newFlow();
  const inPort = sw.ports[0]?.number ?? 1;
  const lists = PACKETS.map((packet) => {
    extract(packet, packet.length, inPort, flow);
    return translate(sw, flow).actions;
  });
  const { shapes } = forecast(sw, keyLayout(relevantMembers(sw)), FEW_PACKETS);
  return [...lists, ...shapes.map(({ actions }) => actions)];
};
