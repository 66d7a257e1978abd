// A whole object in the kernel: its maps, then its programs, with one owner. A failure at any step leaves nothing behind.

import { RangeViolation, Scope, type ObjectSpec } from "ebpf-assembler";
import type { Sys } from "../sys/sys.js";
import { BpfMap } from "./map.js";
import { Program, type LoadOptions } from "./program.js";

/** How to load an object, beyond its spec. */
export interface LoadObjectOptions extends Omit<LoadOptions, "license"> {
  /** Existing maps to use in place of those with the same name; they stay their owner's. */
  readonly maps?: ReadonlyMap<string, BpfMap>;
}

/** Maps and programs of one object. Disposing closes those that loading opened. */
export class LoadedObject implements Disposable {
  constructor(
    readonly maps: ReadonlyMap<string, BpfMap>,
    readonly programs: ReadonlyMap<string, Program>,
    private readonly scope: Scope,
  ) {}

  /** @throws {@link RangeViolation} when the object has no map of that name */
  map(name: string): BpfMap {
    return find(this.maps, "map", name);
  }

  /** @throws {@link RangeViolation} when the object has no program of that name */
  program(name: string): Program {
    return find(this.programs, "program", name);
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}

const find = <T>(all: ReadonlyMap<string, T>, kind: string, name: string): T => {
  const found = all.get(name);
  if (found === undefined)
    throw new RangeViolation(`No ${kind} "${name}" in the object: want one of ${[...all.keys()].join(", ")}`);
  return found;
};

/** A map to use in place of creating one must agree with the spec, or programs would read beyond its values. */
const checkShape = (map: BpfMap, spec: ObjectSpec["maps"][number]): void => {
  for (const [what, have, want] of [
    ["key size", map.keySize, spec.keySize],
    ["value size", map.slotSize, spec.valueSize],
  ] as const)
    if (have !== want)
      throw new RangeViolation(`Cannot use map "${map.name}" as "${spec.name}": want ${what} ${want}, got ${have}`);
};

/**
 * Creates the maps of `spec` and loads its programs.
 * @throws {@link SyscallError}, {@link VerifierError}; nothing stays behind
 */
export const loadObject = (sys: Sys, spec: ObjectSpec, options: LoadObjectOptions = {}): LoadedObject => {
  using scope = new Scope();
  const maps = new Map<string, BpfMap>();
  for (const map of spec.maps) {
    const existing = options.maps?.get(map.name);
    if (existing !== undefined) checkShape(existing, map);
    maps.set(map.name, existing ?? scope.use(BpfMap.create(sys, map, options.ifindex)));
  }
  const programs = new Map<string, Program>();
  for (const program of spec.programs)
    programs.set(program.name, scope.use(Program.load(sys, program, maps, { ...options, license: spec.license })));
  return new LoadedObject(maps, programs, scope.move());
};
