// `ofxdp parse-meters METERS`: checks meter text and prints it in OVS's words.

import type { Command } from "commander";
import { parseMeterLines } from "../openflow/parse/meters.js";
import { formatMeter } from "../openflow/print/meter.js";
import type { Meter, MeterBand } from "../openflow/types.js";
import { fileName, runCommand, type Io } from "./io.js";
import { printLines, type ParseLinesOptions, type Shown } from "./parse-lines.js";

const bandFacts = ({ type, rate, burstSize, precLevel }: MeterBand): Readonly<Record<string, unknown>> => ({
  type,
  rate,
  ...(burstSize === 0 ? {} : { burst_size: burstSize }),
  ...(precLevel === 0 ? {} : { prec_level: precLevel }),
});

const facts = ({ id, flags, bands }: Meter): Shown["data"] => ({ meter: id, flags, bands: bands.map(bandFacts) });

export const addParseMeters = (program: Command, io: Io): void => {
  program
    .command("parse-meters")
    .description("check meters and print each as ovs-ofctl does, on one line")
    .argument("<meters>", "file in the syntax of ovs-ofctl add-meter, one per line, - for standard input")
    .option("--keep-going", "print !MESSAGE in the place of a wrong line and go on")
    .option("-j, --json", "print one JSON object per meter")
    .action((meters: string, options: ParseLinesOptions) => {
      runCommand(io, options.json === true, () => {
        const results = parseMeterLines(io.readText(meters), { file: fileName(meters) });
        printLines(
          io,
          results,
          ({ meter }) => ({ text: formatMeter(meter), data: facts(meter), warnings: [] }),
          options,
        );
      });
    });
};
