// What the parts of a datapath program share while it is being emitted, and the small idioms of packet access.

import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Size, Slot, VReg } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { tunnelPartOf, type KeyField } from "./key.js";
import type { DatapathPlan } from "./plan.js";

/** L3 protocols that packets are rewritten in. */
export type Family = "ipv4" | "ipv6" | "arp";

/** Headers that the parser has to have found for what comes after the look-up, besides those that the key is made of. */
export interface Needs {
  readonly families: ReadonlySet<Family>;
  readonly l4: boolean;
}

/**
 * What the parser has found out about where headers are, for rewriting them; mutable registers, 0 where the parser has not
 * found a header that is whole by its own length fields.
 */
export interface Found {
  /** Offset of an IPv4, IPv6 or ARP header in the linear data. */
  readonly l3: VReg;
  /** Offset of the header behind it, which is no later fragment's. */
  readonly l4: VReg;
}

/** One datapath program under construction. */
export interface Emit {
  readonly b: IrBuilder;
  readonly plan: DatapathPlan;
  /** The full key on the stack. */
  readonly key: Slot;
  /** The packet's bounds, without outer headers; read anew after a call that moves them, and where keeping them would cost more. */
  data: VReg;
  dataEnd: VReg;
  /** Bytes of the packet, without a tag held in skb metadata. */
  readonly len: VReg;
  readonly ifindex: VReg;
  /** In programs for tunnels: what stands for the port in the key, the interface index or a tunnel's number (abi.ts). */
  inPort?: VReg;
  /** In programs for tunnels: bytes of outer headers before the packet, 0 for most. */
  outer?: VReg;
  readonly needs: Needs;
  readonly found: Found;
  /** What an output is: a redirect (default), or {@link NIC_OUTPUT} on a NIC, which has no other port. */
  readonly outputs?: "redirect" | "nic";
  /** Hands the packet to user space as a miss. */
  readonly miss: BlockId;
  /** Hands the packet to user space for the actions of a known megaflow. */
  readonly slow: BlockId;
  readonly drop: BlockId;
}

/** A 16-bit number as a load in host (little-endian) order sees it in a packet. */
export const be16 = (x: number): number => ((x & 0xff) << 8) | (x >>> 8);

/** A 32-bit number as a load in host (little-endian) order sees it in a packet; a signed 32-bit immediate. */
export const be32 = (x: number): number => (be16(x & 0xffff) << 16) | be16(x >>> 16);

const SIZE_NAMES: Readonly<Record<number, Size>> = { 1: "u8", 2: "u16", 4: "u32", 8: "u64" };

/** Load and store size of so many bytes. */
export const sizeOf = (bytes: number): Size => SIZE_NAMES[bytes]!;

/** Cuts `n` bytes at an offset into naturally aligned pieces of 8, 4, 2 and 1 bytes, as stack stores need them. */
export const pieces = (off: number, n: number): { at: number; bytes: number }[] => {
  const out: { at: number; bytes: number }[] = [];
  for (let at = 0; at < n;) {
    let bytes = 8;
    while (bytes > n - at || (off + at) % bytes !== 0) bytes >>>= 1;
    out.push({ at, bytes });
    at += bytes;
  }
  return out;
};

/** Place of a member in the full key, if the plan has it. */
export const keyField = (e: Emit, member: Member): KeyField | undefined =>
  e.plan.key.fields.find((f) => f.member === member);

/** Where the packet begins now. */
export const packetStart = ({ b, outer }: Pick<Emit, "b" | "outer">): VReg =>
  outer === undefined ? b.ctx("data") : b.alu("add", b.ctx("data"), outer, "frame");

/** Reads the packet's bounds anew. */
export const rereadPacket = (e: Emit): void => {
  e.data = packetStart(e);
  e.dataEnd = e.b.ctx("data_end");
};

/** Whether any of the members is in the key. */
export const wants = (e: Emit, ...members: readonly Member[]): boolean =>
  members.some((m) => keyField(e, m) !== undefined);

/** Stores a register that holds network-order bytes as the member's value. */
export const putRegister = (e: Emit, member: Member, value: VReg | number): void => {
  const field = keyField(e, member);
  if (field !== undefined) e.b.store(sizeOf(field.size), e.key, field.off, value);
};

/**
 * Copies members from the packet into the key, joining those that are adjacent in both.
 * @param base - packet pointer, checked for all of the offsets
 * @param from - member and its byte offset from `base`, in packet order
 */
export const copyMembers = (e: Emit, base: VReg, from: readonly (readonly [Member, number])[]): void => {
  const runs: { packet: number; key: number; size: number }[] = [];
  for (const [member, packet] of from) {
    const field = keyField(e, member);
    if (field === undefined) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.packet + last.size === packet && last.key + last.size === field.off)
      last.size += field.size;
    else runs.push({ packet, key: field.off, size: field.size });
  }
  for (const run of runs) {
    for (const { at, bytes } of pieces(run.key, run.size)) {
      const value = e.b.load(sizeOf(bytes), base, run.packet + at, "copied");
      e.b.store(sizeOf(bytes), e.key, run.key + at, value);
    }
  }
};

/** Goes to `otherwise` unless `bytes` bytes at `pointer` are in the packet's linear part. */
export const need = (e: Emit, pointer: VReg, bytes: number, otherwise: BlockId, dataEnd: VReg = e.dataEnd): void => {
  const end = e.b.alu("add", pointer, bytes, "need");
  e.b.unless("gt", end, dataEnd, otherwise);
};

/**
 * Zeroes the 8-byte words of the key that are not wholly members of `stored`, padding included. Words that are written in
 * pieces are put together in registers (passes/promote-slots.ts): the verifier does not keep paths apart by which of their
 * bytes were overwritten.
 */
export const clearKey = (e: Emit, stored: ReadonlySet<Member>): void => {
  // What is known of a tunnel is there already.
  const end = e.outer === undefined ? e.plan.key.size : tunnelPartOf(e.plan.key);
  for (let word = 0; word < end; word += 8) {
    const written = e.plan.key.fields
      .filter((f) => stored.has(f.member))
      .reduce((n, f) => n + Math.max(0, Math.min(f.off + f.size, word + 8) - Math.max(f.off, word)), 0);
    if (written < 8) e.b.store("u64", e.key, word, 0);
  }
};

/**
 * Makes the verifier forget what it knows of a small number, so that paths which differ only in it are verified once from
 * here on: it knows nothing of the packet's length, nor then of the exclusive or with it, taken twice. (Going through the
 * stack instead costs a failed store forwarding, 5 ns, each time.)
 *
 * @param value - keeps its value
 * @param mask - bits that it can have; by default those of an offset in a packet (the verifier bounds them by 65,535,
 *   headers included)
 */
export const forget = ({ b, len }: Pick<Emit, "b" | "len">, value: VReg, mask = 0x3fff): void => {
  b.aluTo("xor", value, len);
  b.aluTo("xor", value, len);
  b.aluTo("and", value, mask);
};

/**
 * A copy of the packet's length to compare: what the verifier learns of it, it does not learn of the length, of which it must
 * know nothing ({@link forget}).
 */
export const lengthCopy = ({ b, len, ifindex }: Pick<Emit, "b" | "len" | "ifindex">): VReg => {
  const copy = b.alu("xor", len, ifindex, "length");
  b.aluTo("xor", copy, ifindex);
  return copy;
};

/** Bytes of the packet from `off` on, to compare. */
export const leftFrom = (e: Emit, off: VReg | number): VReg => e.b.alu("sub", lengthCopy(e), off, "left");
