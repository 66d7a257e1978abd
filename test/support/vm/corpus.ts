// Objects that the compiler makes, for kernels that are too slow to run the compiler on: the examples, as `ofxdp compile`
// makes them; random tables, as the daemon does when it has seen packets, and as direct mode does; and the program for every
// member of the key.
// They are made on this machine, and loaded on the other (test/vm/verifier.test.ts).

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { writeElf, type ObjectSpec } from "ebpf-assembler";
import {
  compileDatapath,
  compileDirect,
  DatapathEngine,
  keyLayout,
  loadVm,
  PACKET_MEMBERS,
  parseFlows,
  plan,
  Switch,
  type DatapathPlan,
  type Hook,
} from "#compiler";
import { seeds } from "../fuzz-scale.js";
import { N_PORTS, randomSwitch } from "../random-switch.js";
import { randomPacket } from "../random-packets.js";
import { Random } from "../random.js";

const HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];
const N_PACKETS = 60;
const TABLES = seeds(16);
/** Megaflows per subtable, on which a program does not depend. */
const MAX_ENTRIES = 64;

const writeExamples = (dir: string): void => {
  for (const file of readdirSync("examples").filter((name) => name.endsWith(".flows"))) {
    const groups = join("examples", file.replace(/\.flows$/, ".groups"));
    for (const hook of HOOKS) {
      const output = join(dir, `example-${file.replace(/\.flows$/, "")}-${hook}.o`);
      const words = ["compile", join("examples", file), "-o", output, "--mode", "megaflow", "--hook", hook];
      if (existsSync(groups)) words.push("--groups", groups);
      execFileSync(process.execPath, ["runtime/dist/bin/ofxdp.js", ...words], { stdio: "inherit" });
    }
  }
};

/** The program that a switch ends up with after some packets: masks, shapes and key of what it has seen. */
const seasoned = (seed: number, hook: Hook): ObjectSpec => {
  const r = new Random(seed);
  const packets = Array.from({ length: N_PACKETS }, () => randomPacket(r));
  let last: ObjectSpec | undefined;
  const compile = (wanted: DatapathPlan, hooks: readonly Hook[]): ObjectSpec => (last = compileDatapath(wanted, hooks));
  const ports = Array.from({ length: N_PORTS }, (_, i) => i + 1);
  const sw = randomSwitch(seed, seed % 2 === 0 ? { packets, nRules: [1, 4] } : {});
  using engine = new DatapathEngine(sw, hook, loadVm(ports), { patience: Infinity, maxEntries: MAX_ENTRIES, compile });
  for (const packet of packets) engine.handle(1 + r.below(N_PORTS), packet, 0);
  engine.respecialise(0);
  return last as ObjectSpec;
};

/** Tables of some 100 rules, compiled themselves. */
const direct = (seed: number, hook: Hook): ObjectSpec => {
  const r = new Random(seed);
  const packets = Array.from({ length: N_PACKETS }, () => randomPacket(r));
  const sw = randomSwitch(seed, { packets, nRules: [10, 60], plain: true });
  return compileDirect(sw, hook, { behind: "user-space" }).object;
};

/** `n` prefixes of all lengths from 8 on, and as many addresses. */
const routes = (n: number, hook: Hook): ObjectSpec => {
  const r = new Random(n);
  const sw = new Switch({ failMode: "secure" });
  for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
  const flows = Array.from({ length: 2 * n }, (_, i) => {
    const address = `${1 + r.below(223)}.${r.below(256)}.${r.below(256)}.${r.below(256)}`;
    return `priority=${i % 99},ip,nw_dst=${address}/${i < n ? 8 + r.below(25) : 32},actions=dec_ttl,output:${1 + (i % N_PORTS)}`;
  });
  for (const flow of parseFlows(flows.join("\n"), { file: "routes" })) sw.add(flow, 0);
  return compileDirect(sw, hook).object;
};

/** Writes the objects into `dir`. @returns how many */
export const writeCorpus = (dir: string): number => {
  const write = (name: string, object: ObjectSpec): void => writeFileSync(join(dir, `${name}.o`), writeElf(object));
  writeExamples(dir);
  for (const hook of HOOKS) {
    write(`every-member-${hook}`, compileDatapath(plan({ key: keyLayout(PACKET_MEMBERS), maxEntries: 16 }), [hook]));
    for (const seed of TABLES) write(`random-${seed}-${hook}`, seasoned(seed, hook));
    for (const n of [100, 3000, 60_000]) write(`routes-${n}-${hook}`, routes(n, hook));
    for (const seed of TABLES) write(`direct-${seed}-${hook}`, direct(seed, hook));
  }
  return readdirSync(dir).length;
};
