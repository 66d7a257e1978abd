// `npm run bench`: measures, prints a table, writes bench/results/latest.json.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { exitCodeOf, OffloadError } from "ebpf-assembler";
import type { Hook } from "#compiler";
import { CASES } from "./cases.js";
import { compilerVersion } from "./clang.js";
import { runDaemon, type DaemonResult } from "./daemon.js";
import { runCase } from "./datapath.js";
import { BenchError } from "./error.js";
import { formatDaemon } from "./report-daemon.js";
import { formatTable, type DatapathResult } from "./report.js";

const RESULTS = fileURLToPath(new URL("../results/", import.meta.url));

const HELP = `Usage: npm run bench -- [--case NAME]... [--flows N]... [--hook xdp|tc]... [--rounds N] [--repeat N] [--list]

Compares cached packets of the compiled datapath with hand-written C for the same job, by BPF_PROG_TEST_RUN, and measures
the daemon on real packets between network namespaces (case "daemon").
Needs root, clang and libbpf-dev. Writes bench/results/latest.json.

  --case NAME   only this case (see --list)
  --flows N     with N flows, in place of the case's own numbers
  --hook HOOK   only at this hook
  --rounds N    rounds of which the median is taken (default 11)
  --repeat N    packets per run (default 200000)
`;

const HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];

const number = (name: string, text: string): number => {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 1) throw new BenchError(`Bad --${name} ${text}: want a whole number from 1`);
  return n;
};

const oneOf = <T extends string>(name: string, have: readonly string[] | undefined, all: readonly T[]): T[] => {
  for (const x of have ?? [])
    if (!(all as readonly string[]).includes(x))
      throw new BenchError(`Bad --${name} ${x}: want one of ${all.join(", ")}`);
  return all.filter((x) => have === undefined || have.includes(x));
};

/** The case that is no row of {@link CASES}. */
const DAEMON = { name: "daemon", title: "Daemon: loading flows, upcalls, many megaflows" } as const;

/** New flows a second, up to what is promised and beyond; the last one brings the cache over 100,000 megaflows. */
const RATES = [
  { perSecond: 1_000, packets: 2_000 },
  { perSecond: 20_000, packets: 20_000 },
  { perSecond: 40_000, packets: 40_000 },
  { perSecond: 60_000, packets: 60_000 },
] as const;
const LOADED_FLOWS = 10_000;

const main = async (): Promise<void> => {
  const many = { type: "string", multiple: true } as const;
  const { values } = parseArgs({
    options: {
      case: many,
      flows: many,
      hook: many,
      rounds: { type: "string", default: "11" },
      repeat: { type: "string", default: "200000" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const all = [...CASES, DAEMON];
  if (values.list) return void process.stdout.write(all.map(({ name, title }) => `${name}\t${title}\n`).join(""));
  const names = oneOf(
    "case",
    values.case,
    all.map(({ name }) => name),
  );
  const options = {
    hooks: oneOf("hook", values.hook, HOOKS),
    rounds: number("rounds", values.rounds),
    repeat: number("repeat", values.repeat),
    ...(values.flows === undefined ? {} : { sizes: values.flows.map((n) => number("flows", n)) }),
  };
  const machine = { cpu: cpus()[0]?.model ?? "", nCpus: cpus().length, kernel: release(), node: process.version };
  const compiler = compilerVersion();
  process.stderr.write(`${machine.cpu}, Linux ${machine.kernel}, ${compiler}\n`);
  const datapath: DatapathResult[] = [];
  for (const row of CASES.filter(({ name }) => names.includes(name))) {
    for (const result of runCase(row, options)) {
      datapath.push(result);
      const { title, flows, hook, ratio } = result;
      process.stderr.write(`${title}, ${flows} flows, ${hook}: ${ratio.toFixed(2)}x of C\n`);
    }
  }
  if (datapath.length > 0) process.stdout.write(`${formatTable(datapath)}\n`);
  const daemon: DaemonResult[] = [];
  if (names.includes(DAEMON.name)) {
    const interrupt = new AbortController();
    process.once("SIGINT", () => interrupt.abort(new BenchError("Interrupted")));
    daemon.push(await runDaemon({ hook: "tc", flows: LOADED_FLOWS, rates: RATES, signal: interrupt.signal }));
    process.stdout.write(`${daemon.map(formatDaemon).join("\n")}\n`);
  }
  mkdirSync(RESULTS, { recursive: true });
  const { rounds, repeat } = options;
  const file = `${RESULTS}latest.json`;
  writeFileSync(file, `${JSON.stringify({ machine, compiler, rounds, repeat, datapath, daemon }, null, 1)}\n`);
  process.stderr.write(`Written to ${file}\n`);
};

try {
  await main();
} catch (error) {
  if (!(error instanceof OffloadError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = exitCodeOf(error);
}
