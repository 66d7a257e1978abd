// The first packets of a switch are upcalls, and would be handled by code that was never run. This runs the slow path's parts
// on made-up packets before the first real one, so that the compiler of the JavaScript engine has seen them. Nothing is sent,
// learned or counted. What came out tells which action shapes to compile beforehand.

import {
  Executor,
  extract,
  get,
  newFlow,
  newLayers,
  set,
  translate,
  type DpAction,
  type Sink,
  type Switch,
} from "#compiler";

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

/** Rules that are looked at for the actions that they lead to. */
const MAX_RULES = 1000;
/** A time to live that survives every hop of a pipeline. */
const TTL = 64;

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

/**
 * Lists of actions that packets are likely to get: those of the made-up packets, and those of packets that just match each
 * rule.
 */
export const expectedActions = (sw: Switch): (readonly DpAction[])[] => {
  const lists: (readonly DpAction[])[] = [];
  const flow = newFlow();
  const inPort = sw.ports[0]?.number ?? 1;
  for (const packet of PACKETS) {
    extract(packet, packet.length, inPort, flow);
    lists.push(translate(sw, flow).actions);
  }
  let n = 0;
  for (const { match } of sw.rules()) {
    if (n++ === MAX_RULES) break;
    flow.set(match.value);
    if (get(flow, "in_port") === 0) set(flow, "in_port", inPort);
    if (get(flow, "nw_ttl") === 0) set(flow, "nw_ttl", TTL);
    lists.push(translate(sw, flow).actions);
  }
  return lists;
};
