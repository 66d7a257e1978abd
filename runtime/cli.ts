// Command lines of the runtime: `ofxdpd` itself, and the subcommands of `ofxdp` that talk to a running daemon. Facts go to
// stdout (as JSON with -j), words and logs to stderr; exit statuses are those of every command of the project.

import { spawn } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, Option } from "commander";
import pino from "pino";
import { exitCodeOf, OffloadError, RangeViolation, type ExitCode } from "ebpf-assembler";
import { BPFFS } from "libbpf-ts";
import { ControlError, unixctlCall } from "./control/unixctl.js";
import { Daemon, DEFAULT_RUNDIR, parseDaemonOptions, rundirOf } from "./daemon.js";
import type { Log } from "./log.js";

/** Version of the package that this file is part of. */
export const packageVersion = (): string => {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
};

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Lines of an error, each of which must make sense by itself. */
const say = (program: string, error: unknown): void => {
  const isSource = error instanceof OffloadError && error.code === "ECOMPILE";
  process.stderr.write(isSource ? `${messageOf(error)}\n` : `${program}: ${messageOf(error)}\n`);
};

const collect = (value: string, all: string[]): string[] => [...all, value];

/** Parses a command line with commander's errors as exit status 1. */
const parseArgs = async (program: Command, argv: readonly string[]): Promise<void> => {
  try {
    await program.exitOverride().parseAsync(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 1;
  }
};

// ofxdpd

const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

const daemonProgram = (version: string): Command =>
  new Command("ofxdpd")
    .description("OpenFlow switch in XDP and TC: megaflow cache in the kernel, slow path here")
    .version(version)
    .option("--bridge <name>", "name of the switch", "br0")
    .option(
      "--port <[N=]IF[:hook]>",
      "make an interface a port; hook: auto, native, generic, tc, peer; or internal: make the interface, for the host",
      collect,
      [],
    )
    .option(
      "--tunnel <[N=]NAME:OPTIONS>",
      "make a tunnel port, by the options of an OVS interface: type=vxlan|geneve|gre,remote_ip=…,key=…",
      collect,
      [],
    )
    .option(
      "--uplink <IF[:hook]>",
      "take packets of tunnels from an interface that stays the host's; default: those on the way to the remote_ips",
      collect,
      [],
    )
    .option("--local", "give the switch its port LOCAL: an interface of the host that is named as the switch")
    .option("--flows <file>", "flows in ovs-ofctl add-flows syntax; - for stdin")
    .option("--groups <file>", "groups in ovs-ofctl add-groups syntax; - for stdin")
    .option("--meters <file>", "meters in ovs-ofctl add-meter syntax, one per line; - for stdin")
    .addOption(
      new Option("--fail-mode <mode>", "what a switch without flows does: learn addresses, or drop")
        .choices(["standalone", "secure"])
        .default("standalone"),
    )
    .addOption(
      new Option("--mode <mode>", "megaflow: cache what packets ask for; direct: compile all tables; auto: what can be")
        .choices(["megaflow", "direct", "auto"])
        .default("megaflow"),
    )
    .option("--controller <target>", "OpenFlow controller: tcp:HOST[:PORT], ssl:…, unix:FILE, ptcp:…", collect, [])
    .option(
      "--listen <target>",
      "where else to listen for ovs-ofctl: ptcp:[PORT][:HOST], pssl:…, punix:FILE",
      collect,
      [],
    )
    .option("--private-key <file>", "PEM file for ssl and pssl, with --certificate and --ca-cert")
    .option("--certificate <file>", "PEM file with the certificate of the key")
    .option("--ca-cert <file>", "PEM file with the authority that must have signed the peer's certificate")
    .option("--datapath-id <hex>", "16 hex digits; default: the address of the lowest port")
    .option(
      "--rundir <dir>",
      `where the sockets for control and OpenFlow go (default: $OVS_RUNDIR or ${DEFAULT_RUNDIR})`,
    )
    .option("--pidfile [file]", "write the process id; default: ofxdpd.pid in the run directory")
    .option(
      "--bpffs <dir>",
      "BPF file system to pin the datapath in, so that it outlives a daemon that is killed",
      BPFFS,
    )
    .option("--no-pins", "let the datapath end with the daemon")
    .option("--max-idle <ms>", "take megaflows without packets out after so long", "10000")
    .option("--flow-limit <n>", "megaflows at most", "200000")
    .option("--max-masks <n>", "masks at most that get a subtable of their own", "32")
    .addOption(
      new Option("--sched <policy>", "processor for the event loop: rr before all else while there is little to do")
        .choices(["rr", "other"])
        .default("rr"),
    )
    .option("--detach", "go to the background once packets are being handled")
    .option("--log-file <file>", "append the log to a file instead of stderr")
    .addOption(new Option("-v, --verbose <level>", "log level").choices([...LEVELS]).default("info"));

/** Set for the process that {@link detach} starts. */
const DETACHED = "OFXDPD_DETACHED";

/** Starts the same command in the background and waits until it is ready, or has failed. */
const detach = (argv: readonly string[]): Promise<ExitCode> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [process.argv[1]!, ...argv.filter((arg) => arg !== "--detach")], {
      detached: true,
      stdio: ["inherit", "ignore", "inherit", "ipc"],
      env: { ...process.env, [DETACHED]: "1" },
    });
    child.once("message", () => {
      child.disconnect();
      child.unref();
      resolve(0);
    });
    child.once("exit", (code) => resolve((code ?? 1) as ExitCode));
    child.once("error", (error) => {
      say("ofxdpd", error);
      resolve(1);
    });
  });

/** Runs until a signal, the `exit` command or an error that nobody handles. */
const serve = async (options: Readonly<Record<string, unknown>>, version: string): Promise<void> => {
  const { verbose, logFile } = options as { verbose: string; logFile?: string };
  const log = pino({ level: verbose, base: null }, pino.destination({ dest: logFile ?? 2, sync: true, append: true }));
  const running: { daemon?: Daemon } = {};
  let isEnding = false;
  const end = async (code: ExitCode, why: string, cleanup = true): Promise<void> => {
    if (isEnding) return;
    isEnding = true;
    log.info({ why }, "stopping");
    try {
      if (cleanup) running.daemon?.[Symbol.dispose]();
      else await running.daemon?.leave();
      process.exit(code);
    } catch (error) {
      log.error({ err: error }, "cannot clean up everything");
      process.exit(exitCodeOf(error));
    }
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => void end(0, signal));
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "internal error");
    // The datapath goes on as if the process had been killed; who starts the next one need not know why.
    if (running.daemon?.isPinned === true) process.exit(1);
    void end(1, "internal error");
  });
  running.daemon = await Daemon.start(
    parseDaemonOptions(options),
    version,
    log satisfies Log,
    (cleanup) => void end(0, cleanup ? "exit --cleanup" : "exit", cleanup),
  );
  if (process.env[DETACHED] !== undefined) process.send?.("ready");
};

/** The command `ofxdpd`. @param argv - without node and script */
export const runOfxdpd = async (argv: readonly string[]): Promise<void> => {
  const version = packageVersion();
  const program = daemonProgram(version).action(async (options: Readonly<Record<string, unknown>>) => {
    try {
      if (options["detach"] === true) process.exitCode = await detach(argv);
      else await serve(options, version);
    } catch (error) {
      say("ofxdpd", error);
      process.exit(exitCodeOf(error));
    }
  });
  await parseArgs(program, argv);
};

// ofxdp

/** Control sockets of running daemons in a run directory, newest first. */
export const findControlSockets = (rundir: string): string[] => {
  let names: string[];
  try {
    names = readdirSync(rundir);
  } catch {
    return [];
  }
  return names
    .filter((name) => /^ofxdpd\.\d+\.ctl$/.test(name))
    .map((name) => join(rundir, name))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
};

/** @throws {@link ControlError} exit status 2 when there is no daemon */
const targetOf = (options: { readonly target?: string; readonly rundir?: string }): string => {
  if (options.target !== undefined) return options.target;
  const rundir = rundirOf(options.rundir);
  const [first] = findControlSockets(rundir);
  if (first === undefined)
    throw new ControlError(`No running ofxdpd in ${rundir}: want --target SOCKET or --rundir DIR`, 2);
  return first;
};

interface TalkOptions {
  readonly target?: string;
  readonly rundir?: string;
  readonly json?: boolean;
}

/** Runs the body of a subcommand; what it throws becomes a line on stderr (with -j an object on stdout) and the status. */
const act =
  (name: string, body: (options: TalkOptions, args: readonly string[]) => Promise<void>) =>
  async (...all: unknown[]): Promise<void> => {
    const command = all.at(-1) as Command;
    const options = command.optsWithGlobals<TalkOptions>();
    try {
      await body(options, command.args);
    } catch (error) {
      if (options.json === true)
        process.stdout.write(
          `${JSON.stringify({ error: error instanceof OffloadError ? error.toJSON() : { message: messageOf(error) } })}\n`,
        );
      else say(`ofxdp ${name}`, error);
      process.exitCode = exitCodeOf(error);
    }
  };

/** Numbers that `top` shows from one reading of `ofxdp/stats` and the one before. */
interface Reading {
  readonly hits: number;
  readonly lost: number;
  readonly uptimeMs: number;
  readonly upcalls: { readonly misses: number; readonly slow: number; readonly latency: { readonly p99: number } };
  readonly cache: { readonly megaflows: number; readonly subtables: number };
  readonly ports: readonly {
    readonly name: string;
    readonly hook: string;
    readonly rxPackets: number;
    readonly txPackets: number;
    readonly rxBytes: number;
    readonly txBytes: number;
  }[];
}

/** One screen of `top`. */
export const formatTop = (now: Reading, before: Reading): string => {
  const seconds = Math.max(0.001, (now.uptimeMs - before.uptimeMs) / 1000);
  const rate = (a: number, b: number): string => Math.round((a - b) / seconds).toLocaleString("en-US");
  const head = [
    `megaflows ${now.cache.megaflows}  subtables ${now.cache.subtables}`,
    `hits/s ${rate(now.hits, before.hits)}  misses/s ${rate(now.upcalls.misses, before.upcalls.misses)}`,
    `slow/s ${rate(now.upcalls.slow, before.upcalls.slow)}  lost ${now.lost}`,
    `upcall p99 ${(now.upcalls.latency.p99 / 1000).toFixed(0)} us`,
  ].join("  ");
  const rows = now.ports.map((port) => {
    const old = before.ports.find(({ name }) => name === port.name) ?? port;
    const mbit = (a: number, b: number): string => (((a - b) * 8) / seconds / 1e6).toFixed(1);
    return [
      port.name.padEnd(16),
      port.hook.padEnd(8),
      rate(port.rxPackets, old.rxPackets).padStart(12),
      rate(port.txPackets, old.txPackets).padStart(12),
      mbit(port.rxBytes, old.rxBytes).padStart(12),
      mbit(port.txBytes, old.txBytes).padStart(12),
    ].join(" ");
  });
  const title = `${"port".padEnd(16)} ${"hook".padEnd(8)} ${"rx pps".padStart(12)} ${"tx pps".padStart(12)} ${"rx Mb/s".padStart(12)} ${"tx Mb/s".padStart(12)}`;
  return `${head}\n\n${title}\n${rows.join("\n")}\n`;
};

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Adds the subcommands that talk to a daemon: `dump-flows`, `top`, `appctl`. */
export const addRuntimeCommands = (program: Command): void => {
  const talking = (name: string, description: string): Command =>
    program
      .command(name)
      .description(description)
      .option("-t, --target <socket>", "control socket of the daemon; default: the newest in the run directory")
      .option("--rundir <dir>", `run directory (default: $OVS_RUNDIR or ${DEFAULT_RUNDIR})`)
      .option("-j, --json", "print facts as JSON");

  talking("dump-flows", "show the megaflows of a running daemon").action(
    act("dump-flows", async (options) => {
      const method = options.json === true ? "ofxdp/dump-megaflows" : "dpctl/dump-flows";
      const text = await unixctlCall(targetOf(options), method, []);
      process.stdout.write(options.json === true ? `${JSON.stringify(JSON.parse(text))}\n` : text);
    }),
  );

  talking("appctl", "send a command to a running daemon, as ovs-appctl does")
    .argument("<command>")
    .argument("[arg...]")
    .action(
      act("appctl", async (options, [method = "", ...args]) => {
        process.stdout.write(await unixctlCall(targetOf(options), method, args));
      }),
    );

  talking("top", "show rates of a running daemon until interrupted")
    .option("-n, --count <n>", "stop after so many screens")
    .option("-i, --interval <seconds>", "time between screens", "1")
    .action(
      act("top", async (options) => {
        const { count, interval } = options as { count?: string; interval?: string };
        const [screens, seconds] = [count === undefined ? Infinity : Number(count), Number(interval)];
        if (!(screens > 0) || !(seconds > 0))
          throw new RangeViolation("Bad --count or --interval: want numbers above 0");
        const target = targetOf(options);
        const read = async (): Promise<Reading> => JSON.parse(await unixctlCall(target, "ofxdp/stats", [])) as Reading;
        let before = await read();
        for (let i = 0; i < screens; i++) {
          await sleep(seconds * 1000);
          const now = await read();
          if (options.json === true) process.stdout.write(`${JSON.stringify(now)}\n`);
          else process.stdout.write(`${process.stdout.isTTY ? "\x1b[H\x1b[2J" : ""}${formatTop(now, before)}`);
          before = now;
        }
      }),
    );
};
