// Our program for a case, as the daemon comes to it: a whole bridge in a namespace of its own, whose slow path is given
// one packet of each flow as a miss. It translates, installs, specialises and swaps as it always does; what runs in the
// bench is the program that it then has.

import { setTimeout as sleep } from "node:timers/promises";
import { Scope } from "ebpf-assembler";
import { linux, type RingMemory } from "libbpf-ts";
import { OVS_PACKET_CMD, parseFlows, type Hook } from "#compiler";
import { Bridge, encode, monotonicMs, parsePortSpec, silentLog, upcall, upcallMessage } from "#runtime";
import { BenchError } from "../error.js";
import { IN_PORT, OUT_PORTS, type Case, type Inputs } from "./case.js";
import type { Contestant, Counters } from "./contestant.js";
import type { Ports } from "./ports.js";

/** Where the program of a hook runs on a veth pair. */
const PORT_HOOKS = { xdp: "native", tc: "tc" } as const satisfies Record<Hook, string>;

/** Enough packets to bring up every mask and shape of a case. */
const SCOUTS = 64;
/** Packets between two turns of the event loop. */
const TURN = 1024;
/** How often packets may miss until all have a megaflow. */
const PASSES = 3;
const POLL_MS = 5;
const SETTLE_TIMEOUT_MS = 30_000;
const MAX_IDLE_MS = 24 * 3600 * 1000;

/** An upcall record of which only the packet changes. */
const missRecord = (
  inPort: number,
  packet: Uint8Array,
): RingMemory & { readonly put: (packet: Uint8Array) => void } => {
  const bytes = encode(upcall, upcallMessage({ cmd: OVS_PACKET_CMD.MISS, inPort, packet }), "upcall");
  const packetAt = Buffer.from(bytes).indexOf(packet);
  return {
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    put: (p) => bytes.set(p, packetAt),
  };
};

/** Waits until the program has all that the cache wants of it, and entries that only the last one used are taken out. */
const untilSpecialised = async ({ specialiser, cache }: Bridge): Promise<void> => {
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  while (specialiser.isBusy || !cache.changeOver.isSettled) {
    if (performance.now() > deadline) throw new BenchError("The program is not specialised after half a minute");
    await sleep(POLL_MS);
  }
};

/** Packets and bytes that came to the first table: what the rules say, whatever carried the packets. */
const countersOf = (bridge: Bridge): Counters => {
  let [packets, bytes] = [0, 0];
  for (const rule of bridge.sw.rules()) {
    if (rule.table !== 0) continue;
    packets += rule.packets;
    bytes += rule.bytes;
  }
  return { packets, bytes };
};

/**
 * Brings up a bridge with `flows` and a megaflow for each of the packets.
 * @throws {@link BenchError} when a packet cannot be cached, or the masks are not those that the case is about
 */
export const openOurs = async (
  ports: Ports,
  row: Case,
  hook: Hook,
  inputs: Inputs,
  { name = "ours", flows = row.flows }: { readonly name?: string; readonly flows?: Case["flows"] } = {},
): Promise<Contestant> => {
  const { packets } = inputs;
  using scope = new Scope();
  const bridge = scope.use(
    ports.netns.run(() =>
      Bridge.open(linux(), {
        name: "bench",
        failMode: "secure",
        ports: [IN_PORT, ...OUT_PORTS].map((n) => parsePortSpec(`${n}=p${n}:${PORT_HOOKS[hook]}`)),
        flows: parseFlows(flows(inputs).join("\n"), { file: "bench" }),
        log: silentLog,
        maxIdleMs: MAX_IDLE_MS,
        maxFlows: 2 * packets.length + SCOUTS,
      }),
    ),
  );
  for (const { mac, port } of row.stations?.(inputs) ?? []) bridge.sw.macs.learn({ mac, vlan: 0, port }, monotonicMs());
  bridge.tablesChanged();
  const record = missRecord(inputs.ifindex, packets[0]!);
  const miss = async (some: readonly Uint8Array[]): Promise<void> => {
    for (let at = 0; at < some.length; at += TURN) {
      for (const packet of some.slice(at, at + TURN)) {
        record.put(packet);
        bridge.slowPath.onRecord(record, 0, record.bytes.length);
      }
      bridge.slowPath.onDrained();
      await sleep(0);
    }
    await untilSpecialised(bridge);
  };
  const notInstalled = (): number => bridge.stats.cache.notInstalled;
  await miss(packets.slice(0, SCOUTS));
  // A table that grows as fast as it can has no place for some of the flows that come still faster: these miss again.
  let left = Infinity;
  for (let pass = 0; pass < PASSES && left > 0; pass++) {
    const before = notInstalled();
    await miss(packets.slice(SCOUTS));
    left = notInstalled() - before;
  }
  const { megaflows } = bridge.stats.cache;
  const masks = bridge.datapath.generation.all.filter(({ size }) => size > 0).length;
  const { errors } = bridge.slowPath.stats;
  if (errors > 0) throw new BenchError(`Case ${row.name}: the slow path failed on ${errors} packets`);
  if (left > 0) throw new BenchError(`Case ${row.name}: ${left} megaflows could not be installed`);
  const wanted = row.masks === undefined ? masks : Math.min(row.masks, packets.length);
  if (masks !== wanted) throw new BenchError(`Case ${row.name} makes ${masks} masks, want ${wanted}`);
  const program = bridge.datapath.generation.programs.get(`main_${hook}`);
  if (program === undefined) throw new BenchError(`The bridge has no program main_${hook}`);
  const owned = scope.move();
  return {
    name,
    program,
    ports,
    facts: { masks, megaflows },
    counters: async () => {
      await bridge.settle();
      return countersOf(bridge);
    },
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};
