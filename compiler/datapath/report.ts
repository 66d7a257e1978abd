// What came out of compiling, for people and for --json.

import type { ObjectSpec } from "ebpf-assembler";
import { costOf, type VerifierCost } from "../emit/bpf/cost.js";
import type { Hook } from "../ir/types.js";
import { refusal } from "../pipeline/carriers.js";
import { formatOdpActions } from "../pipeline/odp-text.js";
import type { Switch } from "../pipeline/switch.js";
import { isInTable, type DatapathPlan, type Storage } from "./plan.js";

export interface Report {
  readonly hook: Hook | "offload";
  readonly mode: "megaflow";
  /** Why this mode. */
  readonly why: string;
  readonly tables: readonly {
    readonly table: number;
    readonly rules: number;
    readonly template: string;
    readonly why: string;
  }[];
  readonly key: { readonly bytes: number; readonly members: readonly string[] };
  readonly subtables: readonly {
    readonly map: string;
    readonly keyBytes: number;
    readonly storage: Storage;
    readonly from: string;
  }[];
  readonly shapes: readonly {
    readonly actions: string;
    readonly argBytes: number;
    readonly from: string;
    readonly slow?: string;
  }[];
  /** What each program costs; steps of the verifier are a guess until a kernel has counted them (`load`, `status`). */
  readonly programs: readonly (VerifierCost & { readonly name: string })[];
  readonly maps: readonly {
    readonly name: string;
    readonly type: string;
    readonly keyBytes: number;
    readonly valueBytes: number;
    readonly maxEntries: number;
  }[];
  /** Map look-ups of a cached packet: at the first subtable, at the last. */
  readonly lookups: { readonly least: number; readonly most: number };
}

/** The facts of one compile. @param instead - why the tables themselves are not compiled, when that was asked for */
export const report = (
  sw: Switch,
  plan: DatapathPlan,
  hook: Hook | "offload",
  object: ObjectSpec,
  instead?: string,
): Report => ({
  hook,
  mode: "megaflow",
  why:
    "the tables are translated in user space on a miss; the program holds the cache of what came out" +
    (instead === undefined ? "" : ` (${instead})`),
  tables: [...sw.tables()].map((table) => ({
    table: table.id,
    rules: [...table.rules].length,
    template: "megaflow",
    why: "translated by the slow path, cached per mask",
  })),
  key: { bytes: plan.key.size, members: plan.key.fields.map(({ member }) => member) },
  subtables: [...plan.subtables, plan.exact].map((table) => ({
    map: table.map,
    keyBytes: table.keySize,
    storage: isInTable(plan, table) ? "table" : "hash",
    from: table.from?.text ?? "every bit of the key",
  })),
  shapes: plan.shapes.map((shape) => {
    const slow = refusal(hook === "offload" ? "xdp" : hook, shape.example);
    return {
      actions: formatOdpActions(shape.example),
      argBytes: shape.argsSize,
      from: shape.from?.text ?? "",
      ...(slow === undefined ? {} : { slow }),
    };
  }),
  programs: object.programs.map((program) => ({ name: program.name, ...costOf(program) })),
  maps: object.maps.map(({ name, type, keySize, valueSize, maxEntries }) => ({
    name,
    type,
    keyBytes: keySize,
    valueBytes: valueSize,
    maxEntries,
  })),
  lookups: { least: 1, most: plan.subtables.length + 1 },
});

const STORAGES: Readonly<Record<Storage, string>> = {
  hash: "kernel hash map",
  table: "megaflow table in shared memory",
};

/** {@link Report} in words. */
export const formatReport = (r: Report): string => {
  const lines = [
    `${r.hook}, ${r.mode} mode: ${r.why}`,
    ...r.tables.map((t) => `table ${t.table}: ${t.rules} rules, ${t.template}: ${t.why}`),
    `key: ${r.key.bytes} bytes: ${r.key.members.join(" ")}`,
    ...r.subtables.map((t) => `subtable ${t.map}: ${t.keyBytes} bytes of key, ${STORAGES[t.storage]}, for ${t.from}`),
    ...r.shapes.map(
      (s) =>
        `actions ${s.actions}: ${s.slow === undefined ? `${s.argBytes} bytes of arguments` : `user space (${s.slow})`}, for ${s.from}`,
    ),
    ...r.programs.map(
      (p) =>
        `program ${p.name}: ${p.instructions} instructions, ${p.stackBytes} bytes of stack, ` +
        `about ${p.estimatedSteps} steps of the verifier, at most ${p.pendingJumps} jumps pending`,
    ),
    ...r.maps.map((m) => `map ${m.name}: ${m.type}, ${m.keyBytes} + ${m.valueBytes} bytes, ${m.maxEntries} entries`),
    `look-ups of a cached packet: ${r.lookups.least} to ${r.lookups.most}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
};
