// `ofxdp trace FLOWS FLOW-TEXT | --packet HEX --in-port N`: explains one packet table by table as `ofproto/trace` does.

import { fromHex, RangeViolation } from "ebpf-assembler";
import type { Command } from "commander";
import { get, newFlow, type FlowWords } from "../openflow/flow.js";
import { parseMatch } from "../openflow/parse/flows.js";
import { extract } from "../packet/extract.js";
import { traceFlow, type TraceNode, type TraceResult } from "../pipeline/trace.js";
import { runCommand, type Io } from "./io.js";
import { loadSwitch, parsePorts } from "./load-switch.js";

interface TraceOptions {
  readonly packet?: string;
  readonly inPort?: string;
  readonly groups?: string;
  readonly meters?: string;
  readonly ports?: readonly number[];
  readonly json?: boolean;
}

const flowOf = (text: string | undefined, { packet, inPort }: TraceOptions): FlowWords => {
  if (text !== undefined && packet === undefined) return parseMatch(text, { file: "<flow>" }).value;
  if (text !== undefined || packet === undefined || inPort === undefined) {
    throw new RangeViolation("Cannot tell which packet to trace: give either a flow, or --packet and --in-port");
  }
  const bytes = fromHex(packet);
  const flow = newFlow();
  extract(bytes, bytes.length, parsePorts(inPort)[0]!, flow);
  return flow;
};

const nested = ({ kind, text, steps }: TraceNode): unknown => ({
  kind,
  text: text.trim(),
  ...(steps.length === 0 ? {} : { steps: steps.map(nested) }),
});

/** The result as facts. */
const asJson = ({ flow, finalFlow, megaflow, actions, carriage, translation, steps }: TraceResult): string =>
  JSON.stringify({
    flow,
    steps: nested(steps),
    final_flow: finalFlow,
    megaflow,
    actions,
    hook: carriage.hook,
    ...(carriage.why === undefined ? {} : { why: carriage.why }),
    ...(translation.error === undefined ? {} : { error: translation.error }),
  });

export const addTrace = (program: Command, io: Io): void => {
  program
    .command("trace")
    .description("explain table by table what happens to one packet")
    .argument("<flows>", "file in the syntax of ovs-ofctl add-flows, - for standard input")
    .argument("[flow]", "the packet as a flow: in_port=1,tcp,nw_dst=10.0.0.1")
    .option("--packet <hex>", "the packet as bytes, from its Ethernet header on")
    .option("--in-port <port>", "port that the packet comes in by")
    .option("--groups <file>", "groups in the syntax of ovs-ofctl add-groups")
    .option("--meters <file>", "meters in the syntax of ovs-ofctl add-meter, one per line")
    .option("--ports <list>", "ports of the switch (default: those that flows and groups name)", parsePorts)
    .option("-j, --json", "print facts as JSON")
    .action((flows: string, text: string | undefined, options: TraceOptions) => {
      runCommand(io, options.json === true, () => {
        const flow = flowOf(text, options);
        const sw = loadSwitch(io, {
          flows,
          ...(options.groups === undefined ? {} : { groups: options.groups }),
          ...(options.meters === undefined ? {} : { meters: options.meters }),
          ...(options.ports === undefined ? {} : { ports: options.ports }),
          seen: [get(flow, "in_port")],
        });
        const result = traceFlow(sw, flow);
        io.out(`${options.json === true ? asJson(result) : result.text}\n`);
      });
    });
};
