// The pins of one switch: what keeps its programs, maps and links in the kernel when the process is gone.
//
// Everything is in one directory, `ofxdpd/BRIDGE` of the BPF file system, or `ofxdpd/BRIDGE@INODE` in a network namespace
// other than the system's:
//
//   gN_plan, gN_map_NAME, gN_prog_NAME   generation N: the record of its plan, its maps, its programs
//   link_IFINDEX                         the attachment of a port; a cls_bpf filter needs none
//   clsact_IFINDEX                       says that clsact was added for such a filter
//
// A generation is pinned before it runs, and the one before it is unpinned after. Which one runs when the process dies in
// between, the program array tells: its slot holds the id of one generation's program.

import { readlinkSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import {
  ancestorNamespaces,
  BpfMap,
  BPFFS,
  isBpffs,
  mountPins,
  PinDirectory,
  unmountEmptyBpffs,
  type Link,
  type Program,
  type Sys,
} from "libbpf-ts";
import { encodePlan, recordSpec, type PlanRecord } from "./plan-record.js";

/** Directory of all switches in the BPF file system. */
const ROOT = "ofxdpd";

/** What is pinned of a generation. */
export interface Pinned {
  readonly plan: PlanRecord;
  readonly maps: ReadonlyMap<string, BpfMap>;
  /** Main programs and stubs. */
  readonly programs: ReadonlyMap<string, Program>;
}

/** Pins cannot have dots, nor most other characters. */
const escapeName = (name: string): string =>
  name.replace(/[^A-Za-z0-9]/g, (c) => `_${c.charCodeAt(0).toString(16).padStart(2, "0")}`);

const generationOf = (pin: string): number => Number(/^g(\d+)_/.exec(pin)?.[1] ?? NaN);

export class DatapathPins {
  private next: number;
  /** Generations that this process has pinned. */
  private own: number[] = [];

  private constructor(
    readonly sys: Sys,
    readonly directory: PinDirectory,
    private readonly bpffs: string,
  ) {
    this.next = 1 + Math.max(0, ...this.generations);
  }

  /**
   * The pins of a switch in the current network namespace; the directory is made when there is none, and the BPF file system
   * mounted.
   * @throws {@link NotSupportedError} in a private mount namespace, {@link SyscallError}
   */
  static open(sys: Sys, bridge: string, bpffs: string = BPFFS): DatapathPins {
    const root = join(bpffs, ROOT);
    const directory = mountPins(sys, bpffs, join(root, pinsName(bridge)));
    removeDead(sys, PinDirectory.create(sys, root));
    return new DatapathPins(sys, directory, bpffs);
  }

  /** Numbers of the generations that are pinned, ascending. */
  get generations(): number[] {
    const numbers = new Set(this.directory.list().map(generationOf));
    return [...numbers].filter((number) => !Number.isNaN(number)).sort((a, b) => a - b);
  }

  /** Pins a generation that is about to run. @throws {@link SyscallError}; nothing of it is pinned then */
  keep({ plan, maps, programs }: Pinned): void {
    const number = this.next++;
    try {
      for (const [name, map] of maps) this.directory.pin(`g${number}_map_${name}`, map);
      for (const [name, program] of programs) this.directory.pin(`g${number}_prog_${name}`, program);
      using record = BpfMap.create(this.sys, recordSpec(encodePlan(plan)));
      this.directory.pin(`g${number}_plan`, record);
      this.own.push(number);
    } catch (error) {
      this.unpin([number]);
      throw error;
    }
  }

  /** Unpins this process's generations but the last. */
  settle(): void {
    this.unpin(this.own.splice(0, this.own.length - 1));
  }

  /** Unpins the generations of other processes. */
  forgetOthers(): void {
    this.unpin(this.generations.filter((number) => !this.own.includes(number)));
  }

  /** Unpins what this process has pinned, and the directory if nothing else is in it. */
  giveUp(): void {
    this.unpin(this.own);
    this.own = [];
    if (this.directory.list().length === 0) this.remove();
  }

  private unpin(generations: readonly number[]): void {
    if (generations.length === 0) return;
    for (const name of this.directory.list()) if (generations.includes(generationOf(name))) this.directory.unpin(name);
  }

  keepLink(ifindex: number, link: Link): void {
    this.directory.replace(`link_${ifindex}`, link);
  }

  /** @param marker - any program: what counts is the pin's name */
  keepClsact(ifindex: number, marker: Program): void {
    this.directory.replace(`clsact_${ifindex}`, marker);
  }

  hasClsact(ifindex: number): boolean {
    return this.directory.has(`clsact_${ifindex}`);
  }

  dropLink(ifindex: number): void {
    this.directory.unpin(`link_${ifindex}`);
    this.directory.unpin(`clsact_${ifindex}`);
  }

  /** Interfaces whose attachment is pinned. */
  get links(): number[] {
    return this.directory.list().flatMap((name) => {
      const index = /^link_(\d+)$/.exec(name)?.[1];
      return index === undefined ? [] : [Number(index)];
    });
  }

  /** Removes all pins, and the directories and the mount if nobody else needs them. */
  remove(): void {
    this.directory.remove();
    const root = PinDirectory.find(this.sys, join(this.bpffs, ROOT));
    if (root?.list().length === 0) rmdirSync(root.path);
    if (isBpffs(this.bpffs)) unmountEmptyBpffs(this.sys, this.bpffs);
  }
}

/** Directory name of a switch in the current network namespace. */
const pinsName = (bridge: string): string => {
  const own = readlinkSync("/proc/thread-self/ns/net");
  const isInitial = (ancestorNamespaces("net").at(-1) ?? own) === own;
  return isInitial ? escapeName(bridge) : `${escapeName(bridge)}@${/\d+/.exec(own)?.[0] ?? ""}`;
};

/** Switches whose interfaces are all gone, as when their namespace went: nobody will come back to them. */
const removeDead = (sys: Sys, root: PinDirectory): void => {
  for (const name of root.list()) {
    const pins = PinDirectory.find(sys, join(root.path, name));
    if (pins === undefined) continue;
    const links = pins.list().filter((pin) => pin.startsWith("link_"));
    const isDead =
      links.length > 0 &&
      links.every((pin) => {
        using link = pins.link(pin);
        return link.info.ifindex === 0;
      });
    if (isDead) pins.remove();
  }
};
