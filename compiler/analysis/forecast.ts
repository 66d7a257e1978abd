// What megaflows are to be expected of a switch's tables, before any packet has come: made-up packets that fit the matches on
// one way through the tables after the other are translated, and tell masks and action shapes. A program that has them from
// the start need not be built anew for the first packets. A forecast is never complete: what it lacks is added at run time.

import type { Origin } from "ebpf-assembler";
import { lookupMask } from "../datapath/mask.js";
import { keyMask, maskId, type KeyLayout } from "../datapath/key.js";
import { get, newFlow, set, unwildcard, type FlowWords } from "../openflow/flow.js";
import { formatFlow } from "../openflow/print/flow.js";
import type { Flow, Match } from "../openflow/types.js";
import { ETH_TYPE, IP_PROTO } from "../packet/headers.js";
import { carrierOf } from "../pipeline/carriers.js";
import { shapeOf, type DpAction } from "../pipeline/dp-action.js";
import type { Switch } from "../pipeline/switch.js";
import type { Rule } from "../pipeline/table.js";
import { translate, type Trace } from "../pipeline/translate.js";

export interface Forecast {
  /** Masks in full-key bytes with the rule that leads to each, in the order of first sight. */
  readonly masks: readonly { readonly mask: Uint8Array; readonly from: Origin }[];
  readonly shapes: readonly { readonly actions: readonly DpAction[]; readonly from: Origin }[];
  /** Why packets will be left to user space whatever the hook, each reason once. */
  readonly slow: readonly { readonly why: string; readonly from: Origin }[];
}

export interface ForecastLimits {
  readonly masks: number;
  readonly shapes: number;
  /** Packets that are tried. */
  readonly packets: number;
  /** Packets that are made up at most, to be tried if there is none like it: the work must not grow with rules times ways. */
  readonly candidates: number;
}

/** As many masks as the datapath has subtables for; packets for some 50 ms. */
export const FORECAST_LIMITS: ForecastLimits = { masks: 32, shapes: 64, packets: 4000, candidates: 16_000 };

/** Ports that packets are made up for. */
const MAX_PORTS_TRIED = 8;

/** The flow text of a rule, with the place where it was written. */
export const originOf = ({
  source,
  ...flow
}: Omit<Flow, "source"> & { readonly source: Flow["source"] | undefined }): Origin =>
  source === undefined ? { text: formatFlow(flow) } : { text: source.text, file: source.file, line: source.line };

/** A made-up packet: bits of `fixed` were asked for by matches on its way, the others are free. */
interface Sample {
  readonly flow: FlowWords;
  readonly fixed: FlowWords;
}

/** `sample` with what `match` wants in the bits that are still free. */
const narrowed = (sample: Sample, { value, mask }: Match): Sample => {
  const flow = sample.flow.slice();
  const fixed = sample.fixed.slice();
  for (let word = 0; word < flow.length; word++) {
    const free = mask[word]! & ~fixed[word]!;
    flow[word] = (flow[word]! & ~free) | (value[word]! & free);
    fixed[word]! |= free;
  }
  return { flow, fixed };
};

/** `sample` with the bits no longer free that made it match `rules`. */
const held = (sample: Sample, rules: readonly Rule[]): Sample => {
  const fixed = sample.fixed.slice();
  for (const { match } of rules) for (let word = 0; word < fixed.length; word++) fixed[word]! |= match.mask[word]!;
  return { flow: sample.flow, fixed };
};

/** The sample as a packet that could come in: with plausible values where nothing was asked for. */
const asPacket = ({ flow, fixed }: Sample): FlowWords => {
  const packet = flow.slice();
  const isIp = get(packet, "dl_type") === ETH_TYPE.IPV4 || get(packet, "dl_type") === ETH_TYPE.IPV6;
  // Without a protocol a flow counts as having no IP header, and nothing of it is rewritten.
  if (isIp && get(fixed, "nw_proto") === 0) set(packet, "nw_proto", IP_PROTO.TCP);
  if (isIp && get(fixed, "nw_ttl") === 0) set(packet, "nw_ttl", 64);
  return packet;
};

/** One packet per port. Two ports at least, since a packet does not leave by the one that it came in by. */
const firstSamples = (sw: Switch): Sample[] => {
  const named = sw.ports.slice(0, MAX_PORTS_TRIED).map(({ number }) => number);
  const ports = named.length > 1 ? named : [...named, named[0] === 1 ? 2 : 1];
  return ports.map((port) => {
    const flow = newFlow();
    const fixed = newFlow();
    set(flow, "in_port", port);
    unwildcard(fixed, "in_port");
    return { flow, fixed };
  });
};

const ignore = (): void => undefined;

/** Notes the tables that a translation looks up in `seen`, those without a matching rule too. */
const noting = (seen: Set<number>): Trace => ({
  table: (id) => void seen.add(id),
  bucket: ignore,
  runActionSet: ignore,
  actionSet: ignore,
  moved: ignore,
  end: ignore,
  action: ignore,
  drop: ignore,
  note: ignore,
});

/**
 * Translates made-up packets: one per port, and from each that takes a way through the tables not taken before, one for each
 * rule that it came past. Has no effect on the switch.
 */
export const forecast = (sw: Switch, layout: KeyLayout, limits: ForecastLimits = FORECAST_LIMITS): Forecast => {
  const masks = new Map<string, { mask: Uint8Array; from: Origin }>();
  const shapes = new Map<string, { actions: readonly DpAction[]; from: Origin }>();
  const slowWhys = new Map<string, Origin>();
  const numbers = new Map<Rule, number>();
  for (const rule of sw.rules()) numbers.set(rule, numbers.size);
  const ways = new Set<string>();
  const made = new Set<string>();
  const queue = firstSamples(sw);
  let candidates = 0;
  for (let tried = 0; tried < queue.length && tried < limits.packets; tried++) {
    const sample = queue[tried]!;
    const flow = asPacket(sample);
    const seen = new Set<number>();
    const translation = translate(sw, flow, { trace: noting(seen) });
    const { actions, rules } = translation;
    const { slow } = carrierOf(actions);
    const way = `${get(flow, "in_port")}:${rules.map((rule) => numbers.get(rule)).join()}`;
    if (ways.has(way)) continue;
    ways.add(way);
    for (const id of seen) {
      const here = rules.findIndex((rule) => rule.table === id);
      const arriving = held(sample, here < 0 ? rules : rules.slice(0, here));
      for (const rule of sw.tableIfAny(id)?.rules ?? []) {
        if (queue.length >= limits.packets || candidates >= limits.candidates) break;
        candidates++;
        const next = narrowed(arriving, rule.match);
        const text = `${next.flow.join()}/${next.fixed.join()}`;
        if (made.has(text)) continue;
        made.add(text);
        queue.push(next);
      }
    }
    const last = rules.at(-1);
    const from = last === undefined ? { text: "table miss" } : originOf(last);
    const bytes = keyMask(layout, lookupMask(flow, translation));
    const id = maskId(bytes);
    if (!masks.has(id) && masks.size < limits.masks) masks.set(id, { mask: bytes, from });
    if (slow !== undefined && !slowWhys.has(slow)) slowWhys.set(slow, from);
    if (actions.length === 0 || slow !== undefined) continue;
    const text = shapeOf(actions);
    if (!shapes.has(text) && shapes.size < limits.shapes) shapes.set(text, { actions, from });
  }
  return {
    masks: [...masks.values()],
    shapes: [...shapes.values()],
    slow: [...slowWhys].map(([why, from]) => ({ why, from })),
  };
};
