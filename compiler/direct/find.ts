// Emits the look-up of a table: its parts one after the other, the best rank winning.

import { forget } from "../datapath/emit.js";
import { rodata, element, hidden, loadUnit, require, unitsOf, type Direct, type Unit } from "./emit.js";
import type { BlockId, VReg } from "../ir/types.js";
import { bestRank, type CodePart, type HashPart, type Part, type TriePart } from "./parts.js";
import { NO_RANK, perfectHash, SLOT_MULTIPLIER, WORD_MULTIPLIER } from "./perfect-hash.js";
import { LEAF, strideTrie, type StrideTrie } from "./stride-trie.js";
import type { Want } from "./state.js";

/** A table that is being emitted. */
export interface FindTable {
  readonly id: number;
  readonly wants: readonly Want[];
  readonly parts: readonly Part[];
}

/** Units that many rules look at, loaded once. */
const MAX_SHARED = 4;

const sameUnit = (a: Omit<Unit, "value">, b: Omit<Unit, "value">): boolean =>
  a.off === b.off && a.size === b.size && a.mask === b.mask;

/** Goes to `found(rank)` for the first rule that matches; goes on in the current block when none does. */
const emitCode = (d: Direct, { wants }: FindTable, part: CodePart, found: (rank: number) => BlockId): void => {
  const { b } = d;
  const lists = part.ranks.map((rank) => unitsOf(wants[rank]!));
  const uses: { unit: Unit; n: number }[] = [];
  for (const unit of lists.flat()) {
    const known = uses.find((u) => sameUnit(u.unit, unit));
    if (known === undefined) uses.push({ unit, n: 1 });
    else known.n++;
  }
  uses.sort((x, y) => y.n - x.n);
  const shared = uses
    .filter(({ n }) => n > 1)
    .slice(0, MAX_SHARED)
    .map(({ unit }) => ({ unit, reg: loadUnit(b, d.key, unit) }));
  part.ranks.forEach((rank, i) => {
    const target = found(rank);
    const units = lists[i]!;
    if (units.length === 0) {
      b.jump(target);
      b.place(b.block("shadowed"));
      return;
    }
    const next = b.block("");
    // What is in a register already is asked first; among those, what parts rules best: the least common value.
    const frequency = (unit: Unit): number =>
      lists.reduce((n, list) => n + (list.some((u) => sameUnit(u, unit) && u.value === unit.value) ? 1 : 0), 0);
    const cost = (unit: Unit): number => (shared.some((s) => sameUnit(s.unit, unit)) ? 0 : 1000) + frequency(unit);
    const order = units.map((unit) => ({ unit, cost: cost(unit) })).sort((x, y) => x.cost - y.cost);
    order.forEach(({ unit }, at) => {
      const known = shared.find((s) => sameUnit(s.unit, unit))?.reg;
      const reg = known ?? loadUnit(b, d.key, unit);
      if (at === order.length - 1) b.branch("eq", reg, unit.value | 0, target, next, "else", 32);
      else if (known === undefined) b.unless("ne", reg, unit.value | 0, next, 32);
      // Of a register that later rules look at the verifier must not learn the value: there are as many states as values.
      else b.unless("ne", b.alu("xor", reg, unit.value | 0, "difference", 32), 0, next, 32);
    });
    b.place(next);
  });
};

const wordOf = (bytes: Uint8Array, word: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getBigUint64(8 * word, true);

const operand = (pattern: bigint): number | bigint => {
  const signed = BigInt.asIntN(64, pattern);
  return BigInt.asIntN(32, signed) === signed ? Number(signed) : pattern;
};

/** Words of the state in which a mask has bits. */
export const wordsOf = (mask: Uint8Array): number[] =>
  Array.from({ length: mask.length >>> 3 }, (_, w) => w).filter((w) => wordOf(mask, w) !== 0n);

/** Sets `rank` to that of the packet's key in the part, and goes to `otherwise` when it has none. */
const emitHash = (
  d: Direct,
  { id, wants }: FindTable,
  part: HashPart,
  at: number,
  rank: VReg,
  otherwise: BlockId,
): void => {
  const { b } = d;
  const words = wordsOf(part.mask);
  const keys = part.ranks.map((r) => BigUint64Array.from(words, (w) => wordOf(wants[r]!.value, w)));
  const hash = perfectHash(keys, part.ranks);
  const map = `t${id}_${at}`;
  d.maps.push(rodata(map, hash.bytes));
  const key = words.map((w) => {
    const mask = wordOf(part.mask, w);
    const loaded = b.load("u64", d.key, 8 * w, "word");
    return mask === (1n << 64n) - 1n ? loaded : b.alu("and", loaded, operand(mask), "masked");
  });
  const h = b.value("hash", hash.seed);
  const multiplier = b.value("multiplier", WORD_MULTIPLIER);
  const mix = (): void => {
    b.aluTo("mul", h, multiplier);
    b.aluTo("xor", h, b.alu("rsh", h, 32, "high"));
  };
  for (const word of key) {
    b.aluTo("xor", h, word);
    mix();
  }
  mix();
  const bucket = b.alu("and", h, 2 ** hash.bucketBits - 1, "bucket");
  const displacement = b.load("u16", element(b, map, hash.displacementsAt, bucket, 2), 0, "displacement");
  const slot = b.alu("xor", b.alu("rsh", h, 32, "high"), displacement, "slot", 32);
  b.aluTo("mul", slot, SLOT_MULTIPLIER, 32);
  b.aluTo("rsh", slot, 32 - hash.slotBits, 32);
  const entry = element(b, map, 0, slot, 8 * (words.length + 1));
  key.forEach((word, i) => b.unless("ne", b.load("u64", entry, 8 * i, "key"), word, otherwise));
  b.loadTo(rank, "u32", entry, 8 * words.length);
};

/** The first bits of a member. */
const ROOT_OF: Readonly<Record<StrideTrie["rootBits"], (d: Direct, off: number) => VReg>> = {
  8: ({ b, key }, off) => b.load("u8", key, off, "root"),
  16: ({ b, key }, off) => b.swap(16, b.load("u16", key, off, "root"), "root"),
  20: ({ b, key }, off) => b.alu("rsh", b.swap(32, b.load("u32", key, off, "root"), "root"), 12, "root"),
};

/** Sets `rank` to that of the packet's prefix in the part, NO_RANK for none; `otherwise` when the rest does not match. */
const emitTrie = (d: Direct, { id }: FindTable, part: TriePart, at: number, rank: VReg, otherwise: BlockId): void => {
  const { b } = d;
  const trie = strideTrie(part.prefixes);
  const map = `t${id}_${at}`;
  const { entries, rootBits, depth } = trie;
  if (!d.maps.some(({ name }) => name === map))
    d.maps.push(rodata(map, new Uint8Array(entries.buffer, 0, 4 * entries.length)));
  require(d, part.rest, otherwise);
  const leaf = b.block("leaf");
  const entry = b.reg("entry");
  const root = b.value("root", ROOT_OF[rootBits](d, part.field.off));
  // Never taken: Linux 6.1 knows nothing of a swapped number.
  if (rootBits > 8) b.unless("ge", root, 2 ** rootBits, otherwise);
  b.loadTo(entry, "u32", element(b, map, 0, root, 4), 0);
  for (let level = 0; level < depth; level++) {
    b.unless("set", entry, LEAF | 0, leaf, 32);
    const bit = rootBits + 4 * level;
    const byte = b.load("u8", d.key, part.field.off + (bit >>> 3), "byte");
    const nibble = bit % 8 === 0 ? b.alu("rsh", byte, 4, "nibble") : b.alu("and", byte, 15, "nibble");
    const index = b.alu("add", entry, nibble, "index");
    // Never taken: tells the verifier that the index lies within the trie.
    b.unless("ge", index, entries.length, otherwise);
    b.loadTo(entry, "u32", element(b, map, 0, index, 4), 0);
  }
  b.jump(leaf);
  b.place(leaf);
  b.mov(rank, b.alu("and", entry, NO_RANK, "rank"));
};

/** Where the look-up of a table goes. */
export interface Found {
  /** A rule known at compile time. */
  readonly rank: (rank: number) => BlockId;
  /** A rule whose rank is in a register; it is below the number of rules. Placed as the current block. */
  readonly any: (rank: VReg) => void;
  readonly miss: BlockId;
}

/** Emits the look-up; every path ends in `to`. */
export const emitFind = (d: Direct, table: FindTable, to: Found): void => {
  const { b } = d;
  const { parts } = table;
  if (parts.every(({ kind }) => kind === "code")) {
    for (const part of parts) emitCode(d, table, part as CodePart, to.rank);
    b.jump(to.miss);
    return;
  }
  const best = b.value("best", NO_RANK);
  const done = b.block("found");
  parts.forEach((part, at) => {
    const isFirst = at === 0;
    const isLast = at === parts.length - 1;
    const next = b.block("next_part");
    // What stands already may be better than anything here.
    if (!isFirst) b.unless("le", best, bestRank(part), done);
    // The first part finds the best so far, whatever it is.
    const rank = isFirst ? best : b.reg("rank");
    const better = isFirst ? next : b.block("better");
    if (part.kind === "code") {
      const blocks: { block: BlockId; rank: number }[] = [];
      emitCode(d, table, part, (r) => {
        const block = b.block("rule");
        blocks.push({ block, rank: r });
        return block;
      });
      b.jump(next);
      for (const { block, rank: r } of blocks) {
        b.place(block);
        b.mov(rank, hidden(d, r, "rank"));
        b.jump(better);
      }
    } else {
      if (part.kind === "hash") emitHash(d, table, part, at, rank, next);
      else emitTrie(d, table, part, at, rank, next);
      b.jump(better);
    }
    if (!isFirst) {
      b.place(better);
      const take = b.block("take");
      b.branch("lt", rank, best, take, next);
      b.place(take);
      b.mov(best, rank);
    }
    b.place(next);
    // Whatever the parts so far have found: what follows is verified once.
    if (!isLast) forget(d, best, NO_RANK);
  });
  b.place(done);
  b.unless("ge", best, table.wants.length, to.miss);
  to.any(best);
};
