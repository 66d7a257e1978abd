// Emits the packet parser: fills the full key from the packet, by the rules at the head of compiler/packet/extract.ts, and
// nothing beyond the members that the plan's key holds. What is costly in BPF and rare in packets (long chains of IPv6
// extension headers, many ND options, headers beyond the linear part of an skb) is handed to user space as a miss.
//
// Pointers: `l3` and `l4` are packet pointers, each checked once per header. Sizes: `size` counts what is left of the packet
// by its own length fields, as OVS counts it; the linear part may end earlier, which is no property of the packet.

import type { BlockId } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { ETH_TYPE } from "../packet/headers.js";
import { be16, forget, wants, type Emit } from "./emit.js";
import { parseL2, type L2 } from "./parse-l2.js";
import { ARP_MEMBERS, IPV4_MEMBERS, IPV6_MEMBERS, parseArp, parseIpv4, parseIpv6, type L3 } from "./parse-l3.js";
import { L4_MEMBERS, ND_MEMBERS, parseL4, type L4 } from "./parse-l4.js";

/** Members that every path through the parser stores: their bytes need no clearing. */
const ALWAYS: ReadonlySet<Member> = new Set(["in_port", "dl_type", "dl_dst", "dl_src"]);

/**
 * Zeroes the 8-byte words of the key that some path leaves unwritten, padding included. The verifier must not know that
 * they are zeros: it would keep paths apart by which bytes they have overwritten.
 */
const clearKey = (e: Emit): void => {
  const zero = e.b.value("zero", 0);
  forget(e, zero);
  for (let word = 0; word < e.plan.key.size; word += 8) {
    const written = e.plan.key.fields
      .filter((f) => ALWAYS.has(f.member))
      .reduce((n, f) => n + Math.max(0, Math.min(f.off + f.size, word + 8) - Math.max(f.off, word)), 0);
    if (written < 8) e.b.store("u64", e.key, word, zero);
  }
};

/** Frames with and without tags are verified once from here on. */
const makeL3 = (e: Emit, l2: L2): L3 => {
  forget(e, l2.l3Off);
  return { ...l2, l3: e.b.alu("add", e.data, l2.l3Off, "l3") };
};

/** Parses one family; ends at `done`, or at `l4Block`, when there is one, for packets with an L4 header. */
type Parse = (e: Emit, l3: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId) => void;

/** Emits the whole parser; goes on in the current block with the key filled in. */
export const emitParser = (e: Emit): void => {
  const { b } = e;
  clearKey(e);
  const l2 = parseL2(e);
  const done = b.block("parsed");
  const families: readonly (readonly [readonly number[], readonly Member[], Parse])[] = [
    [[ETH_TYPE.IPV4], IPV4_MEMBERS, parseIpv4],
    [[ETH_TYPE.IPV6], IPV6_MEMBERS, parseIpv6],
    [[ETH_TYPE.ARP, ETH_TYPE.RARP], ARP_MEMBERS, parseArp],
  ];
  const wanted = families.filter(([, members]) => wants(e, ...members));
  if (wanted.length === 0) {
    b.place(done);
    return;
  }
  const l4: L4 = { proto: b.reg("proto"), off: b.reg("l4_off"), size: b.reg("l4_size") };
  const l4Block = wants(e, ...L4_MEMBERS, ...ND_MEMBERS) ? b.block("l4") : undefined;
  const l3 = makeL3(e, l2);
  for (const [types, , parse] of wanted) {
    const family = b.block("family");
    const next = b.block("");
    for (const type of types.slice(0, -1)) b.unless("eq", l2.type, be16(type), family);
    b.branch("eq", l2.type, be16(types.at(-1)!), family, next);
    b.place(family);
    parse(e, l3, l4, l4Block, done);
    b.place(next);
  }
  b.jump(done);
  if (l4Block !== undefined) {
    b.place(l4Block);
    parseL4(e, l4, done);
  }
  b.place(done);
};
