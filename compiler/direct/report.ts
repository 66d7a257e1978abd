// What came out of compiling in direct mode, for people and for --json.

import type { ObjectSpec } from "ebpf-assembler";
import type { Hook } from "../ir/types.js";
import { strictRefusal, type Analysis, type DirectTable } from "./analyse.js";
import { derivedRules } from "./counts.js";
import type { DirectProgram } from "./compile.js";
import type { Part } from "./parts.js";

export interface DirectReport {
  readonly hook: Hook;
  readonly mode: "direct";
  readonly why: string;
  /** What becomes of packets that are not the program's, where nobody is behind it; counted in the map `unhandled`. */
  readonly unhandled?: "drop" | "pass";
  readonly tables: readonly {
    readonly table: number;
    readonly rules: number;
    readonly template: string;
    readonly why: string;
  }[];
  /** Rules whose packets are not the program's, with the reason; those of tables that it has no part of are not among them. */
  readonly fallbacks: readonly { readonly table: number; readonly rule: string; readonly why: string }[];
  readonly key: { readonly bytes: number; readonly members: readonly string[] };
  /** Rules whose counters are not in the map, but the sum of others. */
  readonly counters: ReturnType<typeof derivedRules>;
  readonly programs: readonly { readonly name: string; readonly instructions: number }[];
  readonly maps: readonly { readonly name: string; readonly type: string; readonly valueBytes: number }[];
}

const WHY: Readonly<Record<Part["kind"], (part: Part) => string>> = {
  code: (part) => `${part.kind === "code" ? part.ranks.length : 0} rules compared one by one`,
  hash: (part) => `${part.kind === "hash" ? part.ranks.length : 0} rules of one mask in a perfect hash`,
  trie: (part) =>
    part.kind === "trie" ? `${part.prefixes.length} prefixes of ${part.field.member} in a trie of 4-bit strides` : "",
};

const tableFacts = ({ id, rules, parts }: DirectTable): DirectReport["tables"][number] => ({
  table: id,
  rules: rules.length,
  template: [...new Set(parts.map(({ kind }) => kind))].join("+") || "miss",
  why: parts.map((part) => WHY[part.kind](part)).join("; ") || "no rules",
});

const fallbacksOf = (hook: Hook, { tables }: Analysis): DirectReport["fallbacks"] =>
  [...tables.values()].flatMap(({ id, rules }) =>
    rules.flatMap((rule) => {
      const why = strictRefusal(hook, rule);
      return why === undefined ? [] : [{ table: id, rule: rule.from.text, why }];
    }),
  );

/** Whether a program sends any packet by itself. */
export const sendsAny = (hook: Hook, { rules }: Analysis): boolean =>
  rules.some(
    (rule) =>
      strictRefusal(hook, rule) === undefined &&
      rule.ops.some(({ op }) => op === "output" || op === "output_in_port" || op === "write_output"),
  );

/** The facts of one compile. */
export const directReport = (
  hook: Hook,
  { analysis }: DirectProgram,
  object: ObjectSpec,
  unhandled?: DirectReport["unhandled"],
): DirectReport => {
  const fallbacks = fallbacksOf(hook, analysis);
  return {
    hook,
    mode: "direct",
    why:
      fallbacks.length === 0
        ? "every rule of every table is code or data of the program: no cache, no upcall"
        : `all but ${fallbacks.length} of ${analysis.rules.length} rules are code or data of the program`,
    ...(fallbacks.length > 0 && unhandled !== undefined ? { unhandled } : {}),
    tables: [...analysis.tables.values()].map(tableFacts),
    fallbacks,
    key: { bytes: analysis.layout.size, members: analysis.layout.fields.map(({ member }) => member) },
    counters: derivedRules(analysis),
    programs: object.programs.map(({ name, code }) => ({ name, instructions: code.length / 8 })),
    maps: object.maps.map(({ name, type, valueSize }) => ({ name, type, valueBytes: valueSize })),
  };
};

/** Fallbacks of one table and reason, as a line. */
const fallbackLines = (fallbacks: DirectReport["fallbacks"]): readonly string[] => {
  const groups = new Map<string, { readonly table: number; readonly why: string; readonly rule: string; n: number }>();
  for (const one of fallbacks) {
    const known = groups.get(`${one.table} ${one.why}`);
    if (known === undefined) groups.set(`${one.table} ${one.why}`, { ...one, n: 1 });
    else known.n++;
  }
  return [...groups.values()].map(
    ({ table, why, rule, n }) =>
      `table ${table}: ${n === 1 ? "a rule falls" : `${n} rules fall`} back: ${why}${n === 1 ? "" : ", first"}: ${rule}`,
  );
};

const UNHANDLED_TEXT = {
  drop: "packets that fall back are counted in map unhandled and dropped",
  pass: "packets that fall back are counted in map unhandled and passed on to the host",
} as const;

/** {@link DirectReport} in words. */
export const formatDirectReport = (r: DirectReport): string =>
  [
    `${r.hook}, ${r.mode} mode: ${r.why}`,
    ...r.tables.map((t) => `table ${t.table}: ${t.rules} rules, ${t.template}: ${t.why}`),
    ...fallbackLines(r.fallbacks),
    ...(r.unhandled === undefined ? [] : [UNHANDLED_TEXT[r.unhandled]]),
    `flow in hand: ${r.key.bytes} bytes: ${r.key.members.join(" ")}`,
    ...r.counters.map(
      ({ number, sumOf: { first, n, miss } }) =>
        `counters: number ${number} is the sum of ${n === 0 ? "" : `${first} to ${first + n - 1}, and of `}${miss}`,
    ),
    ...r.programs.map((p) => `program ${p.name}: ${p.instructions} instructions`),
    ...r.maps.map((m) => `map ${m.name}: ${m.type}, ${m.valueBytes} bytes`),
  ]
    .map((line) => `${line}\n`)
    .join("");
