// Pins: names in a BPF file system that keep maps, programs and links alive without a process.
//
// A pin goes away by unlink, and with its file system when that is unmounted for the last time; each mount of type bpf is
// a file system of its own. So a mount that only a private mount namespace sees (as `ip netns exec` makes one) loses all.

import { mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmdirSync, rmSync, statfsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { NotSupportedError, RangeViolation } from "ebpf-assembler";
import { Link } from "../attach/link.js";
import { ancestorNamespaces } from "../sys/ancestors.js";
import { check } from "../sys/errors.js";
import { mount, unmount } from "../sys/mount.js";
import type { Sys } from "../sys/sys.js";
import { BpfMap } from "./map.js";
import { Program } from "./program.js";

/** Where systems mount the BPF file system. */
export const BPFFS = "/sys/fs/bpf";
/** statfs f_type of a BPF file system (uapi/linux/magic.h). */
const BPF_FS_MAGIC = 0xcafe4a11;
/** Source name of mounts that this package made. */
const MOUNT_SOURCE = "libbpf-ts";

/** Whether `path` lies in a BPF file system; false also when it does not exist. */
export const isBpffs = (path: string): boolean => {
  try {
    return statfsSync(path).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
};

/** In a private mount namespace a mount would vanish with the process and take the pins along. */
const isMountNamespaceShared = (): boolean => {
  const own = readlinkSync("/proc/self/ns/mnt");
  return ancestorNamespaces("mnt").every((namespace) => namespace === own);
};

/**
 * Mounts a BPF file system at `path` unless there is one.
 * @returns whether it mounted
 * @throws {@link NotSupportedError} in a mount namespace other than that of its ancestors, {@link SyscallError}
 */
export const mountBpffs = (sys: Sys, path: string = BPFFS): boolean => {
  if (isBpffs(path)) return false;
  if (!isMountNamespaceShared())
    throw new NotSupportedError(
      `A BPF file system at ${path} in a private mount namespace`,
      'it would vanish with this process; mount it outside and enter the network namespace alone, with "nsenter --net=..."',
    );
  if (path !== BPFFS) mkdirSync(path, { recursive: true, mode: 0o700 });
  check(mount(sys, MOUNT_SOURCE, path, "bpf", 0, "mode=0700"), `mount a BPF file system at ${path}`, "mount()");
  return true;
};

/** The entries of a directory without the kernel's own (maps.debug, progs.debug); pins cannot have dots. */
const listPins = (path: string): string[] =>
  readdirSync(path)
    .filter((name) => !name.includes("."))
    .sort();

/** Unmounts the BPF file system at `path` when this package mounted it and it is empty. @returns whether it did */
export const unmountEmptyBpffs = (sys: Sys, path: string = BPFFS): boolean => {
  // Fields of a line: 5th the mount point, behind the "-" type and source.
  const isOurs = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .some((line) => line.split(" ")[4] === path && line.endsWith(` - bpf ${MOUNT_SOURCE} rw,mode=700`));
  if (!isOurs || listPins(path).length > 0) return false;
  check(unmount(sys, path), `unmount ${path}`, "umount2()");
  return true;
};

/** Names of pins: one path component that the BPF file system takes (it refuses dots). */
const checkName = (name: string): string => {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
    throw new RangeViolation(`Bad pin name ${JSON.stringify(name)}: want 1 to 64 of [A-Za-z0-9_-]`);
  return name;
};

/** Times to try: another process may unmount what it finds empty between our mounting it and our making a directory in it. */
const TRIES = 10;

/**
 * Makes a directory of pins in the BPF file system at `bpffs`, which is mounted when it is not.
 * @throws as {@link mountBpffs} and {@link PinDirectory.create}
 */
export const mountPins = (sys: Sys, bpffs: string, path: string): PinDirectory => {
  for (let i = 1; ; i++) {
    mountBpffs(sys, bpffs);
    try {
      const pins = PinDirectory.create(sys, path);
      if (isBpffs(path)) return pins;
    } catch (error) {
      if (i === TRIES) throw error;
    }
    if (i === TRIES) throw new RangeViolation(`Cannot pin under ${path}: somebody unmounts ${bpffs} again and again`);
  }
};

/** What can be pinned. */
export interface Pinnable {
  pin(path: string): void;
}

/** A directory of pins. Holds no descriptor; its pins outlive it. */
export class PinDirectory {
  private constructor(
    readonly sys: Sys,
    readonly path: string,
  ) {}

  /**
   * Makes the directory (mode 0700) with its parents.
   * @throws {@link RangeViolation} when it is in no BPF file system: see {@link mountBpffs}
   */
  static create(sys: Sys, path: string): PinDirectory {
    let existing = path;
    while (!isBpffs(existing)) {
      const parent = dirname(existing);
      if (parent === existing) throw new RangeViolation(`Cannot pin under ${path}: it is in no BPF file system`);
      existing = parent;
    }
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return new PinDirectory(sys, path);
  }

  /** The directory if it exists. */
  static find(sys: Sys, path: string): PinDirectory | undefined {
    return isBpffs(path) ? new PinDirectory(sys, path) : undefined;
  }

  private at(name: string): string {
    return join(this.path, checkName(name));
  }

  /** Names of the pins, sorted. */
  list(): string[] {
    return listPins(this.path);
  }

  has(name: string): boolean {
    return this.list().includes(name);
  }

  /** Pins an object that is not pinned under that name yet. @throws {@link SyscallError}, with EEXIST when it is */
  pin(name: string, object: Pinnable): void {
    object.pin(this.at(name));
  }

  /** Pins an object in place of what has the name; at no time is there none. @throws {@link SyscallError} */
  replace(name: string, object: Pinnable): void {
    const path = this.at(name);
    const next = join(this.path, `${name}-next`);
    rmSync(next, { force: true });
    object.pin(next);
    renameSync(next, path);
  }

  /** Removes a pin. @returns false when there was none */
  unpin(name: string): boolean {
    const path = this.at(name);
    if (!this.has(name)) return false;
    rmSync(path);
    return true;
  }

  /** Opens a pinned map. @throws {@link SyscallError} */
  map(name: string): BpfMap {
    return BpfMap.fromPin(this.sys, this.at(name));
  }

  /** Opens a pinned program. @throws {@link SyscallError} */
  program(name: string): Program {
    return Program.fromPin(this.sys, this.at(name));
  }

  /** Opens a pinned link. @throws {@link SyscallError} */
  link(name: string): Link {
    return Link.fromPin(this.sys, this.at(name));
  }

  /** Removes all pins and the directory. */
  remove(): void {
    for (const name of this.list()) rmSync(join(this.path, name));
    rmdirSync(this.path);
  }

  /** Name of the directory itself. */
  get name(): string {
    return basename(this.path);
  }
}
