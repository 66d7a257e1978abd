// Flows in text, to the character as `ovs-ofctl parse-flow` prints them.

import { carryFlow } from "../carry.js";
import type { FlowCommand, FlowMod } from "../parse/flows.js";
import { portToText, type PortNames } from "../ports.js";
import { DEFAULT_PRIORITY, type Flow } from "../types.js";
import { PROTOCOL, PROTOCOLS } from "../versions.js";
import { formatActions } from "./actions.js";
import { formatMatch } from "./match.js";
import { hexPadded } from "./values.js";

export interface FlowFormat {
  readonly ports?: PortNames;
  /** {@link PROTOCOL} bits of the versions to choose from. Default: all. */
  readonly protocols?: number;
}

interface Parts {
  readonly flow: Flow;
  /** Printed before the match unless it is 0. */
  readonly table: number;
  readonly cookies: readonly string[];
  readonly outPort: string;
}

const print = ({ flow, table, cookies, outPort }: Parts, ports: PortNames | undefined): string => {
  const match = formatMatch(flow.match, { priority: flow.priority, ...(ports === undefined ? {} : { ports }) });
  return [
    ...(table === 0 ? [] : [`table:${table}`]),
    ...(match === "" ? [] : [match]),
    ...cookies,
    ...(flow.idleTimeout === 0 ? [] : [`idle:${flow.idleTimeout}`]),
    ...(flow.hardTimeout === 0 ? [] : [`hard:${flow.hardTimeout}`]),
    ...(flow.importance === 0 ? [] : [`importance:${flow.importance}`]),
    ...(outPort === "" ? [] : [outPort]),
    ...flow.flags,
    `actions=${formatActions(flow.actions, ports === undefined ? {} : { ports })}`,
  ].join(" ");
};

/** In OVS a cookie of all ones stands for none. */
const cookieText = (cookie: bigint): string[] =>
  cookie === 0n || cookie === 0xffffffffffffffffn ? [] : [`cookie:${hexPadded(cookie, 1)}`];

/** A flow as it is, in its own words, whatever version would carry it. */
export const formatFlow = (flow: Flow, ports?: PortNames): string =>
  print({ flow, table: flow.table, cookies: cookieText(flow.cookie), outPort: "" }, ports);

/** What OVS prints for a command; a flow that is added goes without. */
const COMMAND_WORDS: Readonly<Record<FlowCommand, string>> = {
  add: "",
  modify: "MOD ",
  modify_strict: "MOD_STRICT ",
  delete: "DEL ",
  delete_strict: "DEL_STRICT ",
};

/**
 * A flow and its command as the lowest version of OpenFlow carries them that can: what `ovs-ofctl parse-flow` prints
 * behind `ADD `.
 *
 * @returns undefined if none of `protocols` can carry it
 */
export const formatFlowMod = (
  mod: FlowMod,
  { ports, protocols = mod.protocols }: FlowFormat = {},
): string | undefined => {
  for (const protocol of PROTOCOLS) {
    if ((PROTOCOL[protocol] & mod.protocols & protocols) === 0) continue;
    const flow = carryFlow(mod.flow, protocol);
    if (flow === undefined) continue;
    const isNew = PROTOCOL[protocol] >= PROTOCOL.OpenFlow12;
    const everyTable = isNew && mod.command.startsWith("delete") ? 255 : 0;
    const { cookie } = mod;
    const masked = cookie === undefined || cookie.mask === 0n ? [] : [cookie];
    const parts: Parts = {
      flow: mod.command === "delete" ? { ...flow, priority: DEFAULT_PRIORITY } : flow,
      table: mod.table ?? everyTable,
      cookies: [
        ...cookieText(flow.cookie),
        ...masked.map((c) => `cookie:${hexPadded(c.value & c.mask, 1)}/${hexPadded(c.mask, 1)}`),
      ],
      outPort: mod.outPort === undefined ? "" : `out_port:${portToText(mod.outPort, ports)}`,
    };
    return `${COMMAND_WORDS[mod.command]}${print(parts, ports)}`;
  }
  return undefined;
};
