// `ofxdp parse-flows FLOWS`: checks flow text and prints it as `ovs-ofctl parse-flow` does.

import type { Command } from "commander";
import { NotSupportedError } from "ebpf-assembler";
import { parseFlowLines, type FlowMod } from "../openflow/parse/flows.js";
import { formatActions } from "../openflow/print/actions.js";
import { formatFlowMod } from "../openflow/print/flow.js";
import { formatMatch } from "../openflow/print/match.js";
import { fileName, runCommand, type Io } from "./io.js";
import { parseProtocols, printLines, type ParseLinesOptions, type Shown } from "./parse-lines.js";

const facts = ({ command, flow }: FlowMod): Shown["data"] => ({
  command,
  table: flow.table,
  priority: flow.priority,
  cookie: `0x${flow.cookie.toString(16)}`,
  idle_timeout: flow.idleTimeout,
  hard_timeout: flow.hardTimeout,
  importance: flow.importance,
  flags: flow.flags,
  match: formatMatch(flow.match),
  actions: formatActions(flow.actions),
});

const show = (mod: FlowMod, protocols: number | undefined): Shown => {
  const text = formatFlowMod(mod, protocols === undefined ? {} : { protocols });
  if (text === undefined) {
    throw new NotSupportedError(
      `Flow "${mod.flow.source?.text ?? ""}" in these OpenFlow versions`,
      "name more with -O",
    );
  }
  return { text, data: facts(mod), warnings: mod.warnings };
};

export const addParseFlows = (program: Command, io: Io): void => {
  program
    .command("parse-flows")
    .description("check flows and print each as ovs-ofctl parse-flow does")
    .argument("<flows>", "file in the syntax of ovs-ofctl add-flows, - for standard input")
    .option("--commands", "lines may begin with a command (add, modify, delete, ...), as for ovs-ofctl add-flows")
    .option("--keep-going", "print !MESSAGE in the place of a wrong line and go on")
    .option(
      "-O, --protocols <versions>",
      "OpenFlow versions to print for, as ovs-ofctl -O (default: all)",
      parseProtocols,
    )
    .option("-j, --json", "print one JSON object per flow")
    .action((flows: string, options: ParseLinesOptions & { readonly commands?: boolean }) => {
      runCommand(io, options.json === true, () => {
        const results = parseFlowLines(io.readText(flows), {
          file: fileName(flows),
          commands: options.commands === true,
        });
        printLines(io, results, (mod) => show(mod, options.protocols), options);
      });
    });
};
