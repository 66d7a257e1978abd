// Which masks megaflows have, and under which class a new one goes.
//
// Their number is bounded: past the limit a megaflow goes under an existing mask that has all of its 1-bits (more 1-bits are
// always sound), at worst the exact one.

import {
  MAX_TABLE_NUMBER,
  missingMembers,
  newFlow,
  type FlowWords,
  type KeyLayout,
  type Member,
  type Storage,
  type Subtable,
} from "#compiler";
import { MaskClass, packetMask, subtableOf, wholeMask } from "./mask-class.js";

export class Masks {
  /** Of megaflows that match every bit of the key. */
  exact: MaskClass;
  /** Where subtables lie. */
  storage: Storage;
  /** Some class has no subtable. */
  wantsSubtables = false;
  /** Members that the key should have. */
  readonly wantedMembers = new Set<Member>();
  /** By the text of the mask's words; masks that the key cannot tell apart share a class. */
  private readonly byMask = new Map<string, MaskClass>();
  private readonly byId = new Map<string, MaskClass>();
  /** What {@link byMask} was asked last, and its answer: a burst of new flows mostly has one mask. */
  private readonly lastMask = newFlow();
  private lastClass: MaskClass | undefined;
  private nMaps = 0;

  /**
   * @param exactTable - subtable of the class of every bit
   * @param max - classes besides the exact one
   * @param onWanted - told when a new program would serve better
   */
  constructor(
    private layout: KeyLayout,
    exactTable: Subtable,
    storage: Storage,
    private readonly max: number,
    private readonly onWanted: () => void,
  ) {
    this.storage = storage;
    this.exact = new MaskClass(wholeMask(layout), exactTable, true);
  }

  get size(): number {
    return this.byId.size;
  }

  /** All but the exact one. */
  get classes(): Iterable<MaskClass> {
    return this.byId.values();
  }

  /** The class for a mask; undefined when the key has no place for some of its bits. */
  classOf(mask: FlowWords): MaskClass | undefined {
    if (this.lastClass !== undefined && equalWords(mask, this.lastMask)) return this.lastClass;
    const text = Buffer.from(mask.buffer, mask.byteOffset, mask.byteLength).toString("latin1");
    const known = this.byMask.get(text);
    if (known !== undefined) return this.remember(mask, known);
    const missing = missingMembers(this.layout, mask);
    if (missing.length > 0) {
      for (const member of missing) this.wantedMembers.add(member);
      this.onWanted();
      return undefined;
    }
    const bits = packetMask(mask);
    const table = subtableOf(this.layout, bits, this.newMap(), this.freeNumber());
    const found = this.byId.get(table.id) ?? this.newOrInstead(new MaskClass(bits, table, false));
    // A stand-in is not remembered: there may be room for the mask itself later.
    if (found.table.id !== table.id) return found;
    this.byMask.set(text, found);
    return this.remember(mask, found);
  }

  private remember(mask: FlowWords, maskClass: MaskClass): MaskClass {
    this.lastMask.set(mask);
    return (this.lastClass = maskClass);
  }

  /** Masks may stand for other classes from now on. */
  private forget(isGone: (maskClass: MaskClass) => boolean): void {
    this.lastClass = undefined;
    for (const [text, maskClass] of this.byMask) if (isGone(maskClass)) this.byMask.delete(text);
  }

  private newMap(): string {
    return `mf_${this.nMaps++ & 0xffffff}`;
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
  private newOrInstead(candidate: MaskClass): MaskClass {
    // The exact subtable is a kernel hash map, whatever the storage: it takes what has no place elsewhere (yet).
    if (this.storage === "hash" && candidate.table.id === this.exact.table.id) return this.exact;
    if (this.byId.size < this.max) {
      this.byId.set(candidate.table.id, candidate);
      this.wantsSubtables = true;
      this.onWanted();
      return candidate;
    }
    let best = this.exact;
    for (const other of this.byId.values()) {
      if (other.isWithin(candidate.table.mask) && other.weight < best.weight) best = other;
    }
    return best;
  }

  /** Asks for members of the key. @returns whether it must grow */
  want(members: Iterable<Member>): boolean {
    const have = new Set(this.layout.fields.map(({ member }) => member));
    for (const member of members) if (!have.has(member)) this.wantedMembers.add(member);
    if (this.wantedMembers.size > 0) this.onWanted();
    return this.wantedMembers.size > 0;
  }

  /** What stands for a class's subtable in another layout. */
  translated({ mask, table }: MaskClass, layout: KeyLayout): Subtable {
    return subtableOf(layout, mask, this.newMap(), table.number);
  }

  /** Keys have another layout from now on. @param tables - of classes that have a subtable in it */
  adopt(layout: KeyLayout, exactTable: Subtable, tables: ReadonlyMap<MaskClass, Subtable>): void {
    this.layout = layout;
    const classes = [...this.byId.values()];
    this.byId.clear();
    for (const maskClass of classes) {
      maskClass.table = tables.get(maskClass) ?? this.translated(maskClass, layout);
      this.byId.set(maskClass.table.id, maskClass);
    }
    const before = this.exact;
    this.exact = new MaskClass(wholeMask(layout), exactTable, true);
    const flow = newFlow();
    for (const ukey of before) {
      ukey.maskClass = this.exact;
      this.exact.add(ukey, ukey.readFlow(flow));
    }
    this.forget(() => true);
  }

  /** Masks that no megaflow uses and that no subtable is there for make room for others. */
  forgetEmpty(hasSubtable: (maskClass: MaskClass) => boolean): void {
    for (const [id, maskClass] of this.byId) if (maskClass.size === 0 && !hasSubtable(maskClass)) this.byId.delete(id);
    this.forget((maskClass) => !maskClass.isExact && this.byId.get(maskClass.table.id) !== maskClass);
  }
}

const equalWords = (a: FlowWords, b: FlowWords): boolean => {
  for (let word = 0; word < a.length; word++) if (a[word] !== b[word]) return false;
  return true;
};
