// Emits operations on the flow in hand. Constants are immediates where a rule is known at compile time; where its rank is in
// a register, they come from the table's records.

import { pieces, sizeOf } from "../datapath/emit.js";
import type { BlockId, Operand, VReg } from "../ir/types.js";
import { FLOW, type Member } from "../openflow/flow.js";
import { VLAN_PRESENT } from "../openflow/numbers.js";
import { ETH_TYPE } from "../packet/headers.js";
import { be16 } from "../datapath/emit.js";
import { DIRTY, fieldOf, hidden, loadUnit, type Direct } from "./emit.js";
import { writtenBy, type Bits, type Needs, type Op } from "./ops.js";
import type { KeyField } from "../datapath/key.js";

/** Where the arguments of an operation are. */
export type Args =
  /** In the operation itself. */
  | { readonly from: "op" }
  /** In the record of the rule; `at` is the byte offset of this operation's. */
  | { readonly from: "record"; readonly record: VReg; readonly at: number };

type SetOp = Extract<Op, { readonly op: "set" }>;

const GROUP_OF: Readonly<Partial<Record<Member, number>>> = {
  dl_dst: DIRTY.l2,
  dl_src: DIRTY.l2,
  // An address of IP, or of ARP.
  nw_src: DIRTY.address | DIRTY.arp,
  nw_dst: DIRTY.address | DIRTY.arp,
  ipv6_src: DIRTY.address,
  ipv6_dst: DIRTY.address,
  nw_tos: DIRTY.other,
  nw_ttl: DIRTY.other,
  ipv6_label: DIRTY.other,
  nw_proto: DIRTY.arp,
  arp_sha: DIRTY.arp,
  arp_tha: DIRTY.arp,
  tp_src: DIRTY.l4,
  tp_dst: DIRTY.l4,
  vlan0_tpid: DIRTY.tags,
  vlan0_tci: DIRTY.tags,
  vlan1_tpid: DIRTY.tags,
  vlan1_tci: DIRTY.tags,
};

/** {@link DIRTY} bits of a member: what of the packet must be looked at once it is written; 0 for registers. */
export const dirtyOf = (member: Member): number => GROUP_OF[member] ?? 0;

const markDirty = (d: Direct, op: Op): void => {
  const bits = writtenBy(op).reduce((all, member) => all | dirtyOf(member), 0);
  if (bits !== 0) d.b.aluTo("or", d.dirty, hidden(d, bits, "dirty_bits"));
};

/** Goes to `otherwise` unless one alternative holds. */
const emitNeeds = (d: Direct, needs: Needs, otherwise: BlockId): void => {
  const { b } = d;
  if (needs.some((all) => all.length === 0)) return;
  const met = b.block("has_field");
  for (const all of needs) {
    const next = b.block("");
    for (const { member, value, mask } of all) {
      const { off, size } = fieldOf(d, member);
      const swap = (x: number): number => (size === 1 ? x : be16(x));
      const unit = { off, size: size as 1 | 2, mask: swap(mask) };
      b.unless("ne", loadUnit(b, d.key, unit), swap(value), next, 32);
    }
    b.jump(met);
    b.place(next);
  }
  b.jump(otherwise);
  b.place(met);
};

/** Bytes of a piece as a little-endian number. */
const pieceOf = (bytes: Uint8Array, at: number, n: number): bigint => {
  let value = 0n;
  for (let i = n - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i]!);
  return value;
};

const asOperand = (value: bigint): Operand => {
  const signed = BigInt.asIntN(64, value);
  return BigInt.asIntN(32, signed) === signed ? Number(signed) : value;
};

/** `value` as the program is to store it: hidden from the verifier, which would tell paths apart by it. */
const stored = (d: Direct, value: bigint): VReg => {
  const made = d.b.alu("xor", d.len, asOperand(value), "constant");
  d.b.aluTo("xor", made, d.len);
  return made;
};

const emitSet = (d: Direct, op: SetOp, args: Args): void => {
  const { b, key } = d;
  const field = fieldOf(d, op.member);
  for (const { at, bytes } of pieces(field.off, field.size)) {
    const mask = pieceOf(op.mask, at, bytes);
    if (mask === 0n) continue;
    const size = sizeOf(bytes);
    const value =
      args.from === "op"
        ? stored(d, pieceOf(op.value, at, bytes))
        : b.load(size, args.record, args.at + at, "argument");
    if (mask !== (1n << BigInt(8 * bytes)) - 1n) {
      const kept = b.alu("and", b.load(size, key, field.off + at, "old"), asOperand(BigInt.asUintN(64, ~mask)), "kept");
      b.aluTo("or", value, kept);
    }
    b.store(size, key, field.off + at, value);
  }
  if (op.member === "vlan0_tci") fixTpid(d);
};

/** Whoever writes a TCI gives the tag a TPID when it has none. */
const fixTpid = (d: Direct): void => {
  const { b } = d;
  const tpid = fieldOf(d, "vlan0_tpid");
  const fixed = b.block("has_tpid");
  b.unless("ne", b.load("u16", d.key, tpid.off, "tpid"), 0, fixed);
  b.unless("eq", b.load("u16", d.key, fieldOf(d, "vlan0_tci").off, "tci"), 0, fixed);
  b.store("u16", d.key, tpid.off, hidden(d, be16(ETH_TYPE.VLAN)));
  b.place(fixed);
};

/** A run of bits within one aligned 32-bit word of the state. */
interface Chunk {
  readonly word: number;
  /** Bits to the right of it in the word, as a big-endian number. */
  readonly shift: number;
}

/** Where bit `i` of a run lies: its word, and how many bits of the word come before it. */
const placeOf = (field: KeyField, from: number): { word: number; before: number } => {
  const bit = 8 * field.off + from;
  return { word: (bit >>> 5) * 4, before: bit & 31 };
};

const chunkAt = (field: KeyField, from: number, bits: number): Chunk => {
  const { word, before } = placeOf(field, from);
  return { word, shift: 32 - before - bits };
};

const ones = (bits: number): number => (bits === 32 ? -1 : (1 << bits) - 1);

const emitMove = (d: Direct, src: Bits, dst: Bits): void => {
  const { b, key } = d;
  const [from, to] = [fieldOf(d, src.member), fieldOf(d, dst.member)];
  const parts: { value: VReg; chunk: Chunk; bits: number }[] = [];
  for (let done = 0; done < dst.bits;) {
    const left = dst.bits - done;
    const room = (field: KeyField, start: number): number => 32 - placeOf(field, start + done).before;
    const bits = Math.min(left, room(from, src.from), room(to, dst.from));
    const source = chunkAt(from, src.from + done, bits);
    const word = b.swap(32, b.load("u32", key, source.word, "source"), "source");
    const shifted = source.shift === 0 ? word : b.alu("rsh", word, source.shift, "moved", 32);
    const value = bits === 32 ? shifted : b.alu("and", shifted, ones(bits), "moved", 32);
    parts.push({ value, chunk: chunkAt(to, dst.from + done, bits), bits });
    done += bits;
  }
  // Written after all is read: the two may overlap.
  for (const { value, chunk, bits } of parts) {
    const old = b.swap(32, b.load("u32", key, chunk.word, "old"), "old");
    const kept = bits === 32 ? 0 : b.alu("and", old, ~(ones(bits) << chunk.shift), "kept", 32);
    const placed = chunk.shift === 0 ? value : b.alu("lsh", value, chunk.shift, "placed", 32);
    b.store(
      "u32",
      key,
      chunk.word,
      b.swap(32, kept === 0 ? placed : b.alu("or", kept, placed, "merged", 32), "merged"),
    );
  }
};

const tagAt = (d: Direct, i: 0 | 1): number => fieldOf(d, i === 0 ? "vlan0_tpid" : "vlan1_tpid").off;

/** {@link VLAN_PRESENT} of a tag loaded as 32 bits, TPID first. */
export const TAG_PRESENT = be16(VLAN_PRESENT) << 16;

const popTag = (d: Direct): void => {
  const { b, key } = d;
  const done = b.block("popped");
  const one = b.block("one_tag");
  const inner = b.load("u32", key, tagAt(d, 1), "inner");
  b.unless("eq", b.alu("and", inner, TAG_PRESENT, "present", 32), 0, one);
  const outer = b.load("u32", key, tagAt(d, 0), "outer");
  // With two tags the inner one moves out.
  b.unless("eq", b.alu("and", outer, TAG_PRESENT, "present", 32), 0, done);
  b.store("u32", key, tagAt(d, 0), inner);
  b.store("u32", key, tagAt(d, 1), hidden(d, 0));
  b.jump(done);
  b.place(one);
  b.unless("eq", b.alu("and", b.load("u32", key, tagAt(d, 0), "outer"), TAG_PRESENT, "present", 32), 0, done);
  b.store("u32", key, tagAt(d, 0), hidden(d, 0));
  b.place(done);
};

const pushTag = (d: Direct, tpid: number): void => {
  const { b, key } = d;
  b.store("u32", key, tagAt(d, 1), b.load("u32", key, tagAt(d, 0), "outer"));
  b.store("u32", key, tagAt(d, 0), hidden(d, be16(tpid) | TAG_PRESENT, "tag"));
};

const decTtl = (d: Direct): void => {
  const { b, key } = d;
  const { off } = fieldOf(d, "nw_ttl");
  const ttl = b.load("u8", key, off, "ttl");
  // A packet whose time is over goes to the controller.
  b.unless("le", ttl, 1, d.slow);
  b.store("u8", key, off, b.alu("sub", ttl, 1, "ttl"));
};

/** An operation that writes the flow in hand. */
export type EditOp = Extract<Op, { readonly op: "set" | "move" | "push_vlan" | "pop_vlan" | "dec_ttl" }>;

export const isEdit = (op: Op): op is EditOp =>
  op.op === "set" || op.op === "move" || op.op === "push_vlan" || op.op === "pop_vlan" || op.op === "dec_ttl";

/** Emits one edit; goes on in the current block. */
export const emitEdit = (d: Direct, op: EditOp, args: Args): void => {
  const { b } = d;
  const done = b.block("edited");
  if ("needs" in op) emitNeeds(d, op.needs, done);
  switch (op.op) {
    case "set":
      emitSet(d, op, args);
      break;
    case "move":
      emitMove(d, op.src, op.dst);
      break;
    case "push_vlan":
      pushTag(d, op.tpid);
      break;
    case "pop_vlan":
      popTag(d);
      break;
    case "dec_ttl":
      decTtl(d);
      break;
  }
  markDirty(d, op);
  b.place(done);
};

/** Bytes that the arguments of an operation take in a record, and the alignment that its pieces want. */
export const argSize = (d: Pick<Direct, "plan">, op: Op): { size: number; phase: number } => {
  if (op.op === "set") {
    const { off, size } = d.plan.key.fields.find(({ member }) => member === op.member)!;
    return { size, phase: off % 8 };
  }
  return op.op === "output" || op.op === "write_output" || op.op === "meter"
    ? { size: 4, phase: -1 }
    : { size: 0, phase: -1 };
};

/** What of an operation is code, not argument. */
export const codeOf = (op: Op): string => {
  const needs = "needs" in op ? JSON.stringify(op.needs) : "";
  switch (op.op) {
    case "set":
      return `set ${op.member}/${op.mask.join()} ${needs}`;
    case "move":
      return `move ${JSON.stringify([op.src, op.dst])} ${needs}`;
    case "push_vlan":
      return `push ${op.tpid}`;
    case "resubmit":
      return `resubmit ${op.table},${op.inPort ?? ""}`;
    case "slow":
      return "slow";
    case "write_output":
      return typeof op.port === "number" ? "write_output" : `write_output ${op.port ?? "none"}`;
    default:
      return `${op.op} ${needs}`;
  }
};

/** {@link codeOf} with the arguments: operations with the same text do the same. */
export const textOf = (op: Op): string => {
  const code = codeOf(op);
  if (op.op === "set") return `${code} ${op.value.join()}`;
  if (op.op === "output" || op.op === "write_output") return `${code} ${op.port ?? ""}`;
  if (op.op === "meter") return `${code} ${op.slot}`;
  return op.op === "slow" ? `${code} ${op.why}` : code;
};

/** Bits of a member. */
export const widthOf = (member: Member): number => FLOW[member].bits;
