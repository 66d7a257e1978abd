// Attaches an object to interfaces so that it stays without a process, finds it again, and takes it away.
//
// Everything is in one directory of pins per interface: `link` holds the attachment (a cls_bpf filter needs none), `program`
// the program, `map_NAME` each map. Interfaces of other network namespaces than the system's carry its inode in the
// directory name. What is attached without such pins belongs to somebody else and is never touched.

import { readlinkSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { OffloadError, RangeViolation, Scope, type ExitCode, type ObjectSpec, type ProgType } from "ebpf-assembler";
import type { Interface } from "../net/interface.js";
import { Rtnl } from "../net/rtnl.js";
import { loadObject, type LoadedObject } from "../objects/object.js";
import {
  BPFFS,
  isBpffs,
  mountBpffs,
  mountPins,
  PinDirectory,
  unmountEmptyBpffs,
  type Pinnable,
} from "../objects/pins.js";
import { Program } from "../objects/program.js";
import { ancestorNamespaces } from "../sys/ancestors.js";
import { SyscallError } from "../sys/errors.js";
import type { Sys } from "../sys/sys.js";
import { listFilters, TcFilter } from "./clsact.js";
import { Link } from "./link.js";
import { queryAttached, queryTcx } from "./query.js";

/** Where a program can run, highest first. */
export const HOOKS = ["offload", "native", "generic", "tc"] as const;
export type Hook = (typeof HOOKS)[number];

/** Directory of our pins in the BPF file system. */
const PIN_ROOT = "ofxdp";
/** A second pin of the program that says: clsact was added by us, so it goes with our filter. */
const ADDED_CLSACT = "added_clsact";

const PROGRAM_TYPES = { offload: "xdp", native: "xdp", generic: "xdp", tc: "sched_cls" } as const satisfies Record<
  Hook,
  ProgType
>;

/**
 * What `auto` tries, in this order. Packets between virtual interfaces have unfinished checksums and are larger than the
 * MTU, which only TC keeps intact; on other interfaces the driver comes first. Hardware is used on request only.
 */
const AUTO_HOOKS = {
  virtual: ["tc", "native", "generic"],
  other: ["native", "generic", "tc"],
} as const satisfies Record<string, readonly Hook[]>;
const VIRTUAL_KINDS: ReadonlySet<string> = new Set(["veth", "tun", "netkit"]);

/** The hooks that `auto` tries on an interface, best first. */
export const autoHooks = (device: Pick<Interface, "kind">): readonly Hook[] =>
  VIRTUAL_KINDS.has(device.kind) ? AUTO_HOOKS.virtual : AUTO_HOOKS.other;

/** Nothing of ours is on the interface. */
export class NotInstalledError extends OffloadError {
  readonly code = "ENOTINSTALLED";

  constructor(readonly interfaceName: string) {
    super(`Nothing of ofxdp is loaded on ${interfaceName}`);
  }

  override get exitCode(): ExitCode {
    return 2;
  }
}

/** How to install. */
export interface InstallOptions {
  /** `auto`: the first of {@link autoHooks} that the object has a program for and the kernel takes. */
  readonly hook?: Hook | "auto";
  /** Program to attach; default: the first one of the hook's type. */
  readonly program?: string;
  /** BPF file system to pin in; default `/sys/fs/bpf`, which is mounted when it is not. */
  readonly bpffs?: string;
}

/** What was attached where, as data for `--json`. */
export interface Installed {
  readonly interface: string;
  readonly ifindex: number;
  readonly hook: Hook;
  /** How TC was reached; undefined for XDP. */
  readonly via?: "tcx" | "clsact";
  readonly program: string;
  readonly programId: number;
  /** A program of ours was there and was replaced without a gap. */
  readonly hasReplaced: boolean;
  /** Hooks that `auto` tried before, and why they were not taken. */
  readonly refused: readonly { readonly hook: Hook; readonly reason: string }[];
}

/** Path of the pins of one interface of the current network namespace. Dots are not allowed in a BPF file system. */
const pinPath = (name: string, bpffs: string): string => {
  const own = readlinkSync("/proc/thread-self/ns/net");
  const isInitial = (ancestorNamespaces("net").at(-1) ?? own) === own;
  const escaped = name.replace(/[%.]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
  return join(bpffs, PIN_ROOT, isInitial ? escaped : `${escaped}@${/\d+/.exec(own)?.[0] ?? ""}`);
};

/** Pins of an interface that is still the one they were made for, or undefined; others are cleared away. */
const findPins = (sys: Sys, rtnl: Rtnl, device: Interface, bpffs: string): PinDirectory | undefined => {
  const pins = PinDirectory.find(sys, pinPath(device.name, bpffs));
  if (pins === undefined) return undefined;
  const isCurrent = ((): boolean => {
    if (!pins.has("program")) return false;
    if (!pins.has("link")) {
      using program = pins.program("program");
      const { id } = program.info;
      return listFilters(rtnl, device.index).some((filter) => filter.programId === id);
    }
    using link = pins.link("link");
    return link.info.ifindex === device.index;
  })();
  if (isCurrent) return pins;
  pins.remove();
  return undefined;
};

const choose = (spec: ObjectSpec, hook: Hook, wanted: string | undefined): string | undefined =>
  spec.programs.find((p) => p.type === PROGRAM_TYPES[hook] && (wanted === undefined || p.name === wanted))?.name;

/** A program on its hook. Disposing detaches it, unless its link is pinned by then or {@link keep} was called. */
interface Placed extends Disposable {
  readonly via: "tcx" | "clsact" | undefined;
  readonly link: Link | undefined;
  /** clsact was added for it. */
  readonly addedClsact: boolean;
  /** Leaves a cls_bpf filter in place. */
  keep(): void;
}

const place = (sys: Sys, rtnl: Rtnl, program: Program, device: Interface, hook: Hook): Placed => {
  const way = hook !== "tc" ? undefined : queryTcx(sys, device.index, "ingress") === undefined ? "clsact" : "tcx";
  if (way === "clsact") {
    const filter = TcFilter.attach(rtnl, program, device.index, "ingress");
    return {
      via: way,
      link: undefined,
      addedClsact: filter.addedClsact,
      keep: () => filter.release(),
      [Symbol.dispose]: () => filter[Symbol.dispose](),
    };
  }
  const link =
    hook === "tc" ? Link.tcx(sys, program, device.index, "ingress") : Link.xdp(sys, program, device.index, hook);
  return {
    via: way,
    link,
    addedClsact: false,
    keep: () => undefined, // the pin does
    [Symbol.dispose]: () => link[Symbol.dispose](),
  };
};

/** The hook that our pinned attachment is on. */
const currentHook = (sys: Sys, rtnl: Rtnl, device: Interface, pins: PinDirectory): Hook | undefined => {
  if (!pins.has("link")) return "tc";
  using link = pins.link("link");
  const { type, programId } = link.info;
  if (type === "tcx") return "tc";
  const { xdp } = queryAttached(sys, rtnl, device.index);
  return (["offload", "native", "generic"] as const).find((mode) => xdp[mode] === programId);
};

/** Pins an object's maps and its attached program over whatever has those names; drops maps of the object before. */
const pinAll = (pins: PinDirectory, object: LoadedObject, program: Program): void => {
  const wanted = new Map<string, Pinnable>([["program", program]]);
  for (const [name, map] of object.maps) wanted.set(`map_${name.replace(/[^A-Za-z0-9_]/g, "_")}`, map);
  for (const name of pins.list()) if (name.startsWith("map_") && !wanted.has(name)) pins.unpin(name);
  for (const [name, value] of wanted) pins.replace(name, value);
};

/** Removes the directory of all pins, and the file system if we mounted it, when they are empty. */
const removeRoot = (sys: Sys, bpffs: string): void => {
  const root = PinDirectory.find(sys, join(bpffs, PIN_ROOT));
  if (root?.list().length === 0) rmdirSync(root.path);
  if (isBpffs(bpffs)) unmountEmptyBpffs(sys, bpffs);
};

/**
 * Loads an object and attaches one of its programs to an interface of the current network namespace, pinned. A program of
 * ours that is there is replaced: without a gap on the same hook.
 * @throws {@link NoInterfaceError}, {@link OccupiedError}, {@link VerifierError}, {@link SyscallError};
 *   {@link RangeViolation} when the object has no program for the hook. The interface is as before then.
 */
export const install = (sys: Sys, spec: ObjectSpec, name: string, options: InstallOptions = {}): Installed => {
  const { hook = "auto", bpffs = BPFFS } = options;
  using scope = new Scope();
  const rtnl = scope.use(Rtnl.open(sys));
  const device = rtnl.get(name);
  const hooks = (hook === "auto" ? autoHooks(device) : [hook]).filter(
    (h) => choose(spec, h, options.program) !== undefined,
  );
  if (hooks.length === 0)
    throw new RangeViolation(
      `Cannot load on ${name}: the object has no ${hook === "auto" ? "xdp or sched_cls" : PROGRAM_TYPES[hook]} program` +
        (options.program === undefined ? "" : ` named "${options.program}"`),
    );
  mountBpffs(sys, bpffs);
  try {
    const refused: { hook: Hook; reason: string }[] = [];
    for (const candidate of hooks) {
      try {
        return installAt(sys, rtnl, spec, device, candidate, { ...options, bpffs }, refused);
      } catch (error) {
        const isLast = candidate === hooks.at(-1);
        if (isLast || !(error instanceof SyscallError) || error.exitCode === 4) throw error;
        refused.push({ hook: candidate, reason: error.message });
      }
    }
    throw new RangeViolation(`Cannot load on ${name}: no hook left`);
  } catch (error) {
    removeRoot(sys, bpffs);
    throw error;
  }
};

const installAt = (
  sys: Sys,
  rtnl: Rtnl,
  spec: ObjectSpec,
  device: Interface,
  hook: Hook,
  options: InstallOptions & { readonly bpffs: string },
  refused: Installed["refused"],
): Installed => {
  using scope = new Scope();
  // A stand-alone object: nobody changes its constants, and whoever looks at it later wants to see its flows.
  const how = { freeze: true, types: hook !== "offload", ...(hook === "offload" ? { ifindex: device.index } : {}) };
  const object = scope.use(loadObject(sys, spec, how));
  const program = object.program(choose(spec, hook, options.program) ?? "");
  const report = (via: Placed["via"], hasReplaced: boolean): Installed => ({
    interface: device.name,
    ifindex: device.index,
    hook,
    ...(via === undefined ? {} : { via }),
    program: program.name,
    programId: program.info.id,
    hasReplaced,
    refused,
  });

  const old = findPins(sys, rtnl, device, options.bpffs);
  const oldHook = old === undefined ? undefined : currentHook(sys, rtnl, device, old);
  if (old !== undefined && oldHook === hook) {
    if (old.has("link")) {
      using link = old.link("link");
      link.update(program);
    } else adoptFilter(rtnl, device, old).update(program);
    pinAll(old, object, program);
    return report(hook !== "tc" ? undefined : old.has("link") ? "tcx" : "clsact", true);
  }

  const placed = scope.use(
    old === undefined || oldHook === undefined
      ? place(sys, rtnl, program, device, hook)
      : placeInstead(sys, rtnl, program, device, hook, old, oldHook),
  );
  using undo = new Scope();
  const pins = old ?? mountPins(sys, options.bpffs, pinPath(device.name, options.bpffs));
  undo.defer(() => pins.remove());
  pinAll(pins, object, program);
  for (const [name, object, isWanted] of [
    ["link", placed.link, placed.link !== undefined],
    [ADDED_CLSACT, program, placed.addedClsact],
  ] as const) {
    if (isWanted && object !== undefined) pins.replace(name, object);
    else pins.unpin(name);
  }
  const installed = report(placed.via, old !== undefined);
  placed.keep();
  undo.move();
  return installed;
};

/**
 * Attaches to another hook than ours is on now. XDP modes exclude each other: there the old program is detached before,
 * and attached again when the new one is refused. Otherwise it is detached after.
 */
const placeInstead = (
  sys: Sys,
  rtnl: Rtnl,
  program: Program,
  device: Interface,
  hook: Hook,
  pins: PinDirectory,
  oldHook: Hook,
): Placed => {
  if (hook === "tc" || oldHook === "tc") {
    const placed = place(sys, rtnl, program, device, hook);
    detach(rtnl, device, pins);
    return placed;
  }
  detach(rtnl, device, pins);
  try {
    return place(sys, rtnl, program, device, hook);
  } catch (error) {
    using old = pins.program("program");
    using back = Link.xdp(sys, old, device.index, oldHook);
    pins.replace("link", back);
    throw error;
  }
};

const adoptFilter = (rtnl: Rtnl, device: Interface, pins: PinDirectory): TcFilter => {
  using program = pins.program("program");
  return TcFilter.adopt(rtnl, device.index, "ingress", program.info.id, pins.has(ADDED_CLSACT));
};

/** Detaches ours; the pins stay. */
const detach = (rtnl: Rtnl, device: Interface, pins: PinDirectory): void => {
  if (pins.has("link")) {
    using link = pins.link("link");
    link.detach();
  } else adoptFilter(rtnl, device, pins)[Symbol.dispose]();
};

/**
 * Detaches what {@link install} attached to an interface of the current network namespace, and removes every trace of it.
 * @throws {@link NotInstalledError} when there is nothing of ours, {@link NoInterfaceError}, {@link SyscallError}
 */
export const uninstall = (sys: Sys, name: string, bpffs: string = BPFFS): void => {
  using rtnl = Rtnl.open(sys);
  const device = rtnl.get(name);
  const pins = findPins(sys, rtnl, device, bpffs);
  if (pins === undefined) {
    removeRoot(sys, bpffs);
    throw new NotInstalledError(name);
  }
  detach(rtnl, device, pins);
  pins.remove();
  removeRoot(sys, bpffs);
};

/** One program on a hook of an interface, as data for `--json`. */
export interface HookEntry {
  readonly hook: "offload" | "native" | "generic" | "tcx-ingress" | "tcx-egress" | "clsact-ingress" | "clsact-egress";
  readonly programId: number;
  /** "" when the program cannot be opened. */
  readonly program: string;
  /** Steps that the verifier took when it was loaded; 0 where the kernel does not tell (before 5.16) or the program is gone. */
  readonly verifiedInsns: number;
  /** Attached by {@link install}. */
  readonly isOurs: boolean;
}

/** State of one interface. */
export interface InterfaceStatus {
  readonly interface: string;
  readonly ifindex: number;
  readonly isUp: boolean;
  readonly programs: readonly HookEntry[];
}

const factsOf = (sys: Sys, id: number): Pick<HookEntry, "program" | "verifiedInsns"> => {
  try {
    using program = Program.fromId(sys, id);
    return { program: program.name, verifiedInsns: program.info.verifiedInsns };
  } catch (error) {
    if (error instanceof SyscallError) return { program: "", verifiedInsns: 0 }; // gone by now, or not ours to see
    throw error;
  }
};

/**
 * What is attached to an interface of the current network namespace, by whomever.
 * @throws {@link NoInterfaceError}, {@link SyscallError}
 */
export const statusOf = (sys: Sys, rtnl: Rtnl, name: string, bpffs: string = BPFFS): InterfaceStatus => {
  const device = rtnl.get(name);
  const { xdp, tcx, filters } = queryAttached(sys, rtnl, device.index);
  const pins = PinDirectory.find(sys, pinPath(name, bpffs));
  const ours = ((): number | undefined => {
    if (pins?.has("program") !== true) return undefined;
    using program = pins.program("program");
    return program.info.id;
  })();
  const found: (readonly [HookEntry["hook"], number])[] = [];
  for (const mode of ["offload", "native", "generic"] as const)
    if (xdp[mode] !== undefined) found.push([mode, xdp[mode]]);
  for (const direction of ["ingress", "egress"] as const)
    for (const { programId } of tcx[direction] ?? []) found.push([`tcx-${direction}`, programId]);
  for (const { direction, programId } of filters) found.push([`clsact-${direction}`, programId]);
  const programs = found.map(([hook, programId]) => ({
    hook,
    programId,
    ...factsOf(sys, programId),
    isOurs: programId === ours,
  }));
  return { interface: device.name, ifindex: device.index, isUp: device.isUp, programs };
};
