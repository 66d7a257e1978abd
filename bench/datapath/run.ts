// Runs the datapath cases: for each number of flows and hook, ours and the rivals are loaded side by side and measured.

import { OffloadError, Scope } from "ebpf-assembler";
import type { Hook } from "#compiler";
import type { Missing, Role, Row, Series } from "../row.js";
import type { Case, Profile } from "./case.js";
import { packetsOf } from "./cases.js";
import type { Contestant } from "./contestant.js";
import { measure, type MeasureOptions } from "./measure.js";
import { openDirect } from "./direct.js";
import { openOurs } from "./ours.js";
import { Ports } from "./ports.js";
import { openRival } from "./rival.js";

export interface DatapathOptions extends MeasureOptions {
  readonly profile: Profile;
  /** In place of the hooks of the cases. */
  readonly hooks?: readonly Hook[];
  /** In place of the sizes of the cases. */
  readonly sizes?: readonly number[];
}

/** Cases run at XDP unless they say otherwise: what is to be compared is the code, which is nearly the same. */
const DEFAULT_HOOKS = ["xdp"] as const satisfies readonly Hook[];

/** Flows up to which tables of a rule for each are compiled themselves. */
const DIRECT_MAX_FLOWS = 200_000;

const seriesOf = ({ name, program, facts }: Contestant, role: Role, samples: readonly number[]): Series => {
  const { xlatedSize, jitedSize, verifiedInsns } = program.info;
  return { name, role, samples, facts: { ...facts, xlatedBytes: xlatedSize, jitedBytes: jitedSize, verifiedInsns } };
};

/** A contestant, what it is in its row, and whether it is our direct program: that has a row of its own. */
interface Taking {
  readonly who: Contestant;
  readonly role: Role;
  readonly isDirect?: true;
}

const inMode = (at: string, isDirect: boolean): string => (isDirect ? `${at}, direct` : at);

/** One size at one hook: a row of megaflow mode, and one of direct mode against the same rounds of the same rivals. */
const runOne = async (
  ports: Ports,
  row: Case,
  flows: number,
  hook: Hook,
  options: MeasureOptions,
): Promise<(Row | Missing)[]> => {
  using scope = new Scope();
  const inputs = { packets: packetsOf(row, flows), ifindex: ports.ifindex };
  const at = placeOf(flows, hook);
  const common = { group: "datapath", name: row.name } as const;
  const taking: Taking[] = [{ who: scope.use(await openOurs(ports, row, hook, inputs)), role: "ours" }];
  const missing: Missing[] = [];
  if (row.isDirect !== false && flows > DIRECT_MAX_FLOWS)
    missing.push({ ...common, at: inMode(at, true), why: "so many rules take minutes to compile" });
  else if (row.isDirect !== false) {
    try {
      taking.push({ who: scope.use(openDirect(ports, row, hook, inputs)), role: "ours", isDirect: true });
    } catch (error) {
      missing.push({ ...common, at: inMode(at, true), why: reasonOf(error) });
    }
  }
  for (const variant of row.variants ?? []) {
    const elsewhere = scope.use(new Ports());
    taking.push({ who: scope.use(await openOurs(elsewhere, row, hook, inputs, variant)), role: "other" });
  }
  for (const rival of row.rivals)
    taking.push({
      who: scope.use(openRival(ports, rival, hook, inputs)),
      role: rival.isGeneric === true ? "other" : "rival",
    });
  const contestants = taking.map(({ who }) => who);
  const { floor, contestants: samples } = await measure(row, flows, hook, contestants, options);
  const rowOf = (isDirect: boolean): Row => ({
    ...common,
    title: row.title,
    at: inMode(at, isDirect),
    unit: "ns/packet",
    better: "less",
    floor: { name: "floor", role: "other", samples: floor },
    series: taking.flatMap(({ who, role, isDirect: direct = false }, i) =>
      role === "ours" && direct !== isDirect ? [] : [seriesOf(who, role, samples[i]!)],
    ),
  });
  const hasDirect = taking.some(({ isDirect }) => isDirect === true);
  return [rowOf(false), ...(hasDirect ? [rowOf(true)] : []), ...missing];
};

const placeOf = (flows: number, hook: Hook): string =>
  `${flows.toLocaleString("en")} flow${flows === 1 ? "" : "s"}, ${hook}`;

const reasonOf = (error: unknown): string => {
  if (!(error instanceof OffloadError)) throw error;
  return error.message;
};

/** Measures one case: a row per number of flows and hook, as they come, or why there is none. */
export async function* runCase(row: Case, options: DatapathOptions): AsyncGenerator<Row | Missing> {
  using ports = new Ports();
  for (const flows of options.sizes ?? row.sizes[options.profile]) {
    for (const hook of row.hooks ?? DEFAULT_HOOKS) {
      if (options.hooks !== undefined && !options.hooks.includes(hook)) continue;
      try {
        yield* await runOne(ports, row, flows, hook, options);
      } catch (error) {
        yield { group: "datapath", name: row.name, at: placeOf(flows, hook), why: reasonOf(error) };
      }
    }
  }
}
