// `ofxdp parse-groups GROUPS`: checks group text and prints it as `ovs-ofctl parse-group` does.

import type { Command } from "commander";
import { NotSupportedError } from "ebpf-assembler";
import { parseGroupLines, type GroupMod } from "../openflow/parse/groups.js";
import { formatActions } from "../openflow/print/actions.js";
import { formatGroupMod } from "../openflow/print/group.js";
import { fileName, runCommand, type Io } from "./io.js";
import { parseProtocols, printLines, type ParseLinesOptions, type Shown } from "./parse-lines.js";

const facts = ({ command, group, place }: GroupMod): Shown["data"] => ({
  command,
  group_id: group.id,
  ...(place === "all" ? {} : { command_bucket_id: place }),
  type: group.type,
  ...(group.selection === undefined
    ? {}
    : { selection_method: group.selection.method, fields: group.selection.fields }),
  buckets: group.buckets.map((bucket) => ({
    bucket_id: bucket.id,
    weight: bucket.weight,
    ...(bucket.watchPort === undefined ? {} : { watch_port: bucket.watchPort }),
    ...(bucket.watchGroup === undefined ? {} : { watch_group: bucket.watchGroup }),
    actions: formatActions(bucket.actions),
  })),
});

const show = (mod: GroupMod, protocols: number | undefined): Shown => {
  const text = formatGroupMod(mod, protocols === undefined ? {} : { protocols });
  if (text === undefined) {
    throw new NotSupportedError(`Group ${mod.group.id} in these OpenFlow versions`, "name more with -O");
  }
  return { text, data: facts(mod), warnings: [] };
};

export const addParseGroups = (program: Command, io: Io): void => {
  program
    .command("parse-groups")
    .description("check groups and print each as ovs-ofctl parse-group does")
    .argument("<groups>", "file in the syntax of ovs-ofctl add-groups, - for standard input")
    .option("--keep-going", "print !MESSAGE in the place of a wrong line and go on")
    .option(
      "-O, --protocols <versions>",
      "OpenFlow versions to print for, as ovs-ofctl -O (default: all)",
      parseProtocols,
    )
    .option("-j, --json", "print one JSON object per group")
    .action((groups: string, options: ParseLinesOptions) => {
      runCommand(io, options.json === true, () => {
        const results = parseGroupLines(io.readText(groups), { file: fileName(groups) });
        printLines(io, results, (mod) => show(mod, options.protocols), options);
      });
    });
};
