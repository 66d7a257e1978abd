// OpenFlow actions lowered to what a direct program does to the flow in hand: each operation either writes bits of one
// member, sends, or goes on elsewhere. What no program can do becomes `slow`, with the reason. The meaning of each is that of
// pipeline/xlate, on which fuzz tests hold it.

import { FIELD_BYTES, PREREQUISITES, fieldSpec, writeField, writeFieldMasked } from "../openflow/field-access.js";
import type { Constraint } from "../openflow/field-access.js";
import type { FieldName } from "../openflow/fields.js";
import { FLOW, get, getBits, newFlow, setBytes, type FlowWords, type Member } from "../openflow/flow.js";
import { VLAN_PRESENT } from "../openflow/numbers.js";
import { PORT, type Action, type ActionKind, type Match, type Subfield } from "../openflow/types.js";
import { ETH_TYPE, NW_FRAG } from "../packet/headers.js";
import { orderActionSet } from "../pipeline/action-set.js";
import type { PlainGroup, Tables } from "./tables.js";

/** Alternatives, of which one must hold whole for an operation to have any effect; `[[]]` always holds. */
export type Needs = readonly (readonly Constraint[])[];

/** A group that is passed: all of its buckets, or the one with this index. */
export interface GroupUse {
  readonly group: number;
  readonly bucket: number | undefined;
}

/** Bits of one member, counted from its most significant bit. */
export interface Bits {
  readonly member: Member;
  readonly from: number;
  readonly bits: number;
}

/** What a program does for one action. `value` and `mask` are big-endian and as long as the member. */
export type Op =
  | {
      readonly op: "set";
      readonly member: Member;
      readonly mask: Uint8Array;
      readonly value: Uint8Array;
      readonly needs: Needs;
    }
  | { readonly op: "move"; readonly src: Bits; readonly dst: Bits; readonly needs: Needs }
  | { readonly op: "push_vlan"; readonly tpid: number }
  | { readonly op: "pop_vlan" }
  | { readonly op: "dec_ttl"; readonly needs: Needs }
  /** To a port of the switch, unless the packet came in by it. */
  | { readonly op: "output"; readonly port: number }
  | { readonly op: "output_in_port" }
  /** Looks `table` up and comes back. As the last of a list nothing is left to come back to. */
  | { readonly op: "resubmit"; readonly table: number; readonly inPort: number | undefined }
  /** The action set's output from now on; a port that is none of the switch, or none at all, is undefined. */
  | { readonly op: "write_output"; readonly port: number | "in_port" | undefined }
  /** Meters the packet by a slot (pipeline/meter-table.ts), before it leaves. */
  | { readonly op: "meter"; readonly slot: number }
  /** A group's copy of the packet ends here: what comes after sees the packet as it was before. */
  | { readonly op: "end_copy" }
  /** Only user space can go on. */
  | { readonly op: "slow"; readonly why: string };

export type OpKind = Op["op"];

/** Members whose value an operation may change. */
export const writtenBy = (op: Op): readonly Member[] => {
  switch (op.op) {
    case "set":
      // A tag that comes into being this way gets a TPID.
      return op.member === "vlan0_tci" ? ["vlan0_tci", "vlan0_tpid"] : [op.member];
    case "move":
      return [op.dst.member];
    case "dec_ttl":
      return ["nw_ttl"];
    case "push_vlan":
    case "pop_vlan":
      return ["vlan0_tpid", "vlan0_tci", "vlan1_tpid", "vlan1_tci"];
    default:
      return [];
  }
};

const ALWAYS: Needs = [[]];
const NEVER: Needs = [];
const IS_IP: Needs = PREREQUISITES.ip_any;
const IS_IPV4: Needs = PREREQUISITES.ipv4;
const HAS_PORTS: Needs = PREREQUISITES.ip_any.map((all) => [
  ...all,
  { member: "nw_frag", value: 0, mask: NW_FRAG.LATER },
]);
const IS_TAGGED: Needs = [[{ member: "vlan0_tci", value: VLAN_PRESENT, mask: VLAN_PRESENT }]];

/**
 * Whether a member cannot change between a match and the actions after it, so that a rule that matched it need not look
 * again. The protocol changes with ARP's operation only.
 */
const isStable = (member: Member, match: Match): boolean =>
  member === "dl_type" ||
  member === "nw_frag" ||
  (member === "nw_proto" &&
    get(match.mask, "dl_type") === 0xffff &&
    [ETH_TYPE.IPV4, ETH_TYPE.IPV6].includes(get(match.value, "dl_type") as 0x0800));

const ANY_PACKET: Match = { value: newFlow(), mask: newFlow() };

/** `needs` without what a match has established; {@link NEVER} alternatives go. */
const simplify = (needs: Needs, match: Match = ANY_PACKET): Needs => {
  const left: Constraint[][] = [];
  for (const all of needs) {
    const open: Constraint[] = [];
    let possible = true;
    for (const c of all) {
      // Hooks hand out Ethernet frames only.
      if (c.member === "packet_type") {
        possible &&= c.value === 0;
        continue;
      }
      const known = get(match.mask, c.member) & c.mask;
      const isKnown = known === c.mask && isStable(c.member, match);
      if (isKnown && ((get(match.value, c.member) ^ c.value) & c.mask) !== 0) possible = false;
      else if (!isKnown) open.push(c);
    }
    if (!possible) continue;
    if (open.length === 0) return ALWAYS;
    left.push(open);
  }
  return left;
};

const memberBytes = (flow: FlowWords, member: Member): Uint8Array => {
  const { at, bits } = FLOW[member];
  return Uint8Array.from({ length: bits >>> 3 }, (_, i) => getBits(flow, at + 8 * i, 8));
};

/**
 * Writing a field turns every bit of its member into 0, 1, or leaves it: seen by writing into a flow of zeros and into one
 * of ones.
 */
const effectOf = (member: Member, write: (flow: FlowWords) => void): { mask: Uint8Array; value: Uint8Array } => {
  const zeros = newFlow();
  const ones = newFlow();
  setBytes(ones, FLOW[member].at, FLOW[member].bits, new Uint8Array(FLOW[member].bits >>> 3).fill(0xff));
  write(zeros);
  write(ones);
  const value = memberBytes(zeros, member);
  const kept = memberBytes(ones, member);
  return { value, mask: value.map((byte, i) => byte | (~kept[i]! & 0xff)) };
};

/** Members of packets that programs write back. */
const WRITABLE: ReadonlySet<Member> = new Set<Member>([
  "dl_dst",
  "dl_src",
  "vlan0_tci",
  "vlan0_tpid",
  "nw_src",
  "nw_dst",
  "nw_tos",
  "nw_ttl",
  "nw_proto",
  "tp_src",
  "tp_dst",
  "ipv6_src",
  "ipv6_dst",
  "ipv6_label",
  "arp_sha",
  "arp_tha",
]);

/** Whether a member begins as zero for every packet and is nobody's but the tables'. */
export const isRegister = (member: Member): boolean => member === "metadata" || /^reg\d+$/.test(member);

/** What only user space can do, for a reason. */
export const slow = (why: string): readonly Op[] => [{ op: "slow", why }];

/** Fields that are part of a neighbour discovery message lie behind options. */
const unwritable = (field: FieldName): string | undefined => {
  const { in: member, needs } = fieldSpec(field);
  if (needs.startsWith("nd")) return `sets ${field}: neighbour discovery`;
  return WRITABLE.has(member) || isRegister(member) ? undefined : `sets ${field}`;
};

/** Members that a field lies in: wide registers are several. */
const membersOf = (field: FieldName): readonly Member[] => {
  const row = fieldSpec(field);
  if (row.bits <= FLOW[row.in].bits) return [row.in];
  const last = Number(row.in.slice("reg".length));
  return Array.from({ length: row.bits / 32 }, (_, i): Member => `reg${last - i}` as "reg0");
};

const setOp = (field: FieldName, match: Match | undefined, write: (flow: FlowWords) => void): readonly Op[] => {
  const why = unwritable(field);
  if (why !== undefined) return slow(why);
  const needs = simplify(PREREQUISITES[fieldSpec(field).needs], match);
  if (needs.length === 0) return [];
  return membersOf(field).flatMap((member): Op[] => {
    const effect = effectOf(member, write);
    return effect.mask.every((byte) => byte === 0) ? [] : [{ op: "set", member, ...effect, needs }];
  });
};

const setMember = (member: Member, value: Uint8Array, needs: Needs, mask?: Uint8Array): readonly Op[] =>
  needs.length === 0
    ? []
    : [{ op: "set", member, value, mask: mask ?? new Uint8Array(value.length).fill(0xff), needs }];

const u16 = (n: number): Uint8Array => Uint8Array.of(n >>> 8, n & 0xff);

const setVlan = (bits: number, value: number, push: boolean): readonly Op[] =>
  setMember("vlan0_tci", u16(value | VLAN_PRESENT), push ? ALWAYS : IS_TAGGED, u16(bits | VLAN_PRESENT));

/** Whether the bits of a field are its value's bits, one for one. */
const isPlain = (field: FieldName): boolean => {
  const row = fieldSpec(field);
  if (row.bits > FLOW[row.in].bits) return false;
  return row.valueBits === undefined && row.valueShift === undefined && row.in !== "vlan0_tci" && row.in !== "in_port";
};

const bitsOf = ({ field, lsb, bits }: Subfield): Bits => {
  const row = fieldSpec(field);
  return { member: row.in, from: FLOW[row.in].bits - row.lsb - lsb - bits, bits };
};

const moveOp = (src: Subfield, dst: Subfield, match: Match | undefined): readonly Op[] => {
  const why = unwritable(dst.field);
  if (why !== undefined) return slow(why);
  if (!isPlain(src.field) || !isPlain(dst.field)) return slow(`moves ${src.field} to ${dst.field}`);
  const [a, b] = [src, dst].map(({ field }) => simplify(PREREQUISITES[fieldSpec(field).needs], match));
  // Both must hold: each alternative of one with each of the other.
  const needs = a!.flatMap((x) => b!.map((y) => [...x, ...y]));
  return needs.length === 0 ? [] : [{ op: "move", src: bitsOf(src), dst: bitsOf(dst), needs }];
};

/** The context of lowering: what the actions belong to. */
interface Lowering {
  readonly tables: Tables;
  /** Of the rule: what is known of the packet. Absent in buckets. */
  readonly match: Match | undefined;
  /** Table of the rule: where a resubmit without one goes. */
  readonly table: number;
  /** Gets the groups that are passed. */
  readonly groups: GroupUse[];
}

type Handlers = {
  readonly [K in ActionKind]?: (l: Lowering, action: Extract<Action, { readonly kind: K }>) => readonly Op[];
};

/** An output to a port that the switch has and that sends. */
const toPort = ({ ports }: Tables, port: number): readonly Op[] => {
  const found = ports.get(port);
  return found === undefined || found.config.noForward ? [] : [{ op: "output", port }];
};

const output = ({ tables }: Lowering, port: number): readonly Op[] => {
  switch (port) {
    case PORT.IN_PORT:
      return [{ op: "output_in_port" }];
    case PORT.NONE:
      return [];
    case PORT.FLOOD:
    case PORT.ALL:
      return [...tables.ports.values()].flatMap((p) =>
        port === PORT.FLOOD && p.config.noFlood ? [] : toPort(tables, p.number),
      );
    case PORT.NORMAL:
      return slow("NORMAL: user space learns addresses");
    case PORT.TABLE:
      return slow("output to TABLE");
    case PORT.CONTROLLER:
      return slow("copy to the controller: user space sends it");
    default:
      return toPort(tables, port);
  }
};

const writeActions = ({ tables }: Lowering, actions: readonly Action[]): readonly Op[] => {
  const ops: Op[] = [];
  for (const action of actions) {
    if (action.kind !== "output") return slow(`write_actions with ${action.kind}`);
    const { port } = action;
    if (port === PORT.IN_PORT) ops.push({ op: "write_output", port: "in_port" });
    else if (port >= 0xffffff00 && port !== PORT.LOCAL) return slow("write_actions with output to a reserved port");
    else {
      const found = tables.ports.get(port);
      ops.push({ op: "write_output", port: found === undefined || found.config.noForward ? undefined : port });
    }
  }
  return ops;
};

/** Buckets of a group that all are carried out, when that does not depend on the packet or on what ports are up. */
const bucketsOf = ({ group, buckets }: PlainGroup): PlainGroup["buckets"] | undefined => {
  if (group.type === "all" || group.type === "indirect") return buckets;
  const [first, ...more] = buckets;
  if (first === undefined) return buckets;
  const { watchPort, watchGroup, weight } = first.bucket;
  if (watchPort !== undefined || watchGroup !== undefined) return undefined;
  if (group.type === "ff") return [first];
  return more.length === 0 && weight > 0 ? [first] : undefined;
};

/** Whether the bucket's copy of the packet is the original. */
const isPlainBucket = (ops: readonly Op[]): boolean =>
  ops.every(({ op }) => op === "output" || op === "output_in_port" || op === "slow");

const HANDLERS: Handlers = {
  output: (l, { port }) => output(l, port),
  controller: () => slow("copy to the controller: user space sends it"),
  group: (l, { group }) => {
    const entry = l.tables.groups.get(group);
    if (entry === undefined) return slow(`group ${group}, which is not there`);
    const buckets = bucketsOf(entry);
    if (buckets === undefined) return slow(`group ${group}: its bucket depends on the packet or on ports that are up`);
    const lists = buckets.map(({ bucket }) => lowerList({ ...l, match: undefined }, orderActionSet(bucket.actions)));
    const isWhole = entry.group.type === "all" || entry.group.type === "indirect";
    if (isWhole || buckets.length > 0) l.groups.push({ group, bucket: isWhole ? undefined : 0 });
    if (lists.every(isPlainBucket)) return lists.flat();
    if (lists.length > 1) return slow(`group ${group}: buckets with different edits`);
    return [...lists[0]!, { op: "end_copy" }];
  },
  set_field: (l, { field, value, mask }) =>
    setOp(field, l.match, (flow) =>
      mask === undefined ? writeField(flow, field, value) : writeFieldMasked(flow, field, value, mask),
    ),
  reg_load: (l, { value, dst }) => {
    const whole = new Uint8Array(FIELD_BYTES[dst.field]);
    const mask = new Uint8Array(FIELD_BYTES[dst.field]);
    for (let i = 0; i < dst.bits; i++) {
      const bit = ((value[value.length - 1 - (i >>> 3)] ?? 0) >>> (i & 7)) & 1;
      const to = dst.lsb + i;
      const at = whole.length - 1 - (to >>> 3);
      whole[at]! |= bit << (to & 7);
      mask[at]! |= 1 << (to & 7);
    }
    return setOp(dst.field, l.match, (flow) => writeFieldMasked(flow, dst.field, whole, mask));
  },
  reg_move: (l, { src, dst }) => moveOp(src, dst, l.match),
  set_vlan_vid: (_, { vid, pushIfNeeded }) => setVlan(0x0fff, vid, pushIfNeeded),
  set_vlan_pcp: (_, { pcp, pushIfNeeded }) => setVlan(0xe000, pcp << 13, pushIfNeeded),
  strip_vlan: () => [{ op: "pop_vlan" }],
  push_vlan: (_, { ethertype }) => [{ op: "push_vlan", tpid: ethertype }],
  set_eth_src: (_, { mac }) => setMember("dl_src", mac, ALWAYS),
  set_eth_dst: (_, { mac }) => setMember("dl_dst", mac, ALWAYS),
  set_ipv4_src: (l, { addr }) => setMember("nw_src", addr, simplify(IS_IPV4, l.match)),
  set_ipv4_dst: (l, { addr }) => setMember("nw_dst", addr, simplify(IS_IPV4, l.match)),
  set_ip_dscp: (l, { tos }) =>
    setMember("nw_tos", Uint8Array.of(tos & 0xfc), simplify(IS_IP, l.match), Uint8Array.of(0xfc)),
  set_ip_ecn: (l, { ecn }) =>
    setMember("nw_tos", Uint8Array.of(ecn & 0x03), simplify(IS_IP, l.match), Uint8Array.of(0x03)),
  set_ip_ttl: (l, { ttl }) => setMember("nw_ttl", Uint8Array.of(ttl), simplify(IS_IP, l.match)),
  set_l4_src_port: (l, { port }) => setMember("tp_src", u16(port), simplify(HAS_PORTS, l.match)),
  set_l4_dst_port: (l, { port }) => setMember("tp_dst", u16(port), simplify(HAS_PORTS, l.match)),
  dec_ttl: (l) => {
    const needs = simplify(IS_IP, l.match);
    return needs === NEVER || needs.length === 0 ? [] : [{ op: "dec_ttl", needs }];
  },
  resubmit: (l, { inPort, table, ct }) => {
    if (ct === true) return slow("resubmit with the fields of connection tracking");
    const other = inPort === undefined || inPort === PORT.IN_PORT ? undefined : inPort;
    return [{ op: "resubmit", table: table ?? l.table, inPort: other }];
  },
  meter: (l, { meter }) => {
    const slot = l.tables.meters.get(meter);
    return slot === undefined ? slow(`meter ${meter}`) : [{ op: "meter", slot }];
  },
  note: () => [],
  write_metadata: (_, { value, mask }) => {
    const bytes = (x: bigint): Uint8Array =>
      Uint8Array.from({ length: 8 }, (_unused, i) => Number((x >> BigInt(8 * (7 - i))) & 0xffn));
    return setMember("metadata", bytes(value & mask), ALWAYS, bytes(mask));
  },
  clear_actions: () => [{ op: "write_output", port: undefined }],
  write_actions: (l, { actions }) => writeActions(l, actions),
  goto_table: (_, { table }) => [{ op: "resubmit", table, inPort: undefined }],
};

const lowerList = (l: Lowering, actions: readonly Action[]): readonly Op[] => {
  const ops: Op[] = [];
  for (const action of actions) {
    const handler = HANDLERS[action.kind] as ((l: Lowering, action: Action) => readonly Op[]) | undefined;
    ops.push(...(handler?.(l, action) ?? slow(`action ${action.kind}`)));
  }
  return ops;
};

/** A rule's actions, lowered. */
export interface Lowered {
  readonly ops: readonly Op[];
  /** Groups that each packet of the rule passes, once for each time. */
  readonly groups: readonly GroupUse[];
}

/**
 * The operations of a rule's actions. A list that has a `slow` one is that alone: user space carries all of it out.
 */
export const lower = (tables: Tables, table: number, match: Match, actions: readonly Action[]): Lowered => {
  const groups: GroupUse[] = [];
  const ops = lowerList({ tables, match, table, groups }, actions);
  const isSlow = ops.some(({ op }) => op === "slow");
  return isSlow ? { ops: ops.filter(({ op }) => op === "slow").slice(0, 1), groups: [] } : { ops, groups };
};
