// `ofxdp compile FLOWS -o OUT.o`: flows to a BPF object that any loader takes.

import { dirname, basename } from "node:path";
import { disassemble, NotSupportedError, RangeViolation, writeElf, type ObjectSpec } from "ebpf-assembler";
import { Option, type Command } from "commander";
import { forecast } from "../analysis/forecast.js";
import { relevantMembers } from "../analysis/relevance.js";
import { buildMain, compileMain } from "../datapath/compile.js";
import { keyLayout, subtable } from "../datapath/key.js";
import { FIRST_SHAPE } from "../datapath/abi.js";
import { plan, shape, type DatapathPlan } from "../datapath/plan.js";
import { formatReport, report } from "../datapath/report.js";
import { printProgram } from "../ir/print.js";
import type { Hook } from "../ir/types.js";
import { PIPELINE, runPasses } from "../passes/index.js";
import type { Switch } from "../pipeline/switch.js";
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
  readonly printAfter?: string;
  readonly report?: boolean;
  readonly json?: boolean;
}

/** The plan for a switch that has seen no packet yet. */
export const forecastPlan = (sw: Switch): DatapathPlan => {
  const key = keyLayout(relevantMembers(sw));
  const { masks, shapes } = forecast(sw, key);
  return plan({
    key,
    subtables: masks.map(({ mask, from }, i) => subtable(`mf_${i}`, mask, from)),
    shapes: shapes.map(({ actions, from }, i) => shape(FIRST_SHAPE + i, actions, from)),
  });
};

const emitters: Readonly<
  Record<CompileOptions["emit"], (plan: DatapathPlan, hook: Hook, object: ObjectSpec) => Uint8Array>
> = {
  obj: (_plan, _hook, object) => writeElf(object),
  ir: (made, hook) => new TextEncoder().encode(printProgram(runPasses(buildMain(made, hook)))),
  asm: (_plan, _hook, object) => new TextEncoder().encode(disassemble(object.programs[0]!)),
};

const hookOf = ({ hook, mode }: CompileOptions): Hook => {
  if (hook === "offload") throw new NotSupportedError("Compiling for the hook offload", 'use "xdp" or "tc"');
  if (mode === "direct")
    throw new NotSupportedError("Direct mode", "use --mode megaflow, which needs a running ofxdpd");
  return hook;
};

const compile = (io: Io, files: FileIo, flows: string, options: CompileOptions): void => {
  const hook = hookOf(options);
  const { output, groups, port: named, printAfter } = options;
  const sw = loadSwitch(io, {
    flows,
    failMode: "standalone",
    ...(groups === undefined ? {} : { groups }),
    ...(options.meters === undefined ? {} : { meters: options.meters }),
    ...(named === undefined ? {} : { named }),
  });
  const made = forecastPlan(sw);
  if (printAfter !== undefined) {
    if (!PIPELINE.some(({ name }) => name === printAfter)) {
      throw new RangeViolation(`No pass ${printAfter}: want one of ${PIPELINE.map(({ name }) => name).join(", ")}`);
    }
    runPasses(buildMain(made, hook), {
      after: (pass, program) => {
        if (pass.name === printAfter) io.out(printProgram(program));
      },
    });
  }
  const object = compileMain(made, hook);
  if (output !== undefined) {
    files.writeInto(dirname(output), basename(output), emitters[options.emit](made, hook, object));
  } else if (options.emit !== "obj") io.out(new TextDecoder().decode(emitters[options.emit](made, hook, object)));
  else if (options.report !== true && printAfter === undefined) {
    throw new RangeViolation("Nowhere to write the object to: give -o FILE");
  }
  const facts = report(sw, made, hook, object);
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
    .addOption(
      new Option("--mode <mode>", "how tables become a program")
        .choices(["direct", "megaflow", "auto"])
        .default("auto"),
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
