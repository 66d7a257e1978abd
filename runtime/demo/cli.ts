// `ofxdp demo`: the report goes to stdout (facts with -j), what is being done to stderr.

import { Option, type Command } from "commander";
import { exitCodeOf, OffloadError, RangeViolation } from "ebpf-assembler";
import { PORT_HOOKS, type PortHook } from "../ports/port-spec.js";
import { runDemo } from "./demo.js";
import { isSuccess } from "./facts.js";
import { InterruptedError } from "./process.js";
import { formatReport } from "./report.js";

interface Options {
  readonly hook: PortHook;
  readonly seconds: string;
  readonly json?: boolean;
}

/** A demo that takes longer has gone wrong. */
const LIMIT_MS = 90_000;
/** Signals that stop the demo, with their numbers: the exit status is 128 more, as a shell reports it. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const WIDTH = 110;
const NEGATIVE = 2;

const parseSeconds = (text: string): number => {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 8)) throw new RangeViolation(`Bad --seconds ${text}: want 0.1 to 8`);
  return seconds;
};

const demo = async ({ hook, seconds, json = false }: Options): Promise<void> => {
  const stop = new AbortController();
  let status: number | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    status ??= 128 + SIGNALS[signal as keyof typeof SIGNALS];
    stop.abort(signal);
  };
  const timer = setTimeout(() => stop.abort(`its time limit of ${LIMIT_MS / 1000} s`), LIMIT_MS);
  for (const signal of Object.keys(SIGNALS)) process.on(signal, onSignal);
  try {
    const say = (line: string): void => void process.stderr.write(`${line}\n`);
    const facts = await runDemo({ hook, seconds: parseSeconds(seconds), say, signal: stop.signal });
    const text = json ? `${JSON.stringify(facts)}\n` : formatReport(facts, process.stdout.columns ?? WIDTH);
    process.stdout.write(text);
    if (!isSuccess(facts)) process.exitCode = NEGATIVE;
  } catch (error) {
    if (!(error instanceof OffloadError)) throw error;
    process.exitCode = status ?? exitCodeOf(error);
    if (json) process.stdout.write(`${JSON.stringify({ error: error.toJSON() })}\n`);
    else process.stderr.write(`ofxdp demo: ${error.message}\n`);
    if (error instanceof InterruptedError) process.stderr.write("Everything was cleaned up.\n");
  } finally {
    clearTimeout(timer);
    for (const signal of Object.keys(SIGNALS)) process.removeListener(signal, onSignal);
  }
};

/** Adds `demo` to the command line. */
export const addDemoCommand = (program: Command): void => {
  program
    .command("demo")
    .description("build a network in namespaces, run a switch on real traffic, show what happened, clean up")
    .addOption(
      new Option("--hook <hook>", "hook of the switch's ports")
        .choices(PORT_HOOKS.filter((hook) => hook !== "peer"))
        .default("auto"),
    )
    .option("-s, --seconds <n>", "length of each TCP stream", "2")
    .option("-j, --json", "print facts as JSON")
    .action(demo);
};
