// A whole object in the kernel: its maps, then its programs, with one owner. A failure at any step leaves nothing behind.

import { kernelTypes, MAP_FLAGS, RangeViolation, Scope, type ObjectSpec } from "ebpf-assembler";
import type { Sys } from "../sys/sys.js";
import { loadBtf, wantsTypes } from "./btf.js";
import { BpfMap, type CreateOptions } from "./map.js";
import { Program, type LoadOptions } from "./program.js";

/** How to load an object, beyond its spec. */
export interface LoadObjectOptions extends Omit<LoadOptions, "license" | "types"> {
  /** Existing maps to use in place of those with the same name; they stay their owner's. */
  readonly maps?: ReadonlyMap<string, BpfMap>;
  /**
   * Load type information, too. Default: when a map names its fields or a program has more than one function; without it
   * the kernel is told nothing about flows and lines.
   */
  readonly types?: boolean;
  /** Freeze the created maps that programs may only read: the verifier then knows their contents. Default false. */
  readonly freeze?: boolean;
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
  using types = (options.types ?? wantsTypes(spec)) ? new ObjectTypes(sys, spec) : undefined;
  const { ifindex } = options;
  const maps = new Map<string, BpfMap>();
  for (const map of spec.maps) {
    const existing = options.maps?.get(map.name);
    if (existing !== undefined) {
      checkShape(existing, map);
      maps.set(map.name, existing);
      continue;
    }
    const described = types?.ofMap(map.name);
    const created = scope.use(
      BpfMap.create(sys, map, {
        ...(ifindex === undefined ? {} : { ifindex }),
        ...(described === undefined ? {} : { types: described }),
      }),
    );
    if (options.freeze === true && (map.flags & MAP_FLAGS.RDONLY_PROG) !== 0) created.freeze();
    maps.set(map.name, created);
  }
  const programs = new Map<string, Program>();
  for (const program of spec.programs) {
    const described = types?.ofProgram(program.name);
    const how: LoadOptions = {
      license: spec.license,
      ...(ifindex === undefined ? {} : { ifindex }),
      ...(options.expectedAttachType === undefined ? {} : { expectedAttachType: options.expectedAttachType }),
      ...(described === undefined ? {} : { types: described }),
    };
    programs.set(program.name, scope.use(Program.load(sys, program, maps, how)));
  }
  return new LoadedObject(maps, programs, scope.move());
};

/** The types of an object in the kernel, for as long as it is being loaded. */
class ObjectTypes implements Disposable {
  private readonly types;
  private readonly fd;

  constructor(sys: Sys, spec: ObjectSpec) {
    this.types = kernelTypes(spec);
    this.fd = loadBtf(sys, this.types.btf);
  }

  /** For BPF_MAP_CREATE; undefined for a map of opaque bytes. */
  ofMap(name: string): CreateOptions["types"] {
    const described = this.types.maps.get(name);
    return described === undefined || described.value === 0 ? undefined : { btfFd: this.fd.n, ...described };
  }

  ofProgram(name: string): LoadOptions["types"] {
    const described = this.types.programs.get(name);
    return described === undefined ? undefined : { btfFd: this.fd.n, ...described };
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}
