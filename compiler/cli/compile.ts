// `ofxdp compile FLOWS -o OUT.o`: flows to a BPF object that any loader takes.

import { dirname, basename } from "node:path";
import { disassemble, NotSupportedError, RangeViolation, writeElf, type ObjectSpec } from "ebpf-assembler";
import { Option, type Command } from "commander";
import { forecastPlan } from "../analysis/forecast-plan.js";
import { buildMain, compileMain } from "../datapath/compile.js";
import { buildOffload, compileOffload } from "../datapath/offload.js";
import type { DatapathPlan } from "../datapath/plan.js";
import { formatReport, report } from "../datapath/report.js";
import {
  compileDirect,
  directReport,
  DirectRefusal,
  formatDirectReport,
  sendsAny,
  type DirectProgram,
} from "../direct/index.js";
import { printProgram } from "../ir/print.js";
import type { Hook, Program } from "../ir/types.js";
import { PIPELINE, runPasses } from "../passes/index.js";
import type { Switch } from "../pipeline/switch.js";
import { NICS, type NicProfile } from "../targets/index.js";
import { processFileIo, type FileIo } from "./file-io.js";
import { runCommand, type Io } from "./io.js";
import { collectNamedPort, loadSwitch } from "./load-switch.js";

interface CompileOptions {
  readonly output?: string;
  readonly groups?: string;
  readonly meters?: string;
  readonly port?: ReadonlyMap<string, number>;
  readonly hook: Hook | "offload";
  readonly mode: "direct" | "megaflow" | "auto";
  readonly emit: "obj" | "ir" | "asm";
  readonly nic: string;
  readonly unhandled: "drop" | "pass";
  readonly printAfter?: string;
  readonly report?: boolean;
  readonly json?: boolean;
}

const buildFor = (plan: DatapathPlan, hook: CompileOptions["hook"]): Program =>
  hook === "offload" ? buildOffload(plan) : buildMain(plan, hook);

const emitters: Readonly<
  Record<CompileOptions["emit"], (plan: DatapathPlan, hook: CompileOptions["hook"], object: ObjectSpec) => Uint8Array>
> = {
  obj: (_plan, _hook, object) => writeElf(object),
  ir: (made, hook) => new TextEncoder().encode(printProgram(runPasses(buildFor(made, hook)))),
  asm: (_plan, _hook, object) => new TextEncoder().encode(disassemble(object.programs[0]!)),
};

const nicNamed = (name: string): NicProfile => {
  const nic = NICS.find((n) => n.name === name);
  if (nic === undefined)
    throw new RangeViolation(`No NIC profile ${name}: want one of ${NICS.map((n) => n.name).join(", ")}`);
  return nic;
};

/** Interface index of a port that the user has named: of the interface of that name, or the number given in its place. */
const ifindexOfName = (io: Io, name: string): number => {
  if (/^[1-9][0-9]*$/.test(name)) return Number(name);
  let text = "";
  try {
    text = io.readText(`/sys/class/net/${name}/ifindex`);
  } catch {
    // Told below, with what helps.
  }
  const ifindex = Number(text.trim());
  if (!Number.isInteger(ifindex) || ifindex < 1)
    throw new RangeViolation(`No interface ${name} on this machine: want its name, or its index as in --port 1=7`);
  return ifindex;
};

/** The tables of `sw` themselves. Ports that are not named are the interfaces of their number. */
const makeDirect = (io: Io, sw: Switch, hook: Hook, options: CompileOptions, isStrict: boolean): DirectProgram => {
  const indices = new Map([...(options.port ?? [])].map(([name, port]) => [port, ifindexOfName(io, name)]));
  return compileDirect(sw, hook, {
    ifindexOf: (port) => indices.get(port) ?? port,
    unhandled: options.unhandled,
    isStrict,
  });
};

const writeDirect = (io: Io, files: FileIo, made: DirectProgram, hook: Hook, options: CompileOptions): void => {
  const { object, ir } = made;
  const outputs: Readonly<Record<CompileOptions["emit"], () => Uint8Array>> = {
    obj: () => writeElf(object),
    ir: () => new TextEncoder().encode(printProgram(ir)),
    asm: () => new TextEncoder().encode(disassemble(object.programs[0]!)),
  };
  const { output } = options;
  if (output !== undefined) files.writeInto(dirname(output), basename(output), outputs[options.emit]());
  else if (options.emit !== "obj") io.out(new TextDecoder().decode(outputs[options.emit]()));
  else if (options.report !== true) throw new RangeViolation("Nowhere to write the object to: give -o FILE");
  const facts = directReport(hook, made, object, options.unhandled);
  if (options.json === true) io.out(`${JSON.stringify(facts)}\n`);
  else if (options.report === true) io.out(formatDirectReport(facts));
};

const compile = (io: Io, files: FileIo, flows: string, options: CompileOptions): void => {
  const { hook } = options;
  if (options.mode === "direct" && hook === "offload")
    throw new NotSupportedError("Direct mode at the hook offload", "use --mode megaflow");
  const { output, groups, port: named, printAfter } = options;
  const sw = loadSwitch(io, {
    flows,
    failMode: "standalone",
    ...(groups === undefined ? {} : { groups }),
    ...(options.meters === undefined ? {} : { meters: options.meters }),
    ...(named === undefined ? {} : { named }),
  });
  let why: string | undefined;
  // Passes are shown of the program that has them all, the datapath's.
  if (hook !== "offload" && (options.mode === "direct" || (options.mode === "auto" && printAfter === undefined))) {
    // As a whole, or else as far as it goes.
    for (const isStrict of options.mode === "direct" ? [true] : [true, false]) {
      try {
        const direct = makeDirect(io, sw, hook, options, isStrict);
        if (isStrict || sendsAny(hook, direct.analysis)) return writeDirect(io, files, direct, hook, options);
      } catch (error) {
        const isRefusal = error instanceof DirectRefusal || error instanceof RangeViolation;
        if (options.mode === "direct" || !isRefusal) throw error;
        why ??= error.message;
      }
    }
  }
  const made = forecastPlan(sw);
  if (printAfter !== undefined) {
    if (!PIPELINE.some(({ name }) => name === printAfter)) {
      throw new RangeViolation(`No pass ${printAfter}: want one of ${PIPELINE.map(({ name }) => name).join(", ")}`);
    }
    runPasses(buildFor(made, hook), {
      after: (pass, program) => {
        if (pass.name === printAfter) io.out(printProgram(program));
      },
    });
  }
  const object = hook === "offload" ? compileOffload(sw, made, nicNamed(options.nic)) : compileMain(made, hook);
  if (output !== undefined) {
    files.writeInto(dirname(output), basename(output), emitters[options.emit](made, hook, object));
  } else if (options.emit !== "obj") io.out(new TextDecoder().decode(emitters[options.emit](made, hook, object)));
  else if (options.report !== true && printAfter === undefined) {
    throw new RangeViolation("Nowhere to write the object to: give -o FILE");
  }
  const facts = report(sw, made, hook, object, why);
  if (options.json === true) io.out(`${JSON.stringify(facts)}\n`);
  else if (options.report === true) io.out(formatReport(facts));
};

export const addCompile = (program: Command, io: Io, files: FileIo = processFileIo): void => {
  program
    .command("compile")
    .description("compile flows into a BPF object for bpftool, ip link and tc")
    .argument("[flows]", "file in the syntax of ovs-ofctl add-flows, - for standard input")
    .option("-o, --output <file>", "write the object (or what --emit says) to this file")
    .option("--groups <file>", "groups in the syntax of ovs-ofctl add-groups")
    .option("--meters <file>", "meters in the syntax of ovs-ofctl add-meter, one per line")
    .option("--port <N=ifname>", "a port by the name that flows call it; may be given for several", collectNamedPort)
    .addOption(new Option("--hook <hook>", "hook to compile for").choices(["xdp", "tc", "offload"]).default("xdp"))
    .option("--nic <profile>", `NIC that --hook offload compiles for: ${NICS.map((n) => n.name).join(", ")}`, "nfp")
    .addOption(
      new Option("--mode <mode>", "how tables become a program")
        .choices(["direct", "megaflow", "auto"])
        .default("auto"),
    )
    .addOption(
      new Option("--unhandled <verdict>", "what becomes of packets that a direct program leaves to others")
        .choices(["drop", "pass"])
        .default("drop"),
    )
    .addOption(new Option("--emit <what>", "what to write").choices(["obj", "ir", "asm"]).default("obj"))
    .option("--print-after <pass>", "print the program after this pass")
    .option("--list-passes", "list the passes and end")
    .option("--report", "say what was made: key, subtables, action shapes, instructions, maps")
    .option("-j, --json", "print the report as JSON")
    .action((flows: string | undefined, options: CompileOptions & { readonly listPasses?: boolean }) => {
      runCommand(io, options.json === true, () => {
        if (options.listPasses === true) {
          for (const { name, doc } of PIPELINE) io.out(`${name}: ${doc}\n`);
          return;
        }
        if (flows === undefined) throw new RangeViolation("No flows to compile: give a file, or - for standard input");
        compile(io, files, flows, options);
      });
    });
};
