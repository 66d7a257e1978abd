// Runs contestants in turn, many rounds over, so that whatever else the machine does hits all of them alike. A run counts
// only if every packet hit: the table's counters rise by exactly the packets that went in, and all send the same.

import { Scope } from "ebpf-assembler";
import { linux, loadObject, setProgramSlot, skbContext, xdpContext, type Program } from "libbpf-ts";
import { TARGETS, type Hook } from "#compiler";
import { BenchError } from "../error.js";
import type { Case } from "./case.js";
import type { Contestant } from "./contestant.js";
import { DRIVER_MAPS, driverObject } from "./driver.js";
import { udpPacket } from "./packet.js";
import type { Ports } from "./ports.js";

export interface MeasureOptions {
  readonly rounds: number;
  /** Packets per run; below 100,000 the cost of a run itself shows. */
  readonly repeat: number;
}

/** Nanoseconds per packet of each round, the driver's share included; by contestant, the floor apart. */
export interface Samples {
  readonly floor: readonly number[];
  readonly contestants: readonly (readonly number[])[];
}

interface Outcome {
  readonly ns: number;
  readonly retval: number;
  readonly packet: Uint8Array;
}

/** A driver in the kernel and whatever stands behind it now. */
class Driver implements Disposable {
  private readonly object;
  readonly packet: Uint8Array;

  constructor(
    private readonly hook: Hook,
    row: Case,
    flows: number,
  ) {
    const { packet, restore } = row;
    this.packet = udpPacket(packet, 0);
    this.object = loadObject(linux(), driverObject(hook, { vary: packet.vary, flows, restore, packet: this.packet }));
  }

  get floor(): Program {
    return this.object.program("floor");
  }

  /** Draws the same flows again as after the last call with this `seed`. */
  seed(seed: number): void {
    const state = this.object.map(DRIVER_MAPS.state);
    new DataView(state.value.buffer, state.value.byteOffset, 8).setBigUint64(0, BigInt(seed), true);
    state.update(new Uint8Array(4), state.value);
  }

  /** Runs `program` on `repeat` packets; what comes out is the last one. */
  run(program: Program, { netns, ifindex }: Ports, repeat: number): Outcome {
    setProgramSlot(this.object.map(DRIVER_MAPS.progs), 0, program);
    const { packet: data } = this;
    const ctx = this.hook === "xdp" ? xdpContext(data.length, ifindex) : skbContext({ ifindex });
    // The interface of the context is one of this namespace.
    const {
      retval,
      durationNs,
      data: packet,
    } = netns.run(() => this.object.program("driver").testRun({ data, ctx, repeat }));
    return { ns: durationNs, retval, packet };
  }

  [Symbol.dispose](): void {
    this.object[Symbol.dispose]();
  }
}

/** Packets that all contestants must treat alike, before time is taken; their tables are warm then. */
const CHECKED_PACKETS = 32;

const toText = ({ retval, packet }: Outcome): string => `${retval} and ${Buffer.from(packet).toString("hex")}`;

const checkSame = (driver: Driver, row: Case, hook: Hook, contestants: readonly Contestant[]): void => {
  const { redirect, drop } = TARGETS[hook].verdicts;
  for (let i = 0; i < CHECKED_PACKETS; i++) {
    const [first, ...others] = contestants.map(({ name, program, ports }) => {
      driver.seed(i);
      return { name, outcome: driver.run(program, ports, 1) };
    });
    if (first === undefined) return;
    if (first.outcome.retval !== redirect && first.outcome.retval !== drop)
      throw new BenchError(
        `${first.name} at ${hook} returned ${first.outcome.retval} for case ${row.name}, want a redirect or a drop`,
      );
    for (const { name, outcome } of others)
      if (toText(outcome) !== toText(first.outcome))
        throw new BenchError(
          `Case ${row.name} at ${hook}: ${name} returns ${toText(outcome)}, ${first.name} ${toText(first.outcome)}`,
        );
  }
};

/**
 * Measures `contestants` and the floor on the same stream of random flows.
 * @throws {@link BenchError} when a contestant misses, does something else than the others, or counts wrongly
 */
export const measure = async (
  row: Case,
  flows: number,
  hook: Hook,
  contestants: readonly Contestant[],
  { rounds, repeat }: MeasureOptions,
): Promise<Samples> => {
  using scope = new Scope();
  const driver = scope.use(new Driver(hook, row, flows));
  const counters = (): Promise<Awaited<ReturnType<Contestant["counters"]>>[]> =>
    Promise.all(contestants.map((who) => who.counters()));
  const before = await counters();
  checkSame(driver, row, hook, contestants);
  const [first] = contestants;
  if (first === undefined) return { floor: [], contestants: [] };
  const runners = [{ program: driver.floor, ports: first.ports }, ...contestants];
  const samples: number[][] = runners.map(() => []);
  for (let round = 0; round <= rounds; round++) {
    runners.forEach((_, i) => {
      // Each round begins with another one: none always follows the same neighbour.
      const at = (i + round) % runners.length;
      driver.seed(round);
      const { program, ports } = runners[at]!;
      const { ns } = driver.run(program, ports, repeat);
      // Round 0 warms caches and predictors.
      if (round > 0) samples[at]!.push(ns);
    });
  }
  const packets = (rounds + 1) * repeat + CHECKED_PACKETS;
  const bytes = packets * driver.packet.length;
  (await counters()).forEach((after, i) => {
    const [hits, size] = [after.packets - before[i]!.packets, after.bytes - before[i]!.bytes];
    if (hits !== packets || size !== bytes)
      throw new BenchError(
        `${contestants[i]!.name} at ${hook} counted ${hits} packets and ${size} bytes for case ${row.name}, ` +
          `want ${packets} and ${bytes}`,
      );
  });
  return { floor: samples[0]!, contestants: samples.slice(1) };
};
