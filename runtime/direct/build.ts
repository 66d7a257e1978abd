// Compiles tables in direct mode and loads the programs that stand before the megaflow programs. It takes from some tens of
// milliseconds to seconds, so that a running switch has it done by a thread of its own (build-worker.ts), which gets a copy
// of the tables. What goes between the threads is plain data, and descriptors, which belong to the process.

import { Scope, type ExitCode } from "ebpf-assembler";
import {
  compileDirect,
  directProgramOf,
  directReport,
  DirectRefusal,
  ledgerOf,
  MAPS,
  type DirectReport,
  type Hook,
  type Ledger,
  type LiveRecords,
  type Tables,
} from "#compiler";
import { BpfMap, loadObject, type Sys } from "libbpf-ts";

/** What to build. */
export interface DirectJob {
  readonly tables: Tables;
  readonly hooks: readonly Hook[];
  /** Interface indices of ports. */
  readonly ifindices: ReadonlyMap<number, number>;
  readonly portSlots: number;
  /** Descriptors of maps that are shared with the megaflow programs, by name; stay the caller's. */
  readonly maps: readonly (readonly [name: string, fd: number])[];
}

/** The program of one hook. Whoever gets the descriptors owns them. */
export interface BuiltDirect {
  readonly hook: Hook;
  readonly program: number;
  /** Maps of its own. */
  readonly maps: readonly { readonly name: string; readonly fd: number }[];
  readonly ledger: Ledger;
  readonly records: ReadonlyMap<number, LiveRecords>;
  readonly report: DirectReport;
}

/** What a build made, or why these tables have no direct program. */
export type DirectResult =
  { readonly built: readonly BuiltDirect[] } | { readonly refused: string; readonly exitCode: ExitCode };

const buildHook = (sys: Sys, job: DirectJob, hook: Hook, scope: Scope): BuiltDirect => {
  const { ifindices, portSlots } = job;
  const made = compileDirect(job.tables, hook, {
    behind: "megaflows",
    ifindexOf: (port) => ifindices.get(port) ?? 0,
    portSlots,
    hasMeters: job.maps.some(([name]) => name === MAPS.meters),
  });
  // Borrowed: never disposed, so that the descriptors stay open.
  const shared = new Map(job.maps.map(([name, fd]) => [name, BpfMap.fromFd(sys, fd, `map "${name}"`)]));
  const object = scope.use(loadObject(sys, made.object, { maps: shared }));
  return {
    hook,
    program: object.program(directProgramOf(hook)).fdNumber,
    maps: [...object.maps].flatMap(([name, map]) => (shared.has(name) ? [] : [{ name, fd: map.fdNumber }])),
    ledger: ledgerOf(made.analysis),
    records: made.records,
    report: directReport(hook, made, made.object),
  };
};

/** Compiles and loads. @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind */
export const buildDirect = (sys: Sys, job: DirectJob): DirectResult => {
  using scope = new Scope();
  try {
    const built = job.hooks.map((hook) => buildHook(sys, job, hook, scope));
    // All of it goes to the caller.
    scope.move();
    return { built };
  } catch (error) {
    if (error instanceof DirectRefusal) return { refused: error.message, exitCode: error.exitCode };
    throw error;
  }
};
