// From the files that a command is given to a switch.

import { InvalidArgumentError } from "commander";
import { parseFlowMods, type ParseOptions } from "../openflow/parse/flows.js";
import { parseGroupMods } from "../openflow/parse/groups.js";
import { parseMeterMods } from "../openflow/parse/meters.js";
import { PORT, type Action } from "../openflow/types.js";
import { get } from "../openflow/flow.js";
import { MAX_PORTS, portFromText } from "../openflow/ports.js";
import { Switch, type FailMode } from "../pipeline/switch.js";
import { applyTableMods, flowMods, groupMods, meterMods } from "../pipeline/table-mod.js";
import { visitActions } from "../pipeline/rule-index.js";
import { fileName, type Io } from "./io.js";

export interface SwitchSource {
  /** Path of the flows, `-` = standard input. */
  readonly flows: string;
  readonly groups?: string;
  readonly meters?: string;
  /** Ports of the switch; default: those that flows and groups name, and `seen`. */
  readonly ports?: readonly number[];
  /** Ports that packets come in by. */
  readonly seen?: readonly number[];
  readonly failMode?: FailMode;
  /** When the tables come to be; default 0. */
  readonly nowMs?: number;
  /** Ports by the names that flows and groups may call them by. */
  readonly named?: ReadonlyMap<string, number>;
}

/** `N=NAME`, for commander options that may be given several times. */
export const collectNamedPort = (
  text: string,
  previous: ReadonlyMap<string, number> = new Map(),
): ReadonlyMap<string, number> => {
  const [, number, name] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (number === undefined || name === undefined) {
    throw new InvalidArgumentError(`"${text}" names no port: want N=IFNAME.`);
  }
  return new Map([...previous, [name, parsePorts(number)[0]!]]);
};

/** `1,2,LOCAL` */
export const parsePorts = (text: string): readonly number[] =>
  text.split(",").map((word) => {
    const port = portFromText(word.trim());
    if (port === undefined || !isReal(port)) {
      throw new InvalidArgumentError(`"${word}" is not a port: want numbers from 1 to ${MAX_PORTS - 1}, or LOCAL.`);
    }
    return port;
  });

const isReal = (port: number): boolean => (port > 0 && port < MAX_PORTS) || port === PORT.LOCAL;

const portsOf = (actions: readonly Action[]): number[] => {
  const ports: number[] = [];
  visitActions(actions, (action) => {
    if (action.kind === "output") ports.push(action.port);
  });
  return ports;
};

/** Every port that the tables and groups speak of. */
const namedPorts = (sw: Switch): number[] => {
  const ports = [...sw.rules()].flatMap((rule) => [
    ...(get(rule.match.mask, "in_port") === 0 ? [] : [get(rule.match.value, "in_port")]),
    ...portsOf(rule.actions),
  ]);
  for (const { group } of sw.groups()) {
    for (const { actions, watchPort } of group.buckets) {
      ports.push(...portsOf(actions), ...(watchPort === undefined ? [] : [watchPort]));
    }
  }
  return ports;
};

/**
 * Reads meters, groups and flows into a switch, in this order.
 *
 * @throws CompileError with file and line for text that is wrong and flows that the switch refuses
 */
export const loadSwitch = (io: Io, source: SwitchSource): Switch => {
  const sw = new Switch({ failMode: source.failMode ?? "standalone" });
  const named = source.named ?? new Map<string, number>();
  const ports = { numbers: named };
  const read = <T>(path: string | undefined, parse: (text: string, options: ParseOptions) => T[]): T[] =>
    path === undefined ? [] : parse(io.readText(path), { file: fileName(path), ports });
  const changes = [
    ...meterMods(read(source.meters, parseMeterMods)),
    ...groupMods(read(source.groups, parseGroupMods)),
    ...flowMods(read(source.flows, parseFlowMods)),
  ];
  applyTableMods(sw, changes, source.nowMs ?? 0);
  const numbers = source.ports ?? [...namedPorts(sw), ...(source.seen ?? []), ...named.values()].filter(isReal);
  for (const number of new Set(numbers)) sw.setPort({ number });
  for (const [name, number] of named) sw.setPort({ number, name });
  return sw;
};
