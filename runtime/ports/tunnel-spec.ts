// How tunnel ports and uplinks are named on the command line: `[N=]NAME:OPTIONS`, for example
// `5=vx0:type=vxlan,remote_ip=192.0.2.2,key=flow`, and `IF[:hook]`.

import { RangeViolation } from "ebpf-assembler";
import { parseTunnelConfig, type TunnelConfig } from "#compiler";
import { MAX_PORT, parsePortSpec, type PortSpec } from "./port-spec.js";

export interface TunnelSpec {
  /** OpenFlow port number; undefined: the next free one. */
  readonly number: number | undefined;
  readonly name: string;
  readonly config: TunnelConfig;
}

/** @throws {@link RangeViolation} */
export const parseTunnelSpec = (text: string): TunnelSpec => {
  const match = /^(?:([0-9]+)=)?([^\s/:=]{1,15}):(.+)$/.exec(text);
  if (match === null) throw new RangeViolation(`Bad tunnel ${JSON.stringify(text)}: want [N=]NAME:type=TYPE,...`);
  const [, digits, name = "", options = ""] = match;
  const number = digits === undefined ? undefined : Number(digits);
  if (number !== undefined && (number < 1 || number > MAX_PORT))
    throw new RangeViolation(`Bad port number ${number} in ${JSON.stringify(text)}: want 1 to ${MAX_PORT}`);
  return { number, name, config: parseTunnelConfig(options) };
};

/** @throws {@link RangeViolation} */
export const parseUplinkSpec = (text: string): PortSpec => {
  const spec = parsePortSpec(text);
  if (spec.number !== undefined)
    throw new RangeViolation(`Bad uplink ${JSON.stringify(text)}: want INTERFACE[:HOOK], it is no port`);
  return spec;
};
