// `ofxdp print-message HEX`: prints an OpenFlow message as `ovs-ofctl ofp-print` does.

import { InvalidArgumentError, type Command } from "commander";
import { fromHex } from "ebpf-assembler";
import { formatMessage } from "../openflow/print/message.js";
import { runCommand, type Io } from "./io.js";

interface Options {
  readonly json?: boolean;
  readonly verbosity?: number;
}

const MAX_VERBOSITY = 5;
/** As ovs-ofctl ofp-print without a verbosity. */
const DEFAULT_VERBOSITY = 2;

const parseVerbosity = (text: string): number => {
  const verbosity = Number(text);
  if (Number.isInteger(verbosity) && verbosity >= 0 && verbosity <= MAX_VERBOSITY) return verbosity;
  throw new InvalidArgumentError(`Want 0 to ${MAX_VERBOSITY}.`);
};

export const addPrintMessage = (program: Command, io: Io): void => {
  program
    .command("print-message")
    .description("print an OpenFlow message as ovs-ofctl ofp-print does")
    .argument("<hex>", "the bytes of the message, - for standard input")
    .option("--verbosity <n>", "how much to show, 0 to 5, as ovs-ofctl ofp-print (default: 2)", parseVerbosity)
    .option("-j, --json", "print a JSON object")
    .action((text: string, options: Options) => {
      runCommand(io, options.json === true, () => {
        const bytes = fromHex(text === "-" ? io.readText("-") : text);
        const shown = formatMessage(bytes, { verbosity: options.verbosity ?? DEFAULT_VERBOSITY });
        io.out(options.json === true ? `${JSON.stringify({ text: shown.trimEnd() })}\n` : shown);
      });
    });
};
