// Reference, interpreter and kernel on random tables and random packets, malformed and truncated ones, fragments, QinQ
// and extension headers among them, and on frames that are nothing but noise.

import assert from "node:assert/strict";
import type { Storage, Switch } from "#compiler";
import { addPaths, Executions, NO_PATHS, type Paths, type Sample } from "../support/executions.js";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { N_PORTS, randomSwitch } from "../support/random-switch.js";
import { randomPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";

const N_PACKETS = 200;
const TABLES = seeds(50);
const NOISE = seeds(10);
const AUTO = seeds(5);
const PORTS = Array.from({ length: N_PORTS }, (_, i) => i + 1);
/** The smallest frame that AF_PACKET sends and Linux forwards: an Ethernet header alone is nothing to it. */
const MIN_FRAME = 15;

/** Frames of a run: repeated ones among them, so that the cache is hit. */
const samplesOf = (r: Random, make: (r: Random) => Uint8Array): Sample[] => {
  const seen: Sample[] = [];
  return Array.from({ length: N_PACKETS }, () => {
    const next = seen.length > 0 && r.oneIn(3) ? r.pick(seen) : { inPort: 1 + r.below(N_PORTS), packet: make(r) };
    seen.push(next);
    return next;
  }).filter(({ packet }) => packet.length >= MIN_FRAME);
};

/** Ethernet types that a parser goes on behind: pure noise would meet them once in 65,536 frames. */
const TYPES = [0x0800, 0x86dd, 0x0806, 0x8035, 0x8100, 0x88a8] as const;

/** Random bytes from the first to the last; of every three frames, two have a type that is parsed. */
const noise = (r: Random): Uint8Array => {
  const frame = r.bytes(r.between(14, 200));
  if (r.oneIn(3)) return frame;
  const type = r.pick(TYPES);
  frame.set([type >>> 8, type & 0xff], 12);
  // Half of the IP headers get a version and a length that let the parser in.
  if (frame.length > 14 && r.oneIn(2)) frame[14] = type === 0x86dd ? 0x60 : 0x45;
  return frame;
};

/** Kernel hash maps and the megaflow table in turn, two seeds each. */
const storageOf = (seed: number): Storage => (seed % 4 < 2 ? "hash" : "table");

/** Deletes every third rule and gives every other one the actions of a rule of `other`. */
const changeSome = (sw: Switch, other: Switch, nowMs: number): void => {
  const more = [...other.rules()];
  [...sw.rules()].forEach((rule, i) => {
    const { table, priority, match } = rule;
    const { source, ...flow } = rule;
    const actions = more[i % Math.max(1, more.length)]?.actions ?? [];
    if (i % 3 === 0) sw.delete(match, { table, priority, strict: true });
    else if (i % 3 === 1)
      sw.modify({ ...flow, ...(source === undefined ? {} : { source }), actions }, nowMs, { strict: true });
  });
};

describe("executions", () => {
  for (const hook of ["xdp", "tc"] as const) {
    it(`agree at ${hook}: reference, interpreter and kernel on ${TABLES.length} tables x ${N_PACKETS} packets`, function () {
      this.timeout(timeLimit(600_000));
      using executions = new Executions(hook, PORTS);
      let total: Paths = NO_PATHS;
      for (const seed of TABLES) {
        const samples = samplesOf(new Random(seed), randomPacket);
        // Every other table has few rules, made of the packets themselves, so that rewrites run in the program.
        const options = { packets: samples.map(({ packet }) => packet), nRules: [1, 4] } as const;
        const makeSwitch = (): Switch => randomSwitch(seed, seed % 2 === 0 ? options : {});
        total = addPaths(total, executions.run(`seed ${seed}`, makeSwitch, samples, storageOf(seed)));
      }
      const least = (TABLES.length * N_PACKETS) / 10;
      assert.ok(total.hit > least && total.slow > 0 && total.miss > 0, `one-sided run: ${JSON.stringify(total)}`);
      // A few tables may happen to rewrite nothing.
      const enough = TABLES.length < 20 || total.rewritten > 4 * TABLES.length;
      assert.ok(enough, `too few rewrites in the program: ${JSON.stringify(total)}`);
    });

    it(`agree at ${hook} in mode auto, also after flow-mods: ${AUTO.length} tables x ${N_PACKETS} packets`, function () {
      this.timeout(timeLimit(600_000));
      using executions = new Executions(hook, PORTS);
      let total: Paths = NO_PATHS;
      for (const seed of AUTO) {
        const samples = samplesOf(new Random(seed), randomPacket);
        // Some are plain: rules that programs carry, others with anything.
        const options = {
          packets: samples.map(({ packet }) => packet),
          nRules: [1, 6],
          plain: seed % 3 !== 0,
        } as const;
        const makeSwitch = (): Switch => randomSwitch(seed, options);
        const change = (sw: Switch, nowMs: number): void => changeSome(sw, randomSwitch(seed + 1000, options), nowMs);
        total = addPaths(
          total,
          executions.run(`auto, seed ${seed}`, makeSwitch, samples, storageOf(seed), { isAuto: true, change }),
        );
      }
      // A few tables may happen to leave nothing to user space.
      const isMixed = AUTO.length < 5 || total.slow + total.miss > 0;
      assert.ok(total.hit > 0 && isMixed, `one-sided run: ${JSON.stringify(total)}`);
    });

    it(`agree at ${hook}: frames of noise, ${NOISE.length} tables x ${N_PACKETS} frames`, function () {
      this.timeout(timeLimit(300_000));
      using executions = new Executions(hook, PORTS);
      for (const seed of NOISE) {
        const samples = samplesOf(new Random(7000 + seed), noise);
        executions.run(`noise, seed ${seed}`, () => randomSwitch(seed), samples, storageOf(seed));
      }
    });
  }
});
