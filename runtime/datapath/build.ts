// Compiles a plan and loads its programs. Both take tens of milliseconds, during which upcalls would wait: so a running
// switch has it done by a thread of its own (build-worker.ts). Descriptors belong to the process, whichever thread opened
// them; what goes between the threads is plain data.

import { RangeViolation, Scope, type MapSpec } from "ebpf-assembler";
import { compileDatapath, type DatapathPlan, type Hook } from "#compiler";
import { BpfMap, loadObject, type Sys } from "libbpf-ts";
import { JobThread } from "../worker.js";

/** What to build. */
export interface BuildJob {
  readonly plan: DatapathPlan;
  readonly hooks: readonly Hook[];
  /** Names of programs that are there already. */
  readonly without: readonly string[];
  /** Descriptors of maps that are there, by name; stay the caller's. */
  readonly maps: readonly (readonly [name: string, fd: number])[];
  /** Maps to create: a hash map of 200,000 entries takes milliseconds. */
  readonly create: readonly MapSpec[];
}

/** A descriptor: whoever gets it owns it. */
export interface BuiltObject {
  readonly name: string;
  readonly fd: number;
}

/** What a build made. */
export interface Built {
  readonly programs: readonly BuiltObject[];
  readonly maps: readonly BuiltObject[];
}

/**
 * Creates maps, compiles and loads.
 * @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind
 */
export const build = (sys: Sys, job: BuildJob): Built => {
  using scope = new Scope();
  const spec = compileDatapath(job.plan, [...job.hooks]);
  const programs = spec.programs.filter(({ name }) => !job.without.includes(name));
  // Borrowed: never disposed, so that the descriptors stay open.
  const maps = new Map(job.maps.map(([name, fd]) => [name, BpfMap.fromFd(sys, fd, `map "${name}"`)]));
  const created = job.create.map((map) => ({ name: map.name, map: scope.use(BpfMap.create(sys, map)) }));
  for (const { name, map } of created) maps.set(name, map);
  for (const { name } of spec.maps) {
    if (!maps.has(name)) throw new RangeViolation(`Cannot build a datapath program: no map ${name}`);
  }
  const object = loadObject(sys, { ...spec, programs }, { maps });
  // All of it goes to the caller.
  scope.move();
  return {
    programs: [...object.programs].map(([name, program]) => ({ name, fd: program.fdNumber })),
    maps: created.map(({ name, map }) => ({ name, fd: map.fdNumber })),
  };
};

/** The building thread. */
export class Builder extends JobThread<BuildJob, Built> {
  constructor() {
    super(new URL("./build-worker.js", import.meta.url));
  }
}
