// A megaflow as user space knows it ("userspace key", as in OVS): the packet it was made from, the mask, the translation it
// came from, and what it has counted. Where it lies in the kernel are its placements: one in its mask's subtable, or, while
// the program has no such subtable, one in the exact-match subtable for each packet seen.

import { FLOW, newFlow, type FlowWords } from "#compiler";
import type { Placement } from "../datapath/placement.js";
import type { SubtableStore } from "../datapath/store.js";
import { FlowArena, readKept, keptWord } from "./flow-arena.js";
import type { MaskClass } from "./mask-class.js";
import type { Verdict } from "./verdict.js";

const arena = new FlowArena();
const IN_PORT = keptWord(FLOW.in_port.at >>> 5);

export class Ukey {
  packets = 0;
  bytes = 0;
  /** When the last packet was seen (by user space, or when a counter was read that had risen), whole milliseconds. */
  usedMs: number;
  readonly createdMs: number;
  isDeleted = false;
  /** Where it lies in the kernel: the first of a list. */
  placements: Placement<Ukey> | undefined;
  /** The first packet's flow, kept. */
  readonly chunk: Uint32Array;
  readonly at: number;
  /** Of its class: the hash of its masked flow, and its place in the list. */
  hash = 0;
  position = 0;

  /** @param flow - copied */
  constructor(
    flow: FlowWords,
    readonly ifindex: number,
    public maskClass: MaskClass,
    /** The tables' latest word on it. */
    public translation: Verdict,
    nowMs: number,
  ) {
    arena.keep(flow);
    ({ chunk: this.chunk, at: this.at } = arena);
    // Whole numbers lie in the object itself.
    this.createdMs = this.usedMs = Math.floor(nowMs);
  }

  /** OpenFlow port that its packets come in by. */
  get inPort(): number {
    return this.chunk[this.at + IN_PORT]!;
  }

  /** The first packet's flow. @param into - its metadata and registers must be zero */
  readFlow(into: FlowWords = newFlow()): FlowWords {
    return readKept(this, into);
  }

  addPlacement(placement: Placement<Ukey>): void {
    placement.next = this.placements;
    this.placements = placement;
  }

  isIn(store: SubtableStore<Ukey>): boolean {
    for (let one = this.placements; one !== undefined; one = one.next) if (one.store === store) return true;
    return false;
  }

  /** Forgets the placements of which `isKept` says so. */
  keepPlacements(isKept: (placement: Placement<Ukey>) => boolean): void {
    let one = this.placements;
    this.placements = undefined;
    while (one !== undefined) {
      const { next }: Placement<Ukey> = one;
      if (isKept(one)) this.addPlacement(one);
      one = next;
    }
  }
}
