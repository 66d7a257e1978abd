// A routing table of N prefixes, spread over all addresses, of lengths as the Internet's table has them; and the three
// forms in which hand-written programs want it. Flow i goes to an address under prefix i.

import { RangeViolation } from "ebpf-assembler";
import { AT, ipText, wordOf, type Vary } from "../datapath/packet.js";

/** Odd, so that addresses differ; the golden ratio, so that they spread. */
const STEP = 0x9e37_79b1;

export const ROUTED: Vary = { at: AT.nwDst, base: 0x0100_0000, parts: [{ step: STEP }] };

/** Of 64 prefixes so many are of a length: about the shares of a full table, with some host routes. */
const LENGTHS: readonly number[] = [
  [24, 38],
  [23, 6],
  [22, 7],
  [21, 3],
  [20, 3],
  [19, 2],
  [18, 1],
  [17, 1],
  [16, 1],
  [28, 1],
  [32, 1],
].flatMap(([length, n]) => Array.from({ length: n! }, () => length!));

export interface Route {
  /** Host order, zero beyond the length. */
  readonly prefix: number;
  readonly length: number;
  /** 0 to {@link NEXT_HOPS} - 1. */
  readonly hop: number;
}

export const NEXT_HOPS = 16;

/** The next hop's address, and ours on the way to it. */
export const hopMacs = (hop: number): { readonly dst: string; readonly src: string } => ({
  dst: `02:00:ee:00:01:${hop.toString(16).padStart(2, "0")}`,
  src: "02:00:ee:00:00:02",
});

/** `n` prefixes, a default route among them; fewer when two would be the same. */
export const makeRoutes = (n: number): Route[] => {
  const seen = new Set<number>();
  const routes: Route[] = [];
  for (let i = 0; i < n - 1; i++) {
    // A fixed shuffle of the lengths: neighbours in the table are not of one kind.
    const length = LENGTHS[(i * 29) % LENGTHS.length]!;
    const prefix = (wordOf(ROUTED, i) & (-1 << (32 - length))) >>> 0;
    const id = prefix * 64 + length;
    if (seen.has(id)) continue;
    seen.add(id);
    routes.push({ prefix, length, hop: i % NEXT_HOPS });
  }
  routes.push({ prefix: 0, length: 0, hop: 0 });
  return routes;
};

export const routeFlow = ({ prefix, length, hop }: Route, outPort: number): string => {
  const { src, dst } = hopMacs(hop);
  const to = length === 0 ? "" : `,nw_dst=${ipText(prefix)}/${length}`;
  return `priority=${length},ip${to},actions=mod_dl_src:${src},mod_dl_dst:${dst},dec_ttl,output:${outPort}`;
};

/** DIR-24-8 as bench/c/route.bpf.c reads it. */
export interface Dir248 {
  readonly top: Uint32Array;
  readonly groups: Uint32Array;
}

const TOP_BITS = 24;
const GROUP = 256;
const IS_GROUP = 0x8000_0000;

/** Entries are route numbers from 1, in the order of `routes`. */
export const makeDir248 = (routes: readonly Route[]): Dir248 => {
  const top = new Uint32Array(1 << TOP_BITS);
  const groups: number[] = [];
  const order = routes.map((_, i) => i).sort((a, b) => routes[a]!.length - routes[b]!.length);
  for (const i of order) {
    const { prefix, length } = routes[i]!;
    const first = prefix >>> 8;
    if (length <= TOP_BITS) {
      top.fill(i + 1, first, first + 2 ** (TOP_BITS - length));
      continue;
    }
    // Longer ones come last: what they share a group with is there already.
    if (top[first]! < IS_GROUP) {
      const under = top[first]!;
      top[first] = (IS_GROUP | (groups.length / GROUP)) >>> 0;
      for (let j = 0; j < GROUP; j++) groups.push(under);
    }
    const at = (top[first]! & ~IS_GROUP) * GROUP + (prefix & 0xff);
    for (let j = 0; j < 2 ** (32 - length); j++) groups[at + j] = i + 1;
  }
  if (groups.length >= IS_GROUP) throw new RangeViolation(`Too many groups: ${groups.length / GROUP}`);
  return { top, groups: Uint32Array.from(groups) };
};
