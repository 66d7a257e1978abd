// The megaflows that our own switch makes of a flow table and a set of packets: translated, masked and given a shape by the
// same engine that `replay` runs, on a backend that has no program and misses every packet. What the engine would have
// installed is recorded, to be put into the kernel.

import { toHex, type ObjectSpec } from "ebpf-assembler";
import {
  applyFlowMod,
  compileDatapath,
  DatapathEngine,
  OVS_PACKET_CMD,
  parseFlowMods,
  Switch,
  UPCALL,
  type Backend,
  type DatapathPlan,
} from "#compiler";
import { BenchError } from "./error.js";

/** The port that packets come in by. */
export const IN_PORT = 1;
/** Ports that flows send to. */
export const OUT_PORTS: readonly number[] = [2, 3, 4, 5];
/** All ports are the loopback interface: a test run returns redirects and does not carry them out. */
export const LOOPBACK = 1;

export interface MegaflowSpec {
  /** Flows in add-flows syntax, one a line; none = a switch that learns addresses. */
  readonly flows: readonly string[];
  /** One packet of each megaflow. */
  readonly packets: readonly Uint8Array[];
  /** Called once the switch is there, before the first packet. */
  readonly prepare?: (sw: Switch) => void;
}

export interface Entry {
  readonly map: string;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export interface Megaflows {
  readonly plan: DatapathPlan;
  /** Programs of both hooks for {@link plan}. */
  readonly object: ObjectSpec;
  readonly entries: readonly Entry[];
}

/** The record that a datapath program would write for a miss. */
const missRecord = (packet: Uint8Array): Uint8Array => {
  const record = new Uint8Array(UPCALL.packet + packet.length);
  const view = new DataView(record.buffer);
  view.setUint32(UPCALL.nlLen, record.length, true);
  record[UPCALL.cmd] = OVS_PACKET_CMD.MISS;
  view.setUint32(UPCALL.inPort, LOOPBACK, true);
  record.set(packet, UPCALL.packet);
  return record;
};

/** Keeps what is put in; every packet misses. */
class Recorder implements Backend {
  readonly entries = new Map<string, Entry>();

  put(map: string, key: Uint8Array, value: Uint8Array): void {
    this.entries.set(`${map} ${toHex(key)}`, { map, key, value });
  }

  remove(map: string, key: Uint8Array): void {
    this.entries.delete(`${map} ${toHex(key)}`);
  }

  read(): { packets: number; bytes: number } {
    return { packets: 0, bytes: 0 };
  }

  run(_ifindex: number, packet: Uint8Array): ReturnType<Backend["run"]> {
    return { outputs: [], upcalls: [missRecord(packet)] };
  }

  [Symbol.dispose](): void {}
}

/** Packets that go by before the program is specialised: enough to see every mask and shape of a case. */
const PATIENCE = 64;
/** Rounds of specialising after which a case that still wants another program is wrong. */
const MAX_BUILDS = 8;

const switchOf = (spec: MegaflowSpec): Switch => {
  const sw = new Switch({ failMode: "standalone", macs: { size: spec.packets.length + 1 } });
  for (const number of [IN_PORT, ...OUT_PORTS]) sw.setPort({ number });
  for (const mod of parseFlowMods(spec.flows.join("\n"), { file: "bench" })) applyFlowMod(sw, mod, 0);
  spec.prepare?.(sw);
  return sw;
};

/**
 * Translates `packets` and returns one megaflow each.
 * @throws {@link BenchError} when they do not come to one specialised megaflow per packet
 */
export const makeMegaflows = (spec: MegaflowSpec): Megaflows => {
  let recorder = new Recorder();
  using engine = new DatapathEngine(switchOf(spec), "xdp", () => (recorder = new Recorder()), {
    patience: PATIENCE,
    ifindexOf: () => LOOPBACK,
    portOf: () => IN_PORT,
  });
  const { packets } = spec;
  for (let builds = 0; builds !== engine.builds;) {
    builds = engine.builds;
    if (builds > MAX_BUILDS) throw new BenchError(`The program is still not specialised after ${builds} builds`);
    for (let i = 0; i < 2 * PATIENCE + 2; i++) engine.handle(IN_PORT, packets[i % packets.length]!, 0);
  }
  const { builds } = engine;
  for (const packet of packets) engine.handle(IN_PORT, packet, 0);
  const entries = [...recorder.entries.values()];
  if (engine.builds !== builds) throw new BenchError("The program was specialised again: a mask or shape came late");
  if (entries.length !== packets.length)
    throw new BenchError(`${packets.length} packets made ${entries.length} megaflows, want one each`);
  const inExact = entries.filter(({ map }) => map === engine.plan.exact.map).length;
  if (inExact > 0) throw new BenchError(`${inExact} megaflows have no subtable of their own`);
  return { plan: engine.plan, object: compileDatapath(engine.plan), entries };
};
