// Puts megaflows where packets find them: into their mask's subtable if the program has it, else into the exact-match
// subtable, for one packet's key at a time.

import { canGrow, newFlow, putKey, type FlowWords, type Subtable, type TableLayout } from "#compiler";
import type { Generation } from "../datapath/datapath.js";
import type { Placement } from "../datapath/placement.js";
import type { SubtableStore } from "../datapath/store.js";
import { TableStore } from "../datapath/table-store.js";
import type { MaskClass } from "./mask-class.js";
import type { Shapes } from "./shapes.js";
import type { Ukey } from "./ukey.js";

/** A generation of the datapath as a place for megaflows. */
export class Target {
  readonly fullKey: Uint8Array;

  /** @param tables - subtables of classes when they are not the classes' own: in another layout of keys or values */
  constructor(
    readonly generation: Generation<Ukey>,
    private readonly tables?: ReadonlyMap<MaskClass, Subtable>,
  ) {
    this.fullKey = new Uint8Array(generation.plan.key.size);
  }

  /** Whether entries look as they do in the program that runs. */
  get isAlike(): boolean {
    return this.tables === undefined;
  }

  /** Whether an entry is of this generation. */
  has({ store }: Placement<Ukey>): boolean {
    return this.generation.stores.get(store.table) === store;
  }

  /** The subtable of a class, if the generation has it. */
  ownStore(maskClass: MaskClass): SubtableStore<Ukey> | undefined {
    const table = this.tables === undefined ? maskClass.table : this.tables.get(maskClass);
    return table === undefined || maskClass.isExact ? undefined : this.generation.stores.get(table);
  }

  /** Where megaflows of a class are to lie. */
  store(maskClass: MaskClass): SubtableStore<Ukey> {
    return this.ownStore(maskClass) ?? this.generation.exact;
  }
}

/** Why a megaflow has to go. */
export type Eviction = "flow-wildcarded" | "update-fail";

export class Placer {
  /** The megaflow table should be larger. */
  wantsRoom = false;
  /** Entries that the kernel refused. */
  nRefused = 0;
  private readonly scratch = newFlow();

  /**
   * @param evict - takes a megaflow out
   * @param onWanted - told when a larger table is needed soon
   */
  constructor(
    private readonly shapes: Shapes,
    private readonly evict: (ukey: Ukey, why: Eviction) => void,
    private readonly onWanted: () => void,
  ) {}

  /**
   * Puts a megaflow where packets with this flow find it, unless it is there already.
   * @returns false when the kernel took it nowhere: it has been evicted if it lies nowhere else
   */
  place(ukey: Ukey, flow: FlowWords, target: Target): boolean {
    const own = target.ownStore(ukey.maskClass);
    const { fullKey, generation } = target;
    if (own === undefined) {
      putKey(generation.plan.key, flow, ukey.ifindex, fullKey);
      return this.putIntoExact(ukey, target);
    }
    // Its subtable holds just what its class does.
    if (ukey.isIn(own)) return true;
    putKey(generation.plan.key, flow, ukey.ifindex, fullKey);
    if (!(own instanceof TableStore)) return this.putInto(own, fullKey, ukey);
    return this.putIntoTable(own, fullKey, ukey) || this.putIntoExact(ukey, target);
  }

  /** {@link place} for its own flow; an entry that another table has of it is copied. */
  replace(ukey: Ukey, target: Target): boolean {
    const own = target.ownStore(ukey.maskClass);
    const { placements } = ukey;
    if (target.isAlike && own instanceof TableStore && placements !== undefined && placements.next === undefined) {
      const copied = own.copy(placements);
      if (copied !== undefined) {
        ukey.addPlacement(copied);
        return true;
      }
    }
    return this.place(ukey, ukey.readFlow(this.scratch), target);
  }

  private putIntoExact(ukey: Ukey, { generation, fullKey }: Target): boolean {
    const { exact } = generation;
    const there = exact.find(fullKey);
    if (there !== undefined) {
      if (there.owner === ukey) return true;
      this.evict(there.owner, "flow-wildcarded");
    }
    return this.putInto(exact, fullKey, ukey);
  }

  /** @returns false when the table has no place for it: a larger one is wanted, and until then it goes elsewhere */
  private putIntoTable(store: TableStore<Ukey>, fullKey: Uint8Array, ukey: Ukey): boolean {
    const placement = store.put(fullKey, ukey, this.shapes.fill);
    const isIn = typeof placement !== "number";
    if (isIn) ukey.addPlacement(placement);
    if (!isIn || store.shared.isCrowded) this.wantRoom(store.shared.layout);
    return isIn;
  }

  private wantRoom(layout: TableLayout): void {
    if (this.wantsRoom || !canGrow(layout)) return;
    this.wantsRoom = true;
    this.onWanted();
  }

  private putInto(store: SubtableStore<Ukey>, fullKey: Uint8Array, ukey: Ukey): boolean {
    const placement: Placement<Ukey> | number = store.put(fullKey, ukey, this.shapes.fill);
    if (typeof placement === "number") {
      this.nRefused++;
      if (ukey.placements === undefined) this.evict(ukey, "update-fail");
      return false;
    }
    ukey.addPlacement(placement);
    return true;
  }
}
