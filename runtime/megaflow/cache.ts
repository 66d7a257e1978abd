// The megaflow cache: which megaflows exist, under which masks, and where they lie in the kernel.
//
// A new megaflow is in use at once. If its mask has a subtable in the running program it goes there; if not, it goes under the
// exact-match subtable, for this packet's key only, and its mask is wanted by the next program. If the program has no code
// for its actions it is installed as SHAPE_SLOW: user space carries them out, and the shape is wanted. begin() plans a program
// that has what is wanted, finish() moves the megaflows over to it; specialiser.ts decides when.
//
// The number of masks is bounded: past the limit a megaflow goes under an existing mask that has all of its 1-bits (more
// 1-bits are always sound), at worst the exact one.

import { randomBytes } from "node:crypto";
import {
  canGrow,
  keyLayout,
  lookupMask,
  newFlow,
  missingMembers,
  plan as planOf,
  putArgs,
  putKey,
  shape,
  shapeOf,
  tableLayout,
  FIRST_SHAPE,
  MAX_TABLE_NUMBER,
  SHAPE_DROP,
  SHAPE_SLOW,
  TABLE_MAP,
  VALUE,
  type DatapathPlan,
  type DpAction,
  type FlowWords,
  type Hook,
  type KeyLayout,
  type Member,
  type Shape,
  type Storage,
  type Subtable,
  type TableLayout,
  type Translation,
} from "#compiler";
import { monotonicMs } from "../clock.js";
import { GRACE_MS, type Datapath, type Generation, type Pending } from "../datapath/datapath.js";
import type { OnTraffic, Placement, SubtableStore } from "../datapath/store.js";
import { TableStore } from "../datapath/table-store.js";
import { ActionFacts, equalActions } from "./actions.js";
import { newDeleteCounts, type DeleteCounts, type DeleteReason } from "./reasons.js";
import { RecentFlows } from "./recent.js";
import { MaskClass, packetMask, Ukey, Verdicts, type Verdict } from "./ukey.js";

/** What the cache has to know of the ports. */
export interface PortLookup {
  /** Interface index of an OpenFlow port; 0 when it has none: packets for it are dropped. */
  ifindexOf(port: number): number;
  /** Which program handles packets that come in by this interface. */
  hookOf(ifindex: number): Hook;
}

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

/** Megaflows that a first table takes: it has 2 MiB, or 4 with long keys. */
const FIRST_TABLE_ENTRIES = 16_384;
/** A table is made anew for so many times as many megaflows as there are. */
const TABLE_GROWTH = 4;

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

/** Shapes that every program has: a packet sent out of one port. */
const SEED_SHAPES: readonly (readonly DpAction[])[] = [[{ kind: "output", port: 0 }]];

/** So many empty subtables are worth a new program. */
const EMPTY_SUBTABLES_MAX = 4;

/** Shapes of a first plan at most: each is code, and some will never be used. */
const FIRST_SHAPES_MAX = 16;

/** The members that a program always has in its key. */
const BASE_MEMBERS: readonly Member[] = ["in_port", "dl_type"];
/** Members that later fragments have none of: where they matter, so do the fragment bits. */
const L4_MEMBERS: readonly Member[] = ["tp_src", "tp_dst", "tcp_flags"];

/** `members` and what the key needs with them. */
const keyMembers = (members: Iterable<Member>): Set<Member> => {
  const all = new Set([...BASE_MEMBERS, ...members]);
  if (L4_MEMBERS.some((member) => all.has(member))) all.add("nw_frag");
  return all;
};

/**
 * Bytes of the upcall ring: 64 GSO packets of 64 KiB, or 16,384 small ones, which is a quarter of a second at the rate that
 * the slow path keeps up with.
 */
const RING_SIZE = 1 << 22;

/**
 * A first plan for tables to which `members` can matter.
 * @param actions - lists that are to be expected; those that user space must carry out anyway are of no use
 */
export const firstPlan = (
  members: Iterable<Member>,
  actions: Iterable<readonly DpAction[]> = [],
  options: { readonly portSlots?: number } = {},
): DatapathPlan => {
  const shapes = new Map<string, Shape>();
  for (const list of [...SEED_SHAPES, ...actions]) {
    const text = shapeOf(list);
    if (list.length > 0 && !shapes.has(text) && shapes.size < FIRST_SHAPES_MAX)
      shapes.set(text, shape(FIRST_SHAPE + shapes.size, list));
  }
  return planOf({
    key: keyLayout(keyMembers(members)),
    shapes: [...shapes.values()],
    ringSize: RING_SIZE,
    ...options,
  });
};

/** A change of program that is under way. */
export interface Change {
  readonly pending: Pending<Ukey>;
  /** Keys or values have another layout: every megaflow is put in anew. */
  readonly isAnew: boolean;
  /** Classes that get a subtable, with what stands for them in the new layout. */
  readonly classes: ReadonlyMap<MaskClass, MaskClass>;
  readonly members: readonly Member[];
  /** Texts of shapes that are new. */
  readonly shapes: readonly string[];
}

export class MegaflowCache {
  /** By the text of the mask's words; masks that the key cannot tell apart share a class. */
  private readonly byMask = new Map<string, MaskClass>();
  private readonly byId = new Map<string, MaskClass>();
  private exact: MaskClass;
  /** What {@link byMask} was asked last, and its answer: a burst of new flows mostly has one mask. */
  private readonly lastMask = newFlow();
  private lastClass: MaskClass | undefined;
  private readonly scratchMask = newFlow();
  private readonly verdicts = new Verdicts();
  private readonly facts = new ActionFacts();
  private shapes: Map<string, Shape>;
  private readonly wantedShapes = new Map<string, { actions: readonly DpAction[]; ukeys: Set<Ukey> }>();
  private readonly wantedMembers = new Set<Member>();
  /** Shapes that the kernel would not load. */
  private readonly refusedShapes = new Set<string>();
  private wantsMasks = false;
  /** The megaflow table should be larger. */
  private wantsRoom = false;
  private storage: Storage;
  private readonly seed = randomBytes(8).readBigUInt64LE();
  private readonly recent = new RecentFlows();
  private fullKey: Uint8Array;
  private nMaps = 0;
  private nInstalled = 0;
  private nNotInstalled = 0;
  private nGenerations = 1;
  private count = 0;
  private readonly deleted = newDeleteCounts();
  private readonly maxMasks: number;
  private readonly maxShapes: number;
  /** Placements and stores that only packets inside the old program can still use. */
  private retired: { placements: Placement<Ukey>[]; stores: SubtableStore<Ukey>[]; dueMs: number }[] = [];
  flowLimit: number;

  /**
   * @param onTraffic - told about every packet that the kernel counted, once
   * @param onWanted - told when a new program would serve better
   */
  constructor(
    readonly datapath: Datapath<Ukey>,
    private readonly ports: PortLookup,
    private readonly onTraffic: (ukey: Ukey, packets: number, bytes: number, verdict: Verdict) => void,
    private readonly onWanted: () => void,
    options: CacheOptions = {},
  ) {
    const { plan } = datapath.generation;
    this.exact = MaskClass.exact(plan.key, plan.exact);
    this.shapes = shapesByText(plan);
    this.fullKey = new Uint8Array(plan.key.size);
    this.storage = options.storage ?? BEST_STORAGE;
    this.maxMasks = options.maxMasks ?? 32;
    this.maxShapes = options.maxShapes ?? 64;
    this.flowLimit = options.flowLimit ?? 200_000;
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
      masks: this.byId.size,
      subtables: plan.subtables.length,
      shapes: plan.shapes.length,
      storage: this.storage,
      ...this.tableStats,
      installed: this.nInstalled,
      notInstalled: this.nNotInstalled,
      deleted: this.deleted,
      generations: this.nGenerations,
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
    for (const maskClass of [...this.byId.values(), this.exact]) yield* maskClass.ukeys.values();
  }

  private putFullKey(flow: FlowWords, ifindex: number): void {
    putKey(this.layout, flow, ifindex, this.fullKey);
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
    const maskClass = this.classOf(lookupMask(flow, translation, this.scratchMask));
    if (maskClass === undefined) {
      this.nNotInstalled++;
      return undefined;
    }
    this.putFullKey(flow, ifindex);
    const key = maskClass.keyOf(this.fullKey);
    let ukey = maskClass.ukeys.get(key);
    if (ukey === undefined) {
      if (this.count >= this.flowLimit) {
        this.nNotInstalled++;
        return undefined;
      }
      ukey = new Ukey(flow, ifindex, maskClass, key, this.verdicts.of(translation), nowMs);
      ukey.usedMs = nowMs;
      maskClass.ukeys.set(key, ukey);
      this.count++;
      this.nInstalled++;
    } else if (!this.refresh(ukey, translation)) return undefined;
    if (!this.place(ukey)) return undefined;
    this.recent.remember(flow, ifindex, ukey);
    return ukey;
  }

  /** The class for a mask; undefined when the key has no place for some of its bits. */
  private classOf(mask: FlowWords): MaskClass | undefined {
    if (this.lastClass !== undefined && equalWords(mask, this.lastMask)) return this.lastClass;
    const text = Buffer.from(mask.buffer, mask.byteOffset, mask.byteLength).toString("latin1");
    const known = this.byMask.get(text);
    if (known !== undefined) return this.rememberClass(mask, known);
    const missing = missingMembers(this.layout, mask);
    if (missing.length > 0) {
      for (const member of missing) this.wantedMembers.add(member);
      this.onWanted();
      return undefined;
    }
    const candidate = MaskClass.of(this.layout, packetMask(mask), `mf_${this.nMaps}`, this.freeNumber());
    const found = this.byId.get(candidate.table.id) ?? this.classInstead(candidate);
    // A stand-in is not remembered: there may be room for the mask itself later.
    if (found.table.id !== candidate.table.id) return found;
    this.byMask.set(text, found);
    return this.rememberClass(mask, found);
  }

  private rememberClass(mask: FlowWords, maskClass: MaskClass): MaskClass {
    this.lastMask.set(mask);
    return (this.lastClass = maskClass);
  }

  /** Masks may stand for other classes from now on. */
  private forgetMasks(isGone: (maskClass: MaskClass) => boolean = () => true): void {
    this.lastClass = undefined;
    for (const [text, maskClass] of this.byMask) if (isGone(maskClass)) this.byMask.delete(text);
  }

  /** A number for another subtable in the megaflow table, if subtables lie there. */
  private freeNumber(): number | undefined {
    if (this.storage === "hash") return undefined;
    const used = new Set([...this.byId.values()].map(({ table }) => table.number));
    let number = 1 + (this.nMaps % MAX_TABLE_NUMBER);
    while (used.has(number)) number = 1 + (number % MAX_TABLE_NUMBER);
    return number;
  }

  /** `candidate` itself while there is room for another mask, else the narrowest wide enough class that there is. */
  private classInstead(candidate: MaskClass): MaskClass {
    // The exact subtable is a kernel hash map, whatever the storage: it takes what has no place elsewhere (yet).
    if (this.storage === "hash" && candidate.table.id === this.exact.table.id) return this.exact;
    if (this.byId.size < this.maxMasks) {
      this.nMaps++;
      this.byId.set(candidate.table.id, candidate);
      this.wantsMasks = true;
      this.onWanted();
      return candidate;
    }
    let best = this.exact;
    for (const other of this.byId.values()) {
      if (other.covers(candidate.table.mask) && other.weight < best.weight) best = other;
    }
    return best;
  }

  private storeOf(maskClass: MaskClass, generation = this.datapath.generation): SubtableStore<Ukey> | undefined {
    return generation.stores.get(maskClass.isExact ? generation.plan.exact : maskClass.table);
  }

  /** Puts a megaflow where packets with {@link fullKey} find it, unless it is there already. */
  private place(ukey: Ukey): boolean {
    const own = this.storeOf(ukey.maskClass);
    // Its subtable holds just what its class does.
    if (own !== undefined && !ukey.maskClass.isExact) {
      if (ukey.placements.some(({ store }) => store === own)) return true;
      if (!(own instanceof TableStore)) return this.putInto(own, ukey);
      if (this.putIntoTable(own, ukey)) return true;
    }
    const { exact } = this.datapath.generation;
    const there = exact.find(this.fullKey, exact.table === ukey.maskClass.table ? ukey.key : undefined);
    if (there !== undefined) {
      if (there.owner === ukey) return true;
      this.remove(there.owner, "flow-wildcarded");
    }
    return this.putInto(exact, ukey);
  }

  /** @returns false when the table has no place for it: a larger one is wanted, and until then it goes elsewhere */
  private putIntoTable(store: TableStore<Ukey>, ukey: Ukey): boolean {
    const placement = store.put(this.fullKey, ukey, (value) => this.fill(ukey, value));
    const isIn = typeof placement !== "number";
    if (isIn) ukey.placements.push(placement);
    if (!isIn || store.shared.isCrowded) this.wantRoom(store.shared.layout);
    return isIn;
  }

  private wantRoom(layout: TableLayout): void {
    if (this.wantsRoom || !canGrow(layout)) return;
    this.wantsRoom = true;
    this.onWanted();
  }

  private putInto(store: SubtableStore<Ukey>, ukey: Ukey): boolean {
    // The key within the class is the one within its subtable.
    const key = store.table === ukey.maskClass.table ? ukey.key : undefined;
    const placement = store.put(this.fullKey, ukey, (value) => this.fill(ukey, value), key);
    if (typeof placement === "number") {
      this.nNotInstalled++;
      if (ukey.placements.length === 0) this.remove(ukey, "update-fail");
      return false;
    }
    ukey.placements.push(placement);
    return true;
  }

  /** Writes shape and arguments. */
  private fill(ukey: Ukey, value: DataView): void {
    const { actions } = ukey.translation;
    const number = this.shapeNumber(ukey);
    value.setUint32(VALUE.shape, number, true);
    if (number < FIRST_SHAPE) return;
    putArgs(
      this.shapes.get(this.facts.shapeOf(actions))!,
      actions,
      (port) => this.ports.ifindexOf(port),
      value,
      VALUE.args,
    );
  }

  private shapeNumber(ukey: Ukey): number {
    const { actions } = ukey.translation;
    if (actions.length === 0) return SHAPE_DROP;
    if (this.slowReason(ukey) !== undefined) return SHAPE_SLOW;
    const text = this.facts.shapeOf(actions);
    const known = this.shapes.get(text);
    if (known !== undefined) return known.id;
    if (this.refusedShapes.has(text)) return SHAPE_SLOW;
    let wanted = this.wantedShapes.get(text);
    if (wanted === undefined) {
      if (this.shapes.size + this.wantedShapes.size >= this.maxShapes) return SHAPE_SLOW;
      this.wantedShapes.set(text, (wanted = { actions, ukeys: new Set() }));
      this.onWanted();
    }
    wanted.ukeys.add(ukey);
    return SHAPE_SLOW;
  }

  /** Why user space must carry out a megaflow's actions for good; undefined when its hook's program can. */
  slowReason(ukey: Ukey): string | undefined {
    return this.facts.refusal(this.ports.hookOf(ukey.ifindex), ukey.translation.actions);
  }

  /** Where packets of a megaflow are handled now: by the hook's program or by user space. */
  isFast(ukey: Ukey): boolean {
    const { actions } = ukey.translation;
    return (
      actions.length === 0 || (this.slowReason(ukey) === undefined && this.shapes.has(this.facts.shapeOf(actions)))
    );
  }

  private readonly onPlacementTraffic: OnTraffic<Ukey> = ({ owner }, packets, bytes) =>
    this.credit(owner, packets, bytes, owner.translation);

  private credit(owner: Ukey, packets: number, bytes: number, verdict: Verdict): void {
    owner.packets += packets;
    owner.bytes += bytes;
    this.onTraffic(owner, packets, bytes, verdict);
  }

  /** Gives a megaflow a new translation of the same packets. @returns false when the datapath refused: it is removed */
  refresh(ukey: Ukey, latest: Translation): boolean {
    const translation = this.verdicts.of(latest);
    const isSame = equalActions(ukey.translation.actions, translation.actions);
    if (isSame) {
      ukey.translation = translation;
      return true;
    }
    // What was counted so far belongs to the old translation: first read, then replaced, entry by entry.
    for (const placement of ukey.placements) placement.store.read(placement, this.onPlacementTraffic);
    const before = ukey.translation;
    ukey.translation = translation;
    return this.rewrite(ukey, ({ owner }, packets, bytes) => this.credit(owner, packets, bytes, before));
  }

  /** Writes a megaflow's values anew. @param onTraffic - told about what packets still count under the old ones */
  private rewrite(ukey: Ukey, onTraffic = this.onPlacementTraffic): boolean {
    for (const placement of ukey.placements) {
      const errno = placement.store.rewrite(placement, (value) => this.fill(ukey, value), onTraffic);
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
    ukey.maskClass.ukeys.delete(ukey.key);
    for (const wanted of this.wantedShapes.values()) wanted.ukeys.delete(ukey);
    for (const placement of ukey.placements) placement.store.take(placement, this.onPlacementTraffic);
    ukey.placements.length = 0;
  }

  /** Takes all megaflows out. */
  clear(reason: DeleteReason): void {
    for (const ukey of this.ukeys()) this.remove(ukey, reason);
  }

  /** Takes everything out and forgets that it was ever there, wishes and counts included. */
  reset(): void {
    this.clear("purge");
    this.recent.clear();
    this.forgetMasks();
    for (const [id, maskClass] of this.byId) if (this.storeOf(maskClass) === undefined) this.byId.delete(id);
    this.wantedShapes.clear();
    this.wantedMembers.clear();
    this.wantsMasks = false;
    this.nInstalled = 0;
    this.nNotInstalled = 0;
    this.deleted.purge = 0;
  }

  /** Reads one megaflow's counters now. */
  read(ukey: Ukey): void {
    for (const placement of ukey.placements) placement.store.read(placement, this.onPlacementTraffic);
  }

  /** Reads all counters in steps of about a millisecond; yields after each. */
  *sweep(): Generator<number> {
    for (const store of this.datapath.generation.all) yield* store.sweep(this.onPlacementTraffic);
  }

  /** Asks for members that the tables look at now. @returns whether the key must grow */
  want(members: Iterable<Member>): boolean {
    const have = new Set(this.layout.fields.map(({ member }) => member));
    for (const member of members) if (!have.has(member)) this.wantedMembers.add(member);
    if (this.wantedMembers.size > 0) this.onWanted();
    return this.wantedMembers.size > 0;
  }

  /** Subtables that hold nothing: every look-up searches them in vain. */
  private get nEmptySubtables(): number {
    const { plan } = this.datapath.generation;
    return plan.subtables.filter((table) => this.datapath.generation.store(table).size === 0).length;
  }

  /** Whether a new program would serve better than the running one. */
  get isWanting(): boolean {
    return (
      this.wantsMasks ||
      this.wantsRoom ||
      this.wantedShapes.size > 0 ||
      this.wantedMembers.size > 0 ||
      this.nEmptySubtables >= EMPTY_SUBTABLES_MAX
    );
  }

  /**
   * Plans a program that knows what is wanted and makes its maps. Megaflows come and go until {@link finish}.
   * @param hooks - program types that must be there
   * @throws {@link SyscallError}
   */
  begin(hooks: ReadonlySet<Hook> = this.datapath.generation.hooks, portSlots?: number): Change {
    const { plan: old } = this.datapath.generation;
    const members = [...this.wantedMembers];
    const wanted = [...this.wantedShapes.values()];
    this.wantsMasks = false;
    const key =
      members.length === 0
        ? old.key
        : keyLayout(keyMembers([...old.key.fields.map(({ member }) => member), ...members]));
    const shapes = this.nextShapes(old, wanted);
    const room = old.valueSize - VALUE.args;
    const argsSize = Math.max(room, ...shapes.map((s) => s.argsSize));
    const isAnew = members.length > 0 || argsSize > room;
    const classes = new Map<MaskClass, MaskClass>();
    for (const maskClass of this.byId.values()) {
      if (maskClass.ukeys.size === 0) continue;
      classes.set(maskClass, isAnew ? this.translated(maskClass, key) : maskClass);
    }
    const hits = (maskClass: MaskClass): number => this.storeOf(maskClass)?.hits ?? 0;
    const order = [...classes.keys()].sort((a, b) => hits(b) - hits(a));
    const subtables = order.map((maskClass) => classes.get(maskClass)!.table);
    const table = this.nextTable(old, key, subtables, shapes);
    this.wantsRoom = false;
    const fresh = planOf({
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
    return { pending, isAnew, classes, members, shapes: wanted.map(({ actions }) => shapeOf(actions)) };
  }

  private translated(maskClass: MaskClass, key: KeyLayout): MaskClass {
    const { number } = maskClass.table;
    return MaskClass.of(key, maskClass.mask, `mf_${this.nMaps++}`, number);
  }

  /** The running megaflow table while it suits the subtables and shapes, else the layout of another one. */
  private nextTable(
    old: DatapathPlan,
    key: KeyLayout,
    subtables: readonly Subtable[],
    shapes: readonly Shape[],
  ): TableLayout | undefined {
    if (this.storage === "hash" || subtables.length === 0) return undefined;
    const words = Math.max(...subtables.map((table) => table.words.length));
    const argsSize = Math.max(8, ...shapes.map((s) => s.argsSize));
    const { table } = old;
    const fits = table !== undefined && old.key === key && words <= table.words && argsSize <= table.argsSize;
    if (fits && !this.wantsRoom) return table;
    const entries = Math.max(FIRST_TABLE_ENTRIES, TABLE_GROWTH * this.count);
    return tableLayout({ map: TABLE_MAP, entries, words, maxWords: key.size / 8, argsSize, seed: this.seed });
  }

  /**
   * Moves the megaflows over to the planned program and starts it. Packets go on all the time. {@link harvest} must be
   * called when no packet can be inside the old program any more.
   */
  finish(change: Change, next: Generation<Ukey>): void {
    const old = this.datapath.generation;
    const waiting = this.satisfy(change);
    const before = this.shapes;
    this.nGenerations++;
    this.shapes = shapesByText(next.plan);
    const moved = change.isAnew ? this.adoptLayout(next, change.classes) : this.fillNew(next, old);
    const stores = this.datapath.commit(next);
    for (const ukey of waiting) if (!ukey.isDeleted) this.rewrite(ukey);
    this.rewriteDropped(before);
    this.forgetEmptyClasses();
    this.retired.push({ placements: moved, stores, dueMs: monotonicMs() + GRACE_MS });
    if (this.isWanting) this.onWanted();
  }

  /** Megaflows that came to use a shape after it was found unused and left out. */
  private rewriteDropped(before: ReadonlyMap<string, Shape>): void {
    if ([...before.keys()].every((text) => this.shapes.has(text))) return;
    for (const ukey of this.ukeys()) {
      const text = this.facts.shapeOf(ukey.translation.actions);
      if (before.has(text) && !this.shapes.has(text)) this.rewrite(ukey);
    }
  }

  /** Takes what a change brings off the list of wishes. @returns megaflows that waited for a shape */
  private satisfy(change: Change): Ukey[] {
    const waiting: Ukey[] = [];
    for (const text of change.shapes) {
      waiting.push(...(this.wantedShapes.get(text)?.ukeys ?? []));
      this.wantedShapes.delete(text);
    }
    for (const member of change.members) this.wantedMembers.delete(member);
    return waiting;
  }

  /**
   * Gives a change up.
   * @param isRefused - the kernel refused it: what it would have brought is not asked for again, and its packets stay with
   *   user space
   */
  abandon(change: Change, isRefused: boolean): void {
    this.datapath.abandon(change.pending);
    if (!isRefused) {
      this.wantsMasks = true;
      return;
    }
    if (this.storage === "table" && change.pending.plan.table !== undefined) {
      // Before anything else is given up: the next program does without the table.
      this.storage = "hash";
      this.wantsMasks = true;
      return;
    }
    for (const text of change.shapes) this.refusedShapes.add(text);
    this.satisfy(change);
  }

  /** Shapes of the running program, without unused ones when there are too many, and the wanted ones under free numbers. */
  private nextShapes(old: DatapathPlan, wanted: readonly { readonly actions: readonly DpAction[] }[]): Shape[] {
    let shapes = [...old.shapes];
    if (shapes.length + wanted.length >= this.maxShapes) {
      const used = new Set(SEED_SHAPES.map(shapeOf));
      for (const ukey of this.ukeys()) used.add(this.facts.shapeOf(ukey.translation.actions));
      shapes = shapes.filter(({ text }) => used.has(text));
    }
    const numbers = new Set(old.shapes.map(({ id }) => id));
    let number = FIRST_SHAPE;
    for (const { actions } of wanted) {
      while (numbers.has(number)) number++;
      numbers.add(number);
      shapes.push(shape(number, actions));
    }
    return shapes;
  }

  /** Fills subtables that the old program did not have. @returns the placements that are replaced */
  private fillNew(next: Generation<Ukey>, old: Generation<Ukey>): Placement<Ukey>[] {
    const moved: Placement<Ukey>[] = [];
    for (const maskClass of this.byId.values()) {
      const store = this.storeOf(maskClass, next);
      // In both, or in neither: its megaflows stay where they are.
      if (maskClass.ukeys.size === 0 || store === old.stores.get(maskClass.table)) continue;
      // It was empty when the program was planned.
      if (store === undefined) this.wantsMasks = true;
      for (const ukey of maskClass.ukeys.values()) {
        this.move(ukey, store, next.exact, moved);
      }
    }
    return moved;
  }

  /** Puts a megaflow into its subtable, if it has one with room for it; its old placements go to `moved`. */
  private move(
    ukey: Ukey,
    own: SubtableStore<Ukey> | undefined,
    exact: SubtableStore<Ukey>,
    moved: Placement<Ukey>[],
  ): void {
    const before = ukey.placements.splice(0);
    moved.push(...before);
    if (own instanceof TableStore) {
      const [only] = before;
      const copied = only === undefined || before.length > 1 ? undefined : own.copy(only);
      if (copied !== undefined) {
        ukey.placements.push(copied);
        return;
      }
    }
    this.putFullKey(ukey.flow, ukey.ifindex);
    if (own instanceof TableStore && this.putIntoTable(own, ukey)) return;
    this.putInto(own === undefined || own instanceof TableStore ? exact : own, ukey);
  }

  /** Puts all megaflows under the keys of another layout. @returns all placements that there were */
  private adoptLayout(next: Generation<Ukey>, classes: ReadonlyMap<MaskClass, MaskClass>): Placement<Ukey>[] {
    const { key: layout, exact } = next.plan;
    const moved: Placement<Ukey>[] = [];
    const newExact = MaskClass.exact(layout, exact);
    // Classes that came while the program was built have no subtable in it: their megaflows wait in the exact one.
    const all: (readonly [MaskClass, MaskClass])[] = [[this.exact, newExact]];
    for (const before of this.byId.values()) {
      const after = classes.get(before);
      if (after === undefined) this.wantsMasks = true;
      all.push([before, after ?? this.translated(before, layout)]);
    }
    this.fullKey = new Uint8Array(layout.size);
    this.recent.clear();
    this.forgetMasks();
    this.byId.clear();
    this.exact = newExact;
    for (const [before, after] of all) {
      if (!after.isExact) this.byId.set(after.table.id, after);
      const store = next.stores.get(after.table) ?? next.exact;
      for (const ukey of before.ukeys.values()) {
        moved.push(...ukey.placements.splice(0));
        putKey(layout, ukey.flow, ukey.ifindex, this.fullKey);
        ukey.maskClass = after;
        ukey.key = after.keyOf(this.fullKey);
        after.ukeys.set(ukey.key, ukey);
        if (store instanceof TableStore && this.putIntoTable(store, ukey)) continue;
        this.putInto(store instanceof TableStore ? next.exact : store, ukey);
      }
    }
    return moved;
  }

  /** Masks that no megaflow uses and that the running program no longer knows make room for others. */
  private forgetEmptyClasses(): void {
    for (const [id, maskClass] of this.byId) {
      if (maskClass.ukeys.size > 0 || this.storeOf(maskClass) !== undefined) continue;
      this.byId.delete(id);
    }
    this.forgetMasks((maskClass) => !this.isKnown(maskClass));
  }

  private isKnown(maskClass: MaskClass): boolean {
    return maskClass.isExact || this.byId.get(maskClass.table.id) === maskClass;
  }

  /**
   * Reads what packets still counted in retired places and frees those.
   * @param isLast - also those that packets may still be in
   */
  harvest(isLast = false): void {
    const nowMs = monotonicMs();
    const due = this.retired.filter(({ dueMs }) => isLast || dueMs <= nowMs);
    this.retired = this.retired.filter((one) => !due.includes(one));
    for (const { placements, stores } of due) {
      const gone = new Set(stores);
      for (const placement of placements) {
        if (!gone.has(placement.store)) placement.store.take(placement, this.onPlacementTraffic);
      }
      for (const store of stores) {
        for (const step of store.sweep(this.onPlacementTraffic)) void step;
        store[Symbol.dispose]();
      }
    }
  }
}

const equalWords = (a: FlowWords, b: FlowWords): boolean => {
  for (let word = 0; word < a.length; word++) if (a[word] !== b[word]) return false;
  return true;
};

const shapesByText = (plan: DatapathPlan): Map<string, Shape> => new Map(plan.shapes.map((s) => [s.text, s]));
