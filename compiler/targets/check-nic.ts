// Whether a NIC carries a program: what it refuses is said here, with the flow it came from, rather than by the driver with a
// number. A function of the program in intermediate form and of the object made of it, whatever mode made them.

import { CompileError, SLOT_BYTES, type Diagnostic, type ExitCode, type ObjectSpec, type Origin } from "ebpf-assembler";
import { isConstant, low32 } from "../ir/constant.js";
import { ONES, onesOf, type OnesOf } from "../ir/ones.js";
import { printEnd, printInst } from "../ir/print.js";
import { isReg, type Inst, type Operand, type Program, type Terminator } from "../ir/types.js";
import { defOf } from "../ir/visit.js";
import type { NicProfile } from "./nic.js";

/** Something that the NIC does not carry. */
export interface NicRefusal {
  /** The flow that it came from. */
  readonly from?: Origin;
  /** The instruction, map or size, in words. */
  readonly what: string;
  readonly limit: string;
  readonly fits: string;
}

interface Facts {
  readonly profile: NicProfile;
  readonly ones: OnesOf;
  readonly pointers: ReadonlySet<number>;
}

const list = (names: Iterable<string | number>): string => [...names].join(", ");

type Verdict = Pick<NicRefusal, "limit" | "fits"> | undefined;

const isWord = (x: Operand, { ones }: Facts): boolean =>
  isReg(x) ? ((ones.get(x.id) ?? 0n) & ~ONES.u32) === 0n : BigInt.asUintN(64, BigInt(x)) <= ONES.u32;

/** By operation; one that is absent is carried. */
const INSTRUCTIONS: Readonly<Partial<Record<Inst["op"], (inst: Inst, facts: Facts) => Verdict>>> = {
  call: (inst, { profile }) =>
    inst.op !== "call" || (profile.helpers as ReadonlySet<string>).has(inst.helper)
      ? undefined
      : { limit: `it has no helper ${inst.helper}`, fits: list(profile.helpers) },
  ctx: (inst, { profile }) =>
    inst.op !== "ctx" || profile.ctx.has(inst.field)
      ? undefined
      : { limit: `programs cannot read ${inst.field}`, fits: list(profile.ctx) },
  map_value: () => ({ limit: "values of its maps have no fixed address", fits: "map_lookup_elem" }),
  atomic_add: (inst) =>
    inst.op !== "atomic_add" || inst.base.kind === "map_value"
      ? undefined
      : { limit: "atomics work on map values only", fits: "additions to a map value" },
  alu: (inst, facts) => {
    if (inst.op !== "alu" || (inst.alu !== "mul" && inst.alu !== "div" && inst.alu !== "mod")) return undefined;
    if (inst.alu === "mod") return { limit: "it has no remainder", fits: "powers of two, which become masks" };
    const fits = "operands below 2^32, divisors that are constants";
    if (!isWord(inst.a, facts) || !isWord(inst.b, facts)) return { limit: "it multiplies and divides 32 bits", fits };
    return inst.alu === "div" && !isConstant(inst.b) ? { limit: "it divides by constants only", fits } : undefined;
  },
};

const refuseEnd = (end: Terminator, { profile, pointers }: Facts): Verdict => {
  if (end.op === "tail_call") return { limit: "it has no tail calls", fits: "one program" };
  if (end.op !== "return") return undefined;
  const fits = `the verdicts ${list(profile.verdicts)}`;
  if (isReg(end.value))
    return pointers.has(end.value.id) ? { limit: "the verdict of a helper is none of its own", fits } : undefined;
  return profile.verdicts.has(low32(end.value)) ? undefined : { limit: `${end.value} is none of its verdicts`, fits };
};

/** What of `program`, as it is before emission, the NIC does not carry. */
export const refusalsOfProgram = (program: Program, profile: NicProfile): NicRefusal[] => {
  const pointers = new Set(
    program.blocks.flatMap(({ body }) => body.flatMap((inst) => (inst.op === "call" ? [defOf(inst)!.id] : []))),
  );
  const facts: Facts = { profile, ones: onesOf(program), pointers };
  const out: NicRefusal[] = [];
  const add = (what: string, verdict: Verdict, from: Origin | undefined): void => {
    if (verdict !== undefined) out.push({ what, ...verdict, ...(from === undefined ? {} : { from }) });
  };
  for (const { body, end } of program.blocks) {
    for (const inst of body) add(printInst(inst), INSTRUCTIONS[inst.op]?.(inst, facts), inst.from);
    add(printEnd(end), refuseEnd(end, facts), end.from);
  }
  return out;
};

/** What of the maps and sizes of `object` the NIC does not carry. @param stackBytes - by program name */
export const refusalsOfObject = (
  object: ObjectSpec,
  profile: NicProfile,
  stackBytes: ReadonlyMap<string, number> = new Map(),
): NicRefusal[] => {
  const out: NicRefusal[] = [];
  const atMost = (what: string, n: number, max: number, unit: string, fits: string): void => {
    if (n > max) out.push({ what, limit: `${n} ${unit}, it takes ${max}`, fits });
  };
  atMost("the object", object.maps.length, profile.maxMaps, "maps", "flows with fewer different masks");
  for (const { name, type, flags, keySize, valueSize, maxEntries } of object.maps) {
    const what = `map ${name}`;
    if (!profile.mapTypes.has(type))
      out.push({ what, limit: `it has no maps of type ${type}`, fits: list(profile.mapTypes) });
    if (flags !== 0)
      out.push({ what, limit: `it takes no map flags, want 0, not ${flags}`, fits: "maps without flags" });
    atMost(what, maxEntries, profile.maxEntries, "entries", "fewer entries");
    atMost(what, keySize, profile.maxKeyBytes, "bytes of key", "matches on fewer fields");
    atMost(what, valueSize, profile.maxValueBytes, "bytes of value", "fewer rewrites in one flow");
    atMost(what, keySize + valueSize, profile.maxEntryBytes, "bytes per entry", "fewer fields and rewrites");
  }
  for (const { name, code } of object.programs) {
    const what = `program ${name}`;
    atMost(what, code.length / SLOT_BYTES, profile.maxInstructions, "instructions", "fewer masks and action lists");
    atMost(what, stackBytes.get(name) ?? 0, profile.maxStackBytes, "bytes of stack", "matches on fewer fields");
  }
  return out;
};

/** Flows that compile, but not for this device. */
export class NicError extends CompileError {
  override get exitCode(): ExitCode {
    return 4;
  }
}

/** {@link NicRefusal}s as complaints about the flows they came from. */
export const nicError = (refusals: readonly NicRefusal[], profile: NicProfile): NicError =>
  new NicError(
    refusals.map(({ from, what, limit, fits }): Diagnostic => {
      const flow = from === undefined || from.line !== undefined ? "" : ` (for ${from.text})`;
      return {
        file: from?.file ?? profile.name,
        line: from?.line ?? 1,
        column: 1,
        message: `${profile.name} does not carry ${what}${flow}: ${limit}; what fits: ${fits}`,
      };
    }),
  );
