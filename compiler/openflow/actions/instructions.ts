// Instructions of OpenFlow 1.1 and later, and how they stand in a list of actions.

import { number64, numberIn } from "../parse/numbers.js";
import { cut } from "../parse/source.js";
import { hex } from "../print/values.js";
import { CARRIED_BY } from "../versions.js";
import { parseTable } from "./common.js";
import { since, type Parse, type Rows } from "./row.js";

/** Most that a meter can be numbered (OFPM13_MAX). */
const MAX_METER = 0xffff0000;

const ALL_ONES = 0xffffffffffffffffn;

const writeMetadata: Parse = ({ context }, value, name) => {
  context.narrow(CARRIED_BY.nxmOrOpenflow11Up, name.at, "write_metadata");
  const [before, after] = cut(value, "/");
  const mask = after === undefined ? ALL_ONES : number64(context.line, after, "mask");
  return { kind: "write_metadata", value: number64(context.line, before, "metadata"), mask };
};

export const INSTRUCTIONS: Rows<"meter" | "clear_actions" | "write_actions" | "write_metadata" | "goto_table"> = {
  meter: {
    parse: {
      meter: ({ context }, value, name) => {
        context.narrow(CARRIED_BY.openflow13Up, name.at, "meter");
        return { kind: "meter", meter: numberIn(context.line, value, "meter", 0xffffffff) };
      },
    },
    print: (a) => `meter:${a.meter}`,
    check: (s, a, { at }) => {
      if (a.meter === 0 || a.meter > MAX_METER) {
        s.context.fail(at, `Cannot use meter ${a.meter}: want 1 to ${MAX_METER}`);
      }
    },
    carry: since(3),
  },
  clear_actions: {
    parse: { clear_actions: () => ({ kind: "clear_actions" }) },
    print: () => "clear_actions",
    carry: (a, { minor }) => (minor === 0 ? [] : [a]),
  },
  write_actions: {
    parse: {
      write_actions: ({ list }, value, name) => {
        const nested = list(value, "write_actions");
        const actions = nested.map(({ action }) => action);
        return { action: { kind: "write_actions", actions }, at: name.at, nested };
      },
    },
    print: (a, { list }) => `write_actions(${list(a.actions)})`,
    // An action set is checked in the order it was written, but carried out in another.
    check: (s, _a, { nested }) => s.nested(nested ?? [], false),
    // Nothing written is nothing on the wire.
    carry: (a, { minor, nested }) => {
      if (minor === 0 || a.actions.length === 0) return [];
      const actions = nested(a.actions);
      return actions === undefined ? undefined : [{ kind: "write_actions", actions }];
    },
  },
  write_metadata: {
    parse: { write_metadata: writeMetadata },
    print: (a) => `write_metadata:${hex(a.value)}${a.mask === ALL_ONES ? "" : `/${hex(a.mask)}`}`,
  },
  goto_table: {
    parse: { goto_table: ({ context }, value) => ({ kind: "goto_table", table: parseTable(context, value) }) },
    print: (a) => `goto_table:${a.table}`,
    check: (s, a, { at }) => {
      if (a.table > s.table && a.table !== 255) return;
      const want = s.table < 254 ? `a table from ${s.table + 1} to 254` : "no goto_table here";
      s.context.fail(at, `Cannot go to table ${a.table} from table ${s.table}: want ${want}`);
    },
    carry: (a, { minor }) => (minor === 0 ? [{ kind: "resubmit", table: a.table }] : [a]),
  },
};
