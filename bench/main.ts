// `npm run bench`: measures, prints tables, writes results and pictures.

import { fileURLToPath } from "node:url";
import { exitCodeOf, OffloadError } from "ebpf-assembler";
import { linux } from "libbpf-ts";
import { sweep } from "#runtime";
import { DAEMON_CASES, runDaemonCase } from "./daemon/run.js";
import { CASES } from "./datapath/cases.js";
import { runCase } from "./datapath/run.js";
import { BenchError } from "./error.js";
import { describeMachine, disturbanceClock, formatDisturbance } from "./machine.js";
import { HELP, parseOptions, WIRE_NUMBERS, type BenchOptions } from "./options.js";
import { formatGroup, formatProgress } from "./report.js";
import { writeResults } from "./results.js";
import { runOpenFlowCase, OPENFLOW_CASES } from "./openflow/run.js";
import { runWire, WIRE_CASES, type WireCase } from "./wire/run.js";
import type { Group, Missing, Row } from "./row.js";

const RESULTS = fileURLToPath(new URL("../results/", import.meta.url));

/** A group's cases, and what runs one of them. */
interface GroupRunner {
  readonly group: Group;
  readonly cases: readonly { readonly name: string; readonly title: string }[];
  readonly run: (name: string, options: BenchOptions, signal: AbortSignal) => AsyncIterable<Row | Missing>;
}

const RUNNERS: readonly GroupRunner[] = [
  {
    group: "datapath",
    cases: CASES,
    run: (name, { profile, rounds, repeat, flows, hooks }) =>
      runCase(
        CASES.find((row) => row.name === name)!,
        {
          profile,
          rounds,
          repeat,
          ...(flows && { sizes: flows }),
          ...(hooks && { hooks }),
        },
      ),
  },
  {
    group: "wire",
    cases: WIRE_CASES,
    run: (name, { profile }, signal) => runWire(name as WireCase, { ...WIRE_NUMBERS[profile], signal }),
  },
  { group: "daemon", cases: DAEMON_CASES, run: (name, { profile }) => runDaemonCase(name, profile) },
  { group: "openflow", cases: OPENFLOW_CASES, run: (name, { profile }) => runOpenFlowCase(name, profile) },
];

/** Left out of quick runs unless they are asked for. */
const SLOW: ReadonlySet<string> = new Set(["tcp", "flow-mod", "memory", "attack", "of-controllers", "of-dump"]);

const main = async (): Promise<void> => {
  const all = RUNNERS.flatMap(({ cases }) => cases);
  const options = parseOptions(
    process.argv.slice(2),
    all.map(({ name }) => name),
  );
  if (options.help) return void process.stdout.write(HELP);
  if (options.list) return void process.stdout.write(all.map(({ name, title }) => `${name}\t${title}\n`).join(""));
  const interrupt = new AbortController();
  process.once("SIGINT", () => interrupt.abort(new BenchError("Interrupted")));
  sweep(linux(), "ofxdp-bench");
  const machine = describeMachine();
  process.stderr.write(`${machine.cpu}, ${machine.nCpus} CPUs, Linux ${machine.kernel}, ${machine.compiler}\n`);
  const disturbance = disturbanceClock();
  const results: (Row | Missing)[] = [];
  for (const { group, cases, run } of RUNNERS) {
    if (!options.groups.includes(group)) continue;
    const ofGroup: (Row | Missing)[] = [];
    for (const { name } of cases) {
      if (options.cases !== undefined && !options.cases.includes(name)) continue;
      if (options.cases === undefined && options.profile === "quick" && SLOW.has(name)) continue;
      for await (const result of run(name, options, interrupt.signal)) {
        interrupt.signal.throwIfAborted();
        ofGroup.push(result);
        process.stderr.write(`${formatProgress(result)}\n`);
      }
    }
    if (ofGroup.length > 0) process.stdout.write(`${formatGroup(group, ofGroup)}\n\n`);
    results.push(...ofGroup);
  }
  const { profile, rounds, repeat } = options;
  const run = { machine, profile, rounds, repeat, ...disturbance(), results };
  process.stdout.write(`${formatDisturbance(run)}
`);
  for (const file of writeResults(options.out ?? RESULTS, run)) process.stderr.write(`Written: ${file}\n`);
};

try {
  await main();
} catch (error) {
  if (!(error instanceof OffloadError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = exitCodeOf(error);
}
