// The subcommands `load`, `unload`, `status` and `probe`, to be added to a command of commander. Works without the daemon.
//
// Facts go to stdout (as JSON with -j), words to stderr. Exit status: 0 done; 1 usage or bad input; 2 negative answer;
// 3 refused by kernel or verifier; 4 missing privilege or feature.

import { readFileSync } from "node:fs";
import { Option, type Command } from "commander";
import {
  CodecError,
  CompileError,
  exitCodeOf,
  OffloadError,
  readElf,
  Scope,
  type ExitCode,
  type ObjectSpec,
} from "ebpf-assembler";
import {
  HOOKS,
  install,
  statusOf,
  uninstall,
  type Hook,
  type Installed,
  type InterfaceStatus,
} from "./attach/install.js";
import { FEATURES, probeFeatures, type FeatureReport } from "./features.js";
import type { Interface } from "./net/interface.js";
import { Ethtool, type OffloadSettings } from "./net/ethtool.js";
import { xdpFeatures, type XdpFeature } from "./net/netdev.js";
import { Rtnl } from "./net/rtnl.js";
import { BPFFS } from "./objects/pins.js";
import { linux } from "./sys/linux.js";
import type { Sys } from "./sys/sys.js";

/** Where a command's words and exit status go. */
export interface CliIo {
  /** Facts: text with its line ends. */
  out(text: string): void;
  /** Words. */
  err(text: string): void;
  /** Exit status of the process, once it ends. */
  exit(code: ExitCode): void;
}

/** Another way to give `load` an object, beside `--obj`: a flag with its argument, and how to turn that into one. */
export interface ObjectSource {
  /** As commander wants it, e.g. `--flows <file>`. */
  readonly flags: string;
  readonly description: string;
  /** @param options - all options of the command, by commander's names */
  read(argument: string, options: Readonly<Record<string, unknown>>): ObjectSpec;
}

/** What the commands need from outside. */
export interface LoaderCommands {
  readonly sources?: readonly ObjectSource[];
  readonly io?: CliIo;
  readonly sys?: () => Sys;
}

/** Writes to the process' own streams. */
export const processIo: CliIo = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  exit: (code) => {
    process.exitCode = code;
  },
};

/** The facts of an error, for `--json`. */
export const errorFacts = (error: unknown): Record<string, unknown> =>
  error instanceof OffloadError ? error.toJSON() : { code: "EINTERNAL", message: String(error) };

/**
 * Runs the body of a command: what it throws becomes a line on stderr (with -j: a JSON object `{error}` on stdout) and the
 * exit status.
 * @param name - starts the line, e.g. `ofxdp load`
 */
export const runCommand = (io: CliIo, name: string, asJson: boolean, body: () => ExitCode | undefined): void => {
  try {
    io.exit(body() ?? 0);
  } catch (error) {
    if (asJson) io.out(`${JSON.stringify({ error: errorFacts(error) })}\n`);
    // A place in a source text comes first in its line, as compilers have it.
    else if (error instanceof CompileError) io.err(`${error.message}\n`);
    else io.err(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    io.exit(exitCodeOf(error));
  }
};

interface CommonOptions {
  readonly json?: boolean;
  readonly bpffs: string;
}
interface LoadCommandOptions extends CommonOptions {
  readonly obj?: string;
  readonly hook: Hook | "auto";
  readonly program?: string;
}

const readObjectFile = (path: string): ObjectSpec => {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new CodecError(`read object file ${path}`, -1, error instanceof Error ? error.message : String(error), error);
  }
  return readElf(bytes);
};

const formatInstalled = (i: Installed): string =>
  [
    ...i.refused.map(({ hook, reason }) => `${i.interface}: not ${hook}: ${reason}\n`),
    `${i.interface}: ${i.hasReplaced ? "replaced by" : "loaded"} program "${i.program}" (id ${i.programId}) at ${i.hook}`,
    `${i.via === undefined ? "" : ` (${i.via})`}\n`,
  ].join("");

const formatStatus = (s: InterfaceStatus): string => {
  const head = `${s.interface} (index ${s.ifindex}, ${s.isUp ? "up" : "down"})`;
  if (s.programs.length === 0) return `${head}: nothing attached\n`;
  const lines = s.programs.map(
    ({ hook, program, programId, verifiedInsns, isOurs }) =>
      `  ${hook.padEnd(14)} program id ${programId}${program === "" ? "" : ` "${program}"`}, ${isOurs ? "ours" : "foreign"}` +
      `${verifiedInsns === 0 ? "" : `, ${verifiedInsns} steps of the verifier`}\n`,
  );
  return `${head}:\n${lines.join("")}`;
};

/** What one interface can do. */
interface DeviceReport {
  readonly interface: string;
  readonly ifindex: number;
  readonly kind: string;
  readonly driver: string;
  readonly mtu: number;
  /** undefined when the kernel cannot tell (before 6.3). */
  readonly xdpFeatures: readonly XdpFeature[] | undefined;
  readonly offloads: OffloadSettings;
}

const probeDevice = (sys: Sys, ethtool: Ethtool, device: Interface): DeviceReport => ({
  interface: device.name,
  ifindex: device.index,
  kind: device.kind,
  driver: ethtool.driver(device.name),
  mtu: device.mtu,
  xdpFeatures: xdpFeatures(sys, device.index),
  offloads: ethtool.settings(device.name),
});

const formatDevice = (d: DeviceReport): string => {
  const on = Object.entries(d.offloads).flatMap(([name, isOn]) => (isOn ? [name] : []));
  return (
    `${d.interface}: driver ${d.driver || "unknown"}${d.kind === "" ? "" : `, kind ${d.kind}`}, MTU ${d.mtu}\n` +
    `  XDP in the driver: ${d.xdpFeatures === undefined ? "unknown" : d.xdpFeatures.join(" ") || "none"}\n` +
    `  offloads that are on: ${on.join(" ") || "none"}\n`
  );
};

const formatFeature = (f: FeatureReport): string => {
  const doc = FEATURES.find(({ name }) => name === f.name)?.doc ?? "";
  const why = f.isSupported ? "" : `; ${f.isExpected ? "should be there, " : ""}${f.reason}`;
  return `${f.isSupported ? "yes" : "no "} ${f.name.padEnd(18)} ${doc} (Linux ${f.since})${why}\n`;
};

/** Adds `load`, `unload`, `status` and `probe` to `program`. */
export const addLoaderCommands = (program: Command, commands: LoaderCommands = {}): void => {
  const { io = processIo, sources = [], sys = linux } = commands;
  const json = () => new Option("-j, --json", "print facts as JSON");
  const bpffs = () => new Option("--bpffs <dir>", "BPF file system to pin in").default(BPFFS);
  const sourceNames = sources.map((s) => new Option(s.flags).attributeName());

  const load = program
    .command("load")
    .description("load an object and attach it to interfaces; stays after the command")
    .argument("<interface...>")
    .option("--obj <file>", "ELF object")
    .addOption(new Option("--hook <hook>", "where to attach").choices(["auto", ...HOOKS]).default("auto"))
    .option("--program <name>", "program to attach (default: the first one of the hook's type)")
    .addOption(bpffs())
    .addOption(json());
  for (const { flags, description } of sources) load.option(flags, description);
  load.action((interfaces: string[], _options: LoadCommandOptions, command: Command) => {
    const options = command.optsWithGlobals<LoadCommandOptions & Record<string, unknown>>();
    runCommand(io, "ofxdp load", options.json === true, () => {
      const given = [options.obj, ...sourceNames.map((name) => options[name])].filter((value) => value !== undefined);
      if (given.length !== 1)
        throw new UsageError(`Want one of ${["--obj <file>", ...sources.map((s) => s.flags)].join(", ")}`);
      const at = sourceNames.findIndex((name) => options[name] !== undefined);
      const spec =
        options.obj !== undefined
          ? readObjectFile(options.obj)
          : (sources[at] as ObjectSource).read(String(given[0]), options);
      const { hook, bpffs: dir } = options;
      const how = { hook, bpffs: dir, ...(options.program === undefined ? {} : { program: options.program }) };
      // All or none: what this command newly attached goes again when a later interface refuses.
      using undo = new Scope();
      const done = interfaces.map((name) => {
        const installed = install(sys(), spec, name, how);
        if (!installed.hasReplaced) undo.defer(() => uninstall(sys(), name, dir));
        return installed;
      });
      undo.move();
      io.out(options.json === true ? `${JSON.stringify(done)}\n` : done.map(formatInstalled).join(""));
      return 0;
    });
  });

  program
    .command("unload")
    .description("detach what load attached and remove every trace of it")
    .argument("<interface...>")
    .addOption(bpffs())
    .addOption(json())
    .action((interfaces: string[], _options: CommonOptions, command: Command) => {
      const options = command.optsWithGlobals<CommonOptions>();
      runCommand(io, "ofxdp unload", options.json === true, () => {
        for (const name of interfaces) uninstall(sys(), name, options.bpffs);
        if (options.json === true) io.out(`${JSON.stringify(interfaces.map((name) => ({ interface: name })))}\n`);
        return 0;
      });
    });

  program
    .command("status")
    .description("show the programs on interfaces, ours and foreign")
    .argument("[interface...]")
    .addOption(bpffs())
    .addOption(json())
    .action((interfaces: string[], _options: CommonOptions, command: Command) => {
      const options = command.optsWithGlobals<CommonOptions>();
      runCommand(io, "ofxdp status", options.json === true, () => {
        using rtnl = Rtnl.open(sys());
        const names = interfaces.length > 0 ? interfaces : rtnl.interfaces().map(({ name }) => name);
        const all = names.map((name) => statusOf(sys(), rtnl, name, options.bpffs));
        const shown = interfaces.length > 0 ? all : all.filter(({ programs }) => programs.length > 0);
        io.out(options.json === true ? `${JSON.stringify(shown)}\n` : shown.map(formatStatus).join(""));
        return 0;
      });
    });

  program
    .command("probe")
    .description("show what kernel and interfaces can do")
    .argument("[interface...]")
    .addOption(json())
    .action((interfaces: string[], _options: CommonOptions, command: Command) => {
      const options = command.optsWithGlobals<CommonOptions>();
      runCommand(io, "ofxdp probe", options.json === true, () => {
        using rtnl = Rtnl.open(sys());
        using ethtool = Ethtool.open(sys());
        const devices = interfaces.map((name) => probeDevice(sys(), ethtool, rtnl.get(name)));
        const features = probeFeatures(sys());
        if (options.json === true) io.out(`${JSON.stringify({ features, interfaces: devices })}\n`);
        else io.out([...features.map(formatFeature), ...devices.map(formatDevice)].join(""));
        return 0;
      });
    });
};

/** Bad use of a command that commander cannot see. */
export class UsageError extends OffloadError {
  readonly code = "EUSAGE";
}
