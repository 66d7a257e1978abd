// The megaflow cache: which megaflows exist, and what they have counted.
//
// A new megaflow is in use at once. If its mask has a subtable in the running program it goes there; if not, it goes under the
// exact-match subtable, for this packet's key only, and its mask is wanted by the next program (masks.ts). If the program has
// no code for its actions it is installed as SHAPE_SLOW: user space carries them out, and the shape is wanted (shapes.ts).
// change-over.ts moves the megaflows to a program that has what is wanted; specialiser.ts decides when.

import {
  lookupMask,
  newFlow,
  type FlowWords,
  type KeyLayout,
  type Member,
  type Storage,
  type Translation,
} from "#compiler";
import type { Datapath } from "../datapath/datapath.js";
import type { OnTraffic } from "../datapath/placement.js";
import { equalActions, sendsTo } from "./actions.js";
import { ChangeOver } from "./change-over.js";
import { Masks } from "./masks.js";
import { Placer } from "./placer.js";
import { newDeleteCounts, type DeleteCounts, type DeleteReason } from "./reasons.js";
import { RecentFlows } from "./recent.js";
import { Shapes, type PortLookup } from "./shapes.js";
import { Ukey } from "./ukey.js";
import { Verdicts, type Verdict } from "./verdict.js";

export interface CacheOptions {
  /** Subtables besides the exact one. Default 32. */
  readonly maxMasks?: number;
  /** Action shapes that are compiled. Default 64. */
  readonly maxShapes?: number;
  /** Megaflows at most; the revalidator adapts it. Default 200,000. */
  readonly flowLimit?: number;
  /** Where subtables lie. Default {@link BEST_STORAGE}. */
  readonly storage?: Storage;
}

/**
 * The megaflow table where the processor keeps loads in order and stores in order, since programs have no loads that acquire;
 * elsewhere kernel hash maps. Measured on x86-64, the table is faster at any number of flows.
 */
export const BEST_STORAGE: Storage = process.arch === "x64" ? "table" : "hash";

/** Numbers of a cache since it was made. */
export interface CacheStats {
  readonly megaflows: number;
  readonly masks: number;
  readonly subtables: number;
  readonly shapes: number;
  readonly storage: Storage;
  /** Of the megaflow table, when there is one: slots, those taken, bytes. */
  readonly table?: { readonly slots: number; readonly taken: number; readonly bytes: number };
  readonly installed: number;
  readonly notInstalled: number;
  readonly deleted: Readonly<DeleteCounts>;
  readonly generations: number;
}

export class MegaflowCache {
  readonly changeOver: ChangeOver;
  flowLimit: number;
  private readonly masks: Masks;
  private readonly shapes: Shapes;
  private readonly placer: Placer;
  private readonly scratchMask = newFlow();
  private readonly verdicts = new Verdicts();
  private readonly recent = new RecentFlows();
  private nInstalled = 0;
  private nNotInstalled = 0;
  private count = 0;
  private readonly deleted = newDeleteCounts();

  /**
   * @param onTraffic - told about every packet that the kernel counted, once
   * @param onWanted - told when a new program would serve better
   */
  constructor(
    readonly datapath: Datapath<Ukey>,
    ports: PortLookup,
    private readonly onTraffic: (ukey: Ukey, packets: number, bytes: number, verdict: Verdict) => void,
    onWanted: () => void,
    options: CacheOptions = {},
  ) {
    const { plan } = datapath.generation;
    const { storage = BEST_STORAGE, maxMasks = 32, maxShapes = 64, flowLimit = 200_000 } = options;
    this.flowLimit = flowLimit;
    this.masks = new Masks(plan.key, plan.exact, storage, maxMasks, onWanted);
    this.shapes = new Shapes(plan, ports, maxShapes, onWanted);
    this.placer = new Placer(this.shapes, (ukey, why) => this.remove(ukey, why), onWanted);
    this.changeOver = new ChangeOver(this, this.masks, this.shapes, this.placer, this.onPlacementTraffic, onWanted);
  }

  get size(): number {
    return this.count;
  }

  get layout(): KeyLayout {
    return this.datapath.generation.plan.key;
  }

  get stats(): CacheStats {
    const { plan } = this.datapath.generation;
    return {
      megaflows: this.count,
      masks: this.masks.size,
      subtables: plan.subtables.length,
      shapes: plan.shapes.length,
      storage: this.masks.storage,
      ...this.tableStats,
      installed: this.nInstalled,
      notInstalled: this.nNotInstalled + this.placer.nRefused,
      deleted: this.deleted,
      generations: this.changeOver.nGenerations,
    };
  }

  private get tableStats(): Pick<CacheStats, "table"> {
    const table = this.datapath.generation.megaflows;
    if (table === undefined) return {};
    const { nSlots: slots, nTaken: taken } = table.memory;
    return { table: { slots, taken, bytes: slots * 2 ** table.layout.shift } };
  }

  /** All megaflows. Deleting the one in hand while walking is allowed. */
  *ukeys(): Generator<Ukey> {
    for (const maskClass of [...this.masks.classes, this.masks.exact]) yield* maskClass;
  }

  /** The megaflow that another packet of the same flow went into lately, if it is still there. */
  findRecent(flow: FlowWords, ifindex: number): Ukey | undefined {
    return this.recent.find(flow, ifindex);
  }

  /**
   * Puts the megaflow of a translated packet in.
   * @param flow - copied
   * @returns the megaflow, or undefined when it cannot be cached (now)
   */
  install(flow: FlowWords, ifindex: number, translation: Translation, nowMs: number): Ukey | undefined {
    const maskClass = this.masks.classOf(lookupMask(flow, translation, this.scratchMask));
    if (maskClass === undefined) {
      this.nNotInstalled++;
      return undefined;
    }
    let ukey = maskClass.find(flow, ifindex);
    if (ukey === undefined) {
      if (this.count >= this.flowLimit) {
        this.nNotInstalled++;
        return undefined;
      }
      ukey = new Ukey(flow, ifindex, maskClass, this.verdicts.of(translation), nowMs);
      maskClass.add(ukey, flow);
      this.count++;
      this.nInstalled++;
    } else if (!this.refresh(ukey, translation)) return undefined;
    if (!this.changeOver.place(ukey, flow)) return undefined;
    this.recent.remember(flow, ifindex, ukey);
    return ukey;
  }

  /** Why user space must carry out a megaflow's actions for good; undefined when its hook's program can. */
  slowReason(ukey: Ukey): string | undefined {
    return this.shapes.slowReason(ukey);
  }

  /** Where packets of a megaflow are handled now: by the hook's program or by user space. */
  isFast(ukey: Ukey): boolean {
    return this.shapes.isFast(ukey);
  }

  private readonly onPlacementTraffic: OnTraffic<Ukey> = ({ owner }, packets, bytes) =>
    this.credit(owner, packets, bytes, owner.translation);

  private credit(owner: Ukey, packets: number, bytes: number, verdict: Verdict): void {
    owner.packets += packets;
    owner.bytes += bytes;
    this.changeOver.warm(owner.maskClass, packets);
    this.shapes.warm(verdict.actions, packets);
    this.onTraffic(owner, packets, bytes, verdict);
  }

  /** Gives a megaflow a new translation of the same packets. @returns false when the datapath refused: it is removed */
  refresh(ukey: Ukey, latest: Translation): boolean {
    const before = ukey.translation;
    const translation = this.verdicts.of(latest);
    if (equalActions(before.actions, translation.actions)) {
      ukey.translation = translation;
      return true;
    }
    // What was counted so far belongs to the old translation: first read, then replaced, entry by entry.
    this.read(ukey);
    ukey.translation = translation;
    return this.rewrite(ukey, ({ owner }, packets, bytes) => this.credit(owner, packets, bytes, before));
  }

  /** Writes a megaflow's values anew. @param onTraffic - told about what packets still count under the old ones */
  rewrite(ukey: Ukey, onTraffic = this.onPlacementTraffic): boolean {
    for (let one = ukey.placements; one !== undefined; one = one.next) {
      const errno = one.store.rewrite(one, this.shapes.fill, onTraffic);
      if (errno !== 0) {
        this.remove(ukey, "update-fail");
        return false;
      }
    }
    return true;
  }

  /** Takes a megaflow out, after reading its counters for the last time. */
  remove(ukey: Ukey, reason: DeleteReason): void {
    if (ukey.isDeleted) return;
    ukey.isDeleted = true;
    this.deleted[reason]++;
    this.count--;
    ukey.maskClass.delete(ukey);
    this.shapes.forget(ukey);
    for (let one = ukey.placements; one !== undefined; one = one.next) one.store.take(one, this.onPlacementTraffic);
    ukey.placements = undefined;
  }

  /** Takes the megaflows out that know a port by an interface which it has no more. */
  removePort(number: number): void {
    for (const ukey of this.ukeys())
      if (ukey.inPort === number || sendsTo(ukey.translation.actions, number)) this.remove(ukey, "no-ofproto");
  }

  /** Takes all megaflows out. */
  clear(reason: DeleteReason): void {
    for (const ukey of this.ukeys()) this.remove(ukey, reason);
  }

  /** Takes everything out and forgets that it was ever there, wishes and counts included. */
  reset(): void {
    this.clear("purge");
    this.recent.clear();
    this.shapes.forgetAll();
    this.changeOver.reset();
    this.nInstalled = 0;
    this.nNotInstalled = 0;
    this.deleted.purge = 0;
  }

  /** Reads one megaflow's counters now. */
  read(ukey: Ukey): void {
    for (let one = ukey.placements; one !== undefined; one = one.next) one.store.read(one, this.onPlacementTraffic);
  }

  /** Reads all counters in steps of about a millisecond; yields after each. */
  *sweep(): Generator<number> {
    for (const store of this.datapath.generation.all) yield* store.sweep(this.onPlacementTraffic);
  }

  /** A round of reading counters is over. */
  cool(): void {
    this.changeOver.reorder();
    this.shapes.cool();
  }

  /** Asks for members that the tables look at now. @returns whether the key must grow */
  want(members: Iterable<Member>): boolean {
    return this.masks.want(members);
  }

  /** Whether a new program would serve better than the running one. */
  get isWanting(): boolean {
    return this.changeOver.isWanting;
  }
}
