// Moves the megaflows from the running program to another one, which has what is wanted.
//
// begin() plans it and makes its maps; while it is built, megaflows come and go. finish() then fills what the running program
// has not, step by step: until all are in, a megaflow that comes is put into both. Then the new program starts, and packets
// never miss what they hit before. settle() takes what only the old program looked into out of the kernel, when no packet can
// be in it any more, and reads its counters for the last time.

import { randomBytes } from "node:crypto";
import {
  plan as planOf,
  tableLayout,
  TABLE_MAP,
  VALUE,
  type DatapathPlan,
  type FlowWords,
  type Hook,
  type KeyLayout,
  type Member,
  type Shape,
  type Subtable,
  type TableLayout,
  type TunnelPlan,
} from "#compiler";
import { monotonicMs } from "../clock.js";
import { GRACE_MS, type Datapath, type Generation, type Pending } from "../datapath/datapath.js";
import type { OnTraffic, Placement } from "../datapath/placement.js";
import type { SubtableStore } from "../datapath/store.js";
import { layoutWith } from "./first-plan.js";
import { Heat } from "./heat.js";
import type { MaskClass } from "./mask-class.js";
import type { Masks } from "./masks.js";
import { Target, type Placer } from "./placer.js";
import type { Shapes } from "./shapes.js";
import type { Ukey } from "./ukey.js";

/** Megaflows that a first table takes: it has 8 MiB, or 16 with long keys. Growing costs as much as they took to set up. */
const FIRST_TABLE_ENTRIES = 65_536;
/** A table is made anew for so many times as many megaflows as there are. */
const TABLE_GROWTH = 4;
/** A table of which only one in so many slots is taken is made smaller. */
const SPARSE = 64;
/** So many empty subtables are worth a new program. */
const EMPTY_SUBTABLES_MAX = 4;
/** Looks per packet that another order of subtables must save to be worth a new program, and how often it may be. */
const EXCESS_LOOKS = 0.5;
const REORDER_PAUSE_MS = 5000;
/** Megaflows moved in one step: some tens of microseconds. */
const STEP = 64;

/** A change of program that is under way. */
export interface Change {
  readonly pending: Pending<Ukey>;
  /** Keys or values have another layout: every megaflow is put in anew. */
  readonly isAnew: boolean;
  /** Subtables of classes in the new program. */
  readonly tables: ReadonlyMap<MaskClass, Subtable>;
  readonly members: readonly Member[];
  /** Texts of shapes that are new. */
  readonly shapes: readonly string[];
}

/** What a change over needs of the cache. */
interface Megaflows {
  readonly datapath: Datapath<Ukey>;
  readonly size: number;
  ukeys(): Iterable<Ukey>;
  rewrite(ukey: Ukey): boolean;
}

/** Stores that only packets inside an old program can still use. */
interface Retired {
  readonly stores: readonly SubtableStore<Ukey>[];
  readonly dueMs: number;
}

export class ChangeOver {
  nGenerations = 1;
  /** What programs must know of tunnels. */
  tunnels: TunnelPlan | undefined;
  private current: Target;
  /** What a new program looks into, as far as it is filled; it does not run yet. */
  private filling: Target | undefined;
  private retired: Retired[] = [];
  private readonly heat = new Heat<MaskClass>();
  private isMisordered = false;
  private mayReorderMs = 0;
  private readonly seed = randomBytes(8).readBigUInt64LE();

  constructor(
    private readonly megaflows: Megaflows,
    private readonly masks: Masks,
    private readonly shapes: Shapes,
    private readonly placer: Placer,
    private readonly onTraffic: OnTraffic<Ukey>,
    private readonly onWanted: () => void,
  ) {
    this.current = new Target(this.datapath.generation);
    this.tunnels = this.datapath.generation.plan.tunnels;
  }

  private get datapath(): Datapath<Ukey> {
    return this.megaflows.datapath;
  }

  /** Puts a megaflow where packets with this flow find it. @returns false when the kernel took it nowhere */
  place(ukey: Ukey, flow: FlowWords): boolean {
    const { current, filling } = this;
    const isIn = this.placer.place(ukey, flow, current);
    if (filling !== undefined && !ukey.isDeleted && this.isMoved(ukey.maskClass, filling))
      this.placer.place(ukey, flow, filling);
    return isIn && !ukey.isDeleted;
  }

  /** Whether megaflows of a class lie elsewhere under another program. */
  private isMoved(maskClass: MaskClass, next: Target): boolean {
    return next.store(maskClass) !== this.current.store(maskClass);
  }

  /** Subtables that hold nothing: every look-up searches them in vain. */
  private get nEmptySubtables(): number {
    const { plan } = this.datapath.generation;
    return plan.subtables.filter((table) => this.datapath.generation.store(table).size === 0).length;
  }

  /** Most of the megaflow table is empty, and more of it than a first one has. */
  private get isSparse(): boolean {
    const memory = this.datapath.generation.megaflows?.memory;
    return memory !== undefined && memory.nSlots > 2 * FIRST_TABLE_ENTRIES && SPARSE * memory.nTaken < memory.nSlots;
  }

  /** Packets hit a subtable. */
  warm(maskClass: MaskClass, packets: number): void {
    this.heat.add(maskClass, packets);
  }

  /** A round of reading counters is over: asks for another order of subtables if packets look into too many in vain. */
  reorder(): void {
    const nowMs = monotonicMs();
    if (nowMs >= this.mayReorderMs && this.heat.excessLooks(this.order) >= EXCESS_LOOKS) {
      this.mayReorderMs = nowMs + REORDER_PAUSE_MS;
      this.isMisordered = true;
      this.onWanted();
    }
    this.heat.cool();
  }

  /** Classes in the order in which the running program looks into their subtables. */
  private get order(): MaskClass[] {
    const classes = new Map<Subtable, MaskClass>();
    for (const maskClass of this.masks.classes) classes.set(maskClass.table, maskClass);
    return this.datapath.generation.plan.subtables.flatMap((table) => classes.get(table) ?? []);
  }

  /** Whether megaflows have no room. */
  get isUrgent(): boolean {
    return this.placer.wantsRoom;
  }

  /** Whether megaflows lie only where the running program looks for them. */
  get isSettled(): boolean {
    return this.filling === undefined && this.retired.length === 0;
  }

  /** Whether a new program would serve better than the running one. */
  get isWanting(): boolean {
    return (
      this.tunnels !== this.datapath.generation.plan.tunnels ||
      this.masks.wantsSubtables ||
      this.placer.wantsRoom ||
      this.shapes.isWanting ||
      this.isMisordered ||
      this.masks.wantedMembers.size > 0 ||
      this.nEmptySubtables >= EMPTY_SUBTABLES_MAX ||
      this.isSparse
    );
  }

  /** Nothing is wanted any more, and classes without a subtable are forgotten. */
  reset(): void {
    this.masks.forgetEmpty((maskClass) => this.current.ownStore(maskClass) !== undefined);
    this.masks.wantedMembers.clear();
    this.masks.wantsSubtables = false;
    this.placer.wantsRoom = false;
    this.isMisordered = false;
  }

  /**
   * Plans a program that knows what is wanted and makes its maps. Megaflows come and go until {@link finish}.
   * @param hooks - program types that must be there
   * @throws {@link SyscallError}
   */
  begin(hooks: ReadonlySet<Hook> = this.datapath.generation.hooks, portSlots?: number): Change {
    this.cut();
    const { plan: old } = this.datapath.generation;
    const members = [...this.masks.wantedMembers];
    const texts = this.shapes.wantedTexts;
    const key =
      members.length === 0 ? old.key : layoutWith([...old.key.fields.map(({ member }) => member), ...members]);
    const shapes = this.shapes.next(old, () => this.megaflows.ukeys());
    const room = old.valueSize - VALUE.args;
    const argsSize = Math.max(room, ...shapes.map((s) => s.argsSize));
    const isAnew = members.length > 0 || argsSize > room;
    const used = [...this.masks.classes].filter(({ size }) => size > 0);
    const tables = new Map(used.map((one) => [one, isAnew ? this.masks.translated(one, key) : one.table] as const));
    const subtables = this.heat.sort(used, (one) => one).map((one) => tables.get(one)!);
    const table = this.nextTable(old, key, subtables, shapes);
    this.masks.wantsSubtables = false;
    this.placer.wantsRoom = false;
    this.isMisordered = false;
    const fresh = planOf({
      ...(this.tunnels === undefined ? {} : { tunnels: this.tunnels }),
      key,
      subtables,
      ...(table === undefined ? {} : { table }),
      shapes,
      argsSize,
      maxEntries: old.maxEntries,
      portSlots: portSlots ?? old.portSlots,
      ringSize: old.ringSize,
    });
    const pending = this.datapath.prepare(isAnew ? fresh : { ...fresh, exact: old.exact }, hooks);
    return { pending, isAnew, tables, members, shapes: texts };
  }

  /** The running megaflow table while it suits the subtables and shapes, else the layout of another one. */
  private nextTable(
    old: DatapathPlan,
    key: KeyLayout,
    subtables: readonly Subtable[],
    shapes: readonly Shape[],
  ): TableLayout | undefined {
    if (this.masks.storage === "hash" || subtables.length === 0) return undefined;
    const words = Math.max(...subtables.map((table) => table.words.length));
    const argsSize = Math.max(8, ...shapes.map((s) => s.argsSize));
    const { table } = old;
    const fits = table !== undefined && old.key === key && words <= table.words && argsSize <= table.argsSize;
    if (fits && !this.placer.wantsRoom && !this.isSparse) return table;
    const entries = Math.max(FIRST_TABLE_ENTRIES, TABLE_GROWTH * this.megaflows.size);
    return tableLayout({ map: TABLE_MAP, entries, words, maxWords: key.size / 8, argsSize, seed: this.seed });
  }

  /**
   * Moves the megaflows over to the program that was built, and starts it. Packets go on all the time. {@link settle} must be
   * called when no packet can be inside the old program any more.
   * @returns false when it was cut short before the start: abandon the change
   */
  *finish(change: Change, next: Generation<Ukey>): Generator<void, boolean> {
    const target = new Target(next, change.isAnew ? change.tables : undefined);
    this.filling = target;
    // Classes that come meanwhile come to the end.
    for (const maskClass of this.allClasses()) {
      if (!this.isMoved(maskClass, target)) continue;
      let count = 0;
      for (const ukey of maskClass) {
        if (!this.isInFilled(ukey, target)) this.placer.replace(ukey, target);
        if (++count % STEP !== 0) continue;
        yield;
        if (this.filling !== target) return false;
      }
    }
    yield* this.rewrite(this.start(change, target));
    return true;
  }

  private *allClasses(): Generator<MaskClass> {
    yield* this.masks.classes;
    yield this.masks.exact;
  }

  /** Whether a megaflow came while its class was moved. */
  private isInFilled({ placements }: Ukey, target: Target): boolean {
    for (let one = placements; one !== undefined; one = one.next)
      if (target.has(one) && !this.current.has(one)) return true;
    return false;
  }

  /** Starts the program that is filled. @returns which megaflows must be written anew */
  private start(change: Change, target: Target): () => Iterable<Ukey> {
    const { generation } = target;
    for (const maskClass of this.masks.classes)
      if (maskClass.size > 0 && target.ownStore(maskClass) === undefined) this.masks.wantsSubtables = true;
    const waiting = this.shapes.satisfy(change.shapes);
    const dropped = this.shapes.adopt(generation.plan);
    for (const member of change.members) this.masks.wantedMembers.delete(member);
    if (generation.megaflows !== this.datapath.generation.megaflows)
      this.placer.wantsRoom = generation.megaflows?.isCrowded ?? false;
    const stores = this.datapath.commit(generation);
    if (change.isAnew) this.masks.adopt(generation.plan.key, generation.plan.exact, change.tables);
    this.filling = undefined;
    this.current = new Target(generation);
    this.retired.push({ stores, dueMs: monotonicMs() + GRACE_MS });
    this.nGenerations++;
    return () => (dropped.size === 0 ? waiting : this.usersOf(dropped, waiting));
  }

  /** Megaflows that came to use a shape after it was found unused and left out, besides `others`. */
  private *usersOf(dropped: ReadonlySet<string>, others: Iterable<Ukey>): Generator<Ukey> {
    yield* others;
    for (const ukey of this.megaflows.ukeys()) if (dropped.has(this.shapes.textOf(ukey))) yield ukey;
  }

  private *rewrite(ukeys: () => Iterable<Ukey>): Generator<void> {
    let count = 0;
    for (const ukey of ukeys()) {
      if (!ukey.isDeleted) this.megaflows.rewrite(ukey);
      if (++count % STEP === 0) yield;
    }
    this.masks.forgetEmpty((maskClass) => this.current.ownStore(maskClass) !== undefined);
    if (this.isWanting) this.onWanted();
  }

  /** Gives up filling a program, if that is under way: at once. */
  cut(): void {
    if (this.filling === undefined) return;
    this.filling = undefined;
    for (const ukey of this.megaflows.ukeys()) ukey.keepPlacements(this.isUsed);
  }

  /** Whether packets look into an entry, or will. */
  private readonly isUsed = (placement: Placement<Ukey>): boolean =>
    this.current.has(placement) || this.filling?.has(placement) === true;

  /**
   * Gives a change up.
   * @param isRefused - the kernel refused it: what it would have brought is not asked for again, and its packets stay with
   *   user space
   */
  abandon(change: Change, isRefused: boolean): void {
    if (this.filling?.generation.plan === change.pending.plan) this.cut();
    this.datapath.abandon(change.pending);
    if (!isRefused) {
      this.masks.wantsSubtables = true;
      return;
    }
    if (this.masks.storage === "table" && change.pending.plan.table !== undefined) {
      // Before anything else is given up: the next program does without the table.
      this.masks.storage = "hash";
      this.masks.wantsSubtables = true;
      return;
    }
    this.shapes.refuse(change.shapes);
    for (const member of change.members) this.masks.wantedMembers.delete(member);
  }

  /** Takes out what no packet looks into any more, as far as it is time. */
  *settle(): Generator<void> {
    const nowMs = monotonicMs();
    const due = this.retired.filter(({ dueMs }) => dueMs <= nowMs);
    if (due.length === 0) return;
    let count = 0;
    for (const ukey of this.megaflows.ukeys()) {
      this.tidy(ukey);
      if (++count % STEP === 0) yield;
    }
    this.retired = this.retired.filter((one) => !due.includes(one));
    for (const { stores } of due) {
      for (const store of stores) {
        for (const step of store.sweep(this.onTraffic)) yield void step;
        store[Symbol.dispose]();
      }
    }
  }

  /** Forgets places of a megaflow in old programs, and takes it out of the exact subtable if it has one of its own. */
  private tidy(ukey: Ukey): void {
    const { placements } = ukey;
    if (placements === undefined || (placements.next === undefined && this.current.has(placements))) return;
    ukey.keepPlacements(this.isUsed);
    const own = this.current.ownStore(ukey.maskClass);
    // The next program may have no subtable for it.
    if (own === undefined || !ukey.isIn(own) || this.filling !== undefined) return;
    ukey.keepPlacements((placement) => {
      if (placement.store === own) return true;
      placement.store.take(placement, this.onTraffic);
      return false;
    });
  }

  /** Reads what old places still counted, and frees them, although packets may still be in them. */
  end(): void {
    this.cut();
    for (const { stores } of this.retired) {
      for (const store of stores) {
        for (const step of store.sweep(this.onTraffic)) void step;
        store[Symbol.dispose]();
      }
    }
    this.retired = [];
  }
}
