// `ofxdp replay FLOWS --packets P.jsonl | --pcap PORT=FILE...`: runs packets in order through one switch whose state
// carries on, and says what became of each.

import { fromHex, RangeViolation, toHex } from "ebpf-assembler";
import { Option, type Command } from "commander";
import { readPcap, writePcap } from "../packet/pcap.js";
import { REPLAY_ENGINES, type MakeReplayEngine, type Replayed } from "../replay/engine.js";
import { portToText } from "../openflow/ports.js";
import type { FailMode } from "../pipeline/switch.js";
import { processFileIo, type FileIo } from "./file-io.js";
import { runCommand, type Io } from "./io.js";
import { loadSwitch, parsePorts } from "./load-switch.js";

/** A packet that comes in. */
interface Arrival {
  readonly inPort: number;
  readonly packet: Uint8Array;
  /** Nanoseconds since 1970; 0 when nobody says. */
  readonly timeNs: bigint;
}

interface ReplayCommandOptions {
  readonly packets?: string;
  readonly pcap?: readonly string[];
  readonly ports?: readonly number[];
  readonly groups?: string;
  readonly meters?: string;
  readonly engine: string;
  readonly hook?: "xdp" | "tc";
  readonly mode: "direct" | "megaflow";
  readonly failMode: FailMode;
  readonly output?: string;
  readonly json?: boolean;
}

const parseLine = (text: string, where: string): Arrival => {
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch (error) {
    throw new RangeViolation(`Cannot read ${where}: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  const { in_port: inPort, packet } = (line ?? {}) as { in_port?: unknown; packet?: unknown };
  if (typeof inPort !== "number" || !Number.isInteger(inPort) || inPort < 0 || typeof packet !== "string") {
    throw new RangeViolation(`Cannot read ${where}: want {"in_port":N,"packet":"HEX"}, got ${text.slice(0, 80)}`);
  }
  return { inPort, packet: fromHex(packet), timeNs: 0n };
};

const fromJsonLines = (io: Io, path: string): Arrival[] =>
  io
    .readText(path)
    .split("\n")
    .flatMap((text, i) => (text.trim() === "" ? [] : [parseLine(text, `${path}:${i + 1}`)]));

/** Packets of several captures, each of one port, in the order of their times. */
const fromCaptures = (files: FileIo, captures: readonly string[]): Arrival[] =>
  captures
    .flatMap((capture) => {
      const [, port, path] = /^([^=]+)=(.+)$/.exec(capture) ?? [];
      if (port === undefined || path === undefined) {
        throw new RangeViolation(`Cannot use --pcap ${capture}: want PORT=FILE`);
      }
      const inPort = parsePorts(port)[0]!;
      return readPcap(files.readBytes(path)).map(({ packet, timeNs }) => ({ inPort, packet, timeNs }));
    })
    .sort((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : 0));

/** On the wire of OpenFlow 1.3 an explicit miss is a miss. */
const reasonText = (reason: string): string => (reason === "explicit_miss" ? "no_match" : reason);

const asJson = (inPort: number, result: Replayed): string =>
  JSON.stringify({
    in_port: inPort,
    outputs: result.outputs.map(({ port, packet }) => ({ port, packet: toHex(packet) })),
    controller: result.controller.map(({ reason, table, packet }) => ({
      reason: reasonText(reason),
      table,
      packet: toHex(packet),
    })),
    path: result.path,
    megaflow: result.megaflow,
    actions: result.actions,
  });

const asText = (inPort: number, result: Replayed): string => {
  const ports = result.outputs.map(({ port }) => portToText(port)).join(",");
  const copies = result.controller.length === 0 ? "" : ` and ${result.controller.length} to the controller`;
  return `${portToText(inPort)} -> ${ports === "" ? "nowhere" : ports}${copies} (${result.path}) ${result.actions}`;
};

const collect = (value: string, previous: readonly string[] = []): readonly string[] => [...previous, value];

/** @param engines - beside those of the compiler, by the names of `--engine` */
export const addReplay = (
  program: Command,
  io: Io,
  engines: Readonly<Record<string, MakeReplayEngine>> = {},
  files: FileIo = processFileIo,
): void => {
  const known = { ...REPLAY_ENGINES, ...engines };
  program
    .command("replay")
    .description("run packets in order through one switch and say what becomes of each")
    .argument("<flows>", "file in the syntax of ovs-ofctl add-flows, - for standard input")
    .option("--packets <file>", 'packets, one per line: {"in_port":1,"packet":"HEX"}')
    .option("--pcap <port=file>", "capture of what comes in by a port; may be given for several", collect)
    .option("--ports <list>", "ports of the switch (default: those that flows, groups and packets name)", parsePorts)
    .option("--groups <file>", "groups in the syntax of ovs-ofctl add-groups")
    .option("--meters <file>", "meters in the syntax of ovs-ofctl add-meter, one per line")
    .addOption(new Option("--engine <name>", "what runs the packets").choices(Object.keys(known)).default("reference"))
    .addOption(new Option("--hook <hook>", "hook that the program is compiled for").choices(["xdp", "tc"]))
    .addOption(
      new Option("--mode <mode>", "how tables become a program").choices(["direct", "megaflow"]).default("megaflow"),
    )
    .addOption(
      new Option("--fail-mode <mode>", "what a switch without flows does")
        .choices(["standalone", "secure"])
        .default("standalone"),
    )
    .option("-o, --output <dir>", "write a capture per port into this directory")
    .option("-j, --json", "print one JSON object per packet")
    .action((flows: string, options: ReplayCommandOptions) => {
      runCommand(io, options.json === true, () => {
        const { packets, pcap, groups, ports, hook, output } = options;
        if ((packets === undefined) === (pcap === undefined)) {
          throw new RangeViolation("Cannot tell which packets to replay: give either --packets or --pcap");
        }
        const arrivals = packets === undefined ? fromCaptures(files, pcap!) : fromJsonLines(io, packets);
        const sw = loadSwitch(io, {
          flows,
          failMode: options.failMode,
          nowMs: Number((arrivals[0]?.timeNs ?? 0n) / 1_000_000n),
          ...(groups === undefined ? {} : { groups }),
          ...(options.meters === undefined ? {} : { meters: options.meters }),
          ...(ports === undefined ? {} : { ports }),
          seen: arrivals.map(({ inPort }) => inPort),
        });
        const sent = new Map<number, { packet: Uint8Array; timeNs: bigint }[]>(sw.ports.map((p) => [p.number, []]));
        using engine = known[options.engine]!(sw, { mode: options.mode, ...(hook === undefined ? {} : { hook }) });
        for (const { inPort, packet, timeNs } of arrivals) {
          const result = engine.handle(inPort, packet, Number(timeNs / 1_000_000n));
          io.out(`${options.json === true ? asJson(inPort, result) : asText(inPort, result)}\n`);
          for (const out of result.outputs) sent.get(out.port)?.push({ packet: out.packet, timeNs });
        }
        if (output === undefined) return;
        for (const [port, records] of sent) {
          files.writeInto(output, `port-${portToText(port)}.pcap`, writePcap(records));
        }
      });
    });
};
