// Runs the datapath cases: for each number of flows and hook, ours and the rivals are loaded side by side and measured.

import { OffloadError, Scope } from "ebpf-assembler";
import type { Hook } from "#compiler";
import type { Missing, Role, Row, Series } from "../row.js";
import type { Case, Profile } from "./case.js";
import { packetsOf } from "./cases.js";
import type { Contestant } from "./contestant.js";
import { measure, type MeasureOptions } from "./measure.js";
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

const seriesOf = ({ name, program, facts }: Contestant, role: Role, samples: readonly number[]): Series => {
  const { xlatedSize, jitedSize, verifiedInsns } = program.info;
  return { name, role, samples, facts: { ...facts, xlatedBytes: xlatedSize, jitedBytes: jitedSize, verifiedInsns } };
};

const runOne = async (ports: Ports, row: Case, flows: number, hook: Hook, options: MeasureOptions): Promise<Row> => {
  using scope = new Scope();
  const inputs = { packets: packetsOf(row, flows), ifindex: ports.ifindex };
  const ours = scope.use(await openOurs(ports, row, hook, inputs));
  const taking: { readonly who: Contestant; readonly role: Role }[] = [{ who: ours, role: "ours" }];
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
  const series = taking.map(({ who, role }, i) => seriesOf(who, role, samples[i]!));
  return {
    group: "datapath",
    name: row.name,
    title: row.title,
    at: `${flows.toLocaleString("en")} flow${flows === 1 ? "" : "s"}, ${hook}`,
    unit: "ns/packet",
    better: "less",
    floor: { name: "floor", role: "other", samples: floor },
    series,
  };
};

/** Measures one case: a row per number of flows and hook, as they come, or why there is none. */
export async function* runCase(row: Case, options: DatapathOptions): AsyncGenerator<Row | Missing> {
  using ports = new Ports();
  for (const flows of options.sizes ?? row.sizes[options.profile]) {
    for (const hook of row.hooks ?? DEFAULT_HOOKS) {
      if (options.hooks !== undefined && !options.hooks.includes(hook)) continue;
      try {
        yield await runOne(ports, row, flows, hook, options);
      } catch (error) {
        if (!(error instanceof OffloadError)) throw error;
        yield {
          group: "datapath",
          name: row.name,
          at: `${flows.toLocaleString("en")} flows, ${hook}`,
          why: error.message,
        };
      }
    }
  }
}
