// Direct mode on random tables: reference, interpreter and kernel treat every packet alike, whether the program does or hands
// it to user space, and count it alike.

import assert from "node:assert/strict";
import type { Switch } from "#compiler";
import { addDirectPaths, DirectExecutions, NO_DIRECT_PATHS, type DirectPaths } from "../support/direct-executions.js";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { N_PORTS, randomSwitch } from "../support/random-switch.js";
import { randomPacket } from "../support/random-packets.js";
import { Random } from "../support/random.js";

const N_PACKETS = 200;
const TABLES = seeds(20);
const PORTS = Array.from({ length: N_PORTS }, (_, i) => i + 1);
const MIN_FRAME = 15;

describe("direct mode", () => {
  for (const hook of ["xdp", "tc"] as const) {
    it(`agrees at ${hook}: reference, interpreter and kernel on ${TABLES.length} tables x ${N_PACKETS} packets`, function () {
      this.timeout(timeLimit(600_000));
      using executions = new DirectExecutions(hook, PORTS);
      let total: DirectPaths = NO_DIRECT_PATHS;
      for (const seed of TABLES) {
        const r = new Random(seed);
        const samples = Array.from({ length: N_PACKETS }, () => ({
          inPort: 1 + r.below(N_PORTS),
          packet: randomPacket(r),
        })).filter(({ packet }) => packet.length >= MIN_FRAME);
        const options = {
          packets: samples.map(({ packet }) => packet),
          nRules: seed % 4 === 0 ? ([30, 100] as const) : ([1, 6] as const),
          plain: true,
        };
        const makeSwitch = (): Switch => randomSwitch(seed, options);
        total = addDirectPaths(total, executions.run(`seed ${seed}`, makeSwitch, samples));
      }
      const all = total.direct + total.slow;
      assert.ok(total.direct > all / 3 && total.slow > 0, `one-sided run: ${JSON.stringify(total)}`);
      assert.ok(total.rewritten > 5 * TABLES.length, `too few rewrites in the program: ${JSON.stringify(total)}`);
    });
  }
});
