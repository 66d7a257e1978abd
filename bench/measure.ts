// Runs contestants in turn, many rounds over, so that whatever else the machine does hits all of them alike. A run counts
// only if every packet hit: the table's counters rise by exactly the packets that went in, and the verdict is redirect.

import { Scope } from "ebpf-assembler";
import { linux, loadObject, setProgramSlot, skbContext, xdpContext, type Program } from "libbpf-ts";
import { TARGETS, type Hook } from "#compiler";
import { packetsOf, type Case } from "./cases.js";
import type { Contestant } from "./contestant.js";
import { DRIVER_MAPS, driverObject } from "./driver.js";
import { BenchError } from "./error.js";
import { LOOPBACK } from "./megaflows.js";
import { udpPacket } from "./packet.js";
import { median } from "./statistics.js";

export interface MeasureOptions {
  readonly rounds: number;
  /** Packets per run; below 100,000 the cost of a run itself shows. */
  readonly repeat: number;
}

export interface Measured {
  readonly name: string;
  /** Nanoseconds per packet of each round, the driver's share included. */
  readonly samples: readonly number[];
  readonly ns: number;
  /** Bytes of the program after verification, and of its machine code; 0 for the floor. */
  readonly xlatedBytes: number;
  readonly jitedBytes: number;
}

export interface Measurement {
  readonly floor: Measured;
  readonly contestants: readonly Measured[];
}

/** A driver in the kernel and whatever stands behind it now. */
class Driver implements Disposable {
  private readonly object;
  private readonly ctx;
  private readonly packet;

  constructor(
    private readonly hook: Hook,
    row: Case,
    private readonly flows: number,
  ) {
    this.packet = udpPacket(row.vary, 0);
    this.object = loadObject(
      linux(),
      driverObject(hook, { vary: row.vary, flows, restore: row.restore, packet: this.packet }),
    );
    this.ctx = hook === "xdp" ? xdpContext(this.packet.length, LOOPBACK) : skbContext({});
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

  /**
   * Runs `program` on `repeat` packets.
   * @throws {@link BenchError} when its last verdict is not redirect
   */
  run(name: string, program: Program, repeat: number): { readonly ns: number; readonly packet: Uint8Array } {
    setProgramSlot(this.object.map(DRIVER_MAPS.progs), 0, program);
    const { retval, durationNs, data } = this.object
      .program("driver")
      .testRun({ data: this.packet, ctx: this.ctx, repeat });
    if (retval !== TARGETS[this.hook].verdicts.redirect)
      throw new BenchError(`${name} at ${this.hook} with ${this.flows} flows returned ${retval}, want a redirect`);
    return { ns: durationNs, packet: data };
  }

  [Symbol.dispose](): void {
    this.object[Symbol.dispose]();
  }
}

/** What a contestant has counted must be what it was given. */
const checkHits = (
  who: Contestant,
  hook: Hook,
  before: ReturnType<Contestant["counters"]>,
  packets: number,
  size: number,
): void => {
  const after = who.counters();
  const hits = after.packets - before.packets;
  const bytes = after.bytes - before.bytes;
  if (hits !== packets || bytes !== packets * size)
    throw new BenchError(
      `${who.name} at ${hook} counted ${hits} packets and ${bytes} bytes, want ${packets} and ${packets * size}`,
    );
};

/** Before time is taken: all contestants send the same packets, and their tables are warm. */
const checkSame = (driver: Driver, contestants: readonly Contestant[], hook: Hook, nPackets: number): void => {
  for (let i = 0; i < nPackets; i++) {
    const sent = contestants.map((who) => {
      driver.seed(i);
      return Buffer.from(driver.run(who.name, who.program(hook), 1).packet);
    });
    sent.forEach((packet, j) => {
      if (!packet.equals(sent[0]!))
        throw new BenchError(
          `${contestants[j]!.name} sends ${packet.toString("hex")}, ${contestants[0]!.name} ${sent[0]!.toString("hex")}`,
        );
    });
  }
};

const CHECKED_PACKETS = 8;

/**
 * Measures `contestants` and the floor on the same stream of random flows.
 * @throws {@link BenchError} when a contestant misses, sends something else than the others, or counts wrongly
 */
export const measure = (
  row: Case,
  flows: number,
  hook: Hook,
  contestants: readonly Contestant[],
  { rounds, repeat }: MeasureOptions,
): Measurement => {
  using scope = new Scope();
  const driver = scope.use(new Driver(hook, row, flows));
  const size = packetsOf(row, 1)[0]!.length;
  checkSame(driver, contestants, hook, CHECKED_PACKETS);
  const runners = [
    { name: "floor", program: driver.floor },
    ...contestants.map((who) => ({ name: who.name, program: who.program(hook) })),
  ];
  const before = contestants.map((who) => who.counters());
  const samples: number[][] = runners.map(() => []);
  for (let round = 0; round <= rounds; round++) {
    driver.seed(round);
    runners.forEach((_, i) => {
      // Each round begins with another one: none always follows the same neighbour.
      const at = (i + round) % runners.length;
      const { name, program } = runners[at]!;
      const { ns } = driver.run(name, program, repeat);
      // Round 0 warms caches and predictors.
      if (round > 0) samples[at]!.push(ns);
    });
  }
  contestants.forEach((who, i) => checkHits(who, hook, before[i]!, (rounds + 1) * repeat, size));
  const measured = runners.map(({ name, program }, i): Measured => {
    const { xlatedSize, jitedSize } = program.info;
    return {
      name,
      samples: samples[i]!,
      ns: median(samples[i]!),
      xlatedBytes: name === "floor" ? 0 : xlatedSize,
      jitedBytes: name === "floor" ? 0 : jitedSize,
    };
  });
  return { floor: measured[0]!, contestants: measured.slice(1) };
};
