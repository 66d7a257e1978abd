// A megaflow as user space knows it ("userspace key", as in OVS): the packet it was made from, the mask, the translation it
// came from, and what it has counted. Where it lies in the kernel are its placements: one in its mask's subtable, or, while
// the program has no such subtable, one in the exact-match subtable for each packet seen.

import {
  exactSubtable,
  get,
  inTable,
  keyMask,
  newFlow,
  PACKET_MEMBERS,
  putCompactKey,
  subtable,
  unwildcard,
  type FlowWords,
  type KeyLayout,
  type Subtable,
  type Translation,
} from "#compiler";
import type { Placement } from "../datapath/store.js";
import { equalActions } from "./actions.js";

/** Every bit that a packet can have a value in. */
const PACKET_BITS: FlowWords = newFlow();
for (const member of PACKET_MEMBERS) unwildcard(PACKET_BITS, member);

/** What a megaflow keeps of its translation: the mask is its class's, the final flow nobody asks for. */
export type Verdict = Omit<Translation, "mask" | "looksAtFrag" | "final">;

const verdictOf = (translation: Translation): Verdict => {
  const { actions, rules, groups, learns, learned, finTimeouts, error, version } = translation;
  return { actions, rules, groups, learns, learned, finTimeouts, error, version };
};

/** Whether nothing in it belongs to one packet alone. */
const isCommon = ({ groups, learns, learned, finTimeouts }: Verdict): boolean =>
  groups.length + learns.length + learned.length + finTimeouts.length === 0;

/** Whether two that are common mean the same. */
const isSameVerdict = (a: Verdict, b: Verdict): boolean =>
  a.version === b.version &&
  a.error === b.error &&
  a.rules.length === b.rules.length &&
  a.rules.every((rule, i) => rule === b.rules[i]) &&
  equalActions(a.actions, b.actions);

/** Makes the verdicts of megaflows. New flows that come in a row mostly have the same: they share one, which nobody changes. */
export class Verdicts {
  private last: Verdict | undefined;

  of(translation: Translation): Verdict {
    const { last } = this;
    if (!isCommon(translation)) return verdictOf(translation);
    if (last !== undefined && isSameVerdict(last, translation)) return last;
    return (this.last = verdictOf(translation));
  }
}

/** Flows per chunk of the arena. */
const CHUNK = 256;

/**
 * Copies of flows that live long, many in one buffer: a typed array with a buffer of its own costs the garbage collector ten
 * times as much. A chunk is freed when the last flow in it is.
 */
class FlowArena {
  private chunk: FlowWords = new Uint32Array(0);
  private at = 0;

  copy(flow: FlowWords): FlowWords {
    if (this.at === this.chunk.length) {
      this.chunk = new Uint32Array(CHUNK * flow.length);
      this.at = 0;
    }
    const copy = this.chunk.subarray(this.at, this.at + flow.length);
    this.at += flow.length;
    copy.set(flow);
    return copy;
  }
}

const arena = new FlowArena();

export class Ukey {
  readonly placements: Placement<Ukey>[] = [];
  packets = 0;
  bytes = 0;
  /** When the last packet was seen (by user space, or when a counter was read that had risen); 0 for none. */
  usedMs = 0;
  isDeleted = false;
  /** The first packet's flow. */
  readonly flow: FlowWords;

  /** @param flow - copied */
  constructor(
    flow: FlowWords,
    readonly ifindex: number,
    public maskClass: MaskClass,
    /** Key within its class. */
    public key: string,
    /** The tables' latest word on it. */
    public translation: Verdict,
    readonly createdMs: number,
  ) {
    this.flow = arena.copy(flow);
  }

  /** OpenFlow port that its packets come in by. */
  get inPort(): number {
    return get(this.flow, "in_port");
  }
}

/** All megaflows with one mask. */
export class MaskClass {
  readonly ukeys = new Map<string, Ukey>();
  private readonly compact: Buffer;

  private constructor(
    /** Bits of packet members only. */
    readonly mask: FlowWords,
    readonly table: Subtable,
    /** Whether it stands for "every bit of the layout", whatever the layout. */
    readonly isExact: boolean,
  ) {
    this.compact = Buffer.alloc(table.keySize);
  }

  /**
   * @param map - name of the subtable if it gets one
   * @param number - its number if it lies in a megaflow table
   */
  static of(layout: KeyLayout, mask: FlowWords, map: string, number?: number): MaskClass {
    const table = subtable(map, keyMask(layout, mask));
    return new MaskClass(mask, number === undefined ? table : inTable(table, number), false);
  }

  /** The class of megaflows that match every bit of the layout. */
  static exact(layout: KeyLayout, table: Subtable = exactSubtable("mf_exact", layout)): MaskClass {
    return new MaskClass(wholeMask(layout), table, true);
  }

  /** The key within the class of a packet with this full key. */
  keyOf(fullKey: Uint8Array): string {
    putCompactKey(this.table, fullKey, this.compact);
    return this.compact.toString("latin1");
  }

  /** Number of 1-bits of the mask in the key. */
  get weight(): number {
    let bits = 0;
    for (const byte of this.table.mask) for (let rest = byte; rest !== 0; rest &= rest - 1) bits++;
    return bits;
  }

  /** Whether every 1-bit of `bytes` is one here, too: a megaflow of that mask may lie here. */
  covers(bytes: Uint8Array): boolean {
    for (let i = 0; i < bytes.length; i++) if ((bytes[i]! & ~this.table.mask[i]!) !== 0) return false;
    return true;
  }
}

/** Every bit of every member of a layout, as flow words. */
const wholeMask = (layout: KeyLayout): FlowWords => {
  const mask = newFlow();
  for (const { member } of layout.fields) unwildcard(mask, member);
  return mask;
};

/** The bits of `mask` that a packet can have, with in_port, which is always matched. */
export const packetMask = (mask: FlowWords): FlowWords => {
  const out = newFlow();
  for (let word = 0; word < mask.length; word++) out[word] = mask[word]! & PACKET_BITS[word]!;
  unwildcard(out, "in_port");
  return out;
};

/** Whether `narrow` has a bit that `wide` has not. */
export const hasExtraBits = (narrow: FlowWords, wide: FlowWords): boolean => {
  for (let word = 0; word < narrow.length; word++) {
    if ((narrow[word]! & PACKET_BITS[word]! & ~wide[word]!) !== 0) return true;
  }
  return false;
};
