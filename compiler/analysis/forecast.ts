// What megaflows are to be expected of a switch's tables, before any packet has come: each rule is given a packet that fits
// its match, and what translation makes of it tells masks and action shapes. A program that has them from the start needs
// not be built anew for the first packets. A forecast need not be complete: what it lacks is added at run time.

import type { Origin } from "ebpf-assembler";
import { lookupMask } from "../datapath/mask.js";
import { keyMask, maskId, type KeyLayout } from "../datapath/key.js";
import { get, set, type FlowWords } from "../openflow/flow.js";
import { formatFlow } from "../openflow/print/flow.js";
import { ETH_TYPE, IP_PROTO } from "../packet/headers.js";
import { shapeOf, type DpAction } from "../pipeline/dp-action.js";
import type { Switch } from "../pipeline/switch.js";
import type { Rule } from "../pipeline/table.js";
import { translate } from "../pipeline/translate.js";

export interface Forecast {
  /** Masks in full-key bytes with the rule that leads to each, in the order of first sight. */
  readonly masks: readonly { readonly mask: Uint8Array; readonly from: Origin }[];
  readonly shapes: readonly { readonly actions: readonly DpAction[]; readonly from: Origin }[];
}

export interface ForecastLimits {
  readonly masks: number;
  readonly shapes: number;
  /** Rules that are tried. */
  readonly rules: number;
}

/** As many masks as the datapath has subtables for; enough rules to see every kind of a large table. */
export const FORECAST_LIMITS: ForecastLimits = { masks: 32, shapes: 64, rules: 2000 };

/** The flow text of a rule, with the place where it was written. */
export const originOf = ({ source, ...flow }: Rule): Origin =>
  source === undefined ? { text: formatFlow(flow) } : { text: source.text, file: source.file, line: source.line };

/** A packet that the rule matches as far as one field goes: what the match says, and plausible values for the rest. */
const sampleOf = (rule: Rule, inPort: number): FlowWords => {
  const flow = rule.match.value.slice();
  if (get(rule.match.mask, "in_port") === 0) set(flow, "in_port", inPort);
  const isIp = get(flow, "dl_type") === ETH_TYPE.IPV4 || get(flow, "dl_type") === ETH_TYPE.IPV6;
  // Without a protocol a flow counts as having no IP header, and nothing of it is rewritten.
  if (isIp && get(rule.match.mask, "nw_proto") === 0) set(flow, "nw_proto", IP_PROTO.TCP);
  if (isIp && get(rule.match.mask, "nw_ttl") === 0) set(flow, "nw_ttl", 64);
  return flow;
};

/** Translates one packet per rule, in table order. Has no effect on the switch. */
export const forecast = (sw: Switch, layout: KeyLayout, limits: ForecastLimits = FORECAST_LIMITS): Forecast => {
  const masks = new Map<string, { mask: Uint8Array; from: Origin }>();
  const shapes = new Map<string, { actions: readonly DpAction[]; from: Origin }>();
  // Two ports, since a packet does not leave by the one that it came in by; one that nobody has named will do.
  const named = sw.ports.slice(0, 2).map(({ number }) => number);
  const ports = named.length === 2 ? named : [...named, named[0] === 1 ? 2 : 1];
  let tried = 0;
  for (const rule of sw.rules()) {
    if (tried++ >= limits.rules) break;
    for (const port of ports) {
      const flow = sampleOf(rule, port);
      const translation = translate(sw, flow);
      const { actions, slow, rules } = translation;
      const from = originOf(rules.at(-1) ?? rule);
      const bytes = keyMask(layout, lookupMask(flow, translation));
      const id = maskId(bytes);
      if (!masks.has(id) && masks.size < limits.masks) masks.set(id, { mask: bytes, from });
      if (actions.length === 0 || slow !== undefined) continue;
      const text = shapeOf(actions);
      if (!shapes.has(text) && shapes.size < limits.shapes) shapes.set(text, { actions, from });
    }
  }
  return { masks: [...masks.values()], shapes: [...shapes.values()] };
};
