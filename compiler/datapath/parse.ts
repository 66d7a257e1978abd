// Emits the packet parser: fills the full key from the packet, by the rules at the head of compiler/packet/extract.ts, and
// nothing beyond the members that the plan's key holds; and finds the headers that the action shapes rewrite. What is
// costly in BPF and rare in packets (long chains of IPv6 extension headers, many ND options, headers beyond the linear part
// of an skb) is handed to user space as a miss.
//
// Most packets are untagged IPv4 without options: they go through a parser of their own, in which every offset is a
// constant (parse-common.ts). Whatever differs goes through the general one, which starts over.
//
// Pointers: `l3` and `l4` are packet pointers, each checked once per header. Sizes: `size` counts what is left of the packet
// by its own length fields, as OVS counts it; the linear part may end earlier, which is no property of the packet.

import type { BlockId } from "../ir/types.js";
import type { Member } from "../openflow/flow.js";
import { ETH_TYPE } from "../packet/headers.js";
import { be16, clearKey, forget, rereadPacket, wants, type Emit, type Family } from "./emit.js";
import { emitHashes } from "./hash.js";
import { parseCommon } from "./parse-common.js";
import { parseL2, type L2 } from "./parse-l2.js";
import { ARP_MEMBERS, IPV4_MEMBERS, IPV6_MEMBERS, parseArp, parseIpv4, parseIpv6, type L3 } from "./parse-l3.js";
import { L4_MEMBERS, ND_MEMBERS, parseL4, type L4 } from "./parse-l4.js";
import { MPLS_MEMBERS, NSH_MEMBERS, parseMpls, parseNsh } from "./parse-shim.js";

/** Members that every path through the general parser stores. */
const ALWAYS: ReadonlySet<Member> = new Set(["in_port", "dl_type", "dl_dst", "dl_src"]);

/** Frames with and without tags are verified once from here on. */
const makeL3 = (e: Emit, l2: L2): L3 => {
  forget(e, l2.l3Off);
  return { ...l2, l3: e.b.alu("add", e.data, l2.l3Off, "l3") };
};

/** Parses one family; ends at `done`, or at `l4Block`, when there is one, for packets with an L4 header. */
type Parse = (e: Emit, l3: L3, l4: L4, l4Block: BlockId | undefined, done: BlockId) => void;

/** {@link Parse} of a family without L4. */
const alone =
  (parse: (e: Emit, l3: L3, done: BlockId) => void): Parse =>
  (e, l3, _l4, _l4Block, done) =>
    parse(e, l3, done);

interface Row {
  /** Whose headers rewriting may have to find; none for what is only looked at. */
  readonly family?: Family;
  readonly types: readonly number[];
  readonly members: readonly Member[];
  readonly parse: Parse;
}

const FAMILIES: readonly Row[] = [
  { family: "ipv4", types: [ETH_TYPE.IPV4], members: IPV4_MEMBERS, parse: parseIpv4 },
  { family: "ipv6", types: [ETH_TYPE.IPV6], members: IPV6_MEMBERS, parse: parseIpv6 },
  { family: "arp", types: [ETH_TYPE.ARP, ETH_TYPE.RARP], members: ARP_MEMBERS, parse: parseArp },
  { types: [ETH_TYPE.MPLS, ETH_TYPE.MPLS_MCAST], members: MPLS_MEMBERS, parse: alone(parseMpls) },
  { types: [ETH_TYPE.NSH], members: NSH_MEMBERS, parse: alone(parseNsh) },
];

/** Emits the whole parser; goes on in the current block with the key filled in and `e.found` set. */
export const emitParser = (e: Emit): void => {
  const { b } = e;
  const done = b.block("parsed");
  const wanted = FAMILIES.filter(
    ({ family, members }) => (family !== undefined && e.needs.families.has(family)) || wants(e, ...members),
  );
  if (wanted.some(({ family }) => family === "ipv4")) {
    parseCommon(e, done);
    rereadPacket(e);
  }
  clearKey(e, ALWAYS);
  for (const register of [e.found.l3, e.found.l4]) b.mov(register, 0);
  if (wanted.length === 0) {
    parseL2(e, ETH_TYPE.IPV4);
    b.place(done);
    return;
  }
  const l2 = parseL2(e);
  const l4: L4 = { proto: b.reg("proto"), off: b.reg("l4_off"), size: b.reg("l4_size") };
  const l4Block = e.needs.l4 || wants(e, ...L4_MEMBERS, ...ND_MEMBERS) ? b.block("l4") : undefined;
  const l3 = makeL3(e, l2);
  for (const { types, parse } of wanted) {
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
  emitHashes(e);
};
