// Port numbers and their names in text.

import { PORT } from "./types.js";

/** Numbers of ordinary ports are below this; OpenFlow 1.1+ reserves everything from 0xffffff00 on. */
export const MAX_PORTS = 0xff00;

/** What has a name of its own in text. Read in any case; NONE is read as ANY and printed as it. */
const NAMED = {
  IN_PORT: PORT.IN_PORT,
  TABLE: PORT.TABLE,
  NORMAL: PORT.NORMAL,
  FLOOD: PORT.FLOOD,
  ALL: PORT.ALL,
  CONTROLLER: PORT.CONTROLLER,
  LOCAL: PORT.LOCAL,
  ANY: PORT.NONE,
  UNSET: PORT.UNSET,
} as const;

const numbers: ReadonlyMap<string, number> = new Map([...Object.entries(NAMED), ["NONE", PORT.NONE]]);
const names: ReadonlyMap<number, string> = new Map(Object.entries(NAMED).map(([name, port]) => [port, name]));

/** Names of ports of one switch, besides the reserved ones. */
export interface PortNames {
  readonly numbers?: ReadonlyMap<string, number>;
  readonly names?: ReadonlyMap<number, string>;
}

/**
 * The 32-bit number of a port written as a number (16-bit reserved numbers of OpenFlow 1.0 are widened), as a reserved
 * name or as one of `ports`.
 */
export const portFromText = (text: string, ports?: PortNames): number | undefined => {
  if (/^[0-9]+$/.test(text)) {
    const port = Number(text);
    if (port < MAX_PORTS) return port;
    if (port <= 0xffff) return port + 0xffff0000;
    return port >= 0xffffff00 && port <= 0xffffffff ? port : undefined;
  }
  const bare = text.startsWith('"') && text.endsWith('"') && text.length > 1 ? text.slice(1, -1) : text;
  return numbers.get(text.toUpperCase()) ?? ports?.numbers?.get(bare);
};

/** How OVS prints a port: its reserved name, its name among `ports`, or the 16-bit number. */
export const portToText = (port: number, ports?: PortNames): string => {
  const reserved = names.get(port);
  if (reserved !== undefined) return reserved;
  const name = ports?.names?.get(port);
  if (name !== undefined) return /^[A-Za-z][A-Za-z0-9]*$/.test(name) ? name : JSON.stringify(name);
  return String(port >= 0xffffff00 ? port - 0xffff0000 : port);
};
