// `ofproto/trace`: what happens to one packet, table by table, in the words and the layout of OVS (ofproto-dpif-trace.h),
// and on a last line of our own which hook can carry it, and why nothing higher can.

import { FIELD_WIDTH, readField, readSubfield } from "../openflow/field-access.js";
import { get, set, type FlowWords } from "../openflow/flow.js";
import { VLAN_PRESENT } from "../openflow/numbers.js";
import { fillHashes, HASH_MEMBERS, HASH_NAMES } from "../packet/dp-hash.js";
import { ETH_TYPE } from "../packet/headers.js";
import { fromBytes } from "../openflow/big-endian.js";
import { formatAction, formatActions, subfieldText } from "../openflow/print/actions.js";
import { formatMatch } from "../openflow/print/match.js";
import { formatFlowWords } from "../openflow/print/packet.js";
import { fieldValueText, hex } from "../openflow/print/values.js";
import { DEFAULT_PRIORITY, PORT, type Action, type Subfield } from "../openflow/types.js";
import { orderActionSet } from "./action-set.js";
import { carrierOf, type Carriage } from "./carriers.js";
import { formatOdpActions } from "./odp-text.js";
import type { Switch } from "./switch.js";
import type { Rule } from "./table.js";
import { translate, XLATE_ERROR_TEXT, type Trace, type Translation } from "./translate.js";

type NodeKind = "bridge" | "table" | "bucket" | "action" | "detail" | "warning" | "error";

/** One step of a translation, and the steps inside it. */
export interface TraceNode {
  readonly kind: NodeKind;
  readonly text: string;
  readonly steps: readonly TraceNode[];
}

interface Growing extends TraceNode {
  readonly steps: Growing[];
}

const ruleText = (id: number, rule: Rule | undefined): string => {
  const table = `${String(id).padStart(2)}. `;
  if (rule === undefined) return `${table}No match.`;
  const match = formatMatch(rule.match, { priority: DEFAULT_PRIORITY });
  const cookie = rule.cookie === 0n ? "" : `, cookie ${hex(rule.cookie)}`;
  return `${table}${match === "" ? "" : `${match}, `}priority ${rule.priority}${cookie}`;
};

/** Grows the tree that the translator walks. */
class Tree implements Trace {
  readonly root: Growing;
  readonly #path: Growing[];

  constructor(bridge: string) {
    this.root = { kind: "bridge", text: `bridge("${bridge}")`, steps: [] };
    this.#path = [this.root];
  }

  #add(kind: NodeKind, text: string): Growing {
    const node: Growing = { kind, text, steps: [] };
    this.#path.at(-1)!.steps.push(node);
    return node;
  }

  #enter(kind: NodeKind, text: string): void {
    this.#path.push(this.#add(kind, text));
  }

  table(id: number, rule: Rule | undefined): void {
    this.#enter("table", ruleText(id, rule));
  }

  bucket(id: number): void {
    this.#enter("bucket", `bucket ${id}`);
  }

  runActionSet(): void {
    this.#enter("table", "--. Executing action set:");
  }

  actionSet(actions: readonly Action[], verb: "is" | "was"): void {
    const ordered = orderActionSet(actions);
    this.note(`action set ${verb}${ordered.length === 0 ? " empty" : `: ${formatActions(ordered)}`}`);
  }

  moved(dst: Subfield, flow: FlowWords): void {
    const whole = dst.bits === FIELD_WIDTH[dst.field];
    const value = whole
      ? fieldValueText(dst.field, readField(flow, dst.field))
      : hex(fromBytes(readSubfield(flow, dst)));
    this.note(`${subfieldText(dst)} is now ${value}`);
  }

  end(): void {
    this.#path.pop();
  }

  action(action: Action): void {
    this.#add("action", formatAction(action));
  }

  drop(): void {
    this.#add("action", "drop");
  }

  note(text: string, kind: "detail" | "warning" | "error" | "action" = "detail"): void {
    this.#add(kind, text);
  }
}

const DECORATION: Readonly<Record<NodeKind, readonly [before: string, after: string]>> = {
  bridge: ["", ""],
  table: ["", ""],
  bucket: ["", ""],
  action: ["", ""],
  detail: [" -> ", ""],
  warning: [" >> ", ""],
  error: [" >>>> ", " <<<<"],
};

/** A table that is the last of its list is not indented, so that a chain of goto_table reads as a list. */
const layOut = (nodes: readonly TraceNode[], level: number, lines: string[]): void => {
  for (const [i, { kind, text, steps }] of nodes.entries()) {
    const more = i < nodes.length - 1 || (kind !== "bridge" && kind !== "table") ? 1 : 0;
    const indent = " ".repeat(4 * (level + more));
    const [before, after] = DECORATION[kind];
    if (kind === "bridge") lines.push("", `${indent}${text}`, `${indent}${"-".repeat(text.length)}`);
    else lines.push(`${indent}${before}${text}${after}`);
    layOut(steps, level + 2 * more, lines);
  }
};

/** What a megaflow matches, in OVS's words for a match; some bits of the protocol alone, which OVS has no words for, last. */
export const formatMegaflow = (flow: FlowWords, given: FlowWords): string => {
  const proto = get(given, "nw_proto");
  const isPartial = proto !== 0 && proto !== 0xff;
  const mask = given.slice();
  if (isPartial) set(mask, "nw_proto", 0);
  const match = formatMatch({ value: flow.map((word, i) => word & mask[i]!), mask }, { priority: DEFAULT_PRIORITY });
  const some = isPartial ? `,nw_proto=${hex(get(flow, "nw_proto") & proto)}/${hex(proto)}` : "";
  const hashes = HASH_MEMBERS.filter((member) => get(mask, member) !== 0).map((member) => {
    const bits = get(mask, member);
    return `,dp_hash=${HASH_NAMES[member]}:${hex((get(flow, member) & bits) >>> 0)}/${hex(bits)}`;
  });
  return `recirc_id=0${hashes.join("")},eth${match === "" ? "" : `,${match}`}${some}`;
};

/** `xdp`, or `tc: 2 outputs: XDP cannot clone`. */
export const formatCarriage = ({ hook, why }: Carriage): string =>
  `${hook === "slow" ? "user space" : hook}${why === undefined ? "" : `: ${why}`}`;

export interface TraceResult {
  readonly translation: Translation;
  /** All of it as OVS prints it, and the hook; without a newline at the end. */
  readonly text: string;
  readonly steps: TraceNode;
  readonly flow: string;
  readonly finalFlow: string;
  readonly megaflow: string;
  readonly actions: string;
  readonly carriage: Carriage;
}

/** A flow that was written as text lacks what every packet with it has: the TPID of a tag, hashes. */
const complete = (flow: FlowWords): FlowWords => {
  const whole = flow.slice();
  for (const i of [0, 1] as const) {
    if ((get(whole, `vlan${i}_tci`) & VLAN_PRESENT) !== 0 && get(whole, `vlan${i}_tpid`) === 0) {
      set(whole, `vlan${i}_tpid`, ETH_TYPE.VLAN);
    }
  }
  fillHashes(whole);
  return whole;
};

/** Explains what `sw` does with a packet of this flow. Changes nothing. */
export const traceFlow = (sw: Switch, given: FlowWords): TraceResult => {
  const flow = complete(given);
  const tree = new Tree(sw.name);
  const translation = translate(sw, flow, { trace: tree });
  // The flow at the beginning differs from the given one in that it has an action set.
  const initial = flow.slice();
  set(initial, "actset_output", PORT.UNSET);
  const isUnchanged = translation.final.every((word, i) => word === initial[i]);
  const result = {
    translation,
    steps: tree.root,
    flow: formatFlowWords(initial),
    finalFlow: isUnchanged ? "unchanged" : formatFlowWords(translation.final),
    megaflow: formatMegaflow(flow, translation.mask),
    actions: formatOdpActions(translation.actions, { dontSend: true }),
    carriage: carrierOf(translation.actions),
  };
  const lines = [`Flow: ${result.flow}`];
  layOut([tree.root], 0, lines);
  lines.push(
    "",
    `Final flow: ${result.finalFlow}`,
    `Megaflow: ${result.megaflow}`,
    `Datapath actions: ${result.actions}`,
  );
  if (translation.error !== undefined) {
    lines.push(`Translation failed (${XLATE_ERROR_TEXT[translation.error]}), packet is dropped.`);
  }
  lines.push(`Carried by: ${formatCarriage(result.carriage)}`);
  return { ...result, text: lines.join("\n") };
};
