// How packets come to tables: what an emitter must allow for when a table is emitted once, whoever resubmits to it.

import type { DirectTable } from "./analyse.js";
import type { Op } from "./ops.js";

/** The ways to one table, taken together. */
export interface Ways {
  /** Whether an output may stand already. */
  readonly pending: boolean;
  /** Whether nothing is left to do after it, whoever came. */
  readonly isLast: boolean;
}

/** Operations of the rules of a table, each list once. */
const listsOf = ({ rules }: DirectTable): readonly (readonly Op[])[] => {
  const lists = new Map<string, readonly Op[]>();
  for (const { ops } of rules) {
    if (!ops.some(({ op }) => op === "resubmit")) continue;
    lists.set(ops.map((op) => (op.op === "resubmit" ? String(op.table) : op.op)).join(), ops);
  }
  return [...lists.values()];
};

const isOutput = ({ op }: Op): boolean => op === "output" || op === "output_in_port";

/** {@link Ways} to each of `tables`, which stand callers first; packets begin at the first. */
export const waysTo = (tables: ReadonlyMap<number, DirectTable>): ReadonlyMap<number, Ways> => {
  const order = [...tables.keys()];
  const lists = new Map([...tables].map(([id, table]) => [id, listsOf(table)] as const));
  const pending = new Set<number>();
  const notLast = new Set<number>();
  for (const id of order) {
    for (const list of lists.get(id)!) {
      let sent = pending.has(id);
      list.forEach((op, i) => {
        if (op.op === "resubmit") {
          if (sent) pending.add(op.table);
          if (i < list.length - 1 || notLast.has(id)) notLast.add(op.table);
        }
        sent ||= isOutput(op) || op.op === "resubmit";
      });
    }
  }
  return new Map(order.map((id) => [id, { pending: pending.has(id), isLast: !notLast.has(id) }]));
};
