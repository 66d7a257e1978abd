// Emits the hashes of a packet (packet/dp-hash.ts) from the members that they follow from, once these are in the key.
//
//   %h = 0
//   for each word of the addresses: add; add protocol; add ports, if the protocol has some that count
//   finish; store

import type { BlockId, Size, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { HASH_MEMBERS, L4_HASH_FINAL, L4_HASH_PROTOS, SYM_L4_HASH_PROTOS, type HashMember } from "../packet/dp-hash.js";
import { ETH_TYPE } from "../packet/headers.js";
import { MURMUR } from "../packet/murmur.js";
import { be16, keyField, putRegister, wants, type Emit } from "./emit.js";

const turned = ({ b }: Emit, x: VReg, by: number): VReg =>
  b.alu("or", b.alu("lsh", x, by, "high", 32), b.alu("rsh", x, 32 - by, "low", 32), "turned", 32);

/** Adds a word of zeros. */
const stir = (e: Emit, hash: VReg): void => {
  const { b } = e;
  b.mov(hash, turned(e, hash, MURMUR.hashTurn));
  b.aluTo("mul", hash, MURMUR.times, 32);
  b.aluTo("add", hash, MURMUR.plus, 32);
};

const add = (e: Emit, hash: VReg, word: VReg): void => {
  const { b } = e;
  const mixed = turned(e, b.alu("mul", word, MURMUR.before, "mixed", 32), MURMUR.turn);
  b.aluTo("mul", mixed, MURMUR.after, 32);
  b.aluTo("xor", hash, mixed, 32);
  stir(e, hash);
};

const fold = ({ b }: Emit, hash: VReg, shift: number): void =>
  b.aluTo("xor", hash, b.alu("rsh", hash, shift, "fold", 32), 32);

const finish = (e: Emit, hash: VReg, final: number): void => {
  if (final !== 0) e.b.aluTo("xor", hash, final, 32);
  for (const { shift, times } of MURMUR.finish) {
    fold(e, hash, shift);
    e.b.aluTo("mul", hash, times, 32);
  }
  fold(e, hash, MURMUR.lastShift);
};

/** A piece of a member, as it lies in the packet. */
const load = (e: Emit, size: Size, member: Member, off = 0): VReg =>
  e.b.load(size, e.key, keyField(e, member)!.off + off, member);

/** Adds the addresses, of 4 bytes or 16. */
type AddAddresses = (e: Emit, hash: VReg, src: Member, dst: Member, words: number) => void;

const addEach: AddAddresses = (e, hash, src, dst, words) => {
  for (const member of [src, dst]) for (let i = 0; i < words; i++) add(e, hash, load(e, "u32", member, 4 * i));
};

const addBoth: AddAddresses = (e, hash, src, dst, words) => {
  for (let i = 0; i < words; i++) {
    const word = load(e, "u32", src, 4 * i);
    e.b.aluTo("xor", word, load(e, "u32", dst, 4 * i), 32);
    add(e, hash, word);
  }
};

interface Recipe {
  readonly addresses: AddAddresses;
  /** Whether fragments keep their ports to themselves. */
  readonly wholeOnly: boolean;
  readonly protos: readonly number[];
  readonly ports: (e: Emit, src: VReg, dst: VReg) => VReg;
  readonly finish: (e: Emit, hash: VReg) => void;
}

const RECIPES: Readonly<Record<HashMember, Recipe>> = {
  hash_l4: {
    addresses: addEach,
    wholeOnly: false,
    protos: L4_HASH_PROTOS,
    ports: ({ b }, src, dst) => b.alu("or", b.alu("lsh", dst, 16, "dst"), src, "ports"),
    finish: (e, hash) => {
      finish(e, hash, L4_HASH_FINAL.tuple);
      // hash_int() of it with a basis of 0.
      stir(e, hash);
      stir(e, hash);
      finish(e, hash, L4_HASH_FINAL.int);
    },
  },
  hash_sym_l4: {
    addresses: addBoth,
    wholeOnly: true,
    protos: SYM_L4_HASH_PROTOS,
    ports: ({ b }, src, dst) => b.alu("xor", src, dst, "ports"),
    finish: (e, hash) => finish(e, hash, 0),
  },
};

const emitHash = (e: Emit, member: HashMember): void => {
  const { b } = e;
  const recipe = RECIPES[member];
  const hash = b.value("hash", 0);
  const [other, six, upper, ports, finishing, done] = ["not_ipv4", "ipv6", "proto", "ports", "finish", "hashed"].map(
    (hint): BlockId => b.block(hint),
  ) as [BlockId, BlockId, BlockId, BlockId, BlockId, BlockId];
  const type = load(e, "u16", "dl_type");
  b.unless("ne", type, be16(ETH_TYPE.IPV4), other);
  recipe.addresses(e, hash, "nw_src", "nw_dst", 1);
  b.jump(upper);
  b.place(other);
  b.branch("eq", type, be16(ETH_TYPE.IPV6), six, done);
  b.place(six);
  recipe.addresses(e, hash, "ipv6_src", "ipv6_dst", 4);
  b.jump(upper);
  b.place(upper);
  const proto = load(e, "u8", "nw_proto");
  add(e, hash, proto);
  if (recipe.wholeOnly) b.unless("set", load(e, "u8", "nw_frag"), 3, finishing);
  for (const each of recipe.protos) b.unless("eq", proto, each, ports);
  b.jump(finishing);
  b.place(ports);
  add(e, hash, recipe.ports(e, load(e, "u16", "tp_src"), load(e, "u16", "tp_dst")));
  b.jump(finishing);
  b.place(finishing);
  recipe.finish(e, hash);
  putRegister(e, member, b.swap(32, hash, "network_order"));
  b.place(done);
};

/** Emits the hashes that the key has; it must hold all that they follow from, and zeros in their place. */
export const emitHashes = (e: Emit): void => {
  for (const member of HASH_MEMBERS) if (wants(e, member)) emitHash(e, member);
};
